"""The words of a run: classes, their phrasings, and background words."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
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
        background: words that compete in the softmax but never label a mask ("sky", "wall").

    Raises:
        UsageError: no class, an empty name, or a word that would stand for two things.
    """

    classes: tuple[str, ...]
    phrasings: tuple[tuple[str, ...], ...]
    background: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.classes:
            raise UsageError("no classes: give at least one word, for example --classes 'cat,dog'")
        if len(self.phrasings) != len(self.classes) or not all(self.phrasings):
            raise UsageError("every class needs at least one phrasing")
        owner: dict[str, str] = {}
        for name, phrases in [
            *zip(self.classes, self.phrasings, strict=True),
            *((f"background {word}", (word,)) for word in self.background),
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
        further phrasings. Lines that begin with "#" are comments; a word that contains a comma stands in
        double quotes.

            cat, dog
            e-scooter, electric scooter => scooter
            "tench, Tinca tinca" => tench

        Args:
            text: the classes.
            background: words separated by commas that compete but are never emitted.
        """
        phrasings: dict[str, dict[str, None]] = {}
        for line in text.splitlines():
            for entry in [] if line.lstrip().startswith("#") else line.split(";"):
                left, arrow, right = entry.partition("=>")
                phrases = split_words(left)
                if arrow and not (phrases and right.strip()):
                    raise UsageError(f"cannot read {entry.strip()!r}: write 'phrasing, phrasing => class'")
                for phrase in phrases:
                    phrasings.setdefault(right.strip().strip('"') or phrase, {})[phrase] = None
        words = tuple(dict.fromkeys(split_words(background.replace("\n", ","))))
        return cls(tuple(phrasings), tuple(tuple(p) for p in phrasings.values()), words)

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

    def to_dict(self) -> dict[str, Any]:
        """As JSON in manifest.json: the three attributes as lists."""
        return {
            "classes": list(self.classes),
            "phrasings": [list(phrases) for phrases in self.phrasings],
            "background": list(self.background),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Vocabulary:
        """The inverse of `to_dict`."""
        phrasings = tuple(tuple(phrases) for phrases in data["phrasings"])
        return cls(tuple(data["classes"]), phrasings, tuple(data["background"]))

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """All P phrases in the order of text embeddings: the phrasings class by class, then the
        background.
        """
        return (*(phrase for phrases in self.phrasings for phrase in phrases), *self.background)

    @cached_property
    def first_phrase(self) -> NDArray[np.int64]:
        """(C + B,) index into `phrases` of each candidate's first phrase, classes before background words."""
        sizes = [len(p) for p in self.phrasings] + [1] * len(self.background)
        return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)

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
