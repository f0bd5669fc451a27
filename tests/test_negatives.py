"""Negative words: which words of the lexicon compete with a vocabulary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gem_label.demo import demo_words
from gem_label.labeling.lexicon import Lexicon, Relation, load_lexicon
from gem_label.labeling.negatives import (
    Negatives,
    choose_negatives,
    covers_scene,
    form_cosine,
    plural,
    spread,
)
from gem_label.phrases import split_words
from gem_label.vocabulary import Vocabulary

CLASS_TABLES = Path(__file__).parent.parent / "gem_label/evaluation/classes"


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return load_lexicon()


class Encoder:
    """Unit-length embeddings that share most of their length, as a real CLIP's do; some phrases are close.

    Args:
        close: phrase to (another phrase, how far from it).
    """

    def __init__(self, close: dict[str, tuple[str, float]] | None = None, dimension: int = 64) -> None:
        self.close = close or {}
        self.dimension = dimension
        self.seen: list[str] = []

    def direction(self, phrase: str) -> NDArray[np.float64]:
        draw = np.random.default_rng(list(phrase.encode()))
        noise = draw.normal(size=self.dimension) / self.dimension**0.5
        if phrase in self.close:
            other, distance = self.close[phrase]
            return self.direction(other) + distance * noise
        return noise

    def __call__(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        self.seen += phrases
        rows = np.array([self.direction(phrase) for phrase in phrases]).reshape(-1, self.dimension)
        rows = np.hstack([np.full((len(rows), 1), 1.75), rows])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def near(words: Sequence[str], distance: float = 0.3) -> dict[str, tuple[str, float]]:
    """The plurals of the words, close to them."""
    return {plural(word): (word, distance) for word in words}


class TestNegatives:
    """The choice of words for a vocabulary."""

    def choose(
        self, words: str, close: dict[str, tuple[str, float]] | None = None, **options: object
    ) -> Negatives:
        vocabulary = Vocabulary.parse(words)
        encode = Encoder(near(vocabulary.phrases) | (close or {}))
        return choose_negatives(vocabulary, encode, **options)  # type: ignore[arg-type]

    def test_no_relative_of_a_class_competes(self, lexicon: Lexicon) -> None:
        negatives = self.choose("person; car; hound => dog")
        for word in ("woman", "shirt", "face", "wheel", "taxi", "vehicle", "animal", "puppy", "dog"):
            assert word not in negatives.words
        for word in ("sky", "wall", "tree", "cat", "truck", "bottle", "hot dog", "road"):
            assert word in negatives.words
        for word in negatives.words:
            assert all(lexicon.relation(other, word) is None for other in ("person", "car", "dog", "hound"))

    def test_every_word_is_chosen_or_has_a_reason(self, lexicon: Lexicon) -> None:
        for count in (None, 0, 7):
            negatives = self.choose("cat, bicycle", count=count)
            assert set(negatives.words) | set(negatives.excluded) == set(lexicon.words)
            assert set(negatives.words).isdisjoint(negatives.excluded)
            assert negatives.embeddings.shape == (len(negatives.words), 65)
            assert negatives.embeddings.dtype == np.float32
            assert count is None or len(negatives.words) == count

    def test_reasons(self) -> None:
        vocabulary = Vocabulary.parse("car", background="sky")
        excluded = choose_negatives(vocabulary, Encoder(near(["car"]))).excluded
        assert excluded["car"] == "a class"
        assert excluded["sky"] == "background word sky"
        assert excluded["wheel"] == "part of car"
        assert excluded["taxi"] == "kind of car"
        assert excluded["vehicle"] == "more general than car"

    def test_relations_can_be_allowed(self) -> None:
        assert "person" not in self.choose("shirt").words
        allowed = self.choose("shirt", excluding=frozenset(Relation) - {Relation.WHOLE}).words
        assert "person" in allowed
        assert "clothes" not in allowed

    def test_close_words_go_whatever_the_model_calls_close(self) -> None:
        close = {"truck": ("cat", 0.1), "vase": ("cat", 0.6)}
        negatives = self.choose("cat, kite", close)
        assert negatives.excluded["truck"] == "close to cat for the text encoder"
        assert "vase" in negatives.words
        assert "truck" in self.choose("cat, kite", close, max_cosine=1.0).words
        assert not self.choose("cat, kite", max_cosine=-1.0).words

    def test_a_model_that_does_not_know_plurals_loses_no_words(self, lexicon: Lexicon) -> None:
        vocabulary = Vocabulary.parse("cat, kite")
        negatives = choose_negatives(vocabulary, Encoder())
        related = choose_negatives(vocabulary, Encoder(), max_cosine=1.0)
        assert len(negatives.words) >= 0.98 * len(related.words)

    def test_form_cosine_reads_at_most_so_many_classes(self) -> None:
        encode = Encoder(near(load_lexicon().words[:600]))
        vocabulary = Vocabulary.from_words(load_lexicon().words[:600])
        assert 0.9 < form_cosine(vocabulary, encode, 64) < 1.0
        assert len(encode.seen) == 128

    def test_only_remaining_words_are_encoded(self) -> None:
        encode = Encoder(near(["car"]))
        choose_negatives(Vocabulary.parse("car"), encode)
        assert "taxi" not in encode.seen

    def test_deterministic(self) -> None:
        first, second = (self.choose("cat, car, person", count=50) for _ in range(2))
        assert first.words == second.words
        assert np.array_equal(first.embeddings, second.embeddings)

    def test_words_of_the_caller(self) -> None:
        vocabulary = Vocabulary.parse("horse, car")
        negatives = choose_negatives(vocabulary, Encoder(near(["horse", "car"])), demo_words())
        assert set(negatives.words) <= set(demo_words())
        assert "zebra" in negatives.words
        assert "taxi" not in negatives.words

    def test_nothing_remains(self) -> None:
        negatives = choose_negatives(Vocabulary.parse("car"), Encoder(), ["taxi", "wheel"])
        assert negatives.words == ()
        assert negatives.embeddings.shape == (0, 65)

    def test_negative_count_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not negative"):
            self.choose("cat", count=-1)

    @pytest.mark.slow
    def test_a_large_vocabulary_is_quick(self, lexicon: Lexicon) -> None:
        vocabulary = Vocabulary.from_words([f"{word} {i % 3}" for i, word in enumerate(lexicon.words[:1200])])
        table = Encoder(near(vocabulary.phrases), 256)
        words = [*lexicon.words, *vocabulary.phrases, *map(plural, vocabulary.phrases)]
        known = dict(zip(words, table(words), strict=True))
        start = time.process_time()
        choose_negatives(
            vocabulary, lambda some: np.array([known[word] for word in some], np.float32), count=500
        )
        assert time.process_time() - start < 2


class TestSpread:
    """A few words that stand for many."""

    def test_takes_one_of_each_group_before_a_second(self) -> None:
        draw = np.random.default_rng(0)
        groups = np.repeat(np.eye(8), 5, axis=0) + 0.05 * draw.normal(size=(40, 8))
        embeddings = (groups / np.linalg.norm(groups, axis=1, keepdims=True)).astype(np.float32)
        rows = spread(embeddings, draw.random(40), np.zeros(40, np.int64), 8)
        assert sorted(rows // 5) == list(range(8))

    def test_starts_with_the_word_closest_to_a_class(self) -> None:
        embeddings = np.eye(6, dtype=np.float32)
        closeness = np.array([0.1, 0.5, 0.9, 0.2, 0.3, 0.4])
        rows = spread(embeddings, closeness, np.zeros(6, np.int64), 6)
        assert rows[0] == 2
        assert sorted(rows) == list(range(6))

    def test_common_words_come_before_rare_ones(self) -> None:
        rows = spread(np.eye(4, dtype=np.float32), np.full(4, 0.5), np.array([0, 0, 0, 5]), 1)
        assert list(rows) == [3]


def vocabulary_of(table: str) -> Vocabulary:
    rows = (CLASS_TABLES / f"{table}.tsv").read_text(encoding="utf-8").splitlines()
    fields = [row.split("\t") for row in rows if not row.startswith("#")]
    return Vocabulary(tuple(row[1] for row in fields), tuple(tuple(split_words(row[2])) for row in fields))


class TestCoversScene:
    """Vocabularies that need no negative words."""

    @pytest.mark.parametrize("table", ["cocostuff", "ade20k", "context59", "cityscapes"])
    def test_all_of_a_scene(self, table: str) -> None:
        assert covers_scene(vocabulary_of(table))

    def test_twenty_things(self) -> None:
        assert not covers_scene(vocabulary_of("voc"))

    @pytest.mark.parametrize("source", ["lvis", "openimages", "objects365"])
    def test_many_things(self, lexicon: Lexicon, source: str) -> None:
        words = [word for word in lexicon.words if source in lexicon.sources[word]]
        assert len(words) > 300
        assert not covers_scene(Vocabulary.from_words(words))

    def test_eighty_things(self) -> None:
        assert not covers_scene(Vocabulary.from_words(vocabulary_of("cocostuff").classes[:80]))

    def test_few_words(self) -> None:
        assert not covers_scene(Vocabulary.parse("sky, tree, person"))
