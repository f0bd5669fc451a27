"""Text of any length and content in the cells of tables, for terminals and for Markdown."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

CELL_WIDTH = 48
_LONGEST_REASON = 200


def shorten(text: str, width: int = CELL_WIDTH) -> str:
    """Text in one line of at most `width` columns; a longer one has "…" in place of its middle.

    Letters of double width, as in Chinese, count two columns. Ends of lines and tabs become spaces, other control
    characters "\\ufffd": a name cannot move a terminal's cursor.

    Example:
        >>> shorten("a traffic light with a long name", 15)
        'a traff…ng name'
    """
    enormous = len(text) > 16 * width  # a whole file; its middle is not looked at
    line = "".join(
        " " if letter.isspace() else "\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter
        for letter in (text[: 4 * width] + text[-4 * width :] if enormous else text)
    )
    if not enormous and columns(line) <= width:
        return line
    head, tail = _prefix(line, width // 2), _prefix(line[::-1], width - width // 2 - 1)[::-1]
    return f"{head}…{tail}"


def reason(error: Exception) -> str:
    """What an exception of a library says, in one line of bounded length: it may quote all of a file."""
    return shorten(" ".join(str(error).split()), _LONGEST_REASON)


def columns(text: str) -> int:
    """How many columns of a terminal a line of text takes."""
    return sum(map(_letter_columns, text))


def markdown_cell(text: str, width: int = CELL_WIDTH) -> str:
    """Text for a cell of a Markdown table: `shorten`, with "|" and other characters of the syntax escaped.

    Example:
        >>> markdown_cell("cat|dog")
        'cat\\\\|dog'
    """
    return "".join(f"\\{letter}" if letter in "\\|`*<[" else letter for letter in shorten(text, width))


def first_names(names: Sequence[str], most: int) -> str:
    """The first names of a list, shortened, for a line of text; "..." stands for further ones.

    Example:
        >>> first_names(["cat", "dog", "cup"], 2)
        'cat, dog, ...'
    """
    return ", ".join([*map(shorten, names[:most]), *(["..."] if len(names) > most else [])])


def _prefix(line: str, width: int) -> str:
    """As many letters from the left as fit."""
    used = 0
    for count, letter in enumerate(line):
        used += _letter_columns(letter)
        if used > width:
            return line[:count]
    return line


def _letter_columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
