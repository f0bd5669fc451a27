"""gem_label.vocabulary, words and labeling: from words and embeddings to labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from run_factory import rectangle_masks

from gem_label.errors import UsageError
from gem_label.labeling import (
    LabelSettings,
    MaskLabels,
    ScoreModel,
    Thresholds,
    evidence_of,
    image_top_k,
    label_maskset,
    score_evidence,
)
from gem_label.masks import MaskSet
from gem_label.photos.photo import Photo
from gem_label.vocabulary import Vocabulary
from gem_label.words import WordsPerImage


def unit(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    values = rng.normal(size=shape)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def test_vocabulary_text() -> None:
    text = """
    # what drives
    e-scooter, electric scooter => scooter
    cat, dog; "tench, Tinca tinca" => tench
    moped => scooter
    """
    vocabulary = Vocabulary.parse(text, background="sky, wall")
    assert vocabulary.classes == ("scooter", "cat", "dog", "tench")
    assert vocabulary.phrasings[0] == ("e-scooter", "electric scooter", "moped")
    assert vocabulary.phrases == (
        "e-scooter", "electric scooter", "moped", "cat", "dog", "tench, Tinca tinca", "sky", "wall",
    )  # fmt: skip
    assert vocabulary.first_phrase.tolist() == [0, 3, 4, 5, 6, 7]
    assert Vocabulary.from_dict(vocabulary.to_dict()) == vocabulary
    assert Vocabulary.parse("cat,dog,cat").classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "background", "complaint"),
    [
        ("", "", "no classes"),
        ("# only a comment", "", "no classes"),
        ("a => ", "", "cannot read"),
        (" => a", "", "cannot read"),
        ("a => b; a => c", "", "stands for both"),
        ("a, b", "b", "stands for both"),
    ],
)
def test_vocabularies_that_cannot_be(text: str, background: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Vocabulary.parse(text, background)


def test_vocabulary_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("\ufeffcat\nZebra crossing\nbüro\n", encoding="utf-8")
    assert Vocabulary.from_file(tmp_path / "words.txt").classes == ("cat", "Zebra crossing", "büro")
    with pytest.raises(UsageError, match="cannot read"):
        Vocabulary.from_file(tmp_path / "none.txt")


def test_negatives_of_single_classes() -> None:
    vocabulary = Vocabulary.parse("cat ! cat statue, toy cat; dog; puppy => dog ! toy dog", background="sky")
    assert vocabulary.own_negatives == (("cat statue", "toy cat"), ("toy dog",))
    vocabulary = vocabulary.with_negatives(["car", "tree"])
    assert vocabulary.phrases == (
        "cat", "dog", "puppy", "sky", "car", "tree", "cat statue", "toy cat", "toy dog",
    )  # fmt: skip
    assert vocabulary.first_phrase.tolist() == [0, 1, 3, 4, 5, 6, 7, 8]
    assert vocabulary.negative_of.tolist() == [0, 0, 1]
    assert Vocabulary.from_dict(vocabulary.to_dict()) == vocabulary
    old = {"classes": ["cat"], "phrasings": [["cat"]], "background": []}  # a manifest of format 1
    assert Vocabulary.from_dict(old) == Vocabulary.from_words(["cat"])


@pytest.mark.parametrize("text", ["cat !", "! toy", "cat ! cat", "cat => a ! cat"])
def test_negatives_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError):
        Vocabulary.parse(text)


def test_thresholds() -> None:
    thresholds = Thresholds.parse("0.5, cat=0.4, hot dog = 0.6")
    assert thresholds.by_class(["dog", "hot dog", "cat"]).tolist() == np.float32([0.5, 0.6, 0.4]).tolist()
    assert Thresholds.parse(str(thresholds)) == thresholds
    assert Thresholds.from_json(thresholds.to_json()) == thresholds
    assert Thresholds.parse("cat=0.9").default == Thresholds().default
    assert Thresholds.of(0.3) == Thresholds.parse("0.3")
    assert Thresholds.of({"cat": 0.3}).by_class(["cat"]) == np.float32(0.3)
    with pytest.raises(UsageError, match="'bird'"):
        Thresholds.parse("bird=0.5").by_class(["cat"])


@pytest.mark.parametrize("text", ["", "high", "0.5, 0.6", "cat=", "cat=0.1, cat=0.2", "cat=1.5", "nan"])
def test_thresholds_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError):
        Thresholds.parse(text)


def score_by_loops(
    inside: NDArray,
    around: NDArray,
    photo: NDArray,
    patches: float,
    text: NDArray,
    v: Vocabulary,
    known: bool,
) -> dict[int, float]:
    """The definition in `ScoreModel`'s docstring, word by word in float64: the score of each class."""
    model, scale = ScoreModel(), 10.0

    def logits(vector: NDArray) -> tuple[dict[int, float], list[float], dict[int, list[float]]]:
        values = [scale * float(vector.astype(float) @ t.astype(float)) for t in text]
        of_class, position = {}, 0
        for c, phrases in enumerate(v.phrasings):
            of_class[c] = max(values[position : position + len(phrases)])
            position += len(phrases)
        others = values[position : position + len(v.background) + len(v.negatives)]
        own: dict[int, list[float]] = {c: [] for c in of_class}
        for c, value in zip(v.negative_of.tolist(), values[position + len(others) :], strict=True):
            own[c].append(value)
        return of_class, others, own

    def probability(vector: NDArray, temperature: float) -> dict[int, float]:
        of_class, others, own = logits(vector)
        weight = [1.0] * len(v.background) + [model.negative_weight(len(v.negatives))] * len(v.negatives)
        total = sum(np.exp(temperature * x) for x in of_class.values())
        total += sum(w * np.exp(temperature * x) for w, x in zip(weight, others, strict=True))
        return {
            c: np.exp(temperature * x) / (total + sum(np.exp(temperature * n) for n in own[c]))
            for c, x in of_class.items()
        }

    p = probability((1 + model.contrast) * inside - model.contrast * around, model.temperature)
    p_s = probability(around, model.surround_temperature)
    whole, others, own = logits(photo)
    highest = max([*whole.values(), *others, *(x for each in own.values() for x in each)])
    size = min(1.0, patches / model.enough_patches) ** model.size
    scores = {}
    for c in whole:
        presence = 1.0 if known else max(np.exp(model.presence * (whole[c] - highest)), model.presence_floor)
        q = min(p[c] ** model.inside * (1 - p_s[c]) ** model.outside * presence * size, 1 - 1e-9)
        scores[c] = 1 / (1 + np.exp(-(model.slope * np.log(q / (1 - q)) + model.offset)))
    return scores


