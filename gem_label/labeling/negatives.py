"""Negative words: words that compete in the softmax and are never a label (numpy only).

A softmax over ten words calls every mask one of the ten. Words of a lexicon take the masks of everything else. A
negative is no synonym, plural, part, whole, kind or more general word of a class, and not nearly the same as one to
the text encoder: the class would lose its own masks to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gem_label.labeling.lexicon import Lexicon, Relation, load_lexicon
from gem_label.labeling.nouns import normalized
from gem_label.labeling.scoring import ScoreModel
from gem_label.phrases import as_words, clean_word
from gem_label.vocabulary import Vocabulary

SCENE = (
    "sky",
    "wall",
    "floor",
    "ceiling",
    "road",
    "sidewalk",
    "grass",
    "tree",
    "building",
    "water",
    "ground",
    "mountain",
    "window",
    "door",
)
"""What fills most of most photos besides things."""
SCENE_SHARE = 0.5
"""A vocabulary that names at least this share of `SCENE` covers most of what photos show."""
NEIGHBOR_QUANTILE = 0.95
"""One word in twenty of a lexicon has a neighbor that is closer, though it means another thing."""
SAME_COSINE = 1 - 1e-5
"""Up to rounding, the text encoder gets the same tokens for both words, and one can never win over the other."""
FORMS = 64
"""How many classes and their plurals tell how close two forms of one word are."""


NEGATIVES = ScoreModel.negatives
"""How many negative words compete by default: as many as a score is made for."""

Wanted = Literal["auto", "none"] | int | str | Sequence[str]
"""Which negative words to use, see `add_negatives`."""


@dataclass(frozen=True)
class Negatives:
    """The negative words of a run.

    Attributes:
        words: n words, in the order of the lexicon, or best first when only some were to be chosen.
        embeddings: (n, d) float32 their unit-length text embeddings.
        excluded: every other word of the lexicon with the reason, such as "part of car".
    """

    words: tuple[str, ...]
    embeddings: NDArray[np.float32]
    excluded: dict[str, str]


def add_negatives(
    vocabulary: Vocabulary,
    encode: Callable[[Sequence[str]], NDArray[np.float32]],
    wanted: Wanted = "auto",
    known_words: Sequence[str] | None = None,
) -> Vocabulary:
    """A vocabulary with the negative words that a run is to use; one that has some is returned as it is.

    Args:
        vocabulary: classes and background.
        encode: n phrases to their (n, d) unit-length text embeddings.
        wanted: "auto": `NEGATIVES` words of the lexicon, none where the classes cover the scene themselves
            (`covers_scene`); "none"; how many words of the lexicon; or the words to choose from, a list or text with
            commas between, all of which are used that are not related to a class.
        known_words: the words to choose from in place of the lexicon, for a model that knows no others.
    """
    if vocabulary.negatives or wanted == "none" or wanted == 0:
        return vocabulary
    if wanted == "auto":
        if covers_scene(vocabulary):
            return vocabulary
        wanted = NEGATIVES
    words, count = (known_words, wanted) if isinstance(wanted, int) else (_given(wanted), None)
    return vocabulary.with_negatives(choose_negatives(vocabulary, encode, words, count).words)


def _given(words: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(map(clean_word, as_words(words)))


def choose_negatives(
    vocabulary: Vocabulary,
    encode: Callable[[Sequence[str]], NDArray[np.float32]],
    lexicon_words: Sequence[str] | None = None,
    count: int | None = None,
    max_cosine: float | None = None,
    excluding: Collection[Relation] = frozenset(Relation),
    lexicon: Lexicon | None = None,
) -> Negatives:
    """Choose the words of a lexicon that may compete with a vocabulary.

    Out go the words that the vocabulary has or that are related to one of its class names or phrasings, then those
    whose cosine with a phrasing is above `max_cosine`. Relatives of background words stay: neither is ever a label.

    Args:
        vocabulary: the classes, and the background words that compete already.
        encode: n phrases to their (n, d) unit-length text embeddings.
        lexicon_words: the words to choose from; None: those of the lexicon.
        count: how many to choose at most, as `spread` does; None: all that remain.
        max_cosine: None: the larger of `form_cosine` and `neighbor_cosine`. A fixed number would not do: 0.75 is
            usual between unrelated words of one CLIP, and only between synonyms of another.
        excluding: the relations that rule a word out. Without WHOLE, "person" competes with "shirt".
        lexicon: the relations; None: the packaged lexicon.

    Raises:
        ValueError: a negative count.
    """
    if count is not None and count < 0:
        raise ValueError(f"the number of negative words is not negative, unlike {count}")
    lexicon = lexicon or load_lexicon()
    words = tuple(dict.fromkeys(lexicon.words if lexicon_words is None else lexicon_words))
    excluded = _related_words(vocabulary, lexicon, words, excluding)
    candidates = [word for word in words if word not in excluded]
    phrases = [phrase for phrases in vocabulary.phrasings for phrase in phrases]
    wanted, embeddings = _encoded(encode, phrases), _encoded(encode, candidates)
    if not candidates:
        return Negatives((), np.zeros((0, wanted.shape[1]), np.float32), excluded)
    cosines = embeddings @ wanted.T
    if max_cosine is None:
        max_cosine = max(form_cosine(vocabulary, encode), neighbor_cosine(embeddings))
    max_cosine = min(max_cosine, SAME_COSINE)
    nearest = cosines.argmax(axis=1)
    closest = cosines.max(axis=1)
    for row in np.flatnonzero(closest > max_cosine):
        excluded[candidates[row]] = f"close to {phrases[nearest[row]]} for the text encoder"
    kept = np.flatnonzero(closest <= max_cosine)
    if count is not None and count < len(kept):
        common = np.array([len(lexicon.sources.get(candidates[row], ())) for row in kept])
        chosen = kept[spread(embeddings[kept], closest[kept], common, count)]
        excluded |= {candidates[row]: "not among the chosen" for row in np.setdiff1d(kept, chosen)}
        kept = chosen
    return Negatives(tuple(candidates[row] for row in kept), embeddings[kept], excluded)


def neighbor_cosine(embeddings: NDArray[np.float32]) -> float:
    """How close two different things get: a high quantile of the words' cosines with their nearest neighbors.

    It keeps `form_cosine` from excluding half of the words where a text encoder does not know plurals.

    Args:
        embeddings: (n, d) unit-length text embeddings of words with different meanings.

    Returns:
        -1 for fewer than two words.
    """
    if len(embeddings) < 2:
        return -1.0
    cosines = embeddings @ embeddings.T
    np.fill_diagonal(cosines, -1.0)
    return float(np.quantile(cosines.max(axis=1), NEIGHBOR_QUANTILE))


def form_cosine(
    vocabulary: Vocabulary, encode: Callable[[Sequence[str]], NDArray[np.float32]], forms: int = FORMS
) -> float:
    """How close two forms of one word are to a text encoder: the cosine of a class and its plural.

    Returns:
        The median over `forms` classes, spread over the vocabulary.
    """
    step = max(1, len(vocabulary.classes) // forms)
    singular = [phrases[0] for phrases in vocabulary.phrasings[::step]][:forms]
    pairs = _encoded(encode, singular) * _encoded(encode, [plural(word) for word in singular])
    return float(np.median(pairs.sum(axis=1)))


def plural(word: str) -> str:
    """The regular plural of a noun, close enough for a text encoder."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"


