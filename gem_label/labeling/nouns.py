"""English nouns and what they are to each other: lookups in the packaged part of WordNet (standard library only).

The file data/lexicon.txt.gz is UTF-8 text in four sections, each after a line with its name in brackets:

    [words]     a word of the lexicon, a tab, the lists that it comes from
    [lemmas]    a noun in lower case with spaces for hyphens, a tab, its meanings as line numbers; sorted
    [plurals]   an irregular plural, a tab, its singular forms
    [meanings]  line numbers of the more general meanings, ";", of the wholes that it is a part or member of

pipelines/build_lexicon.py makes it; see there for the sources. Meanings that no photo shows are not in it.

Reference: G. A. Miller, "WordNet: A Lexical Database for English", Communications of the ACM 38(11), 1995.
"""

from __future__ import annotations

import gzip
import re
from bisect import bisect_left
from dataclasses import dataclass, field
from importlib import resources

HEADER = "gem-label lexicon 1"
ENDINGS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""), ("men", "man"))
"""Endings of plurals and of their singular forms."""
MEASURES = (
    "bunch piece slice pile stack heap group herd flock pair set row kind type lot bit part number couple"
)
"""Words before "of" that say how much, not what."""
STOPS = "with without in on at near under over behind inside by for from and that who which"
"""The words of a phrase after its first of these say more about the thing, but do not name it."""
ARTICLES = frozenset(("a", "an", "the", "some", "one", "its"))


def normalized(phrase: str) -> str:
    """Lower case, single spaces for hyphens and underscores, no article: "The T-shirt" is "t shirt"."""
    tokens = re.sub(r"[\s_/-]+", " ", phrase.lower().replace("\u2019", "'")).strip(" .,;:!?\"'").split()
    return " ".join(tokens[1:] if len(tokens) > 1 and tokens[0] in ARTICLES else tokens)


