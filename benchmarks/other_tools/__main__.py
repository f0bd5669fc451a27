"""Reads one annotation file with one other tool; `readers.py` runs this in that tool's environment.

    PYTHONPATH=benchmarks python -m other_tools TOOL REQUEST.json ANSWER.json

The request has `format`, `file` and `photos` (a folder). The answer has `masks`, a list of [photo, label, id or null,
run lengths], and `remarks`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from other_tools.coco_tools import (
    read_lvis,
    read_pycocotools,
    read_sahi,
    read_supervision,
    read_torchvision,
)
from other_tools.dataset_tools import read_datumaro, read_fiftyone, read_ultralytics
from other_tools.label_studio_tools import read_label_studio_sdk
from other_tools.source import Found, Source
from other_tools.table_tools import read_duckdb, read_pandas, read_polars

READERS: dict[str, Callable[[Source], Iterator[Found]]] = {
    "pycocotools": read_pycocotools,
    "torchvision": read_torchvision,
    "supervision": read_supervision,
    "sahi": read_sahi,
    "lvis": read_lvis,
    "datumaro": read_datumaro,
    "fiftyone": read_fiftyone,
    "label-studio-sdk": read_label_studio_sdk,
    "ultralytics": read_ultralytics,
    "pandas": read_pandas,
    "polars": read_polars,
    "duckdb": read_duckdb,
}
"""Readers by the name of the tool's package."""


def main(tool: str, request: str, answer: str) -> None:
    """Read what the request says and write the answer."""
    asked = json.loads(Path(request).read_text())
    with tempfile.TemporaryDirectory() as scratch:
        source = Source(asked["format"], Path(asked["file"]), Path(asked["photos"]), Path(scratch))
        masks = list(READERS[tool](source))
    Path(answer).write_text(json.dumps({"masks": masks, "remarks": source.remarks}))


if __name__ == "__main__":
    main(*sys.argv[1:])
