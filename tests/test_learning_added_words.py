"""Classes that reviewers bring into a vocabulary, and the way back."""

from __future__ import annotations

from gem_label.errors import UsageError
from gem_label.learning.added_words import AddedWords, add_classes, remove_classes
from gem_label.vocabulary import Vocabulary

WORDS = Vocabulary.parse("cat ! cat statue\nfeline, lynx => wildcat", background="sky").with_negatives(
    ["fox", "dog"]
)


def prepare(vocabulary: Vocabulary) -> Vocabulary:
    """An encoder that cannot tell a puma from a cougar, and takes a dog for a wolf."""
    if {"puma", "cougar"} <= set(vocabulary.phrases):
        raise UsageError("puma and cougar have the same tokens")
    if "wolf" in vocabulary.classes:
        return vocabulary.with_negatives([word for word in vocabulary.negatives if word != "dog"])
    return vocabulary


def test_names_of_reviewers_join_the_words_and_leave_them_again() -> None:
    names = ["Fox", "Lynx", "SKY", "cat", "puma", "cougar", "...", "wolf"]
    grown, added = add_classes(WORDS, names, prepare)
    assert grown.classes == ("cat", "wildcat", "Fox", "puma", "wolf")
    assert grown.phrasings[2:] == (("Fox",), ("puma",), ("wolf",))
    assert grown.own_negatives == (("cat statue",), (), (), (), ())
    assert grown.negatives == ()
    assert added == AddedWords(("Fox", "puma", "wolf"), ("fox", "dog"))
    assert remove_classes(grown, added) == WORDS
    assert AddedWords.from_source({"added": added.to_dict()}) == added
    assert AddedWords.from_source({}) == AddedWords()


def test_the_last_class_stays() -> None:
    words = Vocabulary.from_words(["fox"])
    assert remove_classes(words, AddedWords(("fox",))) == words