@dataclass(frozen=True)
class Reading:
    """What a phrase may mean.

    Attributes:
        meanings: identifiers, most frequent first; empty: an unknown word.
        exact: the meanings are those of the phrase itself; False: of its head noun ("car" in "red car").
        modifiers: the words before the head, and what comes after "of": "bottle" in "bottle cap". None for a noun
            of its own, whose parts and wholes are known: a "house plant" is no part of a house.
    """

    meanings: tuple[int, ...] = ()
    exact: bool = False
    modifiers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Nouns:
    """A graph of meanings, with words that point to them.

    Attributes:
        lemmas: sorted lines of the section [lemmas].
        meanings: lines of the section [meanings]; the index is the identifier.
        plurals: irregular plural to its singular forms.
    """

    lemmas: list[str] = field(repr=False)
    meanings: list[str] = field(repr=False)
    plurals: dict[str, list[str]] = field(repr=False)
    _up: dict[int, frozenset[int]] = field(default_factory=dict, repr=False, compare=False)

    def of_lemma(self, lemma: str) -> tuple[int, ...]:
        """The meanings of a normalized noun, empty when it is unknown."""
        row = bisect_left(self.lemmas, f"{lemma}\t")
        found, _, meanings = self.lemmas[row].partition("\t") if row < len(self.lemmas) else ("", "", "")
        return tuple(map(int, meanings.split())) if found == lemma else ()

    def singulars(self, phrase: str) -> list[str]:
        """The phrases that a normalized phrase may be the plural of, known nouns only."""
        first, _, last = phrase.rpartition(" ")
        prefix = f"{first} " if first else ""
        forms = [prefix + form for form in self.plurals.get(last, ())] + self.plurals.get(phrase, [])
        forms += [
            phrase[: len(phrase) - len(ending)] + singular
            for ending, singular in ENDINGS
            if phrase.endswith(ending) and len(last) > len(ending) + 1 and not last.endswith("ss")
        ]
        known = [form for form in forms if self.of_lemma(form)]
        return list(
            dict.fromkeys(known or [form for form in forms if self.of_lemma(form.rpartition(" ")[2])])
        )

    def read(self, phrase: str) -> Reading:
        """What a phrase means: the noun itself, its singular, or the longest known noun at its end.

        "glass of water" is a glass with "water" as a modifier, "bunch of bananas" is bananas, "man with a hat" is
        a man; "hot dog" is a noun of its own and not a dog.
        """
        phrase = normalized(phrase)
        if meanings := self._known(phrase):
            return Reading(meanings, True)
        head, of, rest = phrase.partition(" of ")
        if of and head and rest:
            measure = self._is_measure(head)
            inner = self.read(rest if measure else head)
            more = () if measure else (normalized(rest),)
            return Reading(inner.meanings, inner.exact and measure, inner.modifiers + more)
        tokens = phrase.split()
        stop = next((i for i, token in enumerate(tokens) if i and token in STOPS.split()), len(tokens))
        if stop > 1 and stop < len(tokens) and tokens[stop - 1].endswith("ing"):
            stop -= 1  # "person sitting on a bench"
        for start in range(stop):
            if meanings := self._known(" ".join(tokens[start:stop])):
                exact = stop - start == len(tokens)
                return Reading(meanings, exact, self._modifiers(tokens[:start], tokens[start : stop - 1]))
        return self._compound(tokens[stop - 1]) if tokens else Reading()

    def _modifiers(self, before: list[str], inside: list[str]) -> tuple[str, ...]:
        whole = [" ".join(before)] if len(before) > 1 else []
        return tuple(dict.fromkeys([*whole, *before, *inside]))

    def _is_measure(self, head: str) -> bool:
        last = head.rpartition(" ")[2]
        return not {last, *self.singulars(last)}.isdisjoint(MEASURES.split())

    def _known(self, phrase: str) -> tuple[int, ...]:
        """The meanings of the phrase, of the noun that it is an irregular plural of, or written as one word."""
        irregular = [meaning for form in self.plurals.get(phrase, ()) for meaning in self.of_lemma(form)]
        if meanings := (*self.of_lemma(phrase), *irregular):
            return tuple(dict.fromkeys(meanings))
        forms = [*self.singulars(phrase), phrase.replace(" ", "")]
        forms += self.singulars(forms[-1]) if " " in phrase else []
        return next((meanings for form in forms if (meanings := self.of_lemma(form))), ())

    def _compound(self, token: str) -> Reading:
        """Two nouns written as one: "diningtable"."""
        for cut in range(2, len(token) - 2):
            first, second = token[:cut], token[cut:]
            if meanings := self._known(f"{first} {second}"):
                return Reading(meanings, True)
        for cut in range(3, len(token) - 3):
            first, second = token[:cut], token[cut:]
            if self.of_lemma(first) and (meanings := self._known(second)):
                return Reading(meanings, False, (first,))
        return Reading()

    def general(self, meaning: int) -> frozenset[int]:
        """The meaning itself and all that are more general."""
        if meaning not in self._up:
            found, stack = {meaning}, [meaning]
            while stack:
                more = set(self._links(stack.pop(), 0)) - found
                found |= more
                stack += more
            self._up[meaning] = frozenset(found)
        return self._up[meaning]

    def wholes(self, meanings: frozenset[int]) -> frozenset[int]:
        """What the meanings, with all that are more general, are parts or members of, in up to three steps."""
        found: set[int] = set()
        step = meanings
        for _ in range(3):
            step = frozenset(whole for each in step for whole in self._links(each, 1)) - found
            found |= step
        return frozenset(found)

    def _links(self, meaning: int, which: int) -> list[int]:
        return [int(each) for each in self.meanings[meaning].split(";")[which].split()]


def read_packaged() -> tuple[dict[str, tuple[str, ...]], Nouns]:
    """The words of the lexicon with their sources, and the nouns.

    Raises:
        ValueError: the file is of another version.
    """
    file = resources.files("gem_label.labeling") / "data" / "lexicon.txt.gz"
    return parse(gzip.decompress(file.read_bytes()).decode())


def parse(text: str) -> tuple[dict[str, tuple[str, ...]], Nouns]:
    """Read the text form in the module's description.

    Raises:
        ValueError: the text is of another version.
    """
    header, *parts = re.split(r"^\[(\w+)\]\n", text, flags=re.MULTILINE)
    if header.strip() != HEADER:
        raise ValueError(f"the lexicon is not of the form {HEADER!r} but {header[:40]!r}: build it again")
    sections = {name: lines.splitlines() for name, lines in zip(parts[::2], parts[1::2], strict=True)}
    words, plurals = ([line.split("\t") for line in sections[name]] for name in ("words", "plurals"))
    return {word: tuple(sources.split(",")) for word, sources in words}, Nouns(
        sections["lemmas"],
        sections["meanings"],
        {plural: singulars.split(",") for plural, singulars in plurals},
    )
