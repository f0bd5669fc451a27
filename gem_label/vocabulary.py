"""The words of a run: classes, their phrasings, and background words."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.phrases import (
    LONGEST_IN_ERRORS,
    as_words,
    clean_word,
    folded,
    split_entries,
    split_entry,
    split_words,
    tidy,
)
from gem_label.tables import shorten
from gem_label.text_files import read_text


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
                if not isinstance(phrase, str) or not isinstance(name, str):
                    raise UsageError(f"{phrase!r:.60} of {name!r:.60} is no text")
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
    def from_words(cls, classes: str | Iterable[str], background: str | Iterable[str] = ()) -> Vocabulary:
        """Each class is its own only phrasing; repeated words count once.

        Args:
            classes: words, or text in which they stand between commas or on lines of their own.
            background: likewise, words that compete but are never emitted.

        Raises:
            UsageError: see `parse`.
        """
        names = _distinct_words(classes)
        return cls(names, tuple((name,) for name in names), _distinct_words(background))._checked()

    @classmethod
    def parse(cls, text: str, background: str | Iterable[str] = ()) -> Vocabulary:
        """Read the text form, the same in `--classes` and in a `--classes-file`.

        Entries stand on lines of their own or are separated by ";". An entry is either words separated by
        commas, each a class, or `phrasing, phrasing => class`: several phrasings of one class (the class name
        itself is a phrasing only when it is listed on the left as well). A class that occurs again gets the
        further phrasings. Phrases after "!" compete with the classes of their entry alone and are never a label.
        Lines that begin with "#" are comments; a word that contains a comma stands in double quotes. Words are
        taken as `clean_word` gives them.

            cat, dog
            e-scooter, electric scooter => scooter
            "tench, Tinca tinca" => tench
            cat ! cat statue, toy cat

        Args:
            text: the classes.
            background: words that compete but are never emitted: a list, or text in which they stand between
                commas or on lines of their own.

        Raises:
            UsageError: an entry that has another form, a word of nothing but punctuation or with control
                characters, or words of two classes that differ only in case.
        """
        phrasings: dict[str, dict[str, None]] = {}
        negatives: dict[str, dict[str, None]] = {}
        for line in text.splitlines():
            for entry in [] if line.lstrip().startswith("#") else split_entries(line):
                phrases, name, against = _read_entry(entry)
                for phrase in phrases:
                    phrasings.setdefault(name or phrase, {})[phrase] = None
                    negatives.setdefault(name or phrase, {}).update(dict.fromkeys(against))
        own = tuple(tuple(n) for n in negatives.values()) if any(negatives.values()) else ()
        vocabulary = cls(
            tuple(phrasings),
            tuple(tuple(p) for p in phrasings.values()),
            _distinct_words(background),
            own_negatives=own,
        )
        return vocabulary._checked()

    @classmethod
    def from_file(cls, path: str | Path, background: str | Iterable[str] = ()) -> Vocabulary:
        """`parse` of a text file, in the encodings and archives of `read_text`.

        Raises:
            UsageError: the file cannot be read, or see `parse`.
        """
        return cls.parse(read_text(path), background)

    def with_negatives(self, words: str | Iterable[str]) -> Vocabulary:
        """The same words with these negatives."""
        return replace(self, negatives=as_words(words))

    def with_background(self, words: Iterable[str]) -> Vocabulary:
        """The same words with these background words, too, except those that are phrases of a class already."""
        known = {folded(phrase) for phrases in self.phrasings for phrase in phrases}
        more = [word for word in words if folded(word) not in known]
        return replace(self, background=_distinct_words([*self.background, *more]))._checked()

    def _checked(self) -> Vocabulary:
        """This vocabulary, if no two things in it differ only in case. Phrasings of a class may: some tokenizers
        tell case apart.
        """
        self.merged(lambda phrases: [*map(folded, phrases)], "differ only in case")
        return self

    def merged(self, keys: Callable[[Sequence[str]], Sequence[Hashable]], reason: str) -> Vocabulary:
        """The same words for a reader that takes some phrases for one: only the first of them stays in a class.

        Args:
            keys: P phrases to what the reader makes of each; those with the same key are one to it.
            reason: what an error says about two phrases, such as "differ only in case".

        Returns:
            This vocabulary without the further phrases of a class, background words and negatives of a class that
            have a key again.

        Raises:
            UsageError: phrases with the same key stand for two classes, or for a class and for what is none.
        """
        key = dict(zip(self.phrases, keys(self.phrases), strict=True))
        owners: _Owners = {}
        phrasings = tuple(
            _first_ones(phrases, f"class {name!r}", key, owners, reason)
            for name, phrases in zip(self.classes, self.phrasings, strict=True)
        )
        of_classes = dict(owners)
        background = _first_ones(self.background, "the background", key, owners, reason)
        for word in self.negatives:  # among themselves they stay as they were chosen
            _first_ones([word], "a negative word", key, dict(of_classes), reason)
        own = []
        for phrases, against in zip(phrasings, self.own_negatives, strict=False):
            of_class = {key[phrase]: of_classes[key[phrase]] for phrase in phrases}
            own.append(_first_ones(against, "what competes with it", key, of_class, reason))
        return replace(self, phrasings=phrasings, background=background, own_negatives=tuple(own))

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

    def allowed(self, words: str | Iterable[str]) -> NDArray[np.bool_]:
        """(C,) which classes the given class names or phrasings stand for; case and spaces do not matter.

        Raises:
            UsageError: a word that the vocabulary does not have.
        """
        chosen = np.zeros(len(self.classes), bool)
        for word in as_words(words):
            number = next(
                (self._index[form] for form in (word, tidy(word), folded(word)) if form in self._index), None
            )
            if number is None:
                raise UsageError(
                    f"{word!r} is not among the classes: add it to them or take it out of the table"
                )
            chosen[number] = True
        return chosen

    @cached_property
    def _index(self) -> dict[str, int]:
        index = {phrase: c for c, phrases in enumerate(self.phrasings) for phrase in phrases}
        index |= {name: c for c, name in enumerate(self.classes)}
        return {form(word): c for form in (folded, tidy) for word, c in index.items()} | index


_Owners = dict[Hashable, tuple[str, str]]
"""For each key the first phrase that has it, and what that phrase stands for."""


def _first_ones(
    phrases: Iterable[str], owner: str, key: Mapping[str, Hashable], owners: _Owners, reason: str
) -> tuple[str, ...]:
    """The phrases whose key none before them has; adds them to `owners`.

    Raises:
        UsageError: one before them has the key and stands for something else.
    """
    kept = []
    for phrase in phrases:
        first, holder = owners.setdefault(key[phrase], (phrase, owner))
        if holder != owner:
            pair = [shorten(text, LONGEST_IN_ERRORS) for text in (first, phrase, holder, owner)]
            raise UsageError(
                f"{pair[0]!r} and {pair[1]!r} {reason} but stand for {pair[2]} and {pair[3]}: keep one of them"
            )
        if first == phrase:
            kept.append(phrase)
    return tuple(kept)


def _distinct_words(words: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(clean_word, as_words(words))))


def _read_entry(entry: str) -> tuple[list[str], str | None, list[str]]:
    """The phrases of an entry, the class that they all stand for or None, and the phrases that compete with it.

    Raises:
        UsageError: it has another form than `phrase, phrase => class ! phrase, phrase`.
    """
    parts = split_entry(entry)

    def wrong(form: str) -> UsageError:
        return UsageError(f"cannot read {shorten(entry.strip(), LONGEST_IN_ERRORS)!r}: {form}")

    signs = parts[1::2]
    if signs not in ([], ["=>"], ["!"], ["=>", "!"]):
        raise wrong("an entry has one '=>' and, behind it, one '!'; between entries stands ';' or a new line")
    arrow, mark = "=>" in signs, "!" in signs
    left, right, unwanted = parts[0], parts[2] if arrow else "", parts[-1] if mark else ""
    phrases, names, against = split_words(left), split_words(right), split_words(unwanted)
    if arrow and not (phrases and names and not right.lstrip().startswith(",")):
        raise wrong("write 'phrasing, phrasing => class'")
    if len(names) > 1:
        raise wrong("one class stands behind '=>', in double quotes where its name has a comma")
    if mark and not (phrases and against):
        raise wrong("write 'class ! phrase, phrase'")
    name = clean_word(names[0]) if names else None
    return [*map(clean_word, phrases)], name, [*map(clean_word, against)]
