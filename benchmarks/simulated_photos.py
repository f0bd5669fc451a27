"""Labels of photographs from simulated patch features and SAM's real masks: today's rule against the older one.

    python benchmarks/simulated_photos.py --data shared/data/coco16 --cache masks --json simulated.json

Where no CLIP that knows photographs can be loaded, this simulates one (`benchmarks/simulation.py`). The folder has
photos in data/ and COCO instances in instances.json, and perhaps points in labels/points.csv; masks are MobileSAM's.
What comes behind the features is the real thing: pooling, negative words, scores, selection, evaluation. Noise is the
standard deviation of a word's logit in a patch, in logits (the right word leads by 10). Two more levels are found by
bisection: those of GEM's published p-mIoU on Open Images V7 and of its published mIoU on PASCAL VOC without
background. Printed by noise level and number of words:

- patches in annotated things that are nearest to the right one of all words; p-mIoU by points; mIoU over the patches
  in things of VOC's 20 words, among these words;
- F1, precision, recall, labels for a thing found, absent words labeled, best F1 and its threshold, of both rules: the
  mean over random vocabularies, or of all words at once;
- bound: recall with a perfect selection, the things that have a mask of IoU >= 0.5 whose best word is right.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from label_rules import (
    HEADER,
    NEW,
    OLDER,
    EmbeddedTruth,
    EncodedWords,
    Figures,
    Truth,
    best_recall,
    cells,
    figures_of,
    label_photos,
    mean_figures,
    measure,
    random_vocabularies,
    read_truths,
    threshold_of,
)
from numpy.typing import NDArray
from proposed_masks import propose_cached
from simulation import (
    LOGIT_SCALE,
    SimulatedPhoto,
    WordVectors,
    mean_iou,
    nearest_words,
    sample_points,
    simulate_photo,
)
from tqdm import tqdm

from gem_label.errors import UsageError
from gem_label.evaluation.openimages import class_names, read_points
from gem_label.evaluation.results import percent, text_table, write_result
from gem_label.labeled_photo import pool_photo
from gem_label.labeling.lexicon import load_lexicon
from gem_label.masks import MaskSet
from gem_label.metrics.points import ImagePoints, PointTotals, point_counts, similarity_prediction

PUBLISHED = {"p_miou": 0.509, "voc20_miou": 0.799}
"""GEM with OpenAI's ViT-B/16: p-mIoU on Open Images V7 (GEM paper, table 3), and mIoU on the validation set of PASCAL
VOC 2012 without background (ClearCLIP, supplement, table 2)."""
VOC20 = (
    "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog",
    "horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv",
)  # fmt: skip
"""VOC's classes as COCO calls them."""
NOISE = (2.0, 3.5, 5.0)
MOST_NOISE = 40.0
"""Where bisection starts from above, in logits."""
VOCABULARIES = 8
"""Random vocabularies of fewer words than all."""
VOCABULARY_SEED = 1


@dataclass(frozen=True)
class Photo:
    """A photo of the folder, before any features.

    Attributes:
        name: of its file.
        masks: SAM's masks.
        truth: the annotations, and the same masks as a `MaskSet`.
        true_masks: see `truth`.
        asked: words of the points.
        points: points whose `class_index` counts `asked`.
    """

    name: str
    masks: MaskSet
    truth: Truth
    true_masks: MaskSet
    asked: list[str]
    points: ImagePoints


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with data/ and instances.json")
    parser.add_argument("--noise", type=float, nargs="*", default=NOISE, help="levels, in logits")
    parser.add_argument("--words", type=int, nargs="+", default=(10, 80), help="words in a vocabulary")
    parser.add_argument("--repeats", type=int, default=3, help="simulations, each with its own seed")
    parser.add_argument("--sam", default="mobile_sam", help="a name, or a checkpoint file")
    parser.add_argument("--cache", type=Path, help="folder that keeps SAM's masks")
    parser.add_argument("--json", type=Path, help="write the numbers into this file too")
    arguments = parser.parse_args()
    photos, words = read_photos(arguments.data, arguments.sam, arguments.cache)
    numbers = compare(photos, words, arguments.noise, arguments.words, arguments.repeats)
    print(table(numbers))
    if arguments.json:
        write_result(arguments.json, {"evaluation": "simulated_photos"} | numbers)


