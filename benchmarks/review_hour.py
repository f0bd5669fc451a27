"""A simulated hour of review against ground truth: one mask at a time, and a page at a time.

Renders scenes whose every pixel is known, labels masks of them with the demo CLIP, pushes the run into FiftyOne, and
lets a reviewer who knows the truth work through the real queues. What keys and looks take is assumed
(`simulated_review.Seconds`); which decisions are made, stored and measured is not. Starts its own MongoDB, which is
gone afterwards. Minutes on one core.

    python benchmarks/review_hour.py --scenes 400

The masks are the true ones, of which the model does not know the labels, and two of the background in every scene. So
the figures are about labels, not about outlines. Things that have no kept label stay missing: no review of labels
finds them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from review import own_database
from simulated_review import Moment, Reviewer, Seconds, review_masks, review_pages

from gem_label.clip.dense import DenseEncoder
from gem_label.clip.models import load_clip
from gem_label.demo.dataset import write_dataset
from gem_label.demo.scenes import Scene, render_scene
from gem_label.demo.sprites import SpriteBook, load_sprites
from gem_label.demo.truth import TEST_SEED
from gem_label.evaluation.results import percent
from gem_label.labeled_photo import pool_photo
from gem_label.labeling import LabelSettings, Thresholds, label_maskset
from gem_label.masks import MaskSet, encode_mask
from gem_label.photos.photo import Photo
from gem_label.review.statistics.measuring import measure_labels
from gem_label.review.storage.detections import detections_of
from gem_label.review.storage.internals import samples_of
from gem_label.runs import RunWriter, open_run
from gem_label.vocabulary import Vocabulary

T = TypeVar("T")
FIELD, TRUTH = "gem_label", "truth"
SIZE = 448
LOWEST = 0.1
"""Score from which labels are reviewed: lower than for use without a review, so that more things are found."""
MARKS = (10, 30, 60)
"""Minutes after which the labels are measured."""

Truth = dict[str, str | None]
Review = Callable[[Any, str, Reviewer, float], Iterator[Moment]]


def main() -> None:
    """Parse the command line, simulate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--nouns", type=int, default=40, help="how many words the scenes have")
    parser.add_argument("--glance", type=float, default=Seconds.glance, help="seconds for a mask of a page")
    parser.add_argument(
        "--overlooked", type=float, default=0.1, help="share of a page's wrong masks, second row"
    )
    arguments = parser.parse_args()
    with own_database(), tempfile.TemporaryDirectory() as folder:
        print(simulate(arguments, Path(folder)))


def simulate(arguments: argparse.Namespace, folder: Path) -> str:
    """A table of decisions a minute and of the labels' figures at `MARKS`."""
    book = load_sprites()
    nouns = np.random.default_rng(0).permutation(len(book.nouns))[: arguments.nouns]
    scenes, truth = make_dataset(book, nouns, arguments.scenes, folder)
    words = truth_of_ids(scenes, truth)
    seconds = Seconds(glance=arguments.glance)
    ways: list[tuple[str, Review, float]] = [
        ("one mask at a time", review_masks, 0.0),
        ("pages", review_pages, 0.0),
        (f"pages, {arguments.overlooked:.0%} overlooked", review_pages, arguments.overlooked),
    ]
    rows = [["before", "0", "0", "", *figures(scenes)]]
    for name, review, overlooked in ways:
        dataset = scenes.clone(name)
        reviewer = Reviewer(words, seconds, overlooked)
        moments = review(dataset, FIELD, reviewer, 60.0 * MARKS[-1])
        rows += [[name, *row] for row in measured(dataset, moments)]
    header = ["", "minutes", "decisions", "per minute", "F1", "precision", "recall"]
    table = "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])
    return f"{len(words)} labels of {arguments.scenes} scenes\n\n{table}"


def measured(dataset: Any, moments: Iterator[Moment]) -> Iterator[list[str]]:
    """A row at every one of `MARKS`, and one at the end of a review that is done before the last."""
    last = Moment(0.0, 0)
    marks = [60.0 * mark for mark in MARKS]
    for moment in moments:
        last = moment
        if moment.seconds >= marks[0]:
            marks.pop(0)
            yield _row(dataset, moment)
            if not marks:
                return
    if not marks or last.seconds < marks[0]:
        yield _row(dataset, last)


def _row(dataset: Any, moment: Moment) -> list[str]:
    minutes = moment.seconds / 60
    return [f"{minutes:.1f}", str(moment.decisions), f"{moment.decisions / minutes:.0f}", *figures(dataset)]


