"""Content that is broken in random places: bytes, JSON, XML, YAML, tables and lines of numbers."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import re
from collections.abc import Iterator
from typing import Any

ODD = [
    None,
    True,
    -1,
    0,
    0.5,
    1e8,
    -1e8,
    2**31,
    2**63,
    1e308,
    10**30,
    float("nan"),
    float("inf"),
    "",
    " ",
    "x",
    "1",
    "x" * 3000,
    "two\nlines",
    "\ud800",
    "\x00",
    "../../x",
    [],
    {},
    [[]],
    [1, [2]],
    {"size": [0, 0], "counts": ""},
]
ODD_JSON = {
    "@deep": "[" * 3000 + "]" * 3000,
    "@deeper": '{"a":' * 60_000 + "1" + "}" * 60_000,
    "@long": "9" * 5000,
    "@infinite": "1e999",
    "@negative": "-0.0",
}
"""Numbers and nestings that Python's JSON does not write, by the text that stands for them meanwhile."""

ODD_TEXT = [
    "nan", "inf", "-1", "0", "1e308", "1e999", "", "9" * 40, "9" * 5000, "x", "1,2", ";", "1e8", "-1e8", "0x10",
    "1_0", "\u0661", "\x00", "\x1b[31m", "é", "x" * 3000, "../../x", "=1+1", '"', "'", "[", "{", "&", "*", "!",
]  # fmt: skip
BOMBS = [
    "<!DOCTYPE a [{}]>".format(
        '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    ),
    f'<!DOCTYPE a [<!ENTITY a11 "{"ha" * 50_000}">]>',
    '<!DOCTYPE a [<!ENTITY a11 SYSTEM "file:///etc/hostname">]>',
    '<!DOCTYPE a SYSTEM "file:///dev/zero" [<!ENTITY a11 "x">]>',
    '<!DOCTYPE a [<!ENTITY a11 "&a11;">]>',
]
"""Declarations that make `&a11;` an entity of gigabytes, of a file, or of itself."""


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield all (container, key) of a JSON value."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def random_place(value: Any, rng: random.Random) -> tuple[Any, Any] | None:
    """Any (container, key) of a JSON value, or one that long lists do not outweigh."""
    if rng.random() < 0.5:
        found = list(places(value))
        return rng.choice(found) if found else None
    place = None
    while isinstance(value, (dict, list)) and value and (place is None or rng.random() < 0.75):
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        place, value = (value, key), value[key]
    return place


def mutated_json(text: str, rng: random.Random) -> bytes:
    """JSON with fields removed, odd, exchanged, doubled, renamed, or in other containers."""
    content = json.loads(text)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place, other = random_place(content, rng), random_place(content, rng)
        if place is None or other is None:
            break
        container, key = place
        copied = json.loads(json.dumps(other[0][other[1]]))
        action = rng.random()
        if action < 0.25:
            del container[key]
        elif action < 0.55:
            container[key] = copy.deepcopy(rng.choice(ODD))
        elif action < 0.6:
            container[key] = rng.choice(list(ODD_JSON))
        elif action < 0.7:
            container[key] = [container[key]] if rng.random() < 0.5 else {"x": container[key]}
        elif action < 0.8 and isinstance(container, list):
            container[key:key] = [json.loads(json.dumps(container[key]))] * rng.choice([1, 2, 20])
        elif action < 0.85 and isinstance(container, dict):
            container[rng.choice([*ODD_TEXT[:8], *container])] = container.pop(key)
        else:
            container[key] = copied
    written = json.dumps(content)
    for name, odd in ODD_JSON.items():
        written = written.replace(f'"{name}"', odd)
    return written.encode()


def mutated_json_lines(text: str, rng: random.Random) -> bytes:
    """Lines of JSON, one of them changed, left out, doubled or cut."""
    lines = text.splitlines()
    place = rng.randrange(len(lines))
    action = rng.random()
    if action < 0.7:
        lines[place] = mutated_json(lines[place], rng).decode()
    elif action < 0.8:
        del lines[place]
    elif action < 0.9:
        lines.insert(place, rng.choice(lines))
    else:
        lines[place] = lines[place][: rng.randrange(len(lines[place]))]
    return "\n".join(lines).encode()


def mutated_xml(text: str, rng: random.Random) -> bytes:
    """XML with attributes and tags removed, replaced, doubled or nested, or with entities."""
    for _ in range(rng.choice([1, 1, 2, 4])):
        attributes = list(re.finditer(r' [\w]+="([^"]*)"', text))
        tags = list(re.finditer(r"<[^<>]*>", text))
        match, tag = rng.choice(attributes), rng.choice(tags)
        action = rng.random()
        if action < 0.25:
            text = text[: match.start()] + text[match.end() :]
        elif action < 0.7:
            odd = rng.choice([*ODD_TEXT, "&#0;", "&#xD800;", "&#1;", "&a11;"])
            value = odd if rng.random() < 0.7 else rng.choice(attributes).group(1)
            text = text[: match.start(1)] + value + text[match.end(1) :]
        elif action < 0.8:
            text = text[: tag.start()] + text[tag.end() :]
        elif action < 0.88:
            text = text[: tag.end()] + rng.choice(tags).group() * rng.choice([1, 3, 30]) + text[tag.end() :]
        elif action < 0.92:
            depth = rng.choice([10, 2000, 100_000])
            text = text[: tag.start()] + "<image>" * depth + "</image>" * depth + text[tag.start() :]
        else:
            start = text.find("?>") + 2 if text.startswith("<?xml") else 0
            count = rng.choice([1, 1, 20_000])
            text = text[: tag.end()] + "&a11;" * count + text[tag.end() :]
            text = text[:start] + rng.choice(BOMBS) + text[start:]
    if rng.random() < 0.05:
        text = text.replace("utf-8", rng.choice(["utf-16", "ascii", "latin-1", "utf-7", "rot13", "x"]), 1)
    return text.encode()


def mutated_cells(text: str, rng: random.Random, delimiter: str = ",") -> bytes:
    """A table of text with cells, rows and columns changed, removed, exchanged and doubled."""
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    for _ in range(rng.choice([1, 1, 2, 4])):
        row = rng.choice(rows)
        place = rng.randrange(len(row)) if row else 0
        action = rng.random()
        if action < 0.4 and row:
            row[place] = rng.choice(ODD_TEXT)
        elif action < 0.6 and row:
            row[place] = rng.choice(rng.choice(rows) or [""])
        elif action < 0.7 and row:
            del row[place]
        elif action < 0.8:
            row.insert(place, rng.choice(ODD_TEXT))
        elif action < 0.9:
            rows.insert(rng.randrange(len(rows)), list(row) * rng.choice([1, 1, 40]))
        elif len(rows) > 1:
            rows.remove(row)
    out = io.StringIO(newline="")
    written = rng.choice([delimiter] * 6 + [",", ";", "\t"])
    csv.writer(out, delimiter=written, quoting=rng.choice([0, 0, 1])).writerows(rows)
    text = out.getvalue()
    return (text.replace('"', "", 1) if rng.random() < 0.1 else text).encode("utf-8", "surrogatepass")


def mutated_words(text: str, rng: random.Random) -> bytes:
    """Lines of words or numbers, some of them odd, removed, doubled or in other places."""
    lines = text.split("\n")
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.randrange(len(lines))
        words = lines[place].split(" ")
        action = rng.random()
        if action < 0.5:
            words[rng.randrange(len(words))] = rng.choice(ODD_TEXT)
        elif action < 0.6:
            del words[rng.randrange(len(words))]
        elif action < 0.7:
            words *= rng.choice([2, 2000])
        elif action < 0.8:
            words = rng.choice(lines).split(" ")
        elif action < 0.9:
            words = words[::-1]
        lines[place] = " ".join(words)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def mutated_yaml(text: str, rng: random.Random) -> bytes:
    """YAML with odd values, anchors that multiply or hold themselves, tags and many levels."""
    odd = [
        "&a [*a]", "*nothing", "!!python/object/apply:os.getcwd []", "!!binary x", "[" * 3000, "{a: " * 3000,
        "{0: a, 0: b}", "[a, [b]]", "{x: a}", "|", "{1e9: a}", "[a, null, '']", "../..", "/", "~",
    ]  # fmt: skip
    action = rng.random()
    if action < 0.15:
        anchors = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        anchors += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
        text = "\n".join([*anchors, text, f"{rng.choice(['names', 'train'])}: *a9"])
    elif action < 0.6:
        lines = text.split("\n")
        place = rng.randrange(len(lines))
        lines[place] = lines[place].partition(":")[0] + ": " + rng.choice([*odd, *ODD_TEXT])
        text = "\n".join(lines)
    else:
        return mutated_words(text, rng)
    return text.encode("utf-8", "surrogatepass")


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut, inserted, doubled, zeroed, or text in another encoding."""
    start = rng.randrange(len(data)) if data else 0
    end = min(len(data), start + rng.choice([1, 4, 100, 5000]))
    action = rng.random()
    if action < 0.4:
        return flipped(data, rng) if data else b"\x00"
    if action < 0.5:
        return data[:start]
    if action < 0.6:
        garbage = rng.choice(
            [rng.randbytes(50), b"\x00" * 999, b"[" * 9999, b"<a>" * 999, b'"', b"\n", b"\xff"]
        )
        return data[:start] + garbage + data[start:]
    if action < 0.7:
        return data[:start] + data[end:]
    if action < 0.8:
        return data[:end] + data[start:end] * rng.choice([1, 20]) + data[end:]
    if action < 0.85:
        return data[:start] + bytes(end - start) + data[end:]
    if action < 0.9:
        place = rng.randrange(len(data)) if data else 0
        return data[:start] + data[place : place + end - start] + data[end:]
    text = data.decode("utf-8", "replace")
    return text.encode(
        rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp1252", "utf-7"]), "replace"
    )


def flipped(data: bytes, rng: random.Random) -> bytes:
    """Bytes with a few bits flipped, some of them cut."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 2, 8])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.1 else changed)
