"""Files that are broken in random places."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

ODD = [
    None,
    True,
    -1,
    0,
    1e8,
    -1e8,
    1e308,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "x",
    "1",
    "\ud800",
    "\x00",
    [],
    {},
]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All (container, key) of a JSON value."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def mutated_json(text: str, rng: random.Random) -> bytes:
    content = json.loads(text)
    for _ in range(rng.choice([1, 1, 2, 4])):
        container, key = rng.choice(list(places(content)))
        action = rng.random()
        if action < 0.3:
            del container[key]
        elif action < 0.7:
            container[key] = rng.choice(ODD)
        else:
            other, place = rng.choice(list(places(content)))
            container[key] = json.loads(json.dumps(other[place]))
    return json.dumps(content).encode()


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 2, 8])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.1 else changed)
