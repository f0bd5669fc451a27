"""Tools that read tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pycocotools import mask as coco_mask

from other_tools.source import Found, Source, encode


def read_table(rows: Sequence[dict[str, Any]]) -> Iterator[Found]:
    """Yield the masks of a table's rows, decoded as docs/formats.md says."""
    for row in rows:
        if isinstance(row["rle_counts"], str) and row["rle_counts"]:
            rle = {"size": [row["height"], row["width"]], "counts": row["rle_counts"]}
            yield row["photo"], row["label"], row["mask_id"], encode(coco_mask.decode(rle))


def read_pandas(source: Source) -> Iterator[Found]:
    """Yield the masks of a pandas table."""
    import pandas as pd

    read = pd.read_csv if source.format == "csv" else pd.read_parquet
    yield from read_table(read(source.file).to_dict("records"))


def read_polars(source: Source) -> Iterator[Found]:
    """Yield the masks of a polars table."""
    import polars as pl

    read = pl.read_csv if source.format == "csv" else pl.read_parquet
    yield from read_table(read(source.file).to_dicts())


def read_duckdb(source: Source) -> Iterator[Found]:
    """Yield the masks of a table in SQL."""
    import duckdb

    found = duckdb.sql(f"SELECT * FROM '{source.file}'")  # noqa: S608 - a file that the benchmark has made
    yield from read_table([dict(zip(found.columns, row, strict=True)) for row in found.fetchall()])
