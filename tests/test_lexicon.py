"""The lexicon, its relations, and how it is built."""

from __future__ import annotations

import gzip
import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gem_label.labeling import nouns as nouns_module
from gem_label.labeling.lexicon import Lexicon, Relation, load_lexicon

ROOT = Path(__file__).parent.parent

RELATED = """
same: person people, sofa couch, airplane aeroplane, bicycle bike, tv television, cell-phone smartphone
same: doughnut donut
same: taxi cab, refrigerator fridge, mobile-phone cell-phone, T-shirt t-shirt, dining-table diningtable
plural: dog dogs, woman women, knife knives, sheep sheeps, grape grapes, leaf leaves, glass glasses
kind: person woman, person man, person child, person cyclist, person firefighter, person boy, people player
kind: car taxi, car minivan, car limousine, car SUV, car red-sports-car, vehicle car, vehicle scooter, boat ship
kind: boat canoe, dog puppy, dog labrador, dog bulldog, animal dog, animal giraffe, bird duck, bird owl, cat kitten
kind: cat tabby-cat, horse pony, cow calf, sheep lamb, chair armchair, chair stool, furniture chair, bed hammock
kind: tree forest, cup mug, bottle wine-bottle, tree palm-tree, flower rose, fruit apple, food pizza, hat cowboy-hat
kind: bus school-bus
kind: truck fire-truck, ball tennis-ball, wall brick-wall, sofa loveseat, table desk, bag backpack, water river
general: car vehicle, dog animal, chair furniture, apple fruit, banana food, tulip flower, labrador dog, minivan car
general: e-scooter scooter, rose plant, shirt clothing, duck bird, puppy dog, red-sports-car car, oak tree
part: person face, person shirt, person hand, person hair, person glasses, person shoe, woman dress, man hat
part: car wheel, car license-plate, car windshield, bus wheel, truck headlight, dog paw, dog tail, dog face
part: bird feather, bird wing, tree leaf, tree branch, tree trunk, boat sail, bottle bottle-cap, bottle cork
part: bicycle pedal, airplane propeller, house roof, building window, room ceiling, table tablecloth, bed mattress
part: sky cloud, laptop keyboard, chair cushion, horse saddle, deer antler, book text
whole: wheel car, face person, shirt person, leaf tree, sail boat, roof house, pillow bed
"""

UNRELATED = """
cat dog, horse zebra, bus truck, car truck, car bus, apple orange, cup bottle, fork knife, table chair, bed couch
sofa chair, dog person, dog hot-dog, cat hot-dog, person car, person dog, bicycle motorcycle, bird airplane
boat car, train bus, sheep cow, cow horse, bear dog, giraffe elephant, lion tiger, banana apple, apple tree
broccoli tree, carrot broccoli, pizza sandwich, cake donut, chair sky, car road, car tree, tree grass, sky sea
wall floor, floor ceiling, road sidewalk, building mountain, snow sand, river road, laptop television, book bottle
clock vase, scissors knife, umbrella backpack, skateboard surfboard, kite umbrella, frisbee ball, fork spoon
plate bowl, bowl bottle, toilet sink, oven refrigerator, microwave toaster, mouse cat, keyboard piano-stool
computer-mouse cat, teddy-bear polar-bear, fire-hydrant traffic-light, bench bed, potted-plant person, car wall
person wall, person tree, person chair, person backpack, person bicycle, dog grass, dog sofa, cat bed, bottle table
cup table, train road, airplane sky, boat sea, duck goose, eagle owl, rabbit squirrel, bee butterfly, shark dolphin
camel horse, shirt dress, hat shoe, guitar violin, drum guitar, sword gun, tent house, flag kite
"""


def pairs(text: str) -> list[tuple[str, str]]:
    """Two words, with hyphens for spaces in phrases, between commas."""
    entries = text.replace("\n", ",").split(",")
    return [
        (a.replace("-", " "), b.replace("-", " "))
        for a, b in (entry.split() for entry in entries if entry.strip())
    ]


RELATED_PAIRS = [
    (Relation(line.partition(":")[0]), *pair)
    for line in RELATED.strip().splitlines()
    for pair in pairs(line.partition(":")[2])
]


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return load_lexicon()


