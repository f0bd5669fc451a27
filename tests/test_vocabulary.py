"""Words as people type them: spaces, Unicode forms, quotes, lists and texts, and what makes no vocabulary."""

from __future__ import annotations

import gzip
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gem_label.background_words import BACKGROUND_WORDS, background_words
from gem_label.cli.options import BackgroundSet, read_negatives
from gem_label.errors import UsageError
from gem_label.labeler import as_vocabulary
from gem_label.phrases import as_words, clean_word, quoted, split_words
from gem_label.review.storage.selection import Selection
from gem_label.vocabulary import Vocabulary
from gem_label.words import WordsPerImage


def test_spaces_unicode_forms_and_invisible_characters_make_no_other_word() -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    text = f"traffic  light, traffic\tlight, traffic\u00a0light, café, {decomposed}, ca\u200bfé, \ufeffdog, dog\u200e"
    assert Vocabulary.parse(text).classes == ("traffic light", "café", "dog")
    assert Vocabulary.from_words(["traffic\nlight", "traffic light"]).classes == ("traffic light",)
    assert Vocabulary.parse("cat", f"sky, {decomposed} , café").background == ("sky", "café")


@pytest.mark.parametrize(
    ("text", "background", "reason"),
    [
        (
            "bear, Bear",
            "",
            "'bear' and 'Bear' differ only in case but stand for class 'bear' and class 'Bear'",
        ),
        ("a => x; A => y", "", "'a' and 'A' differ only in case but stand for class 'x' and class 'y'"),
        ("sky", "Sky", "'sky' and 'Sky' differ only in case but stand for class 'sky' and the background"),
        ("cat ! Cat", "", "'cat' and 'Cat' differ only in case but stand for class 'cat' and what competes"),
        ("cat =>, => dog", "", "cannot read 'cat =>, => dog': an entry has one '=>'"),
        ("=> dog", "", "cannot read '=> dog': write 'phrasing, phrasing => class'"),
        ("cat =>", "", "cannot read 'cat =>': write 'phrasing, phrasing => class'"),
        ("cat => , dog", "", "cannot read 'cat => , dog': write 'phrasing, phrasing => class'"),
        ("cat => ,", "", "cannot read 'cat => ,': write 'phrasing, phrasing => class'"),
        ("a => b => c", "", "cannot read 'a => b => c': an entry has one '=>'"),
        ("cat ! dog => pet", "", "an entry has one '=>' and, behind it, one '!'"),
        ("cat ! dog ! cow", "", "an entry has one '=>' and, behind it, one '!'"),
        ("cat !", "", "write 'class ! phrase, phrase'"),
        ("a, b => c, d", "", "one class stands behind '=>'"),
        ('"cat, dog', "", "a word that begins with a double quote ends with one"),
        ('cat, "dog" house', "", "a word that begins with a double quote ends with one"),
        ("cat, -", "", "'-' is no word: it has no letter"),
        ("cat, ...", "", "no letter"),
        ("cat => ?", "", "no letter"),
        ("cat", "sky, --", "no letter"),
        ("cat ! .", "", "no letter"),
        ("cat\x07", "", "control characters"),
        ("cat\x1b[2J", "", "control characters"),
        ("cat\ud800", "", "control characters"),
        ("cat", "sky\x00", "control characters"),
        ("x" * 200_000 + " => -", "", "no letter"),
    ],
)
def test_what_makes_no_vocabulary_is_said_in_a_short_line(text: str, background: str, reason: str) -> None:
    with pytest.raises(UsageError) as error:
        Vocabulary.parse(text, background)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
    str(error.value).encode()


def test_words_that_are_no_letters_but_name_something() -> None:
    assert Vocabulary.parse("7, 🐱, €, C++, 17\" screen, 'quoted'").classes == (
        "7", "🐱", "€", "C++", '17" screen', "'quoted'",
    )  # fmt: skip


def test_signs_mean_nothing_in_quotes() -> None:
    vocabulary = Vocabulary.parse(
        '"fish; chips", "a => b", cat => "Yahoo!"; "#1"; "say ""hi"""', '"sofa, bed"'
    )
    assert vocabulary.classes == ("Yahoo!", "#1", 'say "hi"')
    assert vocabulary.phrasings[0] == ("fish; chips", "a => b", "cat")
    assert vocabulary.background == ("sofa, bed",)


@given(st.lists(st.text(st.sampled_from('ab,;!=>#" '), min_size=1).map(lambda text: f"x{text}"), min_size=1))
def test_quoted_words_come_back(words: list[str]) -> None:
    words = [clean_word(word) for word in words]
    assert split_words(", ".join(map(quoted, words))) == words
    assert Vocabulary.parse("; ".join(map(quoted, words))).classes == tuple(dict.fromkeys(words))


