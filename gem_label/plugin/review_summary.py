"""What the review panel shows of how a review goes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gem_label.review.statistics.progress import ClassProgress, review_progress
from gem_label.review.statistics.quality import label_quality

Reply = dict[str, Any]


def get_progress(ctx: Any) -> Reply:
    """How the review of a field goes; see `ReviewPanel.get_progress`."""
    field = ctx.params["field"]
    progress = review_progress(ctx.dataset, field)
    quality = label_quality(ctx.dataset, field, int(ctx.params.get("seed") or 0))
    return {
        "total": _class(progress.total),
        "classes": [_class(each) for each in progress.classes],
        "people": [asdict(each) for each in progress.people],
        "drawn": progress.drawn,
        "quality": {**asdict(quality), "more": [list(each) for each in quality.more.items()]},
    }


def _class(progress: ClassProgress) -> Reply:
    precision = progress.precision
    return {**asdict(progress), "precision": None if precision is None else asdict(precision)}
