"""gem_label.vocabulary, words and labeling: from words and embeddings to labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.images import Photo
from gem_label.labeling import LabelSettings, image_top_k, label_maskset, score_masks
from gem_label.masks import MaskSet, encode_mask
from gem_label.vocabulary import Vocabulary
from gem_label.words import WordsPerImage


def unit(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    values = rng.normal(size=shape)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def boxes(*xywh: tuple[int, int, int, int], size: int = 40) -> MaskSet:
    counts = []
    for x, y, w, h in xywh:
        mask = np.zeros((size, size), bool)
        mask[y : y + h, x : x + w] = True
        counts.append(encode_mask(mask))
    ones = np.ones(len(counts), np.float32)
    return MaskSet(size, size, tuple(counts), ones, ones, np.zeros((len(counts), 2), np.float32))


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


@given(st.integers(1, 9), st.integers(0, 3), st.integers(0, 6), st.integers(1, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_scores_are_the_softmax_of_the_definition(c: int, b: int, n: int, k: int, seed: int) -> None:
    """Against loops over masks, classes and phrasings in float64."""
    rng = np.random.default_rng(seed)
    phrasings = tuple(tuple(f"{i}.{j}" for j in range(rng.integers(1, 4))) for i in range(c))
    vocabulary = Vocabulary(tuple(map(str, range(c))), phrasings, tuple(f"bg{i}" for i in range(b)))
    text, embeddings = unit(rng, len(vocabulary.phrases), 8), unit(rng, n, 8) * np.float32(0.7)
    allowed = rng.random(c) < 0.7
    labels = score_masks(embeddings, text, vocabulary, 10.0, allowed, top_k=k)
    assert len(labels) == n
    for m in range(n):
        logits, position = {}, 0
        for i, phrases in enumerate(phrasings):
            cosines = [float(embeddings[m].astype(float) @ text[position + j]) for j in range(len(phrases))]
            position += len(phrases)
            if allowed[i]:
                logits[i] = 10 * max(cosines)
        logits |= {c + i: 10 * float(embeddings[m].astype(float) @ text[position + i]) for i in range(b)}
        total = sum(np.exp(v) for v in logits.values())
        ranked = sorted(((np.exp(v) / total, i) for i, v in logits.items()), reverse=True)
        classes = [(p, i) for p, i in ranked if i < c][:k]
        given = [i for i in labels.top_classes[m].tolist() if i >= 0]
        assert given == [i for _, i in classes]
        assert np.allclose(labels.top_scores[m][: len(classes)], [p for p, _ in classes], atol=1e-5)
        assert not labels.top_scores[m][len(classes) :].any()
        won = bool(ranked) and ranked[0][1] < c
        assert labels.names[m] == (str(ranked[0][1]) if won else None)
        assert bool(labels.kept[m]) == won
        second = ranked[1][0] if len(ranked) > 1 else 0.0
        assert np.isclose(labels.margin[m], ranked[0][0] - second if ranked else 0.0, atol=1e-5)


def test_background_words_win_but_are_never_a_label() -> None:
    vocabulary = Vocabulary.parse("cat, dog", background="sky")
    masks = boxes((0, 0, 5, 5), (10, 10, 5, 5)).with_embeddings(np.eye(3, dtype=np.float32)[[2, 1]])
    labels = label_maskset(masks, np.eye(3, dtype=np.float32), vocabulary, 100.0)
    assert labels.names == [None, "dog"]
    assert labels.kept.tolist() == [False, True]
    assert labels.label_index.tolist() == [-1, 1]
    assert set(labels.top_classes.ravel()) <= {0, 1}


def test_threshold() -> None:
    vocabulary = Vocabulary.from_words(["cat", "dog"])
    embeddings = np.array([[1, 0], [0.6, 0.5]], np.float32)
    masks = boxes((0, 0, 5, 5), (10, 10, 5, 5)).with_embeddings(embeddings)
    labels = label_maskset(masks, np.eye(2, dtype=np.float32), vocabulary, 10.0, LabelSettings(min_score=0.9))
    assert labels.names == ["cat", "cat"]  # the label stays, so that a lower threshold needs no model
    assert labels.kept.tolist() == [True, False]


def test_a_part_inside_a_better_mask_of_its_class_goes() -> None:
    car, wheel, half_out, person = (0, 0, 20, 20), (2, 12, 6, 6), (15, 15, 10, 10), (5, 5, 4, 4)
    vocabulary = Vocabulary.from_words(["car", "person"])
    strength = np.array([[1, 0], [0.9, 0], [0.9, 0], [0, 0.9]], np.float32)
    masks = boxes(car, wheel, half_out, person).with_embeddings(strength)
    text = np.eye(2, dtype=np.float32)
    assert label_maskset(masks, text, vocabulary, 10.0).kept.tolist() == [True, False, True, True]
    weaker = masks.with_embeddings(strength * np.array([[0.5], [1], [1], [1]], np.float32))
    assert label_maskset(weaker, text, vocabulary, 10.0).kept.all()  # the wheel is the better car
    below = LabelSettings(min_score=0.9999)
    assert label_maskset(masks, text, vocabulary, 5.0, below).kept.sum() == 0
    single = Vocabulary.from_words(["car"])  # every score is 1: the larger mask counts as the better one
    assert label_maskset(masks, text[:1], single, 10.0).kept.tolist() == [True, False, True, False]
    equal = boxes(car, car).with_embeddings(strength[:2] * 0 + strength[0])
    assert label_maskset(equal, text, vocabulary, 10.0).kept.tolist() == [True, False]


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
    masks = boxes((0, 0, 5, 5)).with_embeddings(text[[np.argmin(cosines)]])
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
    masks = boxes((0, 0, 5, 5)).with_embeddings(np.eye(4, dtype=np.float32)[[2]])
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


@pytest.mark.parametrize("wrong", [{"min_score": 2}, {"containment": 0}, {"top_k": 0}, {"image_top_k": 0}])
def test_settings_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(UsageError):
        LabelSettings(**wrong)


def test_no_masks_and_a_large_vocabulary() -> None:
    vocabulary = Vocabulary.from_words(str(i) for i in range(3000))
    text = unit(np.random.default_rng(0), 3000, 16)
    assert len(label_maskset(MaskSet(10, 10), text, vocabulary, 100.0)) == 0
    labels = score_masks(unit(np.random.default_rng(1), 50, 16), text, vocabulary, 100.0, top_k=5)
    assert labels.top_classes.shape == (50, 5)
    assert (np.diff(labels.top_scores, axis=1) <= 0).all()
