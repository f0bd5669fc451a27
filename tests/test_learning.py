"""gem_label.learning: evidence, judgments, calibration and words that learn, on arrays."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from run_factory import rectangle_masks

from gem_label.errors import UsageError
from gem_label.labeling import LabelSettings, evidence_of, label_evidence
from gem_label.learning.calibration import Calibration, DecidedLabels, apply_calibration, fit_calibration
from gem_label.learning.features import FEATURES, log_odds, mask_features
from gem_label.learning.judging import RIGHT, UNKNOWN, WRONG, PhotoReview, judge_labels
from gem_label.learning.learned import Learned, apply_learned
from gem_label.learning.learning import learn
from gem_label.learning.logistic import fit_logistic
from gem_label.learning.training import ReviewedPhoto, same_masks
from gem_label.learning.validation import choose_calibration, photo_folds
from gem_label.learning.word_choice import choose_words
from gem_label.learning.words import (
    OTHER,
    LearnedWords,
    WordExamples,
    fit_words,
    learned_text,
    word_losses,
)
from gem_label.vocabulary import Vocabulary

SCALE = 20.0
ANIMALS = Vocabulary.from_words(("cat", "dog", "fox"))


def unit(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    values = rng.normal(size=shape)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def test_features_say_where_a_mask_lies_and_what_it_is_like() -> None:
    text = np.eye(3, 4, dtype=np.float32)
    masks = rectangle_masks((0, 0, 60, 30), (10, 5, 20, 20), (10, 5, 20, 19))
    masks = replace(
        masks, embeddings=text[[0, 1, 1]] * np.float32(0.5), surrounds=text[[1, 0, 0]], grid=(6, 6)
    )
    evidence = evidence_of([masks], [text[0]], 4)
    labels = label_evidence(evidence, text, ANIMALS, SCALE, LabelSettings(), [None])
    found = dict(zip(FEATURES, mask_features(evidence, labels, text, ANIMALS, SCALE).T, strict=True))
    assert labels.names == ["cat", "dog", "dog"]
    assert np.allclose(found["inside"], 10)
    assert np.allclose(found["surround"], 0)
    assert np.allclose(found["photo_lead"], [0, -SCALE, -SCALE])
    assert np.allclose(found["log_area"], np.log([0.5, 400 / 3600, 380 / 3600]))
    assert found["edges"].tolist() == [3, 0, 0]
    assert found["fills_photo"].tolist() == [1, 0, 0]
    assert np.allclose(found["inside_larger"], [0, 1, 1], atol=0.01)
    assert np.allclose(found["duplicates"], np.log1p([0, 1, 1]))
    assert np.allclose(found["nested_in"], np.log1p([0, 1, 1]))
    assert np.allclose(found["holds"], np.log1p([2, 0, 0]))
    assert same_masks(evidence.areas, evidence.overlaps).tolist() == [1, 2, 2]


def test_features_of_words_and_photos_that_are_not_there() -> None:
    text, masks = np.eye(3, 4, dtype=np.float32), rectangle_masks((0, 0, 5, 5)).with_embeddings(np.eye(1, 4))
    evidence = evidence_of([masks], [None], 4)
    labels = label_evidence(evidence, text, ANIMALS, SCALE, LabelSettings(), [None])
    found = dict(zip(FEATURES, mask_features(evidence, labels, text, ANIMALS, SCALE)[0], strict=True))
    assert found["surround"] == found["photo"] == found["photo_lead"] == 0
    nothing = evidence_of([rectangle_masks()], [None], 4)
    labels = label_evidence(nothing, text, ANIMALS, SCALE, LabelSettings(), [None])
    assert mask_features(nothing, labels, text, ANIMALS, SCALE).shape == (0, len(FEATURES))


def test_the_best_phrasing_of_a_class_counts() -> None:
    vocabulary = Vocabulary.parse("cat, kitten => cat; dog")
    text, masks = np.eye(3, 4, dtype=np.float32), rectangle_masks((0, 0, 5, 5), (9, 9, 5, 5))
    evidence = evidence_of([masks.with_embeddings(text[[1, 2]])], [None], 4)
    labels = label_evidence(evidence, text, vocabulary, SCALE, LabelSettings(), [None])
    features = mask_features(evidence, labels, text, vocabulary, SCALE)
    assert labels.names == ["cat", "dog"]
    assert features[:, FEATURES.index("inside")].tolist() == [SCALE, SCALE]


def test_what_a_review_says_about_labels() -> None:
    masks = rectangle_masks(
        (0, 0, 10, 10),
        (0, 0, 10, 8),
        (0, 0, 4, 4),
        (30, 30, 10, 10),
        (30, 30, 10, 10),
        (50, 50, 5, 5),
        (20, 0, 9, 9),
    ).rles
    things = rectangle_masks((0, 0, 10, 10), (30, 30, 10, 10), (20, 0, 9, 9)).rles
    rejected = rectangle_masks((50, 50, 5, 5)).rles
    names = ["cat", "cat", "cat", "cat", "fox", "dog", None]
    review = PhotoReview(things, ["cat", "fox", "dog"], rejected, ["dog"])
    judged = judge_labels(masks, names, review)
    assert judged.verdict.tolist() == [RIGHT, RIGHT, WRONG, WRONG, RIGHT, WRONG, UNKNOWN]
    assert judged.thing.tolist() == [0, 0, -1, 1, 1, -1, 2]
    assert judged.misplaced.tolist() == [False, False, True, False, False, False, False]
    assert np.allclose(judged.iou, [1, 0.8, 0, 1, 1, 0, 1])


def test_only_classes_that_are_reviewed_in_full_are_wrong_without_a_thing() -> None:
    masks = rectangle_masks((0, 0, 10, 10), (30, 30, 10, 10)).rles
    judged = judge_labels(masks, ["cat", "dog"], PhotoReview(complete=frozenset({"cat"})))
    assert judged.verdict.tolist() == [WRONG, UNKNOWN]
    assert judge_labels([], [], PhotoReview()).verdict.tolist() == []
    with pytest.raises(ValueError, match="one class"):
        PhotoReview(masks, ["cat"])


def test_the_logistic_regression_is_that_of_scikit_learn() -> None:
    from sklearn import linear_model

    rng = np.random.default_rng(0)
    columns, weight = rng.normal(size=(200, 4)), rng.uniform(0.5, 2, 200)
    right = rng.random(200) < 1 / (1 + np.exp(-columns @ [1.0, -2.0, 0.0, 0.5]))
    ours = fit_logistic(columns, right, np.zeros(200), np.full(4, 3.0), weight)
    theirs = linear_model.LogisticRegression(C=1 / 3, fit_intercept=False, tol=1e-8, max_iter=1000)
    assert np.allclose(ours, theirs.fit(columns, right, weight).coef_[0], atol=1e-3)
    # what the offset explains already need not be learned
    held = fit_logistic(columns, right, columns @ [1.0, -2.0, 0.0, 0.5], np.full(4, 3.0), weight)
    assert np.abs(held).max() < 0.3


def decided(seed: int, photos: int = 20, each: int = 30, bias: float = -2.0) -> DecidedLabels:
    """Labels whose scores are too high where the stability is low."""
    rng = np.random.default_rng(seed)
    count = photos * each
    features = rng.normal(size=(count, len(FEATURES))).astype(np.float32)
    scores = rng.uniform(0.05, 0.95, count).astype(np.float32)
    odds = log_odds(scores) + bias * features[:, FEATURES.index("stability")]
    return DecidedLabels(
        features,
        scores,
        np.array(["cat", "dog"] * (count // 2), object),
        rng.random(count) < 1 / (1 + np.exp(-odds)),
        np.repeat(np.arange(photos), each),
        np.ones(count),
    )


def test_a_calibration_is_used_where_it_helps_and_nowhere_else() -> None:
    helps = choose_calibration(decided(1))
    assert helps.validation.used
    assert helps.calibration is not None
    assert helps.validation.loss_before is not None
    assert helps.validation.loss_after is not None
    assert helps.validation.loss_after < 0.8 * helps.validation.loss_before
    weights = dict(zip(FEATURES, helps.calibration.weights, strict=True))
    assert min(weights, key=lambda name: weights[name]) == "stability"
    used = [choose_calibration(decided(seed, bias=0.0)).validation.used for seed in range(10)]
    assert sum(used) <= 1
    few = choose_calibration(decided(1, photos=3))
    assert few.calibration is None
    assert "4 photos" in few.validation.reason
    assert choose_calibration(decided(1)[np.zeros(600, bool)]).calibration is None


def test_labels_that_nothing_is_known_about_teach_nothing() -> None:
    known = decided(2)
    rest = replace(decided(3), right=np.ones(600, bool), weight=np.zeros(600))
    both = DecidedLabels(
        *(np.concatenate([getattr(x, name) for x in (known, rest)]) for name in known.__dataclass_fields__)
    )
    a, b = fit_calibration(known, 10.0), fit_calibration(both, 10.0)
    z = known.features
    assert np.allclose(a.shift(z), b.shift(z), atol=0.2)
    assert choose_calibration(replace(known, weight=np.zeros(600))).calibration is None


def test_a_class_gets_an_offset_of_its_own() -> None:
    labels = decided(4, bias=0.0)
    never = replace(labels, right=labels.right & (labels.names == "cat"))
    choice = choose_calibration(never)
    assert choice.calibration is not None
    offsets = choice.calibration.offsets
    assert offsets["dog"] < offsets["cat"]
    scores = np.array([[0.9, 0.8], [0.5, 0.0]], np.float32)
    features = np.tile(choice.calibration.mean, (2, 1))
    found = apply_calibration(
        scores, np.array([[1, 0], [0, -1]]), ("cat", "dog"), features, choice.calibration
    )
    assert found[0, 0] < found[0, 1]
    assert found[1, 1] == 0


def test_what_was_not_seen_is_not_extrapolated() -> None:
    calibration = Calibration(np.zeros(len(FEATURES)), np.ones(len(FEATURES)), np.ones(len(FEATURES)), 0.0)
    far = np.full((1, len(FEATURES)), 1e9)
    assert calibration.shift(far) == 4.0 * len(FEATURES)
    with pytest.raises(ValueError, match="above 0"):
        replace(calibration, deviation=np.zeros(len(FEATURES)))


def test_folds_are_whole_photos_that_follow_each_other() -> None:
    folds = photo_folds(23, 10)
    assert np.concatenate(folds).tolist() == list(range(23))
    assert {len(fold) for fold in folds} == {2, 3}
    assert [fold.tolist() for fold in photo_folds(2, 10)] == [[0], [1]]
    assert [fold.tolist() for fold in photo_folds(0, 10)] == [[]]


def examples_of(vectors: NDArray[np.float32], shown: list[int], not_shown: list[int]) -> WordExamples:
    count = len(vectors)
    return WordExamples(
        vectors, np.array(shown, np.int64), np.array(not_shown, np.int64), np.ones(count), np.arange(count)
    )


def test_words_stay_their_text_without_examples_and_become_their_examples_with_many() -> None:
    rng = np.random.default_rng(0)
    text, look = unit(rng, 3, 16), unit(rng, 16)
    nothing = examples_of(np.zeros((0, 16), np.float32), [], [])
    assert not fit_words(nothing, text, ANIMALS, SCALE, np.array([2]), 0.1).any()
    shown = look + 0.2 * unit(rng, 60, 16)
    far = []
    for count in (0, 1, 10, 60):
        some = examples_of(shown[:count], [2] * count, [-1] * count)
        added = fit_words(some, text, ANIMALS, SCALE, np.array([2]), 0.1)
        taught = learned_text(text, ANIMALS, LearnedWords(("fox",), added, np.array([True])))
        far.append(float((look * SCALE) @ (taught[2] - taught[:2].max(axis=0))))
        assert np.array_equal(taught[:2], text[:2])
    assert far == sorted(far)
    again = fit_words(examples_of(shown, [2] * 60, [-1] * 60), text, ANIMALS, SCALE, np.array([2]), 0.1)
    assert np.array_equal(added, again)


def test_a_rename_teaches_both_classes_and_a_rejection_one() -> None:
    rng = np.random.default_rng(1)
    text = unit(rng, 3, 16)
    look = text[0] + 0.4 * unit(rng, 16)  # labeled cat; a reviewer says fox
    renamed = examples_of(look[None], [2], [-1])
    added = fit_words(renamed, text, ANIMALS, SCALE, np.array([0, 2]), 0.1)
    assert added[0] @ look < 0 < added[1] @ look
    rejected = fit_words(examples_of(look[None], [-1], [0]), text, ANIMALS, SCALE, np.array([0]), 0.1)
    assert rejected[0] @ look < 0
    both = np.array([0, 2])
    losses = word_losses(renamed, text, ANIMALS, SCALE, both)
    taught = learned_text(text, ANIMALS, LearnedWords(("cat", "fox"), added, np.ones(2, bool)))
    assert word_losses(renamed, taught, ANIMALS, SCALE, both) < losses


def test_the_gradient_of_words_is_right() -> None:
    """At the minimum no small step is better, with known, denied and untaught classes and negatives."""
    rng = np.random.default_rng(2)
    vocabulary = replace(ANIMALS, negatives=("tree", "car"), background=("sky",))
    text, vectors = unit(rng, 6, 8), unit(rng, 12, 8)
    some = examples_of(vectors, [0, 1, 2] * 2 + [OTHER] * 3 + [-1] * 3, [-1] * 9 + [0, 1, 1])
    taught, strength = np.array([0, 1]), 0.2
    added = fit_words(some, text, vocabulary, SCALE, taught, strength).astype(np.float64)

    def loss(change: NDArray[np.float64]) -> float:
        words = LearnedWords(("cat", "dog"), change.astype(np.float32), np.ones(2, bool))
        value = word_losses(some, learned_text(text, vocabulary, words), vocabulary, SCALE, taught).sum()
        return float(value + 0.5 * strength * (SCALE * 1.2) ** 2 * (change**2).sum())

    best = loss(added)
    assert best < loss(np.zeros_like(added))
    assert all(loss(added + 0.02 * unit(rng, 2, 8)) > best for _ in range(20))


def test_words_are_used_where_they_help_photos_they_have_not_seen() -> None:
    rng = np.random.default_rng(3)
    text, look = unit(rng, 3, 16), unit(rng, 16)
    shown = look + 0.3 * unit(rng, 12, 16)
    helps = choose_words(examples_of(shown, [2] * 12, [-1] * 12), 12, text, ANIMALS, SCALE)
    assert helps.words is not None
    assert helps.words.classes == ("fox",)
    assert helps.validation.classes[0].things == 12
    known = np.tile(text, (4, 1)) + 0.4 * unit(rng, 12, 16)
    sound = choose_words(examples_of(known, [0, 1, 2] * 4, [-1] * 12), 12, text, ANIMALS, SCALE)
    assert sound.words is None
    assert "better for certain" in sound.validation.reason
    few = choose_words(examples_of(shown[:2], [2, 2], [-1, -1]), 2, text, ANIMALS, SCALE)
    assert few.words is None
    assert "3 things" in few.validation.reason


def reviewed_photos(count: int, seed: int = 0) -> tuple[list[ReviewedPhoto], NDArray[np.float32]]:
    """Photos with a fox that looks like nothing the text knows, a cat, and background that is called dog."""
    rng = np.random.default_rng(seed)
    text, look = np.eye(3, 16, dtype=np.float32), unit(np.random.default_rng(8), 16)
    look = look - 0.9 * text[2]
    photos = []
    for _ in range(count):
        masks = rectangle_masks((0, 0, 20, 20), (30, 0, 20, 20), (0, 30, 20, 20), (30, 30, 20, 20))
        vectors = np.stack([look, text[0], text[1] * 0.7, text[1] * 0.6]) + 0.25 * unit(rng, 4, 16)
        masks = replace(masks, embeddings=vectors, surrounds=0.3 * unit(rng, 4, 16), grid=(20, 20))
        things = rectangle_masks((0, 0, 20, 20), (30, 0, 20, 20)).rles
        review = PhotoReview(things, ["fox", "cat"], complete=frozenset(ANIMALS.classes))
        photos.append(ReviewedPhoto(masks, None, review))
    return photos, text


def test_learning_finds_a_word_that_the_text_does_not_know_and_says_so_in_advance() -> None:
    photos, text = reviewed_photos(16)
    lesson = learn(photos, text, ANIMALS, SCALE)
    assert lesson.words is not None
    unseen, _ = reviewed_photos(5, seed=7)
    learned = Learned("abc", lesson.calibration, lesson.words)
    taught, rescore = apply_learned(learned, text, ANIMALS, SCALE)
    evidence = evidence_of([photo.masks for photo in unseen], [None] * 5, 16)
    before = label_evidence(evidence, text, ANIMALS, SCALE, LabelSettings(), [None] * 5)
    after = label_evidence(evidence, taught, ANIMALS, SCALE, LabelSettings(), [None] * 5, rescore)
    foxes = np.arange(0, 20, 4)
    assert sum(before.names[i] == "fox" for i in foxes) == 0
    assert all(after.names[i] == "fox" for i in foxes)
    assert after.kept[foxes].mean() > before.kept[foxes].mean()
    again = learn(photos, text, ANIMALS, SCALE)
    assert Learned("abc", again.calibration, again.words).digest == learned.digest


def test_what_was_learned_is_plain_json_and_comes_back_as_it_was() -> None:
    photos, text = reviewed_photos(16)
    lesson = learn(photos, text, ANIMALS, SCALE)
    learned = Learned("abc", lesson.calibration, lesson.words, lesson.words, {"photos": 16})
    back = Learned.from_dict(json.loads(json.dumps(learned.to_dict())))
    assert back.digest == learned.digest
    back.check_model("abc", 16)
    for sha256, dimension in (("abd", 16), ("abc", 8)):
        with pytest.raises(UsageError, match="another CLIP model"):
            back.check_model(sha256, dimension)
    assert apply_learned(None, text, ANIMALS, SCALE) == (text, None)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"words": [{"class": "cat", "with_text": True}]},
        {"words": [{"class": "cat", "with_text": True, "vector": [float("nan")]}]},
        {"words": 3},
        {"examples": [{}]},
        {"calibration": {}},
        {"calibration": []},
    ],
)
def test_a_damaged_file_is_told_in_one_line(change: dict) -> None:
    with pytest.raises(UsageError):
        Learned.from_dict(Learned("abc").to_dict() | change)
    with pytest.raises(UsageError):
        Learned.from_dict([])