def spread(
    embeddings: NDArray[np.float32],
    closeness: NDArray[np.floating],
    common: NDArray[np.integer],
    count: int,
) -> NDArray[np.int64]:
    """Choose words that are close to the classes, common, and far from each other.

    Greedy, farthest first: each step takes the word with the largest distance to those taken already, times a
    weight from 1 to 3, which grows with its rank by closeness to a class (the words that matter where two classes
    are hard to tell from the rest) and with the share of lists of classes that have it (what photos show often).
    Distances are 1 - cosine after the mean is taken off, since text embeddings have a large part in common.
    Takes O(count * n * d).

    Args:
        embeddings: (n, d) unit length.
        closeness: (n,) largest cosine with a class.
        common: (n,) in how many lists a word is.
        count: how many to take, at most n.

    Returns:
        (count,) rows, in the order taken; the first of equals.
    """
    centered = embeddings - embeddings.mean(axis=0)
    centered /= np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12)
    rank = np.empty(len(closeness))
    rank[np.argsort(closeness, kind="stable")] = np.arange(1, len(closeness) + 1) / len(closeness)
    weight = 1 + rank + common / max(1, common.max(initial=0))
    distance = np.full(len(embeddings), 2.0)
    taken: list[int] = []
    for _ in range(count):
        best = int(np.argmax(distance * weight))
        taken.append(best)
        distance = np.minimum(distance, 1 - centered @ centered[best])
        distance[best] = -np.inf
    return np.array(taken, np.int64)


def covers_scene(vocabulary: Vocabulary, lexicon: Lexicon | None = None) -> bool:
    """Whether the classes themselves cover what photos show, so that negative words would only take from them.

    True when they name at least a share `SCENE_SHARE` of the words of `SCENE`, in a phrasing that is the word, a
    synonym or a kind of it: ADE20K's 150 classes and Cityscapes' 19 do, the 1203 of LVIS, which are things alone,
    do not.
    """
    lexicon = lexicon or load_lexicon()
    naming = {Relation.SAME, Relation.PLURAL, Relation.KIND}
    named: set[str] = set()
    for name, phrases in zip(vocabulary.classes, vocabulary.phrasings, strict=True):
        for phrase in {name, *phrases}:
            named |= {
                word for word in lexicon.related(phrase, SCENE) if lexicon.relation(word, phrase) in naming
            }
    return len(named) >= SCENE_SHARE * len(SCENE)


def _related_words(
    vocabulary: Vocabulary, lexicon: Lexicon, words: tuple[str, ...], excluding: Collection[Relation]
) -> dict[str, str]:
    """The words that the vocabulary has or is related to, with the reason."""
    reasons: dict[str, str] = {}
    own = {Relation.SAME, Relation.PLURAL}
    for word in vocabulary.background:
        for other, relation in lexicon.related(word, words).items():
            if relation in own:
                reasons.setdefault(other, f"background word {word}")
    for name, phrases in zip(vocabulary.classes, vocabulary.phrasings, strict=True):
        for phrase in dict.fromkeys((*phrases, name)):
            for other, relation in lexicon.related(phrase, words).items():
                if relation in own and normalized(phrase) == normalized(other):
                    reasons[other] = "a class"
                elif relation in excluding:
                    reasons.setdefault(other, f"{REASONS[relation]} {phrase}")
    return reasons


REASONS = {
    Relation.SAME: "synonym of",
    Relation.PLURAL: "form of",
    Relation.KIND: "kind of",
    Relation.GENERAL: "more general than",
    Relation.PART: "part of",
    Relation.WHOLE: "whole of",
}


def _encoded(
    encode: Callable[[Sequence[str]], NDArray[np.float32]], phrases: Sequence[str]
) -> NDArray[np.float32]:
    return np.asarray(encode(list(phrases)), np.float32)
