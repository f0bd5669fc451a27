"""`gem-label eval labels`: labels of a run or of a file against annotations."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gem_label.metrics.labels import LabelReport
    from gem_label.metrics.labels.curves import ThresholdPoint

SHOWN_CLASSES = 40
SHOWN_CONFUSIONS = 15


def labels(
    source: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run directory, or an annotation file with scores.")
    ],
    annotations: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="The ground truth: COCO, CVAT, Label Studio, YOLO or a table of masks."
        ),
    ],
    precision: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Find the thresholds that reach this precision.")
    ] = 0.95,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the whole result into this file.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write figures (PNG) into this folder.")
    ] = None,
) -> None:
    """Precision, recall, thresholds and errors of labels, against annotated instances.

    Of a run, the labels that it keeps are measured; of a file, all. Photos are joined with the annotations by the end
    of their paths, classes by name. Thresholds per class are printed in the form that --min-score takes.

    \b
    Example: gem-label eval labels RUN --annotations instances_val2017.json --json labels.json
    """
    from tqdm import tqdm

    from gem_label.evaluation.label_plots import require_matplotlib, write_plots
    from gem_label.evaluation.label_sources import open_labels
    from gem_label.evaluation.results import write_result
    from gem_label.metrics.labels import evaluate_labels
    from gem_label.weights import file_sha256

    if plots is not None:
        require_matplotlib()
    found = open_labels(source, annotations)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    photos = tqdm(found.photos, total=found.matched, unit="photo")
    report = evaluate_labels(photos, found.classes, found.threshold, precision)
    print_report(report)
    if json is not None:
        paths = {"labels": str(source), "annotations": str(annotations)}
        # YOLO's folder has no single file
        sums = {"annotations_sha256": file_sha256(annotations)} if annotations.is_file() else {}
        settings = sums | found.settings
        head = {"evaluation": "labels"} | paths | {"settings": settings, "notes": list(found.notes)}
        write_result(json, head | report.to_dict())
        print(f"\n{json}")
    if plots is not None:
        for path in write_plots(report, plots):
            print(path)


def print_report(report: LabelReport) -> None:
    """All tables, shares in percent."""
    print(
        f"{report.photos} photos with labels and annotations, {len(report.per_class)} classes, "
        f"{report.instances} instances, {report.crowds} crowds"
    )
    at = "" if report.threshold is None else f" at the threshold {report.threshold:g}"
    print(f"{report.labels} labels kept{at}, {report.labels_all} of any score")
    for table in (_quality(report), _summary(report), _per_class(report), _errors(report),
                  _confusions(report), _reliability(report), _thresholds(report)):  # fmt: skip
        print(f"\n{table}")


def _quality(report: LabelReport) -> str:
    from gem_label.evaluation.results import percent, text_table

    micro, macro = report.micro, report.macro
    rows = [
        ["all classes together", *map(percent, (micro.precision, micro.recall, micro.f1)),
         *map(str, (micro.tp, micro.fp, micro.fn))],
        ["mean over classes", *map(percent, (macro.precision, macro.recall, macro.f1)), "", "", ""],
    ]  # fmt: skip
    for name, point in (
        ("best F1", report.best_f1),
        (f"precision {100 * report.wanted_precision:g}%", report.at_precision),
    ):
        if point is None:
            rows.append([f"{name}: no threshold", *"------"])
            continue
        tp = round(point.precision * point.labels)
        shares = map(percent, (point.precision, point.recall, point.f1))
        counts = map(str, (tp, point.labels - tp, report.instances - tp))
        rows.append([f"{name}: threshold {point.threshold:g}", *shares, *counts])
    return text_table(["at IoU 0.5", "precision", "recall", "F1", "right", "wrong", "missed"], rows)


def _summary(report: LabelReport) -> str:
    from gem_label.evaluation.results import percent, text_table

    presence, saco, per_thing = report.presence, report.saco, report.labels_per_thing
    rows = [
        ["labels for a thing found", "-" if per_thing is None else f"{per_thing:.2f}"],
        ["AP", percent(report.coco.ap)],
        ["AP50", percent(report.coco.ap50)],
        ["AR100", percent(report.coco.ar100)],
        ["words in photos: precision", percent(presence.precision)],
        ["words in photos: recall", percent(presence.recall)],
        [f"absent words labeled ({presence.fp} of {presence.fp + presence.tn})",
         percent(presence.false_positive_rate)],
        ["words in photos: MCC (IL_MCC)", f"{presence.mcc:.3f}"],
        ["pmF1", percent(saco.pmf1)],
        ["cgF1", "-" if saco.cgf1 is None else f"{saco.cgf1:.1f}"],
    ]  # fmt: skip
    return text_table(["further figures", ""], rows)


def _per_class(report: LabelReport) -> str:
    from gem_label.evaluation.results import percent, text_table

    def threshold(point: ThresholdPoint | None) -> str:
        return "-" if point is None else f"{point.threshold:g}"

    rows = [
        [row.name, str(row.instances), str(row.labels), str(row.counts.tp),
         *map(percent, (row.counts.precision, row.counts.recall, row.counts.f1, row.ap50)),
         threshold(row.best_f1), threshold(row.at_precision),
         percent(row.at_precision.recall if row.at_precision else None)]
        for row in sorted(report.per_class, key=lambda row: (-row.instances, -row.labels))
    ]  # fmt: skip
    wanted = f"P{100 * report.wanted_precision:g}"
    header = ["per class", "instances", "labels", "right", "precision", "recall", "F1", "AP50",
              "best threshold", f"{wanted} threshold", f"{wanted} recall"]  # fmt: skip
    more = len(rows) - SHOWN_CLASSES
    rest = f"\n... and {more} more classes, all in the JSON file (--json)" if more > 0 else ""
    return text_table(header, rows[:SHOWN_CLASSES]) + rest


def _errors(report: LabelReport) -> str:
    from gem_label.evaluation.results import percent, text_table

    rows = [
        [row.kind, str(row.count), percent(row.f1_cost), str(row.count_all), percent(row.ap50_cost)]
        for row in report.errors
    ]
    return text_table(["errors (TIDE)", "kept labels", "costs F1", "all labels", "costs AP50"], rows)


def _confusions(report: LabelReport) -> str:
    from gem_label.evaluation.results import text_table

    rows = [[row.label, row.truth, str(row.count)] for row in report.confusions[:SHOWN_CONFUSIONS]]
    more = len(report.confusions) - SHOWN_CONFUSIONS
    rest = f"\n... and {more} more pairs, all in the JSON file (--json)" if more > 0 else ""
    return text_table(["label", "truth", "count"], rows) + rest


def _reliability(report: LabelReport) -> str:
    from gem_label.evaluation.results import percent, text_table

    rows = [
        [f"{row.low:.1f} to {row.high:.1f}", str(row.labels), percent(row.mean_score), percent(row.precision)]
        for row in report.reliability.bins
    ]
    error = report.reliability.expected_calibration_error
    table = text_table(["score, all labels", "labels", "mean score", "right"], rows)
    return f"{table}\nexpected calibration error {percent(error)}"


def _thresholds(report: LabelReport) -> str:
    from gem_label.metrics.labels.report import LEAST_LABELS

    lines = []
    for aim, name in (
        ("best_f1", "best F1"),
        ("at_precision", f"precision {100 * report.wanted_precision:g}% (1 where it is never reached)"),
    ):
        lines += [f"thresholds for {name}:", f"  --min-score {_quoted(report.min_score(aim))}"]
    few = sum(row.labels_all < LEAST_LABELS for row in report.per_class)
    if few:
        lines.append(f"({few} classes with fewer than {LEAST_LABELS} labels take the first number)")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Text for a shell, in double quotes where these are safe."""
    return shlex.quote(text) if any(letter in text for letter in '"$`\\!') else f'"{text}"'
