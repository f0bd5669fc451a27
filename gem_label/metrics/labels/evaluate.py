"""All figures of labels against annotations, on data in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from gem_label.metrics.labels.coco import coco_figures
from gem_label.metrics.labels.curves import Counts, Curve, curve, ratio, reliability
from gem_label.metrics.labels.errors import confusions, error_budget
from gem_label.metrics.labels.matching import Comparison, PhotoLabels, compare
from gem_label.metrics.labels.presence import presence, saco
from gem_label.metrics.labels.report import ClassReport, LabelReport, Macro


def evaluate_labels(
    photos: Iterable[PhotoLabels],
    classes: Sequence[str],
    threshold: float | None = None,
    precision: float = 0.95,
) -> LabelReport:
    """Compare the labels of photos with their annotations.

    Point figures (micro, macro, labels per thing, presence, SA-Co, confusions, F1 costs) are of the `kept` labels;
    curves, thresholds, COCO's figures, AP50 costs and reliability are of all labels.

    Args:
        photos: any number of photos; each is read once, and its masks are not kept.
        classes: C different class names, which class indices point into.
        threshold: the score that made `kept`, for the record; None: not one number.
        precision: the precision in [0, 1] that thresholds are looked for.

    Raises:
        ValueError: a class index outside [0, C), or masks of several sizes in one photo.
    """
    c = compare(photos, len(classes))
    kept, every = c.kept_matching, c.matching
    instances = c.instances
    tp = np.bincount(c.label_class[kept.right], minlength=c.classes)
    fp = np.bincount(c.label_class[kept.wrong], minlength=c.classes)
    counts = [Counts(int(t), int(f), int(g - t)) for t, f, g in zip(tp, fp, instances, strict=True)]
    micro = Counts(int(tp.sum()), int(fp.sum()), int(instances.sum() - tp.sum()))
    pooled = curve(c.score[every.counted], every.right[every.counted], int(instances.sum()))
    class_curves = _class_curves(c)
    coco = coco_figures(c)
    there = presence(c)
    rows = [
        ClassReport(
            name,
            int(instances[k]),
            counts[k].tp + counts[k].fp,
            counts[k],
            coco.class_ap50[k],
            class_curves[k].best_f1(),
            class_curves[k].lowest_threshold(precision),
            int(class_curves[k].tp[-1] + class_curves[k].fp[-1]) if len(class_curves[k].tp) else 0,
        )
        for k, name in enumerate(classes)
    ]
    return LabelReport(
        photos=c.photos,
        instances=int(instances.sum()),
        crowds=int(c.crowd.sum()),
        labels=int(c.kept.sum()),
        labels_all=len(c.kept),
        threshold=threshold,
        wanted_precision=precision,
        micro=micro,
        macro=Macro(
            *(_mean([getattr(each, name) for each in counts]) for name in ("precision", "recall", "f1"))
        ),
        best_f1=pooled.best_f1(),
        at_precision=pooled.lowest_threshold(precision),
        labels_per_thing=ratio(int(c.on_found.sum()), micro.tp),
        coco=coco,
        presence=there,
        saco=saco(c, there.mcc),
        per_class=tuple(rows),
        errors=error_budget(c),
        confusions=confusions(c, classes),
        reliability=reliability(c.score[every.counted], every.right[every.counted]),
        curve=pooled,
        class_curves=dict(zip(classes, class_curves, strict=True)),
    )


def _class_curves(c: Comparison) -> list[Curve]:
    """The curve of each class."""
    rows = np.flatnonzero(c.matching.counted)
    rows = rows[np.argsort(c.label_class[rows], kind="stable")]
    stops = np.searchsorted(c.label_class[rows], np.arange(c.classes + 1))
    parts = [rows[a:b] for a, b in pairwise(stops)]
    right, instances = c.matching.right, c.instances
    return [curve(c.score[part], right[part], int(instances[k])) for k, part in enumerate(parts)]


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
