"""Words and phrases as people write them: in lists, in lines with commas, with any spaces and Unicode forms."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from gem_label.errors import UsageError
from gem_label.tables import shorten

# soft hyphen, spaces of no width, byte order mark, marks of direction: nobody sees them, and tokenizers do
INVISIBLE = dict.fromkeys(
    [*map(ord, "\u00ad\u200b\u2060\ufeff\u061c\u200e\u200f"), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
# one word up to its comma: in double quotes, in which "" stands for a quote, or without; a quote is never given back
_WORD = re.compile(r'\s*+(?:"((?:[^"]|"")*+)"\s*|([^",][^,]*+)?)(?:,|\Z)')
# a whole word in double quotes: at the start, or behind a separator
_QUOTED = re.compile(r'(?:\A|(?<=[,;!])|(?<==>))\s*+"(?:[^"]|"")*+"')
_PROTECTED = {ord(sign): chr(0xE000 + place) for place, sign in enumerate(";!=")}
_UNPROTECTED = {ord(stand_in): chr(sign) for sign, stand_in in _PROTECTED.items()}
LONGEST_IN_ERRORS = 80


def split_words(text: str) -> list[str]:
    """Comma-separated words without the spaces around them; a word with a comma stands in double quotes.

    Raises:
        UsageError: a quote that is not closed.

    Example:
        >>> split_words('cat, "tench, Tinca tinca",, 17" screen')
        ['cat', 'tench, Tinca tinca', '17" screen']
    """
    words, at = [], 0
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None:
            raise UsageError(
                f"cannot read {shorten(text[at:].strip(), LONGEST_IN_ERRORS)!r}: a word that begins with a double "
                "quote ends with one, before the next comma"
            )
        quoted, plain = match.groups()
        words.append(plain or "" if quoted is None else quoted.replace('""', '"'))
        at = match.end()
    return [word.strip() for word in words if word.strip()]


def split_entry(text: str) -> list[str]:
    """The parts of an entry of a vocabulary between "!" and "=>", with these signs, which have no meaning in quotes.

    Example:
        >>> split_entry('"a => b", c => d ! e')
        ['"a => b", c ', '=>', ' d ', '!', ' e']
    """
    return [part.translate(_UNPROTECTED) for part in re.split("(=>|!)", _protect(text))]


def split_entries(line: str) -> list[str]:
    """The entries of a line, which stand between ";", not in quotes."""
    return [entry.translate(_UNPROTECTED) for entry in _protect(line).split(";")]


def quoted(word: str) -> str:
    """A word as a line with commas has to hold it, in double quotes where it needs them.

    Example:
        >>> quoted("cat"), quoted("tench, Tinca tinca")
        ('cat', '"tench, Tinca tinca"')
    """
    if not re.search('[,;!]|=>|^[#"]', word):
        return word
    return '"' + word.replace('"', '""') + '"'


def _protect(text: str) -> str:
    return _QUOTED.sub(lambda match: match[0].translate(_PROTECTED), text)


def as_words(words: str | Iterable[str]) -> tuple[str, ...]:
    """The words of a list as they are, or those of a text, which stand between commas or on lines of their own.

    What takes words in Python takes either: a str is no list of its letters.

    Raises:
        UsageError: a quote in the text that is not closed.

    Example:
        >>> as_words("sofa, bed"), as_words(["sofa, bed"])
        (('sofa', 'bed'), ('sofa, bed',))
    """
    if isinstance(words, str):
        return tuple(word for line in words.splitlines() for word in split_words(line))
    return tuple(words)


def tidy(word: str) -> str:
    """A word in Unicode's composed form (NFC), with single spaces, and without invisible characters.

    Example:
        >>> tidy(" traffic\\n  light ")
        'traffic light'
    """
    return " ".join(unicodedata.normalize("NFC", word).translate(INVISIBLE).split())


def clean_word(word: str) -> str:
    """`tidy` of a word that names something.

    Raises:
        UsageError: there is nothing to see but punctuation, or there are control characters.
    """
    if not isinstance(word, str):
        raise UsageError(f"{word!r} is no word: give text")
    tidied = tidy(word)
    kinds = {unicodedata.category(letter) for letter in set(tidied)}
    shown = shorten(word, LONGEST_IN_ERRORS)
    if not tidied:
        raise UsageError("empty word in the vocabulary")
    if kinds & {"Cc", "Cs"}:
        raise UsageError(f"the word {shown!r} has control characters: take them out")
    if not any(kind[0] in "LN" or kind in ("So", "Sc") for kind in kinds):
        raise UsageError(f"{shown!r} is no word: it has no letter")
    return tidied


def folded(word: str) -> str:
    """A word without case, for comparison; words that differ here may be one word to a text encoder still."""
    return tidy(tidy(word).casefold())
