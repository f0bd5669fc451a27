"""The run directory: masks, embeddings and labels on disk; numpy and pyarrow only.

Read one with `open_run(path)`: `Run.photos()`, `Run.photo_masks()`, `Run.tables()`. Write one with
`RunWriter.create_or_resume(...)`, `register`, `write`, `fail`, `close`. Give it new words with `relabel_run`,
find masks by text with `search_run`.
"""

from __future__ import annotations

from gem_label.runs.listing import Failure
from gem_label.runs.opening import open_run
from gem_label.runs.reader import Run
from gem_label.runs.relabel import relabel_run
from gem_label.runs.schema import PhotoRecord, mask_schema
from gem_label.runs.search import SearchHit, search_run
from gem_label.runs.writer import RunWriter

__all__ = [
    "Failure",
    "PhotoRecord",
    "Run",
    "RunWriter",
    "SearchHit",
    "mask_schema",
    "open_run",
    "relabel_run",
    "search_run",
]
