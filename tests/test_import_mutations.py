"""Broken annotation files end in success or one line; an import that fails changes nothing."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fiftyone_fixture import fiftyone_db
from test_import_cases import CASES, FIELD, build, coco, state, written

from gem_label.errors import GemLabelError
from gem_label.progress import finish
from gem_label.review.editing.decisions import undo
from gem_label.review.exchange.corrections import import_corrections

__all__ = ["fiftyone_db"]

FILES = sorted(path for path in CASES.iterdir() if path.suffix in (".json", ".xml"))
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
ODD_TEXT = ["nan", "inf", "-1", "0", "1e308", "", "9" * 40, "x", "1,2", ";", "&#0;", "1e8"]


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


def mutated_xml(text: str, rng: random.Random) -> bytes:
    for _ in range(rng.choice([1, 1, 2, 4])):
        found = list(re.finditer(r' [\w]+="([^"]*)"', text))
        match = rng.choice(found)
        if rng.random() < 0.3:
            text = text[: match.start()] + text[match.end() :]
        else:
            value = rng.choice([*ODD_TEXT, rng.choice(found).group(1)])
            text = text[: match.start(1)] + value + text[match.end(1) :]
    return text.encode()


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 2, 8])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.1 else changed)


def mutated(seed: int) -> tuple[str, bytes]:
    rng = random.Random(seed)
    path = rng.choice(FILES)
    text = path.read_text(encoding="utf-8-sig")
    if rng.random() < 0.35:
        return path.suffix, flipped(text.encode(), rng)
    return path.suffix, mutated_xml(text, rng) if path.suffix == ".xml" else mutated_json(text, rng)


@pytest.mark.slow
def test_broken_files_end_in_success_or_one_line(fiftyone_db: str, tmp_path: Path) -> None:
    import fiftyone as fo

    dataset = build(tmp_path, "mutations")
    before = state(dataset)
    failed: list[str] = []
    changed = 0
    for seed in range(300):
        suffix, data = mutated(seed)
        path = tmp_path / f"{seed}{suffix}"
        path.write_bytes(data)
        started = time.monotonic()
        try:
            report = finish(import_corrections(dataset, FIELD, path, missing="delete"))
        except GemLabelError as error:
            failed.append(str(error))
            assert state(dataset) == before, seed
        else:
            for mask in state(dataset)[0][FIELD]["detections"]:
                assert min(mask["bounding_box"][2:]) > 0, seed
                assert mask["label"], seed
            if report.decision is None:
                assert state(dataset) == before, seed
            else:
                changed += 1
                undo(dataset, FIELD)
                now = state(dataset)[0][FIELD]["detections"]
                assert sorted(now, key=lambda mask: mask["mask_id"]) == before[0][FIELD]["detections"], seed
                dataset._sample_collection.replace_one({"_id": before[0]["_id"]}, before[0])
        assert time.monotonic() - started < 10, seed
    assert all(0 < len(text) < 500 and "\n" not in text for text in failed)
    assert len(failed) > 30
    assert changed > 30
    fo.delete_dataset(dataset.name)


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"images": ' + "[" * 100_000, "9" * 5000, '"\\ud800"', "", "PK"]
)
def test_files_that_are_no_annotations(fiftyone_db: str, tmp_path: Path, content: str) -> None:
    from gem_label.formats.reading import read_annotations

    for suffix in (".json", ".xml", ".zip"):
        with pytest.raises(GemLabelError) as error:
            read_annotations(written(tmp_path, content, f"file{suffix}"))
        assert "\n" not in str(error.value)


def test_what_the_database_refuses_changes_nothing(fiftyone_db: str, tmp_path: Path) -> None:
    import fiftyone as fo

    dataset = build(tmp_path, "too large", ("1.png", "2.png"))
    before = state(dataset)

    def change(content: dict[str, Any]) -> None:
        content["images"].append({"id": 2, "file_name": "2.png"})
        content["categories"].append({"id": 9, "name": "x" * (17 << 20)})
        content["annotations"][0]["category_id"] = 2
        content["annotations"].append({**content["annotations"][1], "id": 9, "image_id": 2, "category_id": 9})

    with pytest.raises(GemLabelError, match="database did not take the changes") as error:
        finish(import_corrections(dataset, FIELD, written(tmp_path, coco(change))))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500

    def without_dates(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in document.items() if k != "last_modified_at"} for document in documents]

    assert without_dates(state(dataset)) == without_dates(before)
    fo.delete_dataset(dataset.name)