class TestLexicon:
    """The packaged lexicon."""

    def test_tables_are_long_enough(self) -> None:
        assert len(RELATED_PAIRS) >= 100
        assert len(pairs(UNRELATED)) >= 80

    @pytest.mark.parametrize(("relation", "word", "other"), RELATED_PAIRS)
    def test_related(self, lexicon: Lexicon, relation: Relation, word: str, other: str) -> None:
        assert lexicon.relation(word, other) is relation

    @pytest.mark.parametrize(("word", "other"), pairs(UNRELATED))
    def test_not_related(self, lexicon: Lexicon, word: str, other: str) -> None:
        assert lexicon.relation(word, other) is None
        assert lexicon.relation(other, word) is None

    def test_relations_are_mutual(self, lexicon: Lexicon) -> None:
        words = [word for _, *pair in RELATED_PAIRS for word in pair]
        for word in dict.fromkeys(words):
            for other in lexicon.related(word):
                assert lexicon.relation(other, word) is not None

    def test_index_finds_what_pairs_do(self, lexicon: Lexicon) -> None:
        among = lexicon.words[:400]
        for word in (
            "person",
            "car",
            "cap",
            "bottle cap",
            "red car",
            "wheels",
            "glass of water",
            "vehicle",
            "dog",
        ):
            pairwise = {other: lexicon.relation(word, other) for other in among}
            assert lexicon.related(word, among) == {o: r for o, r in pairwise.items() if r is not None}

    def test_unknown_words_have_no_relations(self, lexicon: Lexicon) -> None:
        for word in ("xqzzy", "happiness", "", "...", "123"):
            assert not set(lexicon.related(word)) - {word}

    def test_case_articles_and_spelling_do_not_matter(self, lexicon: Lexicon) -> None:
        for word in ("Fire Hydrant", "fire_hydrant", "a fire hydrant", "FIRE-HYDRANT", " fire hydrants "):
            assert "fire hydrant" in lexicon.related(word)

    @pytest.mark.parametrize(
        ("phrase", "head"),
        [
            ("red sports car", "car"),
            ("tabby cat", "cat"),
            ("bunch of bananas", "banana"),
            ("pair of scissors", "scissors"),
            ("glass of water", "glass"),
            ("man with a hat", "man"),
            ("person sitting on a bench", "person"),
            ("tvmonitor", "television"),
            ("diningtable", "table"),
        ],
    )
    def test_phrases_are_read_by_their_head(self, lexicon: Lexicon, phrase: str, head: str) -> None:
        assert lexicon.relation(phrase, head) in {Relation.SAME, Relation.PLURAL, Relation.GENERAL}

    def test_hot_dog_is_no_dog(self, lexicon: Lexicon) -> None:
        assert lexicon.relation("hot dog", "dog") is None
        assert lexicon.relation("big dog", "dog") is Relation.GENERAL

    def test_size_and_sources(self, lexicon: Lexicon) -> None:
        assert 1200 <= len(lexicon.words) <= 2000
        assert len(set(lexicon.words)) == len(lexicon.words)
        assert all(lexicon.nouns.read(word).meanings for word in lexicon.words)
        assert {"sky", "wall", "shadow", "person", "aerosol can", "accordion"} <= set(lexicon.words)
        assert "lvis" in lexicon.sources["aerosol can"]

    def test_loads_quickly(self) -> None:
        load_lexicon.cache_clear()
        start = time.process_time()
        load_lexicon()
        assert time.process_time() - start < 0.3

    def test_another_version_of_the_file_is_refused(self) -> None:
        with pytest.raises(ValueError, match="build it again"):
            nouns_module.parse("gem-label lexicon 0\n[words]\n")


