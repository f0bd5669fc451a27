"""`gem-label show`: a run as a page of HTML, without a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gem_label.cli import output
from gem_label.cli.options import RunPlace


def show(
    run: RunPlace,
    photos: Annotated[
        int, typer.Option(min=1, help="How many images to draw; from larger runs a selection.")
    ] = 48,
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write; default: RUN-show in the working directory."),
    ] = None,
) -> None:
    """Draw what a run found: a page for any browser, a contact sheet, and overlays.

    The page filters masks by class and score, and shows the least certain ones first. Of a run with more images,
    half of those drawn are chosen at random, the others where mistakes are likeliest. Needs no server and no network.

    \b
    Example: gem-label show RUN --photos 100 --to look/
    """
    from gem_label.runs import open_run
    from gem_label.show.page import write_page

    opened = open_run(run)
    output.note_changed_photos(opened)
    folder = to or Path(f"{Path(str(run).rstrip('/')).name}-show")
    report = output.with_bar(write_page(opened, folder, photos), "show")
    output.print_summary(opened.place, report.summary)
    print(f"shown    {report.choice}")
    if report.unreadable:
        print(f"note: {report.unreadable} of them cannot be read any more, and are gray", file=sys.stderr)
    print(f"page     {report.page}")
    print(f"sheet    {report.sheet}")
