"""A small run with every kind of file, and everything that readers see of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from random_run import ANIMALS, DIM, make_photo, open_writer, photos, text_of, write_photo

from gem_label.labeling import label_maskset
from gem_label.learning.learned import Learned
from gem_label.runs import Run, open_run


def full_run(path: Path) -> Run:
    """Two shards, pending photos, failures, patch features and learned.json."""
    learned = Learned(None, None, None, None, {"source": "a test"})
    writer = open_writer(path, photos_per_shard=4, learned=learned)
    for photo in writer.register(photos(13)):
        if photo.number > 11:
            writer.fail(photo, "read", "broken")
        elif photo.number == 3:
            masks, token = make_photo(3)
            labels = label_maskset(masks, text_of(ANIMALS), ANIMALS, 20.0, None, None, token)
            patches = np.random.default_rng(0).random((3, 4, DIM))
            writer.write(photo, masks, labels, token, patches)
        else:
            write_photo(writer, photo)
    writer._lock.close()  # as a kill does: the last photos stay pending
    return open_run(path)


def content(path: Path) -> dict[str, Any]:
    """Everything that a run holds, in a form that can be compared."""
    run = open_run(path)
    rows = [
        (
            photo.number,
            photo.image,
            photo.image_id,
            photo.masks,
            photo.grid,
            None if e is None else e.tolist(),
        )
        for photos, _ in run.groups(["mask_id"])
        for photo in photos
        for e in [photo.embedding]
    ]
    learned = run.learned
    patches = [run.patches(photo.number) for photo in run.listing()]
    return {
        "manifest": {name: run.manifest[name] for name in sorted(run.manifest) if name in KEYS},
        "photos": rows,
        "masks": [row for table in run.tables() for row in table.to_pylist()],
        "labels": [labels.names for _, _, labels in run.photo_masks()],
        "listing": list(run.listing()),
        "failures": run.failures(),
        "learned": None if learned is None else learned.to_dict(),
        "patches": [None if each is None else each.tolist() for each in patches],
    }


KEYS = (
    "format",
    "id",
    "settings",
    "weights",
    "vocabulary",
    "labeling",
    "embedding_dim",
    "counts",
    "finished",
)


def files_of(path: Path) -> list[Path]:
    """The files of a run, in order."""
    return sorted(each for each in path.rglob("*") if each.is_file() and each.name != ".lock")


def as_earlier_version(path: Path) -> None:
    """Take checksums and ids off a run, as versions before them wrote it."""
    for file in files_of(path):
        if file.suffix == ".parquet":
            rewrite(file, lambda table: table)
        elif file.name == "manifest.json":
            manifest = json.loads(file.read_text())
            file.write_text(json.dumps({k: v for k, v in manifest.items() if k not in ("id", "crc32")}))
        elif file.suffix == ".jsonl":
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            lines = [json.dumps({k: v for k, v in row.items() if k != "crc32"}) + "\n" for row in rows]
            file.write_text("".join(lines))
        elif file.suffix == ".npy":
            np.save(file, np.load(file))


def rewrite(
    shard: Path,
    change: Callable[[pa.Table], pa.Table],
    photos: Callable[[list[dict[str, Any]]], object] = lambda rows: None,
) -> None:
    """Write a shard again without checksums.

    Args:
        shard: the file.
        change: gives the new rows.
        photos: changes the list of photos.
    """
    file = pq.ParquetFile(shard)
    metadata = {key: file.metadata.metadata[key] for key in (b"photos", b"photo_embeddings")}
    listed = json.loads(metadata[b"photos"])
    photos(listed)
    metadata[b"photos"] = json.dumps(listed).encode()
    pq.write_table(change(file.read()).replace_schema_metadata(metadata), shard)


def replaced(name: str, values: Callable[[list[Any]], list[Any]]) -> Callable[[pa.Table], pa.Table]:
    """A change of the values of a column."""

    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        return table.set_column(place, field, pa.array(values(table[name].to_pylist()), field.type))

    return change