def test_an_entity_in_a_line_is_no_class_of_its_own() -> None:
    assert Vocabulary.parse('"fish &amp; chips"').classes == ("fish &amp; chips",)


# --- texts and lists ---


def test_a_str_is_no_list_of_letters() -> None:
    assert as_words("sofa") == ("sofa",)
    assert as_vocabulary(["cat"], "sofa, bed\nwall").background == ("sofa", "bed", "wall")
    assert as_vocabulary("cat", "sofa").background == ("sofa",)
    assert Vocabulary.from_words("cat, dog", "sofa") == Vocabulary.parse("cat, dog", "sofa")
    assert Vocabulary.parse("cat").with_negatives("sofa, sky").negatives == ("sofa", "sky")
    assert Vocabulary.parse("cat, dog").allowed("dog").tolist() == [False, True]
    assert WordsPerImage({"a.jpg": "cat, dog"}).words == {"a.jpg": ("cat", "dog")}
    assert Selection(labels="cat").condition == Selection(labels=["cat"]).condition
    assert Selection(states="accepted").condition == Selection(states=["accepted"]).condition


def test_a_word_of_a_list_is_not_split_at_commas() -> None:
    assert as_vocabulary("cat", ["sofa, bed", "wall"]).background == ("sofa, bed", "wall")
    assert as_vocabulary(["tench, Tinca tinca"]).classes == ("tench, Tinca tinca",)
    assert WordsPerImage({"a.jpg": ["tench, Tinca tinca"]}).words == {"a.jpg": ("tench, Tinca tinca",)}


def test_what_is_no_text_is_no_word() -> None:
    with pytest.raises(UsageError, match="7 is no word: give text"):
        Vocabulary.from_words([7])  # type: ignore[list-item]


# --- files ---


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_class_files_words_per_image_and_negatives_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "classes.txt").write_bytes("# ours\n\nbüro\r\n\r\ncat, dog\n   \n".encode(encoding))
    assert Vocabulary.from_file(tmp_path / "classes.txt").classes == ("büro", "cat", "dog")
    (tmp_path / "words.csv.gz").write_bytes(gzip.compress("image,words\nö.jpg,büro;cat\n\n".encode(encoding)))
    words = WordsPerImage.from_csv(tmp_path / "words.csv.gz")
    assert words.words == {"ö.jpg": ("büro", "cat")}
    (tmp_path / "negatives.txt").write_bytes("# not these\nbüro,  hell\n\nsky\n".encode(encoding))
    assert read_negatives(str(tmp_path / "negatives.txt")) == ["büro, hell", "sky"]


def test_a_photo_is_no_class_file(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(UsageError, match="is no text file"):
        Vocabulary.from_file(tmp_path / "classes.txt")
    with pytest.raises(
        UsageError, match=r"--negatives takes auto, none, a number or a text file: .* no text file"
    ):
        read_negatives(str(tmp_path / "classes.txt"))


def test_words_per_image_in_another_form_are_the_same_words() -> None:
    vocabulary = Vocabulary.parse("café, Traffic light")
    words = WordsPerImage({"a.jpg": ["cafe\u0301"], "b.jpg": ["traffic  light"]})
    words.check(vocabulary)
    assert words.allowed(vocabulary, "/photos/b.jpg", "b").tolist() == [False, True]  # type: ignore[union-attr]


# --- runs that are there ---


def test_a_manifest_of_words_that_would_be_refused_now_is_read_as_it_is() -> None:
    old = {
        "classes": ["bear", "Bear", "-", "a  b"],
        "phrasings": [["bear"], ["Bear"], ["-"], ["a  b"]],
        "background": [],
    }
    vocabulary = Vocabulary.from_dict(old)
    assert vocabulary.classes == ("bear", "Bear", "-", "a  b")
    assert vocabulary.allowed(["Bear", "a b"]).tolist() == [False, True, False, True]


@pytest.mark.parametrize("name", BACKGROUND_WORDS)
def test_background_words_of_benchmarks_leave_classes_alone(name: str) -> None:
    vocabulary = Vocabulary.parse("cat; Sky, heaven => blue", background="sofa, wall")
    words = vocabulary.with_background(background_words(name))
    assert words.classes == vocabulary.classes
    assert words.background[:2] == ("sofa", "wall")
    added = set(background_words(name)) - {"sky", "wall"}
    assert set(words.background) == {"sofa", "wall"} | added


def test_only_known_background_words_have_a_name() -> None:
    assert {each.value for each in BackgroundSet} == set(BACKGROUND_WORDS)
    with pytest.raises(UsageError, match="choose one of voc21"):
        background_words("voc20")
