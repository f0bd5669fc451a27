"""The rows of some masks in the run behind a field, without reading the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from gem_label.runs import Run
from gem_label.runs.files import MASKS, pending_paths, shard_paths
from gem_label.runs.shards import ShardFile


def read_rows(run: Run, mask_ids: Sequence[str], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read the rows of some masks, one row group at a time.

    Args:
        run: the run.
        mask_ids: "<image_id>#<index>"; those that the run does not have are left out.
        columns: which columns, besides `mask_id`.

    Yields:
        Tables with the columns `mask_id` and `columns`.

    Raises:
        OSError: a file of the run cannot be read.
        GemLabelError: it is damaged.
    """
    places = _places(run.path.resolve(), str(run.manifest.get("updated")))
    groups: dict[tuple[Path, int], None] = {}
    for mask_id in mask_ids:
        place = places.get(mask_id.rpartition("#")[0])
        if place is not None:
            groups[place] = None
    wanted = pa.array(list(mask_ids), pa.string())
    for path, group in groups:
        with closing(ShardFile(path, run.expected)) as file:
            table = file.read_group(group, ["mask_id", *columns])
        yield table.filter(pc.is_in(table["mask_id"], value_set=wanted))


# the lists of photos in shards are long: only another relabel, which `updated` tells, makes it read them again
@lru_cache(maxsize=2)
def _places(path: Path, updated: str) -> dict[str, tuple[Path, int]]:
    """image_id -> the shard and the row group with the masks of that photo."""
    places: dict[str, tuple[Path, int]] = {}
    for shard in (*pending_paths(path / MASKS), *shard_paths(path / MASKS)):
        with closing(ShardFile(shard)) as file:
            for group, ids in enumerate(file.image_ids_by_group()):
                places |= dict.fromkeys(ids, (shard, group))
    return places
