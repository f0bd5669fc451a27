"""What shards hold, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from gem_label.runs.shards import ShardFile, update_failures


@dataclass(frozen=True, slots=True)
class ShardCounts:
    """What shards hold.

    Attributes:
        counts: photos, failed, masks, kept and kept_by_class, as in the manifest of a run.
        failed: the photos that failed and were not labeled since, by their paths: image, image_id, stage, error.
    """

    counts: dict[str, Any]
    failed: dict[str, dict[str, str]]


def count_shards(shards: Iterable[ShardFile], classes: Sequence[str]) -> ShardCounts:
    """Count photos and masks, reading two columns.

    Args:
        shards: open, one after the other.
        classes: of the run.
    """
    totals: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    failed: dict[str, dict[str, str]] = {}
    for shard in shards:
        update_failures(failed, shard)
        totals.update(photos=len(shard.photos))
        for _, table in shard.groups(["label", "kept"]):
            totals.update(masks=len(table))
            kept.update(pc.filter(table["label"], table["kept"]).to_pylist())
    counts = {
        "photos": totals["photos"],
        "failed": len(failed),
        "masks": totals["masks"],
        "kept": kept.total(),
        "kept_by_class": {name: kept[name] for name in classes},
    }
    return ShardCounts(counts, failed)
