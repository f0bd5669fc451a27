"""Adding functions to the command line, with their docstrings as help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer


def make_group(**settings: Any) -> typer.Typer:
    """An application or a group of commands, whose help lists options in panels."""
    return typer.Typer(rich_markup_mode="rich", **settings)


def add_command(app: typer.Typer, name: str, function: Callable[..., Any], panel: str | None = None) -> None:
    """Add a command.

    Args:
        app: the application or group.
        name: of the command.
        function: what it does; its docstring is the help.
        panel: heading under which the application's help lists it.
    """
    app.command(name, help=help_text(function), rich_help_panel=panel)(function)


def show_help(context: typer.Context) -> None:
    """Show the help of a group that is called without a command, and exit with 2.

    Raises:
        typer.Exit: no command was given.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def help_text(function: Callable[..., Any]) -> str:
    """A docstring as help: lines of a paragraph are joined, so that they wrap at the terminal's width.

    Lines of a paragraph that begins with a backspace character (\\b) stay as they are: examples.
    """
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(
        paragraph.removeprefix("\b\n") if paragraph.startswith("\b") else " ".join(paragraph.split())
        for paragraph in paragraphs
    )
