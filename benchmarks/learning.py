"""What reviewing some photos of a run does to the labels of the others: the figures of docs/learning.md.

    python benchmarks/learning.py --run RUN --annotations instances.json --json learning.json --plot learning.png
    python benchmarks/learning.py --word-run RUN --annotations instances.json --examples 10

RUN is one of photos whose annotations are known, with any words. With --words N, N random words of all words of the
annotations take part, in --vocabularies random choices. Printed, means over random orders of the photos:

- F1 before and after, on the photos that were not reviewed, the share of what is missing to 1 that is gained, and how
  many orders are harmed;
- with --decisions, F1 over the number of decided labels, for random order and for the queue;
- how often the stated interval of the precision holds the true one;
- with --word-run, F1 of each word of the annotations under a nonsense word, from so many examples.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from label_rules import EmbeddedTruth, EncodedWords, random_vocabularies
from labels import photos_of_run
from learning_curves import (
    gap_closed,
    label_by,
    photo_curve,
    precision_coverage,
    review_by_masks,
    reviewed,
)
from tqdm import tqdm

from gem_label.evaluation.results import percent, text_table, write_result
from gem_label.labeler import text_encoder_of
from gem_label.learning.estimates import decisions_for_precision
from gem_label.learning.judging import RIGHT, WRONG
from gem_label.learning.training import judge_photos
from gem_label.runs import open_run

NONSENSE = "blick"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True, help="COCO instances of its photos")
    parser.add_argument("--words", type=int, help="so many random words: default: all")
    parser.add_argument("--vocabularies", type=int, default=1, help="how many random choices of words")
    parser.add_argument("--counts", default="5,10,20,30", help="numbers of photos that are reviewed")
    parser.add_argument("--orders", type=int, default=10)
    parser.add_argument("--decisions", default="", help="numbers of decided labels, such as 50,100,200")
    parser.add_argument("--decision-orders", type=int, default=3)
    parser.add_argument("--examples", type=int, default=0, help="examples of each nonsense word")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="PNG of the curves")
    arguments = parser.parse_args()
    encoder = text_encoder_of(open_run(arguments.run))
    truths = list(photos_of_run(arguments.run, arguments.annotations))
    listed = {each["name"] for each in json.loads(arguments.annotations.read_text())["categories"]}
    known = sorted(listed)
    numbers: dict[str, Any] = {"photos": len(truths)}
    vocabularies = random_vocabularies(known, arguments.words or len(known), arguments.vocabularies, 1)
    encoded = [EncodedWords.of(v, encoder.encode, encoder.clip.logit_scale, known) for v in vocabularies]
    counts = [int(count) for count in arguments.counts.split(",") if count]
    rows = [
        row
        for words in tqdm(encoded, unit="vocabulary")
        for row in (photo_curve(truths, words, counts, arguments.orders) if counts else ())
    ]
    numbers["photo_rows"] = rows
    numbers["by_photos"] = {
        str(count): gap_closed([row for row in rows if row["reviewed"] == count]) for count in counts
    }
    if arguments.decisions:
        steps = [int(count) for count in arguments.decisions.split(",")]
        numbers["by_decisions"] = decision_curves(truths, encoded[0], steps, arguments.decision_orders)
        numbers["coverage"] = coverage(truths, encoded[0])
    if arguments.examples:
        numbers["nonsense"] = nonsense_words(truths, known, encoder, arguments.examples)
    print(tables(numbers))
    if arguments.json:
        write_result(arguments.json, {"evaluation": "learning", "words": arguments.words} | numbers)
    if arguments.plot:
        plot(numbers, arguments.plot)


def decision_curves(
    truths: Sequence[EmbeddedTruth], words: EncodedWords, steps: Sequence[int], orders: int
) -> dict[str, list[dict[str, float]]]:
    """Mean figures after each number of decisions; half of the photos are reviewed, the others measured."""
    found: dict[str, list[dict[str, float]]] = {}
    for kind in ("random", "queue"):
        runs = []
        for order in range(orders):
            permuted = np.random.default_rng(order).permutation(len(truths))
            pool, test = np.sort(permuted[::2]).tolist(), np.sort(permuted[1::2]).tolist()
            runs.append(review_by_masks(truths, pool, test, words, kind, steps, order * 10_000))
        found[kind] = [
            {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
            for rows in zip(*runs, strict=True)
        ]
    return found


def coverage(truths: Sequence[EmbeddedTruth], words: EncodedWords) -> dict[str, Any]:
    """Precision of the kept labels, how often its interval is true, and decisions for a precision of 0.9."""
    photos = [reviewed(photo, words) for photo in truths]
    labels = label_by(photos, words, None)
    verdict = judge_photos(photos, labels).verdict[labels.kept]
    right = verdict[(verdict == RIGHT) | (verdict == WRONG)] == RIGHT
    scores = labels.score[labels.kept]
    return {
        "precision": float(right.mean()),
        "labels": len(right),
        "interval_true": precision_coverage(right, [n for n in (10, 20, 50, 100) if n <= len(right)], 500),
        "decisions_for_0.9": decisions_for_precision(scores, 0, 0.9, float(right.mean())),
    }


def nonsense_words(
    truths: Sequence[EmbeddedTruth], known: Sequence[str], encoder: Any, examples: int
) -> list[dict[str, Any]]:
    """Each word that the photos show often, under a name that the model does not know, from a few of its things."""
    from learning_words import teach_nonsense

    shown = [word for photo in truths for word in photo.truth.words]
    often = sorted({word for word in shown if shown.count(word) >= 1.5 * examples})
    rows = []
    for word in often:
        classes = [NONSENSE if each == word else each for each in known]
        words = EncodedWords.of(classes, encoder.encode, encoder.clip.logit_scale, classes)
        rows += [
            {"word": word, "order": order} | teach_nonsense(truths, word, NONSENSE, words, examples, order)
            for order in range(4)
        ]
    return rows


def tables(numbers: dict[str, Any]) -> str:
    """The figures as text."""
    parts = [f"{numbers['photos']} photos"]
    if numbers["by_photos"]:
        header = [
            "photos reviewed",
            "F1 before",
            "after",
            "at best threshold",
            "gained of what is missing",
            "orders harmed",
        ]
        rows = [
            [count, *(percent(row[name]) for name in ("before", "after", "at_best", "gained", "harmed"))]
            for count, row in numbers["by_photos"].items()
        ]
        parts.append(text_table(header, rows))
    if "by_decisions" in numbers:
        curves = numbers["by_decisions"]
        header = [
            "decisions",
            *(f"{name}: {figure}" for name in curves for figure in ("F1", "at best threshold")),
        ]
        rows = [
            [
                f"{pair[0]['decisions']:.0f}",
                *(percent(each[figure]) for each in pair for figure in ("f1", "best_f1")),
            ]
            for pair in zip(*curves.values(), strict=True)
        ]
        parts.append(text_table(header, rows))
        parts.append(json.dumps(numbers["coverage"]))
    if "nonsense" in numbers:
        rows = []
        for word in sorted({row["word"] for row in numbers["nonsense"]}):
            own = [row for row in numbers["nonsense"] if row["word"] == word]
            means = [float(np.mean([row[name] for row in own])) for name in ("before", "f1")]
            rows.append([word, *map(percent, means)])
        parts.append(text_table(["nonsense word for", "F1 without examples", "with"], rows))
    return "\n\n".join(parts)


def plot(numbers: dict[str, Any], path: Path) -> None:
    """Curves of F1 over photos and over decisions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    by_photos = numbers["by_photos"]
    counts = [0, *map(int, by_photos)]
    first = next(iter(by_photos.values()))["before"]
    left.plot(
        counts, [first, *(row["after"] for row in by_photos.values())], marker="o", label="after learning"
    )
    left.axhline(first, color="gray", linestyle="--", label="without learning")
    left.set(xlabel="photos reviewed", ylabel="F1 on the other photos")
    for name, rows in numbers.get("by_decisions", {}).items():
        right.plot([row["decisions"] for row in rows], [row["f1"] for row in rows], marker="o", label=name)
    right.set(xlabel="labels decided about", ylabel="F1 on photos that are not reviewed")
    for axis in (left, right):
        axis.legend()
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
