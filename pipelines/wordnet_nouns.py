"""The nouns of WordNet that name what photos show, for pipelines/build_lexicon.py.

Reads the lines of WordNet 3's database files data.noun, index.noun, cntlist.rev and noun.exc, whose forms its manual
pages wndb(5WN) and cntlist(5WN) describe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

FILE_NAMES = (
    "Tops act animal artifact attribute body cognition communication event feeling food group location motive "
    "object person phenomenon plant possession process quantity relation shape state substance time"
)
"""WordNet's lexicographer files of nouns, in the order of their numbers from 3."""
FILES = FILE_NAMES.split()
VISIBLE = frozenset(["Tops", "animal", "artifact", "body", "food", "object", "person", "plant", "substance"])
"""Files of things and stuff; a sense from elsewhere counts only for a word without a sense in these."""
TAXON = "taxonomic group"
SOMETIMES = frozenset(["communication", "event", "group", "location", "phenomenon", "possession", "shape"])


@dataclass
class Synset:
    """A meaning: its lexicographer file, words, hypernyms, and the wholes that it is a part or a member of."""

    file: str
    lemmas: tuple[str, ...]
    general: list[str] = field(default_factory=list)
    wholes: list[str] = field(default_factory=list)


@dataclass
class Nouns:
    """The nouns that the lexicon needs; identifiers of meanings are strings in the order of WordNet.

    Attributes:
        synsets: meanings by identifier.
        senses: lemma (lower case, with spaces) to its meanings, most frequent first.
        counts: how often a corpus has a lemma in its n-th sense, n from 1.
        plurals: irregular plural to its singulars.
    """

    synsets: dict[str, Synset]
    senses: dict[str, list[str]]
    counts: Mapping[tuple[str, int], int]
    plurals: dict[str, list[str]]


def parse_synset(line: str) -> tuple[str, Synset, bool]:
    """A line of data.noun: the identifier, the meaning, and whether it is an individual (Paris, Ringo Starr)."""
    fields = line.partition(" | ")[0].split()
    lemmas = int(fields[3], 16)
    start = 5 + 2 * lemmas
    pointers = [fields[i : i + 3] for i in range(start, start + 4 * int(fields[start - 1]), 4)]
    synset = Synset(
        FILES[int(fields[1]) - 3],
        tuple(_plain(word) for word in fields[4 : 4 + 2 * lemmas : 2]),
        [target for kind, target, _ in pointers if kind == "@"],
        [target for kind, target, _ in pointers if kind in ("#p", "#m")],
    )
    return fields[0], synset, any(kind == "@i" for kind, _, _ in pointers)


def _plain(word: str) -> str:
    return re.sub(r"\((a|p|ip)\)$", "", word).replace("_", " ").lower()


def parse_wordnet(
    data: Iterable[str], index: Iterable[str], counts: Iterable[str], exceptions: Iterable[str]
) -> Nouns:
    """The lines of WordNet's data.noun, index.noun, cntlist.rev and noun.exc, without individuals.

    Links from food to plants and animals are left out: an apple in a bowl is no part of a tree.
    """
    synsets, individuals = {}, set()
    for line in data:
        if line[0] != " ":
            name, synset, individual = parse_synset(line)
            synsets[name] = synset
            if individual:
                individuals.add(name)
    taxa = {name for name, synset in synsets.items() if TAXON in synset.lemmas}
    while more := {name for name, synset in synsets.items() if taxa.intersection(synset.general)} - taxa:
        taxa |= more
    hidden = {name for name, synset in synsets.items() if synset.file not in VISIBLE | SOMETIMES}
    kept = {name: synsets[name] for name in synsets.keys() - taxa - individuals - hidden}
    edible = {name for name, synset in kept.items() if synset.file not in ("animal", "plant")}
    for synset in kept.values():
        possible = edible if synset.file == "food" else kept.keys()
        synset.general = [name for name in synset.general if name in possible]
        synset.wholes = [name for name in synset.wholes if name in possible]
    senses = {}
    for line in index:
        if line[0] != " ":
            fields = line.split()
            senses[_plain(fields[0])] = fields[-int(fields[2]) :]
    seen: dict[tuple[str, int], int] = {}
    for line in counts:
        key, number, count = line.split()
        lemma, _, rest = key.partition("%")
        if rest[0] == "1":
            seen[_plain(lemma), int(number)] = int(count)
    plurals = {_plain(p): [_plain(s) for s in rest] for p, *rest in (line.split() for line in exceptions)}
    return Nouns(kept, senses, seen, plurals)


def choose_senses(nouns: Nouns, lemma: str) -> list[str]:
    """The meanings that a word of a photo's vocabulary may have, most frequent first.

    A food counts rather than its plant, an animal rather than its fur. Of the meanings that are things or stuff
    (else: signs, groups, places, events) the most frequent, and those that a corpus has at least a fifth as often;
    where the corpus has none of them, the first three. A person counts only where the corpus has it most often, or
    as the only meaning: WordNet's "dog" also is a dull woman.
    """
    numbered = [(n, name) for n, name in enumerate(nouns.senses[lemma], 1) if name in nouns.synsets]
    for files in (VISIBLE, SOMETIMES):
        found = [(nouns.counts.get((lemma, n), 0), name) for n, name in numbered]
        found = [(count, name) for count, name in found if nouns.synsets[name].file in files]
        if found:
            break
    else:
        return []
    for file, weaker in (("food", "plant"), ("animal", "substance")):
        if any(nouns.synsets[name].file == file for _, name in found):
            found = [(count, name) for count, name in found if nouns.synsets[name].file != weaker]
    most = max(count for count, _ in found)
    if not most:
        things = [name for _, name in found if nouns.synsets[name].file != "person"]
        return (things or [name for _, name in found])[:3]
    frequent = [(count, name) for count, name in found if 5 * count >= most]
    things = [name for _, name in frequent if nouns.synsets[name].file != "person"]
    person_first = nouns.synsets[max(frequent, key=lambda each: each[0])[1]].file == "person"
    return [name for _, name in frequent] if person_first or not things else things
