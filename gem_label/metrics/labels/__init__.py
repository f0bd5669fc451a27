"""How good the labels of photos are against annotated instances: `evaluate_labels`. Pure numpy and pycocotools."""

from __future__ import annotations

from gem_label.metrics.labels.evaluate import evaluate_labels
from gem_label.metrics.labels.matching import PhotoLabels
from gem_label.metrics.labels.report import ClassReport, LabelReport

__all__ = ["ClassReport", "LabelReport", "PhotoLabels", "evaluate_labels"]
