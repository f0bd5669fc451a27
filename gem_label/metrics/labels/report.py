"""What `evaluate_labels` returns: all figures as dataclasses that become JSON, and thresholds to paste."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from gem_label.metrics.labels.coco import CocoFigures
from gem_label.metrics.labels.curves import Counts, Curve, Reliability, ThresholdPoint
from gem_label.metrics.labels.errors import Confusion, ErrorKind
from gem_label.metrics.labels.presence import Presence, SaCo

LEAST_LABELS = 10
"""Labels that a class needs for a threshold of its own in `LabelReport.min_score`."""


@dataclass(frozen=True)
class Macro:
    """Means over classes; each over the classes for which it is defined (None: for none).

    Attributes:
        precision: over classes with a label that counts.
        recall: over classes with an instance.
        f1: over classes with either.
    """

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class ClassReport:
    """The figures of one class.

    Attributes:
        name: the class.
        instances: annotated instances, without crowds.
        labels: kept labels that count (not those on crowds).
        counts: of the kept labels at IoU 0.5.
        ap50: COCO's AP at IoU 0.5; None without instances.
        best_f1: the threshold of highest F1; None when no label of the class is right.
        at_precision: the lowest threshold that reaches the wanted precision; None: none does.
        labels_all: labels that count, whatever their score.
    """

    name: str
    instances: int
    labels: int
    counts: Counts
    ap50: float | None
    best_f1: ThresholdPoint | None
    at_precision: ThresholdPoint | None
    labels_all: int


@dataclass(frozen=True)
class LabelReport:
    """How good the labels of some photos are; IoU threshold 0.5 where none is named.

    Attributes:
        photos: photos that were compared.
        instances, crowds: annotations that count, and crowd regions.
        labels, labels_all: labels kept, and labels of any score.
        threshold: the score that kept the labels; None: not one number.
        wanted_precision: what `at_precision` is asked for, in [0, 1].
        micro: counts pooled over all classes, of the kept labels.
        macro: means over classes, of the kept labels.
        best_f1: the one threshold for all classes with the highest pooled F1.
        at_precision: the lowest one threshold for all classes whose labels reach the wanted precision together.
        labels_per_thing: kept labels that lie on a found instance (`compare`) / found instances, at least 1; None
            when nothing is found.
        coco: COCO's figures over all labels.
        presence: (photo, word) pairs by the kept labels.
        saco: SA-Co's metrics of the kept labels.
        per_class: one entry a class, in the order given.
        errors: TIDE's kinds.
        confusions: words for other words, most frequent first.
        reliability: scores of all labels against the share that is right.
        curve: pooled, over all thresholds.
        class_curves: each class's curve by its name.
    """

    photos: int
    instances: int
    crowds: int
    labels: int
    labels_all: int
    threshold: float | None
    wanted_precision: float
    micro: Counts
    macro: Macro
    best_f1: ThresholdPoint | None
    at_precision: ThresholdPoint | None
    labels_per_thing: float | None
    coco: CocoFigures
    presence: Presence
    saco: SaCo
    per_class: tuple[ClassReport, ...]
    errors: tuple[ErrorKind, ...]
    confusions: tuple[Confusion, ...]
    reliability: Reliability
    curve: Curve = field(repr=False)
    class_curves: dict[str, Curve] = field(repr=False)

    @property
    def absent_rate(self) -> float | None:
        """Share of absent (photo, word) pairs that are labeled, in [0, 1]; None without absent pairs."""
        return self.presence.false_positive_rate

    def to_dict(self) -> dict[str, Any]:
        """All figures as JSON; of the pooled curve the counts at thresholds 0, 0.01, ..., 1."""
        skipped = {"per_class", "curve", "class_curves", "micro", "presence", "coco"}
        data: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            if name not in skipped:
                data[name] = _plain(getattr(self, name))
        data["micro"] = _counts(self.micro)
        data["coco"] = {"ap": self.coco.ap, "ap50": self.coco.ap50, "ar100": self.coco.ar100}
        data["presence"] = asdict(self.presence) | {
            name: getattr(self.presence, name)
            for name in ("precision", "recall", "false_positive_rate", "mcc")
        }
        data["per_class"] = [asdict(row) | {"counts": _counts(row.counts)} for row in self.per_class]
        data["min_score"] = {aim: self.min_score(aim) for aim in ("best_f1", "at_precision")}
        data["curve"] = [
            {"threshold": float(t)} | _counts(self.curve.counts_at(float(t)))
            for t in np.round(np.linspace(0, 1, 101), 2)
        ]
        return data

    def min_score(self, aim: str, least: int = LEAST_LABELS) -> str:
        """Thresholds in the form that `--min-score` takes, such as "0.4, cat=0.6, dog=0.35".

        The first number is the one for all classes; a class is named when its own threshold differs. When the aim is
        a precision that a class never reaches, the class gets 1.

        Args:
            aim: "best_f1" or "at_precision".
            least: classes with fewer labels (of any score) take the first number: theirs would be chance. So do
                classes with a comma in their name, which the form has no room for.

        Raises:
            ValueError: another aim.
        """
        if aim not in ("best_f1", "at_precision"):
            raise ValueError(f"aim is 'best_f1' or 'at_precision', not {aim!r}")
        pooled = getattr(self, aim)
        default = pooled.threshold if pooled else float(aim == "at_precision")
        parts = [f"{default:.15g}"]
        for row in self.per_class:
            point = getattr(row, aim)
            if "," in row.name or row.labels_all < max(least, 1) or (point is None and aim == "best_f1"):
                continue
            threshold = point.threshold if point else 1.0
            if threshold != default:
                parts.append(f"{row.name}={threshold:.15g}")
        return ", ".join(parts)


def _counts(counts: Counts) -> dict[str, Any]:
    return asdict(counts) | {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as JSON takes them."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