def read_photos(folder: Path, sam: str, cache: Path | None) -> tuple[list[Photo], list[str]]:
    """The annotated photos of a folder with SAM's masks and points, and the annotations' words."""
    truths, words = read_truths(folder / "instances.json")
    paths = sorted(path for path in (folder / "data").iterdir() if path.name in truths)
    if not paths:
        raise UsageError(f"{folder / 'data'} has no photo of {folder / 'instances.json'}")
    found, photos = propose_cached(paths, sam, cache), []
    points = _points_of(folder / "labels" / "points.csv")
    for number, (path, masks) in enumerate(zip(paths, found, strict=True)):
        truth = truths[path.name]
        true_masks = truth.maskset(masks.height, masks.width)
        asked = points(path.stem) if points else None
        asked = asked or sample_points(true_masks, truth.words, np.random.default_rng(number))
        photos.append(Photo(path.name, masks, truth, true_masks, *asked))
    return photos, words


def _points_of(path: Path) -> Callable[[str], tuple[list[str], ImagePoints] | None] | None:
    """The words and points of a photo by its name without extension; None where there is no file of points."""
    if not path.is_file():
        return None
    table = read_points(path)
    names = class_names(table, path)

    def of(name: str) -> tuple[list[str], ImagePoints] | None:
        if name not in table.index:
            return None
        labels, points = table.image(table.index[name])
        return [names[label] for label in labels], points

    return of


def compare(
    photos: Sequence[Photo], words: list[str], noise: Sequence[float], sizes: Sequence[int], repeats: int
) -> dict[str, Any]:
    """All figures.

    Args:
        photos: P photos.
        words: the annotations' words.
        noise: levels in logits.
        sizes: numbers of words in a vocabulary; all words where there are no more.
        repeats: simulations.

    Returns:
        As JSON: what was measured, and `levels`, a dict for each noise level.
    """
    encoder = WordVectors()
    background = [word for word in load_lexicon().words if word not in words]
    runs = [
        [
            simulate_photo(
                photo.true_masks,
                photo.truth.words,
                background,
                encoder,
                np.random.default_rng([seed, number]),
            )
            for number, photo in enumerate(photos)
        ]
        for seed in range(repeats)
    ]
    vocabularies = {
        size: [
            EncodedWords.of(some, encoder.encode, LOGIT_SCALE)
            for some in random_vocabularies(words, size, VOCABULARIES, VOCABULARY_SEED)
        ]
        for size in sizes
    }

    def measured(level: float) -> Figures:
        return mean_figures([quality(photos, run, encoder, words, level) for run in runs])

    chosen = dict.fromkeys(noise, "")
    for name, wanted in PUBLISHED.items():
        if measured(0.0)[name] is not None:
            chosen[bisect(measured, name, wanted)] = f"{name} as published"
    levels = []
    for level, why in sorted(chosen.items()):
        by_size = {
            str(size): _both_rules(photos, runs, level, some, f"{size} words, noise {level:.2f}")
            for size, some in vocabularies.items()
        }
        levels.append({"noise": level, "chosen": why} | measured(level) | {"words": by_size})
    return {
        "photos": [photo.name for photo in photos],
        "masks": sum(len(photo.masks) for photo in photos),
        "things": sum(int((~photo.truth.crowd).sum()) for photo in photos),
        "repeats": repeats,
        "vocabulary_seed": VOCABULARY_SEED,
        "vocabularies": {
            str(size): [list(each.vocabulary.classes) for each in some] for size, some in vocabularies.items()
        },
        "published": PUBLISHED,
        "levels": levels,
    }