@pytest.fixture(scope="module")
def builder() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "pipelines"))
    spec = importlib.util.spec_from_file_location("build_lexicon", ROOT / "pipelines/build_lexicon.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT / "pipelines"))


# offset, file number, lemmas, pointers
TINY = [
    ("00000001", 3, ["physical_object"], []),
    ("00000002", 5, ["animal"], [("@", 1)]),
    ("00000003", 5, ["dog", "domestic_dog"], [("@", 2), ("#m", 9)]),
    ("00000004", 18, ["dog"], [("@", 1)]),
    ("00000005", 18, ["Rex"], [("@i", 3)]),
    ("00000006", 5, ["paw"], [("@", 1), ("#p", 3)]),
    ("00000007", 14, ["taxonomic_group"], []),
    ("00000008", 5, ["Canis"], [("@", 7)]),
    ("00000009", 14, ["pack"], [("@", 1)]),
    ("00000010", 7, ["joy"], []),
    ("00000011", 20, ["apple"], [("@", 1)]),
    ("00000012", 13, ["apple"], [("@", 1), ("#p", 11)]),
]


class TestBuild:
    """A lexicon from a WordNet of twelve meanings."""

    def tiny(self, builder: ModuleType) -> Any:
        data = ["  1 a line of the license"]
        index = []
        senses: dict[str, list[str]] = {}
        for offset, file, lemmas, pointers in TINY:
            words = " ".join(f"{lemma} 0" for lemma in lemmas)
            links = " ".join(f"{kind} {target:08} n 0000" for kind, target in pointers)
            data.append(
                f"{offset} {file:02} n {len(lemmas):02x} {words} {len(pointers):03} {links} | a gloss"
            )
            for lemma in lemmas:
                senses.setdefault(lemma.lower(), []).append(offset)
        for lemma, offsets in sorted(senses.items()):
            index.append(f"{lemma} n {len(offsets)} 1 @ {len(offsets)} 0 {' '.join(offsets)}  ")
        return builder.parse_wordnet(data, index, ["dog%1:05:00:: 1 42"], ["mice mouse", "dogges dog"])

    def test_wordnet_without_individuals_taxa_and_feelings(self, builder: ModuleType) -> None:
        nouns = self.tiny(builder)
        assert {name for name, *_ in TINY} - nouns.synsets.keys() == {f"{n:08}" for n in (5, 7, 8, 10)}
        assert builder.choose_senses(nouns, "dog") == ["00000003"]
        assert builder.choose_senses(nouns, "joy") == []
        assert builder.choose_senses(nouns, "apple") == ["00000012"], "the fruit rather than the tree"
        assert nouns.synsets["00000012"].wholes == []

    def test_the_same_bytes_twice_which_are_read_back(self, builder: ModuleType) -> None:
        results = []
        for _ in range(2):
            nouns = self.tiny(builder)
            chosen = {lemma: builder.choose_senses(nouns, lemma) for lemma in nouns.senses}
            builder.apply_relations(
                nouns, chosen, "# comment\nhoodie < animal\ncollar, hood of hair in dog\n"
            )
            graph = nouns_module.parse(builder.serialize(nouns, chosen, {}))[1]
            words = builder.collect_words(
                {"a": [["dog"], ["dogs"], ["Paw"]]}, "sky\n- paw\nPaw => collar\n", graph
            )
            results.append(builder.compress(builder.serialize(nouns, chosen, words)))
        assert results[0] == results[1]
        lexicon = Lexicon(*nouns_module.parse(gzip.decompress(results[0]).decode()))
        assert lexicon.words == ("sky", "dog", "collar")
        assert lexicon.sources["dog"] == ("a",)
        assert lexicon.relation("dog", "collar") is Relation.PART
        assert lexicon.relation("domestic dog", "animal") is Relation.GENERAL
        assert lexicon.relation("dogges", "dog") is Relation.PLURAL
        assert lexicon.relation("hoodie", "animal") is Relation.GENERAL

    @pytest.mark.parametrize("line", ["dog", "dog = unicorn", "not dog < unicorn", "dog/2 < animal/9"])
    def test_wrong_lines_are_refused(self, builder: ModuleType, line: str) -> None:
        nouns = self.tiny(builder)
        chosen = {lemma: builder.choose_senses(nouns, lemma) for lemma in nouns.senses}
        with pytest.raises(ValueError, match="relation"):
            builder.apply_relations(nouns, chosen, line)

    def test_links_can_be_cut(self, builder: ModuleType) -> None:
        nouns = self.tiny(builder)
        chosen = {lemma: builder.choose_senses(nouns, lemma) for lemma in nouns.senses}
        builder.apply_relations(nouns, chosen, "not paw in *\nnot dog < animal\n")
        assert nouns.synsets["00000006"].wholes == []
        assert nouns.synsets["00000003"].general == []
