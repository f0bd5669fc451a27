"""Classes that reviewers bring in: words that join a vocabulary, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from gem_label.errors import UsageError
from gem_label.phrases import clean_word, folded
from gem_label.vocabulary import Vocabulary

Prepare = Callable[[Vocabulary], Vocabulary]
"""Gives a vocabulary as a text encoder can use it; raises UsageError where it cannot, as `TextEncoder.prepare`."""


@dataclass(frozen=True)
class AddedWords:
    """What reviewers changed about a vocabulary.

    Attributes:
        classes: names of classes that joined.
        negatives: negative words that went because they are or resemble these classes.
    """

    classes: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, list[str]]:
        """As JSON."""
        return {"classes": list(self.classes), "negatives": list(self.negatives)}

    @classmethod
    def from_source(cls, source: Mapping[str, Any]) -> Self:
        """What `Learned.source` says, which may be from another version and say nothing."""
        added = source.get("added")
        if not isinstance(added, Mapping):
            return cls()
        return cls(*(tuple(map(str, added.get(name) or ())) for name in ("classes", "negatives")))

    def __add__(self, other: AddedWords) -> AddedWords:
        return AddedWords(self.classes + other.classes, self.negatives + other.negatives)


def add_classes(
    vocabulary: Vocabulary, names: Iterable[str], prepare: Prepare
) -> tuple[Vocabulary, AddedWords]:
    """Let the names that reviewers gave masks join a vocabulary, each as its own phrase.

    Names that the vocabulary has as a class, a phrasing or a background word are left out, and so are names that the
    text encoder cannot tell from others.

    Args:
        vocabulary: the words.
        names: of classes.
        prepare: takes out negative words that resemble a class.
    """
    added = AddedWords()
    for name in names:
        known = {folded(word) for words in vocabulary.phrasings for word in words}
        known |= {folded(word) for word in (*vocabulary.classes, *vocabulary.background)}
        if folded(name) in known:
            continue
        own = (*vocabulary.own_negatives, ()) if vocabulary.own_negatives else ()
        try:
            grown = prepare(
                replace(
                    vocabulary,
                    classes=(*vocabulary.classes, name),
                    phrasings=(*vocabulary.phrasings, (clean_word(name),)),
                    negatives=tuple(word for word in vocabulary.negatives if folded(word) != folded(name)),
                    own_negatives=own,
                )
            )
        except UsageError:
            continue
        gone = tuple(word for word in vocabulary.negatives if word not in grown.negatives)
        vocabulary, added = grown, added + AddedWords((name,), gone)
    return vocabulary, added


def remove_classes(vocabulary: Vocabulary, added: AddedWords) -> Vocabulary:
    """The vocabulary as it was before `add_classes`; the same one where no other class would be left."""
    stay = [i for i, name in enumerate(vocabulary.classes) if name not in added.classes]
    if not stay:
        return vocabulary
    own = vocabulary.own_negatives
    phrases = {folded(word) for i in stay for word in vocabulary.phrasings[i]}
    phrases |= {folded(word) for word in (*vocabulary.background, *vocabulary.negatives)}
    return replace(
        vocabulary,
        classes=tuple(vocabulary.classes[i] for i in stay),
        phrasings=tuple(vocabulary.phrasings[i] for i in stay),
        negatives=(
            *vocabulary.negatives,
            *(word for word in added.negatives if folded(word) not in phrases),
        ),
        own_negatives=tuple(own[i] for i in stay) if own else (),
    )
