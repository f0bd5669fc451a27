"""How long tests with random cases run: a fixed number of cases, or with `make soak` for so many minutes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

SHARES = 5
"""Tests that share the minutes."""


def seeds(request: pytest.FixtureRequest, cases: int) -> Iterator[int]:
    """Yield the seeds 0, 1, ... of so many cases, or in a soak others until its time is over; they are printed."""
    minutes = request.config.getoption("soak_minutes")
    first = random.SystemRandom().randrange(1 << 40) if minutes else 0
    ends = time.monotonic() + 60 * minutes / SHARES
    seed = first
    print(f"{request.node.name}: seeds from {first}")
    while time.monotonic() < ends if minutes else seed < cases:
        yield seed
        seed += 1
    print(f"{request.node.name}: {seed - first} cases")
