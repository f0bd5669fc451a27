"""A lexicon of common things and stuff, and what a word of it is to any other noun (pure standard library)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, cached_property

from gem_label.labeling.nouns import Nouns, normalized, read_packaged


class Relation(Enum):
    """What the second word is to the first."""

    SAME = "same"
    PLURAL = "plural"
    KIND = "kind"
    GENERAL = "general"
    PART = "part"
    WHOLE = "whole"


@dataclass(frozen=True)
class _Entry:
    """A word in the graph: its own meanings, those above it, its wholes, and those above the wholes."""

    form: str
    singulars: frozenset[str]
    own: frozenset[int]
    exact: bool
    modifiers: frozenset[str]
    up: frozenset[int]
    wholes: frozenset[int]
    span: frozenset[int]

    @property
    def forms(self) -> frozenset[str]:
        return self.singulars | {self.form, self.form.replace(" ", "")}


@dataclass(frozen=True)
class _Index:
    """Words by what they touch, so that the relatives of a word are found without a look at each pair."""

    entries: dict[str, _Entry]
    by_key: dict[tuple[str, object], list[str]]


@dataclass(frozen=True)
class Lexicon:
    """Words that name most of what photos show, and relations of any noun to them.

    Attributes:
        sources: each word, as a text encoder gets it, with the lists of classes that it comes from.
        nouns: the graph of meanings.
    """

    sources: Mapping[str, tuple[str, ...]]
    nouns: Nouns = field(repr=False)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All words, in the order of the file: the lists with the most common things come first."""
        return tuple(self.sources)

    def relation(self, word: str, other: str) -> Relation | None:
        """What `other` is to `word`: `relation("car", "wheel")` is PART, `relation("car", "taxi")` is KIND.

        Case, hyphens, spaces and plurals do not matter. A phrase that is no noun of its own is a kind of its head,
        "red car" of "car", and the words before the head stand for wholes, "bottle" for that of "bottle cap".

        Returns:
            None for words that are not related, or not known.
        """
        a, b = self._entry(word), self._entry(other)
        if a.form == b.form or a.form.replace(" ", "") == b.form.replace(" ", ""):
            return Relation.SAME
        if a.form in b.singulars or b.form in a.singulars or a.singulars & b.singulars:
            return Relation.PLURAL
        shared = a.own & b.own
        if shared and (a.exact or b.exact):
            return Relation.SAME if a.exact and b.exact else Relation.KIND if a.exact else Relation.GENERAL
        if a.exact and a.own & b.up:
            return Relation.KIND
        if b.exact and b.own & a.up:
            return Relation.GENERAL
        if b.wholes & a.up or a.own & b.span or b.modifiers & a.forms:
            return Relation.PART
        if a.wholes & b.up or b.own & a.span or a.modifiers & b.forms:
            return Relation.WHOLE
        return None

    def related(self, word: str, among: Sequence[str] | None = None) -> dict[str, Relation]:
        """The words that `relation` relates to a word, and how.

        Args:
            word: any noun or phrase.
            among: the words to choose from; None: those of the lexicon.
        """
        index = self._index(self.words if among is None else tuple(among))
        a = self._entry(word)
        keys: list[tuple[str, Iterable[object]]] = [
            ("form", a.forms),
            ("modifier", a.forms),
            ("form", a.modifiers),
            ("up", a.own | a.wholes),
            ("own", a.up | a.span),
            ("wholes", a.up),
            ("span", a.own),
        ]
        found = {
            other
            for name, values in keys
            for value in values
            for other in index.by_key.get((name, value), ())
        }
        relations = {other: self.relation(word, other) for other in index.entries if other in found}
        return {other: relation for other, relation in relations.items() if relation is not None}

    @cached_property
    def _entries(self) -> dict[str, _Entry]:
        return {}

    @cached_property
    def _indices(self) -> dict[tuple[str, ...], _Index]:
        return {}

    def _entry(self, word: str) -> _Entry:
        if word not in self._entries:
            form = normalized(word)
            reading = self.nouns.read(form)
            up: frozenset[int] = frozenset().union(*map(self.nouns.general, reading.meanings))
            wholes = self.nouns.wholes(up)
            self._entries[word] = _Entry(
                form,
                frozenset(self.nouns.singulars(form)),
                frozenset(reading.meanings),
                reading.exact,
                frozenset(reading.modifiers),
                up,
                wholes,
                frozenset().union(*map(self.nouns.general, wholes)),
            )
        return self._entries[word]

    def _index(self, words: tuple[str, ...]) -> _Index:
        if words not in self._indices:
            entries = {word: self._entry(word) for word in dict.fromkeys(words)}
            by_key: defaultdict[tuple[str, object], list[str]] = defaultdict(list)
            for word, entry in entries.items():
                for name, values in (
                    ("form", entry.forms),
                    ("modifier", entry.modifiers),
                    ("own", entry.own),
                    ("up", entry.up),
                    ("wholes", entry.wholes),
                    ("span", entry.span),
                ):
                    for value in values:
                        by_key[name, value].append(word)
            self._indices[words] = _Index(entries, dict(by_key))
        return self._indices[words]


@cache
def load_lexicon() -> Lexicon:
    """The packaged lexicon, read once."""
    return Lexicon(*read_packaged())
