"""Opening a run, wherever it is."""

from __future__ import annotations

import sys
from pathlib import Path

from gem_label.runs.files import MASKS, current, recover, stray_files
from gem_label.runs.reader import Run
from gem_label.stores import is_address, open_store


def open_run(path: str | Path) -> Run:
    """Open a run for reading.

    Args:
        path: its folder, or its address in an object store such as "s3://bucket/run".

    Raises:
        GemLabelError: there is no run, it is damaged, or it is of another version.
    """
    if is_address(path):
        from gem_label.runs.stored import StoredRun

        return StoredRun(open_store(path))
    path = Path(path)
    recover(path)
    run = Run(path)
    for stray in stray_files(current(path, MASKS)):
        print(f"note: {stray} is no file of the run and is left out: move it away", file=sys.stderr)
    return run
