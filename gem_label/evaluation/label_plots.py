"""Figures of a `LabelReport`: curves, reliability, error budget (matplotlib, the extra `eval`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gem_label.errors import GemLabelError
from gem_label.metrics.labels.curves import Curve, ThresholdPoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gem_label.metrics.labels.report import LabelReport

CLASS_CURVES = 8
"""Classes with a curve of their own: those with most instances."""
FEW_POINTS = 20
"""Curves with fewer points show them: one point alone is no line."""
PIXELS_PER_INCH = 110


def require_matplotlib() -> None:
    """Raise GemLabelError when matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise GemLabelError('plots need matplotlib: pip install "gem-label[eval]"') from error


def write_plots(report: LabelReport, folder: Path) -> list[Path]:
    """Write precision-recall.png, f1.png, reliability.png and errors.png.

    Args:
        report: what is drawn.
        folder: made when it is missing.

    Raises:
        GemLabelError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw, size in (
        ("precision-recall", draw_precision_recall, (7.5, 4.5)),
        ("f1", draw_f1, (7.5, 4.5)),
        ("reliability", draw_reliability, (5.0, 5.5)),
        ("errors", draw_errors, (8.0, 3.6)),
    ):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure, report)
        written.append(folder / f"{name}.png")
        figure.savefig(written[-1], dpi=PIXELS_PER_INCH)
    return written


def draw_precision_recall(figure: Figure, report: LabelReport) -> None:
    """Precision over recall, pooled and of the most frequent classes; the kept labels as a point."""
    axis = figure.subplots()
    for name, curve, style in _curves(report):
        axis.plot(curve.recall, curve.precision, label=name, **style)
    micro = report.micro
    if micro.precision is not None and micro.recall is not None:
        at = "" if report.threshold is None else f" at {report.threshold:g}"
        axis.plot(micro.recall, micro.precision, "ko", markersize=7, label=f"kept labels{at}", zorder=5)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
    axis.set_title("precision and recall at IoU 0.5, over all thresholds")
    _finish(figure, axis)


def draw_f1(figure: Figure, report: LabelReport) -> None:
    """F1 over the threshold; the best one for all classes as a dashed line."""
    axis = figure.subplots()
    for name, curve, style in _curves(report):
        if len(curve.thresholds):
            # a threshold keeps the scores from it upwards: F1 is constant from a score down to the next
            thresholds, f1 = np.append(curve.thresholds, 0.0), np.append(curve.f1, curve.f1[-1])
            axis.step(thresholds, f1, where="post", label=name, **style)
    best = report.best_f1
    if best is not None:
        axis.axvline(best.threshold, color="black", linestyle="--", linewidth=1, label=_best_label(best))
    axis.set(xlabel="threshold (lowest score kept)", ylabel="F1", xlim=(0, 1.01), ylim=(0, 1.03))
    axis.set_title("F1 at IoU 0.5 by threshold")
    _finish(figure, axis)


def draw_reliability(figure: Figure, report: LabelReport) -> None:
    """The share of right labels by score, over how many labels there are."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    bins = report.reliability.bins
    lows = np.array([row.low for row in bins])
    widths = np.array([row.high - row.low for row in bins])
    shares = [0.0 if row.precision is None else row.precision for row in bins]
    above.bar(lows, shares, widths, align="edge", edgecolor="white", color="tab:blue", label="share right")
    full = [row for row in bins if row.mean_score is not None]
    above.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="score = share right")
    above.plot(
        [row.mean_score for row in full], [row.precision for row in full], "o", color="tab:orange",
        markeredgecolor="white", label="at the mean score",
    )  # fmt: skip
    above.set(ylabel="share of labels that are right", xlim=(0, 1), ylim=(0, 1.03))
    error = report.reliability.expected_calibration_error
    above.set_title("reliability" + ("" if error is None else f", expected calibration error {error:.3f}"))
    above.legend(loc="upper left", fontsize="small")
    below.bar(lows, [row.labels for row in bins], widths, align="edge", edgecolor="white", color="tab:gray")
    below.set(xlabel="score", ylabel="labels")
    for axis in (above, below):
        axis.set_axisbelow(True)
        axis.grid(alpha=0.3)


def draw_errors(figure: Figure, report: LabelReport) -> None:
    """TIDE's kinds of error: how many, and what each costs."""
    left, right = figure.subplots(1, 2, sharey=True)
    rows = report.errors
    places = np.arange(len(rows))
    bars = left.barh(places, [row.count for row in rows], color="tab:gray")
    left.bar_label(bars, padding=3, fontsize="small")
    left.set(xlabel="errors among the kept labels", yticks=places, yticklabels=[row.kind for row in rows])
    left.invert_yaxis()
    left.margins(x=0.15)
    for shift, color, name, costs in (
        (-0.2, "tab:blue", "F1 of the kept labels", [row.f1_cost for row in rows]),
        (0.2, "tab:orange", "AP50 of all labels", [row.ap50_cost for row in rows]),
    ):
        points = [100 * (cost or 0.0) for cost in costs]
        bars = right.barh(places + shift, points, 0.38, color=color, label=name)
        right.bar_label(bars, fmt="%.1f", padding=3, fontsize="small")
    right.set(xlabel="gain when only this kind is fixed (points)")
    right.margins(x=0.15)
    figure.legend(loc="outside upper right", ncols=2, fontsize="small")


def _curves(report: LabelReport) -> list[tuple[str, Curve, dict[str, Any]]]:
    """The pooled curve, then those of the classes with most instances."""
    rows: list[tuple[str, Curve, dict[str, Any]]] = []
    labeled = [row for row in report.per_class if row.instances and row.labels_all]
    frequent = sorted(labeled, key=lambda row: -row.instances)[:CLASS_CURVES]
    for number, row in enumerate(frequent):
        curve = report.class_curves[row.name]
        style = {"linewidth": 1.2, "color": f"C{number}", "alpha": 0.9}
        if len(curve.thresholds) < FEW_POINTS:
            style |= {"marker": ".", "markersize": 5}
        rows.append((_shortened(row.name), curve, style))
    return [("all classes", report.curve, {"linewidth": 2.5, "color": "black"}), *rows]


def _finish(figure: Figure, axis: Any) -> None:
    axis.grid(alpha=0.3)
    handles: Sequence[Any] = axis.get_legend_handles_labels()[0]
    if handles:
        figure.legend(loc="outside right upper", fontsize="small")


def _best_label(point: ThresholdPoint) -> str:
    return f"best F1 {point.f1 or 0:.2f} at {point.threshold:g}"


def _shortened(name: str) -> str:
    # a leading underscore would hide a line from the legend
    name = name.lstrip("_") or "(_)"
    return name if len(name) <= 24 else name[:22] + "..."
