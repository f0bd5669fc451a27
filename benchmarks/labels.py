"""Labels of rendered scenes by today's rule and by the older one, all of it in one run.

    python benchmarks/labels.py --first 1000 --scenes 200 --unseen 40 --json labels.json
    python benchmarks/labels.py --run RUN --annotations instances.json

Renders scenes that the demo CLIP was never trained on, proposes masks, pools GEM's features, and labels them with
vocabularies of one word, of ten words and of all: random ones, the same each time. With --run, masks and embeddings
are those of a run, and the annotations a COCO file. Printed, means over the vocabularies:

- F1, precision, recall, labels for a thing found, absent words labeled, best F1 and its threshold, of both rules;
- kinds of error of the new rule (TIDE): how many, and the F1 that each costs;
- how many labels come out of scenes in a style of drawing that training never saw (--unseen, --unseen-run), and of
  photos, which the demo CLIP does not know even where they show one of its words (--data, a folder, --unknown-run).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from label_rules import (
    HEADER,
    NEW,
    OLDER,
    EmbeddedTruth,
    EncodedWords,
    Truth,
    cells,
    figures_of,
    label_photos,
    mean_figures,
    measure,
    random_vocabularies,
    read_truths,
    threshold_of,
)
from tqdm import tqdm

from gem_label.clip.text import TextEncoder
from gem_label.demo import demo_words
from gem_label.demo.scenes import Scene
from gem_label.demo.sprites import load_sprites
from gem_label.demo.truth import held_out_scenes, true_masks
from gem_label.errors import UsageError
from gem_label.evaluation.demo_clip import DEMO_PROPOSALS
from gem_label.evaluation.results import percent, text_table, write_result
from gem_label.formats.photo_names import pair_photos
from gem_label.labeler import Labeler, load_labeler, text_encoder_of
from gem_label.metrics.labels import LabelReport
from gem_label.photos.listing import list_images
from gem_label.photos.reading import read_image
from gem_label.runs import open_run

VOCABULARIES = {10: 8, 1: 12}
"""Words in a vocabulary, and how many random vocabularies of this many words."""
NOTHING = Truth((), (), np.zeros(0, bool))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=1000, help="number of the first scene's seed")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument(
        "--unseen", type=int, default=0, metavar="N", help="scenes in a style never trained on"
    )
    parser.add_argument("--data", type=Path, help="folder of photos, which the demo CLIP does not know")
    parser.add_argument("--run", type=Path, help="take masks and embeddings from this run")
    parser.add_argument("--annotations", type=Path, help="COCO instances of the run's photos")
    parser.add_argument("--unseen-run", type=Path, help="as --unseen, from this run")
    parser.add_argument("--unknown-run", type=Path, help="as --data, from this run")
    parser.add_argument("--seed", type=int, default=1, help="of the random vocabularies")
    parser.add_argument("--sam", default="mobile_sam", help="a name, or a checkpoint file")
    parser.add_argument("--json", type=Path, help="write the numbers into this file too")
    arguments = parser.parse_args()
    if (arguments.run is None) != (arguments.annotations is None):
        parser.error("--run and --annotations go together")
    sets, encoder = read_sets(arguments)
    numbers = {"seed": arguments.seed} | compare(sets, encoder, arguments.seed)
    print(tables(numbers))
    if arguments.json:
        asked = {name: getattr(arguments, name) for name in ("first", "scenes", "unseen", "sam")}
        from_run = {} if arguments.run is None else {"run": open_run(arguments.run).manifest["settings"]}
        write_result(arguments.json, {"evaluation": "label_rules"} | (from_run or asked) | numbers)


def read_sets(arguments: argparse.Namespace) -> tuple[dict[str, list[EmbeddedTruth]], TextEncoder]:
    """The photos by what they are, annotated ones first, and the text encoder that goes with them."""
    sets: dict[str, list[EmbeddedTruth]] = {}
    encoder: TextEncoder | None = None
    labeler: Labeler | None = None
    if arguments.run is None or arguments.unseen or arguments.data is not None:
        labeler = load_labeler(clip="demo", sam=arguments.sam, proposals=DEMO_PROPOSALS)
        encoder = labeler.text
    if arguments.run is not None:
        encoder = encoder or text_encoder_of(open_run(arguments.run))
        sets["annotated"] = list(photos_of_run(arguments.run, arguments.annotations))
    elif labeler is not None:
        scenes = held_out_scenes(load_sprites(), arguments.scenes, first=arguments.first)
        sets["annotated"] = list(embedded_scenes(scenes, labeler))
    if arguments.unseen and labeler is not None:
        scenes = held_out_scenes(load_sprites(), arguments.unseen, unseen=True, first=arguments.first)
        sets["unseen style"] = list(embedded_scenes(scenes, labeler))
    elif arguments.unseen_run is not None:
        sets["unseen style"] = list(photos_of_run(arguments.unseen_run))
    if arguments.data is not None and labeler is not None:
        sets["photos"] = list(embedded_photos(arguments.data, labeler))
    elif arguments.unknown_run is not None:
        sets["photos"] = list(photos_of_run(arguments.unknown_run))
    if encoder is None:
        raise UsageError("nothing to label: give --run, or scenes to render")
    return sets, encoder


def embedded_scenes(scenes: Iterable[Scene], labeler: Labeler) -> Iterator[EmbeddedTruth]:
    """Scenes with their masks, features and things; features are pooled and dropped one scene at a time."""
    for number, scene in enumerate(tqdm(scenes, unit="scene")):
        embedded = labeler.embed(scene.image, labeler.propose_masks(scene.image))
        things = Truth(
            true_masks(scene).rles,
            [thing.noun for thing in scene.things],
            np.zeros(len(scene.things), bool),
        )
        yield EmbeddedTruth(f"scene {number}", embedded.masks, embedded.image_embedding, things)


def embedded_photos(folder: Path, labeler: Labeler) -> Iterator[EmbeddedTruth]:
    """Photos without annotations."""
    for photo in tqdm(list_images([folder]), unit="photo"):
        pixels = read_image(photo.path)
        embedded = labeler.embed(pixels, labeler.propose_masks(pixels))
        yield EmbeddedTruth(str(photo.path), embedded.masks, embedded.image_embedding, NOTHING)


def photos_of_run(path: Path, annotations: Path | None = None) -> Iterator[EmbeddedTruth]:
    """The finished photos of a run; with annotations those that these list.

    Raises:
        UsageError: the annotations list no photo of the run.
        GemLabelError: there is no run.
    """
    run = open_run(path)
    truths = {} if annotations is None else read_truths(annotations)[0]
    names = {photo.number: photo.image for photo in run.photos()}
    pairs = pair_photos(names, {name: name for name in truths})
    if annotations is not None and not pairs:
        raise UsageError(f"{annotations} lists no photo of {path}")
    for photo, masks, _ in run.photo_masks():
        if annotations is None or photo.number in pairs:
            truth = truths[str(pairs[photo.number])] if annotations is not None else NOTHING
            yield EmbeddedTruth(photo.image, masks, photo.embedding, truth)


def compare(sets: dict[str, list[EmbeddedTruth]], encoder: TextEncoder, seed: int) -> dict[str, Any]:
    """All figures.

    Args:
        sets: photos by what they are; "annotated" ones are measured, of others labels are counted.
        encoder: of the demo CLIP's words.
        seed: of the random vocabularies.

    Returns:
        As JSON: photos, masks and things of each set, and by the number of words both rules' `FIGURES`, `errors` of
        the new rule, and `labels`, how many each set gets.
    """
    known, scale = demo_words(), encoder.clip.logit_scale
    by_size: dict[str, Any] = {}
    for size, count in (VOCABULARIES | {len(known): 1}).items():
        reports: dict[str, list[LabelReport]] = {NEW: [], OLDER: []}
        labels: dict[str, dict[str, list[int]]] = {rule: {name: [] for name in sets} for rule in reports}
        vocabularies = random_vocabularies(known, size, count, seed)
        negatives = []
        for some in tqdm(vocabularies, desc=f"{size} words", leave=False):
            words = EncodedWords.of(some, encoder.encode, scale, encoder.known_words)
            negatives.append(len(words.vocabulary.negatives))
            for rule, found in reports.items():
                for name, photos in sets.items():
                    labeled = label_photos(rule, photos, words)
                    labels[rule][name].append(sum(int(each.kept.sum()) for each in labeled))
                    if name == "annotated":
                        found.append(measure(photos, labeled, words, threshold_of(rule)))
        by_size[str(size)] = {
            "vocabularies": vocabularies,
            "negatives": negatives,
            "rules": {rule: mean_figures([figures_of(r) for r in found]) for rule, found in reports.items()},
            "errors": mean_errors(reports[NEW]),
            "labels": {
                rule: {name: float(np.mean(counts)) for name, counts in found.items()}
                for rule, found in labels.items()
            },
        }
    return {
        "sets": {
            name: {
                "photos": len(photos),
                "masks": sum(len(photo.masks) for photo in photos),
                "things": sum(int((~photo.truth.crowd).sum()) for photo in photos),
            }
            for name, photos in sets.items()
        },
        "words": by_size,
    }


def mean_errors(reports: Sequence[LabelReport]) -> dict[str, dict[str, float | None]]:
    """By TIDE's kind: errors among the kept labels, and the F1 that they cost, means over reports."""
    found: dict[str, dict[str, float | None]] = {}
    for kinds in zip(*(report.errors for report in reports), strict=True):
        costs = [kind.f1_cost for kind in kinds if kind.f1_cost is not None]
        found[kinds[0].kind] = {
            "count": float(np.mean([kind.count for kind in kinds])),
            "f1_cost": float(np.mean(costs)) if costs else None,
        }
    return found