def _both_rules(
    photos: Sequence[Photo],
    runs: Sequence[Sequence[SimulatedPhoto]],
    level: float,
    vocabularies: Sequence[EncodedWords],
    title: str,
) -> dict[str, Figures]:
    """Figures of both rules, means over simulations and vocabularies; of the new rule the bound, too."""
    rows: dict[str, list[Figures]] = {NEW: [], OLDER: []}
    for run in tqdm(runs, desc=title, leave=False):
        embedded = [_pooled(photo, simulated, level) for photo, simulated in zip(photos, run, strict=True)]
        for words in vocabularies:
            for rule, figures in rows.items():
                labels = label_photos(rule, embedded, words)
                report = measure(embedded, labels, words, threshold_of(rule))
                figures.append(figures_of(report) | {"bound": best_recall(embedded, labels)})
    return {rule: mean_figures(figures) for rule, figures in rows.items()}


def _pooled(photo: Photo, simulated: SimulatedPhoto, level: float) -> EmbeddedTruth:
    pooled = pool_photo(photo.masks, simulated.patches(level), simulated.class_token(level))
    return EmbeddedTruth(photo.name, pooled.masks, pooled.image_embedding, photo.truth)


def quality(
    photos: Sequence[Photo],
    run: Sequence[SimulatedPhoto],
    encoder: WordVectors,
    words: Sequence[str],
    level: float,
) -> Figures:
    """How good the features are, without any mask of SAM's; all in [0, 1].

    Returns:
        patch_accuracy; p_miou, averaged as the GEM paper does, over photos of the mean over their words; voc20_miou,
        None where `words` lack one of VOC's.
    """
    totals = PointTotals()
    every: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    voc: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for photo, simulated in zip(photos, run, strict=True):
        patches, true_words = simulated.patches(level), photo.truth.words
        every.append(nearest_words(patches, photo.true_masks, true_words, words, encoder))
        voc.append(nearest_words(patches, photo.true_masks, true_words, VOC20, encoder))
        if photo.asked:
            text = encoder.encode(photo.asked)
            similarity = np.einsum("hwd,cd->chw", patches, text, optimize=True)
            predicted = similarity_prediction(
                similarity, photo.points, (photo.true_masks.height, photo.true_masks.width)
            )
            totals.add(photo.asked, point_counts(predicted, photo.points, len(text)))
    found, true = (np.concatenate(part) for part in zip(*every, strict=True))
    of_voc = [np.concatenate(part) for part in zip(*voc, strict=True)]
    return {
        "patch_accuracy": float((found == true).mean()),
        "p_miou": totals.averages().images,
        "voc20_miou": mean_iou(of_voc[0], of_voc[1], len(VOC20)) if set(VOC20) <= set(words) else None,
    }


def bisect(measured: Callable[[float], Figures], name: str, wanted: float, steps: int = 14) -> float:
    """The level in [0, `MOST_NOISE`] at which a figure, which falls with noise, is as wanted.

    Args:
        measured: figures at a level.
        name: of the figure, which is defined.
        wanted: its value.
        steps: how often the range is halved.

    Raises:
        UsageError: it is not between the figures of both ends.
    """

    def value(level: float) -> float:
        return measured(level)[name] or 0.0

    low, high = 0.0, MOST_NOISE
    if not value(high) <= wanted <= value(low):
        raise UsageError(f"no noise gives {name} {percent(wanted)}: it is {percent(value(low))} without any")
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if value(middle) > wanted else (low, middle)
    return (low + high) / 2


def table(numbers: dict[str, Any]) -> str:
    """The figures as text."""
    head = (
        f"{len(numbers['photos'])} photos, {numbers['masks']} masks, {numbers['things']} things, "
        f"{numbers['repeats']} simulations"
    )
    rows = []
    for level in numbers["levels"]:
        measured = [percent(level[name]) for name in ("patch_accuracy", "p_miou", "voc20_miou")]
        for size, rules in level["words"].items():
            for rule, figures in rules.items():
                start = [f"{level['noise']:.2f}", *measured, size, rule]
                rows.append([*start, *cells(figures), percent(figures["bound"])])
    header = ["noise", "patches right", "p-mIoU", "VOC mIoU", "words", "", *HEADER, "bound"]
    return f"{head}\n\n{text_table(header, rows)}"


if __name__ == "__main__":
    main()
