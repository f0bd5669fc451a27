"""Checks of settings: one line that names the setting, what it may be and what it is."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from gem_label.errors import UsageError


@dataclass(frozen=True)
class Numbers:
    """The numbers that a setting may be.

    Attributes:
        least: the smallest.
        most: the largest; infinity stands for no limit, it is not allowed itself.
        whole: whole numbers only.
        above: whether `least` itself is ruled out.
        optional: whether None is allowed.
    """

    least: float
    most: float = math.inf
    whole: bool = False
    above: bool = False
    optional: bool = False

    def __str__(self) -> str:
        """As a message says it, such as "a whole number from 1"."""
        kind = "a whole number" if self.whole else "a number"
        if self.most < math.inf:
            limits = f" between {self.least:g} and {self.most:g}"
        else:
            limits = f" {'above' if self.above else 'from'} {self.least:g}"
        return f"{kind}{limits}{' or None' if self.optional else ''}"

    def allow(self, value: object) -> bool:
        """Whether a value is one of them; NaN, infinity, text and bools never are."""
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number = float(value)
        return (
            math.isfinite(number)
            and self.least <= number <= self.most
            and not (self.above and number == self.least)
        )


SHARE = Numbers(0, 1)
"""A share, a score or an IoU."""
COUNT = Numbers(1, whole=True)
"""How many, at least one."""


def check_number(name: str, value: object, numbers: Numbers) -> None:
    """Make sure that a value is one of the numbers that are allowed.

    Raises:
        UsageError: it is another number, or none at all.

    Example:
        >>> check_number("top_k", 0, COUNT)
        Traceback (most recent call last):
            ...
        gem_label.errors.UsageError: top_k must be a whole number from 1, not 0
    """
    if not numbers.allow(value):
        shown = value if isinstance(value, Real) or value is None else repr(value)[:80]
        raise UsageError(f"{name} must be {numbers}, not {shown}")


def check_numbers(settings: Any, allowed: Mapping[str, Numbers]) -> None:
    """Make sure that attributes of an object are numbers that are allowed.

    Raises:
        UsageError: one is not; the message names it.
    """
    for name, numbers in allowed.items():
        check_number(name, getattr(settings, name), numbers)


def check_phrase(phrase: str) -> None:
    """Make sure that there is something to read in a phrase.

    Raises:
        UsageError: it is empty, or holds only spaces, control characters and others that cannot be seen.
    """
    if all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in phrase):
        raise UsageError("a phrase is empty: give a word or a few, such as 'broken window'")
