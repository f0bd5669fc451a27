"""`gem-label push` and `gem-label review`: a run in FiftyOne."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gem_label.cli import options, output
from gem_label.cli.options import RunPlace


class MaskStorage(StrEnum):
    """Where FiftyOne keeps the masks."""

    auto = "auto"
    database = "database"
    disk = "disk"


def push(
    run: RunPlace,
    dataset: Annotated[str, typer.Option(metavar="NAME", help="The FiftyOne dataset to make or update.")],
    field: Annotated[str, typer.Option(help="The field that takes the labels.")] = "gem_label",
    min_score: options.MinScore = None,
    purpose: options.For = None,
    hidden_from: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            help="Labels below the threshold with at least this score go into FIELD_less_likely; 1: none.",
        ),
    ] = None,
    masks: Annotated[
        MaskStorage,
        typer.Option(
            help="Where mask pixels are stored; auto: in the database, or in files of RUN for photos with many "
            "large masks."
        ),
    ] = MaskStorage.auto,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also replace what reviewers changed.")
    ] = False,
) -> None:
    """Put the labels of a run into a FiftyOne dataset.

    Without --min-score and --for these are the labels that the run keeps. Less likely ones go into a second field,
    which the App does not draw at first. The dataset is made when it is not there. Pushing again updates it and keeps
    what reviewers changed.

    \b
    Example: gem-label push RUN --dataset street --for review
    """
    from gem_label.review import push_run
    from gem_label.review.storage.less_likely import HIDDEN_FLOOR
    from gem_label.runs import open_run

    opened = open_run(run)
    output.note_changed_photos(opened)
    report = push_run(
        opened,
        dataset,
        field,
        masks.value,
        overwrite=overwrite,
        progress=True,
        min_score=options.asked_thresholds(min_score, purpose),
        hidden_from=HIDDEN_FLOOR if hidden_from is None else hidden_from,
    )
    print(report)


def review(
    run_or_name: Annotated[
        str, typer.Argument(metavar="RUN|NAME", help="A run directory or a dataset's name.")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="The App's port.")] = 5151,
    address: Annotated[
        str | None, typer.Option(help="The network interface to listen on; default: this machine only.")
    ] = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="Do not open a browser; run until interrupted.")
    ] = False,
    open_to_network: Annotated[
        bool,
        typer.Option(
            "--open-to-network",
            help="Let other machines reach the App, which has no password; default: on all interfaces.",
        ),
    ] = False,
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="A folder below which the App's forms may read and write; repeat for several. Default: "
            "GEM_LABEL_FOLDERS, else the current and the home folder unless the App is open to the network.",
        ),
    ] = None,
) -> None:
    """Open the FiftyOne App on a run or a dataset.

    A run that is in no dataset yet is pushed first. Only this machine reaches the App: from another one, use an SSH
    tunnel, or --open-to-network.

    \b
    Example: gem-label review RUN
    """
    from gem_label.review import open_app
    from gem_label.runs import open_run
    from gem_label.stores import is_address

    if is_address(run_or_name) or Path(run_or_name).is_dir():
        output.note_changed_photos(open_run(run_or_name))
    open_app(
        run_or_name,
        port=port,
        address=address,
        remote=remote,
        open_to_network=open_to_network,
        folders=folder or [],
    )
