"""The words of a run: classes, their phrasings, and background words."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError


def split_words(text: str) -> list[str]:
    """Comma-separated words without the spaces around them; a word with a comma stands in double quotes."""
    if not text.strip():
        return []
    return [word.strip() for word in next(csv.reader([text], skipinitialspace=True)) if word.strip()]


@dataclass(frozen=True)
class Vocabulary:
    """The words of a run: what a mask may be called, and what takes part without ever being emitted.

    Attributes:
        classes: C class names, as labels and COCO categories show them, in the order given.
        phrasings: for each class the phrases that the text encoder sees (at least one).
        background: words that compete in the softmax but never label a mask ("sky", "wall"). Where one of them
            wins, the mask has no label.
        negatives: words of a lexicon that compete in the same way, so that a mask of something else does not take
            the least unlikely class; they lower scores and take no label away.
        own_negatives: for each class the phrases that compete with that class alone ("cat statue" with "cat");
            empty: none for any class.

    Raises:
        UsageError: no class, an empty name, or a word that would stand for two things.
    """

    classes: tuple[str, ...]
    phrasings: tuple[tuple[str, ...], ...]
    background: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    own_negatives: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.classes:
            raise UsageError("no classes: give at least one word, for example --classes 'cat,dog'")
        if len(self.phrasings) != len(self.classes) or not all(self.phrasings):
            raise UsageError("every class needs at least one phrasing")
        if self.own_negatives and len(self.own_negatives) != len(self.classes):
            raise UsageError("own_negatives holds phrases for each class")
        owner: dict[str, str] = {}
        for name, phrases in [
            *zip(self.classes, self.phrasings, strict=True),
            *((f"background {word}", (word,)) for word in self.background),
            *((f"negative {word}", (word,)) for word in self.negatives),
        ]:
            for phrase in phrases:
                if not phrase or not name:
                    raise UsageError("empty word in the vocabulary")
                if phrase in owner:
                    raise UsageError(
                        f"{phrase!r} stands for both {owner[phrase]!r} and {name!r}: keep one of them"
                    )
                owner[phrase] = name
        if len(set(self.classes)) != len(self.classes):
            raise UsageError("a class name occurs twice")
        for name, phrases, negatives in zip(self.classes, self.phrasings, self.own_negatives, strict=False):
            both = [phrase for phrase in negatives if phrase in phrases or not phrase]
            if both:
                raise UsageError(f"{both[0]!r} is both {name!r} and not {name!r}: keep one of them")

    @classmethod
    def from_words(cls, classes: Iterable[str], background: Iterable[str] = ()) -> Vocabulary:
        """Each class is its own only phrasing; repeated words count once."""
        names = tuple(dict.fromkeys(classes))
        return cls(names, tuple((name,) for name in names), tuple(dict.fromkeys(background)))

    @classmethod
    def parse(cls, text: str, background: str = "") -> Vocabulary:
        """Read the text form, the same in `--classes` and in a `--classes-file`.

        Entries stand on lines of their own or are separated by ";". An entry is either words separated by
        commas, each a class, or `phrasing, phrasing => class`: several phrasings of one class (the class name
        itself is a phrasing only when it is listed on the left as well). A class that occurs again gets the
        further phrasings. Phrases after "!" compete with the classes of their entry alone and are never a label.
        Lines that begin with "#" are comments; a word that contains a comma stands in double quotes.

            cat, dog
            e-scooter, electric scooter => scooter
            "tench, Tinca tinca" => tench
            cat ! cat statue, toy cat

        Args:
            text: the classes.
            background: words separated by commas that compete but are never emitted.
        """
        phrasings: dict[str, dict[str, None]] = {}
        negatives: dict[str, dict[str, None]] = {}
        for line in text.splitlines():
            for entry in [] if line.lstrip().startswith("#") else line.split(";"):
                wanted, mark, unwanted = entry.partition("!")
                left, arrow, right = wanted.partition("=>")
                phrases, against = split_words(left), split_words(unwanted)
                if arrow and not (phrases and right.strip()):
                    raise UsageError(f"cannot read {entry.strip()!r}: write 'phrasing, phrasing => class'")
                if mark and not (phrases and against):
                    raise UsageError(f"cannot read {entry.strip()!r}: write 'class ! phrase, phrase'")
                for phrase in phrases:
                    name = right.strip().strip('"') or phrase
                    phrasings.setdefault(name, {})[phrase] = None
                    negatives.setdefault(name, {}).update(dict.fromkeys(against))
        words = tuple(dict.fromkeys(split_words(background.replace("\n", ","))))
        own = tuple(tuple(n) for n in negatives.values()) if any(negatives.values()) else ()
        return cls(tuple(phrasings), tuple(tuple(p) for p in phrasings.values()), words, own_negatives=own)

    @classmethod
    def from_file(cls, path: str | Path, background: str = "") -> Vocabulary:
        """`parse` of a UTF-8 text file.

        Raises:
            UsageError: the file cannot be read.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the classes file {path}: {error}") from error
        return cls.parse(text, background)

    def with_negatives(self, words: Iterable[str]) -> Vocabulary:
        """The same words with these negatives."""
        return replace(self, negatives=tuple(words))

    def to_dict(self) -> dict[str, Any]:
        """As JSON in manifest.json: the attributes as lists."""
        return {
            "classes": list(self.classes),
            "phrasings": [list(phrases) for phrases in self.phrasings],
            "background": list(self.background),
            "negatives": list(self.negatives),
            "own_negatives": [list(phrases) for phrases in self.own_negatives],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Vocabulary:
        """The inverse of `to_dict`; reads manifests of older formats, which have no negatives."""
        return cls(
            tuple(data["classes"]),
            tuple(tuple(phrases) for phrases in data["phrasings"]),
            tuple(data["background"]),
            tuple(data.get("negatives", ())),
            tuple(tuple(phrases) for phrases in data.get("own_negatives", ())),
        )

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """All P phrases in the order of text embeddings: the phrasings class by class, then the background, the
        negatives, and the negatives of single classes.
        """
        return (
            *(phrase for phrases in self.phrasings for phrase in phrases),
            *self.background,
            *self.negatives,
            *(phrase for phrases in self.own_negatives for phrase in phrases),
        )

    @cached_property
    def first_phrase(self) -> NDArray[np.int64]:
        """(C + B + N + K,) index into `phrases` of each candidate's first phrase: classes, background words,
        negatives, negatives of single classes.
        """
        single = len(self.phrases) - sum(map(len, self.phrasings))
        sizes = [len(p) for p in self.phrasings] + [1] * single
        return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)

    @cached_property
    def negative_of(self) -> NDArray[np.int64]:
        """(K,) index of the class that each of the last K phrases competes with."""
        return np.repeat(np.arange(len(self.own_negatives)), [len(p) for p in self.own_negatives])

    def allowed(self, words: Iterable[str]) -> NDArray[np.bool_]:
        """(C,) which classes the given class names or phrasings stand for.

        Raises:
            UsageError: a word that the vocabulary does not have.
        """
        chosen = np.zeros(len(self.classes), bool)
        for word in words:
            if word not in self._index:
                raise UsageError(
                    f"{word!r} is not among the classes: add it to them or take it out of the table"
                )
            chosen[self._index[word]] = True
        return chosen

    @cached_property
    def _index(self) -> dict[str, int]:
        index = {phrase: c for c, phrases in enumerate(self.phrasings) for phrase in phrases}
        return index | {name: c for c, name in enumerate(self.classes)}