@given(st.integers(1, 5), st.integers(0, 2), st.integers(0, 3), st.integers(1, 7), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_scores_follow_the_definition(c: int, b: int, n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    phrasings = tuple(tuple(f"{i}.{j}" for j in range(rng.integers(1, 4))) for i in range(c))
    own = tuple(tuple(f"not {i}.{j}" for j in range(rng.integers(0, 3))) for i in range(c))
    vocabulary = Vocabulary(
        tuple(map(str, range(c))),
        phrasings,
        tuple(f"bg{i}" for i in range(b)),
        tuple(f"n{i}" for i in range(n)),
        own,
    )
    text, photo = unit(rng, len(vocabulary.phrases), 8), unit(rng, 8)
    masks = rectangle_masks((0, 0, 5, 5), (10, 10, 20, 20), (0, 20, 8, 8), size=40)
    masks = replace(
        masks,
        embeddings=unit(rng, 3, 8) * np.float32(0.7),
        surrounds=unit(rng, 3, 8) * np.float32(0.5),
        grid=(10, 10),
    )
    allowed, known = rng.random(c) < 0.7, rng.random(1) < 0.5
    evidence = evidence_of([masks], [photo], 8)
    labels = score_evidence(evidence, text, vocabulary, 10.0, allowed[None], known, top_k=k)
    assert masks.embeddings is not None
    assert masks.surrounds is not None
    for m in range(3):
        expected = score_by_loops(
            masks.embeddings[m], masks.surrounds[m], photo, masks.areas[m] / 16, text, vocabulary, known[0]
        )
        expected = {i: score for i, score in expected.items() if allowed[i]}
        given = {
            int(i): float(s)
            for i, s in zip(labels.top_classes[m], labels.top_scores[m], strict=True)
            if i >= 0
        }
        assert len(given) == min(k, len(expected))
        if len(vocabulary.first_phrase) > 1:
            best = sorted(expected, key=lambda i: -expected[i])[:k]
            assert set(given) == set(best)
            assert np.allclose([given[i] for i in best], [expected[i] for i in best], atol=1e-4)
        assert (np.diff(labels.top_scores[m]) <= 1e-7).all()


def score_of(masks: MaskSet, surrounds: NDArray | None, words: str = "cat, dog") -> MaskLabels:
    text = np.eye(3, dtype=np.float32)
    vocabulary = Vocabulary.parse(words, background="sky")
    return label_maskset(replace(masks, surrounds=surrounds), text, vocabulary, 10.0)


def test_a_part_scores_less_than_its_whole_because_of_its_surround() -> None:
    cat, sky = np.eye(3, dtype=np.float32)[[0, 2]]
    masks = rectangle_masks((0, 0, 10, 10), (20, 20, 10, 10)).with_embeddings(np.stack([cat, cat]))
    whole, part = score_of(masks, np.stack([sky, cat])).score
    assert whole > 0.9
    assert part < 0.1


def test_without_a_surround_the_inside_alone_counts() -> None:
    cat = np.eye(3, dtype=np.float32)[:1]
    masks = rectangle_masks((0, 0, 40, 40)).with_embeddings(cat)
    fills_photo, old_run = score_of(masks, np.zeros_like(cat)), score_of(masks, None)
    assert fills_photo.score == pytest.approx(old_run.score)
    assert fills_photo.score > 0.9


def test_few_negatives_stand_for_many() -> None:
    model = ScoreModel()
    assert model.negative_weight(0) == 1
    assert model.negative_weight(model.negatives) == 1
    assert model.negative_weight(2 * model.negatives) == 1
    assert model.negative_weight(model.negatives // 2) == 2
    assert model.negative_weight(1) == model.most_weight


def test_background_words_win_but_are_never_a_label() -> None:
    vocabulary = Vocabulary.parse("cat, dog", background="sky")
    masks = rectangle_masks((0, 0, 5, 5), (10, 10, 5, 5)).with_embeddings(np.eye(3, dtype=np.float32)[[2, 1]])
    labels = label_maskset(masks, np.eye(3, dtype=np.float32), vocabulary, 100.0)
    assert labels.names == [None, "dog"]
    assert labels.kept.tolist() == [False, True]
    assert labels.label_index.tolist() == [-1, 1]
    assert set(labels.top_classes.ravel()) <= {0, 1}


def test_threshold() -> None:
    vocabulary = Vocabulary.from_words(["cat", "dog"])
    embeddings = np.array([[1, 0], [0.6, 0.5]], np.float32)
    masks = rectangle_masks((0, 0, 5, 5), (10, 10, 5, 5)).with_embeddings(embeddings)
    labels = label_maskset(
        masks, np.eye(2, dtype=np.float32), vocabulary, 10.0, LabelSettings(min_score=0.95)
    )
    assert labels.names == ["cat", "cat"]  # the label stays, so that a lower threshold needs no model
    assert labels.kept.tolist() == [True, False]
    assert labels.selected.all()
    by_class = LabelSettings(min_score="1, cat=0.2")
    assert label_maskset(masks, np.eye(2, dtype=np.float32), vocabulary, 10.0, by_class).kept.all()


def test_image_top_k_keeps_the_likeliest_words_of_the_photo() -> None:
    vocabulary = Vocabulary.parse("a, b, c; dd => d", background="sky")
    text = unit(np.random.default_rng(0), 5, 6)
    photo = (text[3] + 0.5 * text[1]).astype(np.float16)
    chosen = image_top_k(photo, text, vocabulary, 2)
    cosines = text[:4] @ photo.astype(np.float32)
    assert set(np.flatnonzero(chosen)) == set(np.argsort(-cosines)[:2])
    assert image_top_k(photo, text, vocabulary, 2, np.array([True, False, False, False])).tolist() == [
        True, False, False, False,
    ]  # fmt: skip
    masks = rectangle_masks((0, 0, 5, 5)).with_embeddings(text[[np.argmin(cosines)]])
    settings = LabelSettings(image_top_k=1)
    best = vocabulary.classes[int(np.argmax(cosines))]
    no_sky = Vocabulary(vocabulary.classes, vocabulary.phrasings)
    assert label_maskset(masks, text[:4], no_sky, 10.0, settings, image_embedding=photo).names == [best]
    with pytest.raises(UsageError, match="image_top_k"):
        label_maskset(masks, text, vocabulary, 10.0, settings)


def test_words_per_image(tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("image,words\na.jpg,cat; dog\na.jpg,e-scooter\nsub/b,\n")
    words = WordsPerImage.from_csv(tmp_path / "words.csv")
    vocabulary = Vocabulary.parse("cat, dog, bird; e-scooter => scooter")
    words.check(vocabulary)
    assert words.of("/photos/a.jpg", "a") == ("cat", "dog", "e-scooter")
    allowed = words.allowed(vocabulary, "/photos/x/a.jpg", "x/a")
    assert allowed is not None
    assert allowed.tolist() == [True, True, False, True]
    nothing = words.allowed(vocabulary, "/photos/sub/b.png", "sub/b")
    assert nothing is not None
    assert not nothing.any()
    assert words.allowed(vocabulary, "/photos/other.jpg", "other") is None
    masks = rectangle_masks((0, 0, 5, 5)).with_embeddings(np.eye(4, dtype=np.float32)[[2]])
    text = np.eye(4, dtype=np.float32)
    assert label_maskset(masks, text, vocabulary, 100.0, allowed=nothing).names == [None]
    assert label_maskset(masks, text, vocabulary, 100.0, allowed=allowed).names != ["bird"]
    with pytest.raises(UsageError, match="'dog'"):
        words.check(Vocabulary.parse("cat"))
    words.check_photos([Photo("/photos/z.jpg", "z"), Photo("/photos/sub/b.jpg", "sub/b")])
    with pytest.raises(UsageError, match=r"none of the photos \(but 'a.jpg'\)"):
        words.check_photos([Photo("/photos/z.jpg", "z")])
    same = WordsPerImage({"sub/b": [], "a.jpg": ["e-scooter", "dog", "cat"]})
    assert same.digest == words.digest
    assert WordsPerImage({"a.jpg": ["cat"]}).digest != words.digest


@pytest.mark.parametrize("text", ["", "photo,words\na,b\n", "image,words\n,cat\n"])
def test_tables_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "words.csv").write_text(text)
    with pytest.raises(UsageError):
        WordsPerImage.from_csv(tmp_path / "words.csv")


@pytest.mark.parametrize("wrong", [{"min_score": 2}, {"min_score": "high"}, {"top_k": 0}, {"image_top_k": 0}])
def test_settings_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(UsageError):
        LabelSettings(**wrong)


def test_no_masks_and_a_large_vocabulary() -> None:
    vocabulary = Vocabulary.from_words(str(i) for i in range(3000))
    text = unit(np.random.default_rng(0), 3000, 16)
    assert len(label_maskset(MaskSet(10, 10), text, vocabulary, 100.0)) == 0
    masks = rectangle_masks(*[(i % 7, i // 7, 3, 3) for i in range(50)]).with_embeddings(
        unit(np.random.default_rng(1), 50, 16)
    )
    labels = label_maskset(masks, text, vocabulary, 100.0)
    assert labels.top_classes.shape == (50, 5)
    assert (np.diff(labels.top_scores, axis=1) <= 0).all()
