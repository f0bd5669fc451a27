"""COCO's AP, AP50 and AR100 by pycocotools' own code, on IoUs that are computed already."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from gem_label.metrics.labels.matching import Block, Comparison

MAX_LABELS = 100
"""Labels per photo and class that COCO counts, best score first."""


@dataclass(frozen=True)
class CocoFigures:
    """COCO's figures over all labels, whatever their threshold; in [0, 1], None without instances.

    Attributes:
        ap: mean AP over classes and IoU 0.5, 0.55, ..., 0.95.
        ap50: mean AP over classes at IoU 0.5.
        ar100: mean over classes and these IoUs of the recall with at most 100 labels per photo and class.
        class_ap50: (C,) AP at IoU 0.5 of each class, None for classes without instances.
    """

    ap: float | None
    ap50: float | None
    ar100: float | None
    class_ap50: tuple[float | None, ...]


class _Evaluation(COCOeval):
    """COCOeval that takes IoUs from a `Comparison` and no masks."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(iouType="bbox")  # "segm" would convert masks
        self.comparison = comparison
        self.block_of: dict[tuple[int, int], Block] = {(b.photo, b.label_class): b for b in comparison.blocks}
        self.params.imgIds = list(range(comparison.photos))
        self.params.catIds = list(range(comparison.classes))
        self.params.maxDets = [MAX_LABELS]
        self.params.areaRng, self.params.areaRngLbl = [[0.0, 1e10]], ["all"]

    def _prepare(self) -> None:
        c = self.comparison
        self._gts, self._dts = defaultdict(list), defaultdict(list)
        truths = zip(c.truth_photo.tolist(), c.truth_class.tolist(), c.crowd.tolist(), strict=True)
        for number, (photo, label_class, crowd) in enumerate(truths, start=1):
            row: dict[str, Any] = {"id": number, "area": 1.0, "iscrowd": int(crowd), "ignore": int(crowd)}
            self._gts[photo, label_class].append(row)
        labels = zip(c.label_photo.tolist(), c.label_class.tolist(), c.score.tolist(), strict=True)
        for number, (photo, label_class, score) in enumerate(labels, start=1):
            self._dts[photo, label_class].append({"id": number, "area": 1.0, "score": score})

    def computeIoU(self, imgId: int, catId: int) -> NDArray[np.float64] | list:
        """(n, g) IoU of at most 100 labels, best score first."""
        block = self.block_of.get((int(imgId), int(catId)))
        if block is None:
            return []
        order = np.argsort(-self.comparison.score[block.labels], kind="stable")
        return block.iou[order[:MAX_LABELS]]


def coco_figures(comparison: Comparison) -> CocoFigures:
    """Run COCOeval over all labels of a comparison."""
    if not comparison.photos or not comparison.classes:
        return CocoFigures(None, None, None, (None,) * comparison.classes)
    evaluation = _Evaluation(comparison)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"][..., 0, 0], evaluation.eval["recall"][..., 0, 0]
    per_class = tuple(_mean(precision[0, :, k]) for k in range(comparison.classes))
    return CocoFigures(_mean(precision), _mean(precision[0]), _mean(recall), per_class)


def _mean(values: NDArray[np.float64]) -> float | None:
    """Mean of the figures that exist; COCOeval writes -1 for classes without instances."""
    values = values[values > -1]
    return float(values.mean()) if len(values) else None
