"""`gem-label repair`: what is damaged in a run, and what is done about it."""

from __future__ import annotations

from typing import Annotated

import typer

from gem_label.cli.options import RunPlace


def repair(
    run: RunPlace,
    check: Annotated[bool, typer.Option("--check", help="Only check; change nothing.")] = False,
) -> None:
    """Check every file of a run and repair what is damaged.

    Damaged shards are moved to RUN/damaged. Label the photos again with the words that the run has now, by the same
    `gem-label label`: it labels the photos that are missing. Exit code 1 when something is damaged and stays so.

    \b
    Example: gem-label repair RUN --check
    """
    from gem_label.runs.repair import Mend, check_run, repair_run

    found = check_run(run) if check else repair_run(run)
    for note in found.notes:
        print(f"note: {note}")
    for fault in found.faults:
        print(fault.problem if check else f"{fault.problem} [{fault.mend.value}]")
    print(f"checked {found.files} files with {found.photos} photos and {found.masks} masks")
    print(f"faults: {len(found.faults)}")
    if found.missing:
        print(f"photos without masks: {found.missing}; the same `gem-label label` labels them")
    if any(check or fault.mend is Mend.NOTHING for fault in found.faults):
        raise typer.Exit(1)