def tables(numbers: dict[str, Any]) -> str:
    """The figures as text."""
    sets, by_size = numbers["sets"], numbers["words"]
    lines = [
        f"{name}: {row['photos']} photos, {row['masks']} masks, {row['things']} things"
        for name, row in sets.items()
    ]
    quality, errors, counts = [], [], []
    for size, found in by_size.items():
        for rule, figures in found["rules"].items():
            quality.append([f"{size}, {rule}", str(len(found["vocabularies"])), *cells(figures)])
        errors.append([size, *(_error(row) for row in found["errors"].values())])
        for rule, labels in found["labels"].items():
            each = [f"{labels[name] / max(1, sets[name]['photos']):.2f}" for name in sets]
            counts.append([f"{size}, {rule}", *each])
    kinds = next(iter(by_size.values()))["errors"]
    parts = [
        text_table(["words", "vocabularies", *HEADER], quality),
        "errors of the new rule: how many in the mean, and what F1 gains without them\n"
        + text_table(["words", *kinds], errors),
        "labels for a photo\n" + text_table(["words", *sets], counts),
    ]
    return "\n\n".join(["\n".join(lines), *parts])


def _error(row: dict[str, float | None]) -> str:
    return f"{row['count']:.1f} ({percent(row['f1_cost'])})"


if __name__ == "__main__":
    main()
