"""`gem-label plugin`: the FiftyOne plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def make_app() -> typer.Typer:
    """The group `plugin`."""
    app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The FiftyOne plugin.")
    app.callback()(plugin)
    app.command("install")(install)
    return app


def plugin() -> None:
    """Label, review and relabel inside the FiftyOne App.

    \b
    Example: gem-label plugin install
    """


def install(
    folder: Annotated[
        Path | None, typer.Option("--to", help="A folder of plugins; FiftyOne's own unless given.")
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
