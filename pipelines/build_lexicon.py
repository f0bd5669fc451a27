"""Build the lexicon of negative words: gem_label/labeling/data/lexicon.txt.gz.

Two folders come from public packages: WordNet 3.0 (Debian package `wordnet-base`, folder usr/share/wordnet) and
lists of class names (PyPI package `ultralytics`, folder ultralytics/cfg/datasets: COCO, LVIS, Open Images V7 and
Objects365). Unpack both; nothing of them is run. The other lists are those of gem_label/evaluation/classes, and
what WordNet lacks or gets wrong for photos stands in two tables written by hand, pipelines/lexicon/words.txt and
pipelines/lexicon/relations.txt, whose first lines explain them.

    python pipelines/build_lexicon.py WORDNET_FOLDER CLASS_LISTS_FOLDER

The same inputs give the same bytes (with one version of zlib). gem_label/labeling/nouns.py reads the file and
documents its format.

Reference: G. A. Miller, "WordNet: A Lexical Database for English", Communications of the ACM 38(11), 1995.
"""

from __future__ import annotations

import argparse
import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml
from wordnet_nouns import Nouns, Synset, choose_senses, parse_wordnet

from gem_label.atomic import replacing
from gem_label.labeling.nouns import HEADER, normalized, parse
from gem_label.labeling.nouns import Nouns as Graph

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "gem_label/labeling/data/lexicon.txt.gz"
CLASS_TABLES = HERE.parent / "gem_label/evaluation/classes"
LISTS = {
    "coco": "coco.yaml",
    "objects365": "Objects365.yaml",
    "openimages": "open-images-v7.yaml",
    "lvis": "lvis.yaml",
}


def apply_relations(nouns: Nouns, chosen: dict[str, list[str]], table: str) -> None:
    """Carry out pipelines/lexicon/relations.txt, which explains its form, line by line.

    Args:
        nouns: gets further meanings and links.
        chosen: lemma to its meanings; gets further lemmas.
        table: the text.

    Raises:
        ValueError: a line of another form, or a word that neither WordNet nor an earlier line has.
    """
    for line in table.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"(not )?(.+?) (=|<|in) (.+)", line.strip())
        if not match:
            raise ValueError(f"cannot read the relation {line!r}")
        negated, left, operator, right = match.groups()
        if right == "new":
            for word in left.split(", "):
                _add(nouns, chosen, word, [])
            continue
        make = not negated and operator != "="
        targets = [_meanings(nouns, chosen, word, make) for word in right.split(", ") if word != "*"]
        for word in left.split(", "):
            if operator == "=":
                chosen[normalized(word)] = list(dict.fromkeys(name for names in targets for name in names))
                continue
            for name in _meanings(nouns, chosen, word, make):
                synset = nouns.synsets[name]
                links = synset.general if operator == "<" else synset.wholes
                if negated:
                    links[:] = [link for link in links if targets and all(link not in t for t in targets)]
                else:
                    links += [names[0] for names in targets if names[0] not in (*links, name)]


def _add(nouns: Nouns, chosen: dict[str, list[str]], word: str, general: list[str]) -> list[str]:
    """A noun with a meaning of its own."""
    name = f"new {normalized(word)}"
    nouns.synsets[name] = Synset("artifact", (word,), list(general))
    chosen[normalized(word)] = [name]
    return [name]


def _meanings(nouns: Nouns, chosen: dict[str, list[str]], word: str, make: bool) -> list[str]:
    """The meanings of a word in a table: the chosen ones, or with "/2" the second of WordNet.

    Args:
        make: give an unknown phrase a meaning below that of its last noun, and an unknown word one of its own.
    """
    lemma, _, number = word.partition("/")
    senses = nouns.senses.get(lemma, [])[int(number) - 1 :][:1] if number else []
    names = senses or ([] if number else chosen.get(normalized(lemma), []))
    if any(name not in nouns.synsets for name in names) or not (names or (make and not number)):
        raise ValueError(f"the relations name {word!r}, which is no noun of a thing")
    head = normalized(lemma).rpartition(" ")[2]
    return names or _add(nouns, chosen, lemma, chosen.get(head, []) if " " in normalized(lemma) else [])