def figures(dataset: Any) -> list[str]:
    """F1, precision and recall of the labels as they are stored now."""
    micro = _finish(measure_labels(dataset, FIELD, TRUTH)).report.micro
    return [percent(each) for each in (micro.f1, micro.precision, micro.recall)]


def make_dataset(book: SpriteBook, nouns: NDArray[np.int64], count: int, folder: Path) -> tuple[Any, Truth]:
    """A dataset of scenes with labels and ground truth; and what each mask shows, by its id."""
    import fiftyone as fo

    from gem_label.review import push_run
    from gem_label.review.exchange.corrections import import_corrections

    drawings = book.drawings(held_out=False)
    drawings = drawings[np.isin(drawings[:, 1], nouns)]
    scenes = [
        render_scene(np.random.default_rng(TEST_SEED + i), book, drawings, (SIZE, SIZE), (3, 7), (90, 220))
        for i in range(count)
    ]
    write_dataset(scenes, book.nouns, folder)
    words = [book.nouns[i] for i in nouns]
    paths = [folder / "data" / f"scene_{number:03}.jpg" for number in range(1, count + 1)]
    truth = label_scenes(scenes, words, paths, folder / "run")
    push_run(open_run(folder / "run"), "scenes")
    dataset = fo.load_dataset("scenes")
    _finish(import_corrections(dataset, TRUTH, folder / "instances.json"))
    return dataset, truth


def label_scenes(scenes: Sequence[Scene], words: Sequence[str], paths: Sequence[Path], run: Path) -> Truth:
    """Label the true masks of scenes, and masks of their background, into a run; gives mask id -> word or None."""
    clip = load_clip("demo")
    dense = DenseEncoder(clip)
    vocabulary = dense.text.prepare(Vocabulary.from_words(words), "auto")
    text = dense.text.encode(vocabulary.phrases)
    settings = LabelSettings(Thresholds.of(LOWEST))
    truth: Truth = {}
    with RunWriter.create_or_resume(
        run,
        settings={"clip": "demo", "sam": "none"},
        vocabulary=vocabulary,
        embedding_dim=clip.embedding_dim,
        logit_scale=clip.logit_scale,
        label_settings=settings,
    ) as writer:
        photos = writer.register([Photo(str(path), path.stem) for path in paths])
        for photo, scene in zip(photos, scenes, strict=True):
            things = [scene.mask(i) for i in range(len(scene.things))]
            background = background_masks(scene, np.random.default_rng(photo.number))
            features, token = dense.encode_with_class_token(clip.preprocess(scene.image)[None])
            masks = mask_set(things + background)
            pooled = pool_photo(masks, features[0].numpy(), token[0].numpy())
            token16 = pooled.image_embedding
            labels = label_maskset(
                pooled.masks, text, vocabulary, clip.logit_scale, settings, image_embedding=token16
            )
            writer.write(photo, pooled.masks, labels, token16)
            shown: list[str | None] = [thing.noun for thing in scene.things]
            shown += [None] * len(background)
            truth |= {f"{photo.image_id}#{i}": word for i, word in enumerate(shown)}
    return truth


def mask_set(masks: Sequence[NDArray[np.bool_]]) -> MaskSet:
    """Boolean masks (448, 448) as SAM would give them."""
    ones = np.ones(len(masks), np.float32)
    counts = tuple(map(encode_mask, masks))
    return MaskSet(SIZE, SIZE, counts, ones, ones, np.zeros((len(masks), 2), np.float32))


def background_masks(scene: Scene, rng: np.random.Generator) -> list[NDArray[np.bool_]]:
    """Two pieces of the background, where the scene has room for them."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    found = []
    for _ in range(2):
        y, x = rng.uniform(0, SIZE, 2)
        tall, wide = rng.uniform(40, 110, 2)
        piece = (((rows - y) / tall) ** 2 + ((columns - x) / wide) ** 2 <= 1) & (scene.owners < 0)
        if piece.sum() > 2000:
            found.append(piece)
    return found


def truth_of_ids(dataset: Any, truth: Truth) -> Truth:
    """Detection id -> word, from mask id -> word."""
    documents = samples_of(dataset).find({}, [f"{FIELD}.detections._id", f"{FIELD}.detections.mask_id"])
    masks = [mask for document in documents for mask in detections_of(document, FIELD)]
    return {str(mask["_id"]): truth[mask["mask_id"]] for mask in masks}


def _finish(steps: Generator[Any, None, T]) -> T:
    """What a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


if __name__ == "__main__":
    main()
