"""GEM-Label in the FiftyOne App: operators and a review desk over `gem_label.review`."""

from __future__ import annotations

from typing import Any

from .decide import Accept, Delete, Merge, Reject, Rename, Undo
from .desk import OpenReviewDesk, ReviewDesk
from .exchange import ExportCoco, ImportAnnotations
from .label import Label
from .measure import EvaluateLabels
from .points import EvaluatePoints
from .relabel import Relabel
from .search import SearchMasks


def register(plugin: Any) -> None:
    """Give FiftyOne the operators and the panel."""
    for operator in (
        Label,
        Relabel,
        SearchMasks,
        EvaluatePoints,
        EvaluateLabels,
        Accept,
        Reject,
        Rename,
        Merge,
        Delete,
        Undo,
        ExportCoco,
        ImportAnnotations,
        OpenReviewDesk,
        ReviewDesk,
    ):
        plugin.register(operator)