def serialize(nouns: Nouns, chosen: Mapping[str, Sequence[str]], words: Mapping[str, Iterable[str]]) -> str:
    """The text that gem_label/labeling/nouns.py documents.

    Only meanings that a lemma has, or that are above or wholes of one, are in it.
    """
    needed: set[str] = set()
    stack = [name for names in chosen.values() for name in names]
    while stack:
        name = stack.pop()
        if name not in needed:
            needed.add(name)
            stack += nouns.synsets[name].general + nouns.synsets[name].wholes
    rows = {name: row for row, name in enumerate(sorted(needed))}
    lemmas: dict[str, dict[int, None]] = {}
    for lemma, names in chosen.items():
        lemmas.setdefault(normalized(lemma), {}).update((rows[name], None) for name in names)
    plurals = {
        normalized(plural): [normalized(form) for form in singulars if lemmas.get(normalized(form))]
        for plural, singulars in nouns.plurals.items()
    }
    return "\n".join(
        [
            HEADER,
            "[words]",
            *(f"{word}\t{','.join(sources)}" for word, sources in words.items()),
            "[lemmas]",
            *sorted(f"{lemma}\t{' '.join(map(str, found))}" for lemma, found in lemmas.items() if found),
            "[plurals]",
            *(f"{plural}\t{','.join(forms)}" for plural, forms in sorted(plurals.items()) if forms),
            "[meanings]",
            *(
                ";".join(
                    " ".join(str(rows[n]) for n in dict.fromkeys(links)) for links in (s.general, s.wholes)
                )
                for s in (nouns.synsets[name] for name in rows)
            ),
            "",
        ]
    )


def compress(text: str) -> bytes:
    """gzip without a time or a file name: the same text gives the same bytes (of one version of zlib)."""
    return gzip.compress(text.encode(), 9, mtime=0)


def clean(name: str) -> list[str]:
    """The words of an entry of a list: "Barrel/bucket" are two, "Bat (Animal)" is "bat animal"."""
    name = re.sub(r"^other ", "", re.sub(r"[()]", "", name.strip().lower()))
    first, *rest = name.split("/")
    return [word.strip() for word in (first, *rest) if word.strip()]


def collect_words(
    lists: Mapping[str, Sequence[Sequence[str]]], table: str, graph: Graph
) -> dict[str, tuple[str, ...]]:
    """The words of all lists, each meaning once, under the word that comes first.

    Args:
        lists: name of a list to its entries, each the names of one class; the most common lists first.
        table: pipelines/lexicon/words.txt, which explains its form.
        graph: tells which words mean the same.

    Returns:
        Each word with the lists that have it.
    """
    lines = [line for line in table.splitlines() if line.strip() and not line.startswith("#")]
    dropped = {line[2:].strip() for line in lines if line.startswith("- ")}
    renamed = dict(line.split(" => ") for line in lines if " => " in line)
    common = [line.strip() for line in lines if not line.startswith("- ") and " => " not in line]
    sources: dict[str, dict[str, None]] = {}
    owner: dict[object, str] = {}
    for source, entries in [("common", [[word] for word in common]), *lists.items()]:
        for entry in entries:
            for word in renamed.get(entry[0], entry[0]).split(", "):
                if word in dropped or not word:
                    continue
                if source != "common" and word not in renamed.values():
                    word = (
                        graph.singulars(word)[0]
                        if not graph.of_lemma(normalized(word)) and graph.singulars(word)
                        else word
                    )
                reading = graph.read(word)
                key = reading.meanings if reading.exact else normalized(word).replace(" ", "")
                sources.setdefault(owner.setdefault(key, word), {})[source] = None
    return {word: tuple(found) for word, found in sources.items() if word not in dropped}


def main() -> None:
    """Read the two folders and write the packaged file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wordnet", type=Path, help="folder with data.noun, index.noun, cntlist.rev, noun.exc")
    parser.add_argument("lists", type=Path, help="folder with coco.yaml, lvis.yaml, ...")
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    files = [arguments.wordnet / name for name in ("data.noun", "index.noun", "cntlist.rev", "noun.exc")]
    nouns = parse_wordnet(*(file.read_text(encoding="latin-1").splitlines() for file in files))
    chosen: dict[str, list[str]] = {}
    for lemma in nouns.senses:
        names = chosen.setdefault(normalized(lemma), [])
        names += [name for name in choose_senses(nouns, lemma) if name not in names]
    apply_relations(nouns, chosen, (HERE / "lexicon/relations.txt").read_text(encoding="utf-8"))
    graph = parse(serialize(nouns, chosen, {}))[1]
    lists = read_lists(arguments.lists)
    words = collect_words(lists, (HERE / "lexicon/words.txt").read_text(encoding="utf-8"), graph)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(arguments.out) as file:
        file.write(compress(serialize(nouns, chosen, words)))
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, {len(words)} words")


def read_lists(folder: Path) -> dict[str, list[list[str]]]:
    """The lists of class names, the most common things first; each entry the names of one class."""
    lists: dict[str, list[list[str]]] = {}
    for name in ("cocostuff", "ade20k", "context59", "cityscapes", "voc"):
        rows = (CLASS_TABLES / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
        lists[name] = [row.split("\t")[2].split(", ") for row in rows if not row.startswith("#")]
    for name, file in LISTS.items():
        names = yaml.safe_load((folder / file).read_text(encoding="utf-8"))["names"].values()
        if name == "objects365":
            lists[name] = [[word] for entry in names for word in clean(entry)]
        else:
            lists[name] = [clean(entry) for entry in names]
    return lists


if __name__ == "__main__":
    main()
