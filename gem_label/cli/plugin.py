"""`gem-label plugin`: the FiftyOne plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gem_label.cli.commands import add_command, help_text, make_group, show_help


def make_app() -> typer.Typer:
    """The group `plugin`."""
    app = make_group(invoke_without_command=True)
    app.callback(help=help_text(plugin))(plugin)
    add_command(app, "install", install)
    return app


def plugin(context: typer.Context) -> None:
    """Install the plugin that labels and reviews inside the FiftyOne App.

    \b
    Example: gem-label plugin install
    """
    show_help(context)


def install(
    folder: Annotated[
        Path | None, typer.Option("--to", help="A folder of plugins; default: FiftyOne's own.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the plugin that is there.")] = False,
) -> None:
    """Install the plugin where FiftyOne looks for plugins.

    The App has it from its next start.

    \b
    Example: gem-label plugin install
    """
    from gem_label.plugin.installing import install_plugin

    print(install_plugin(folder, overwrite))
