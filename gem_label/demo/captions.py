"""Captions of scenes: templates that name one, some or all of the things in it."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator

ONE = (
    "a photo of a {}.",
    "a picture of a {}.",
    "a {}.",
    "{}",
    "a drawing of a {}.",
    "there is a {} here.",
    "an image with a {} in it.",
    "a photo of the {}.",
)
SOME = (
    "a photo of {}.",
    "a picture of {}.",
    "{}",
    "there are {} here.",
    "an image with {} in it.",
    "a scene with {}.",
)


def caption(rng: Generator, nouns: Sequence[str]) -> str:
    """A caption that names exactly these nouns, in this order, in a random template."""
    if len(nouns) == 1:
        return ONE[rng.integers(len(ONE))].format(nouns[0])
    named = [f"a {noun}" for noun in nouns]
    listing = ", ".join(named[:-1]) + " and " + named[-1] if rng.random() < 0.7 else ", ".join(named)
    return SOME[rng.integers(len(SOME))].format(listing)
