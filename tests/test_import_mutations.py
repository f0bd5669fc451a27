"""Broken annotation files end in success or one line; an import that fails changes nothing."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from fiftyone_fixture import fiftyone_db
from mutated_files import mutated, write
from original_files import Original, case_files, written_files
from soak import seeds
from test_import_cases import FIELD, build, coco, state, written

from gem_label.errors import GemLabelError
from gem_label.progress import finish
from gem_label.review.editing.decisions import undo
from gem_label.review.exchange.comparing import MISSING, Missing
from gem_label.review.exchange.corrections import import_corrections
from gem_label.review.exchange.export import dataset_annotations

__all__ = ["fiftyone_db"]

FILES = 400


@pytest.mark.slow
def test_broken_files_end_in_success_or_one_line(
    fiftyone_db: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    import fiftyone as fo

    dataset = build(tmp_path, "mutations")
    exported = dataset_annotations(dataset, FIELD)
    photos = replace(exported, photos=list(exported.photos))
    files: dict[str, list[Original]] = {}
    for original in [*case_files(), *written_files(photos, tmp_path)]:
        files.setdefault(PurePosixPath(original.entry).suffix, []).append(original)
    before = state(dataset)
    outcomes: Counter[tuple[str, str]] = Counter()
    for seed in seeds(request, FILES):
        rng = random.Random(seed)
        suffix = rng.choice([*files])
        original = rng.choice(files[suffix])
        folder = tmp_path / "case"
        write(mutated(original, rng), folder)
        missing = rng.choice(MISSING)
        started = time.process_time()
        try:
            kind = take_in(dataset, folder / original.entry, missing, before)
        except BaseException as error:
            kept = Path(tempfile.mkdtemp(prefix=f"gem-label-mutated-{seed}-"))
            shutil.move(folder, kept)
            raise AssertionError(
                f"seed {seed}: import of {kept / 'case' / original.entry}, {missing}"
            ) from error
        assert time.process_time() - started < 10, seed
        outcomes[suffix, kind] += 1
        shutil.rmtree(folder)
    fo.delete_dataset(dataset.name)
    if sum(outcomes.values()) >= FILES:  # a short soak does not meet all
        for suffix in files:
            assert outcomes[suffix, "refused"], outcomes
            assert outcomes[suffix, "changed"] + outcomes[suffix, "same"] > 5, outcomes
        assert sum(count for (_, kind), count in outcomes.items() if kind == "changed") > 20, outcomes


def take_in(dataset: Any, path: Path, missing: Missing, before: list[dict[str, Any]]) -> str:
    """Import a file, and undo that.

    Returns:
        "refused", "same" or "changed".
    """
    refused = ""
    try:
        report = finish(import_corrections(dataset, FIELD, path, missing))
    except GemLabelError as error:
        refused = str(error) or "\n"
    if refused:
        assert "\n" not in refused
        assert len(refused) < 500
        assert state(dataset) == before
        return "refused"
    assert all("\n" not in line and len(line) < 500 for line in report.problems), report.problems
    for mask in state(dataset)[0][FIELD]["detections"]:
        assert min(mask["bounding_box"][2:]) > 0
        assert mask["label"]
    if report.decision is None:
        assert state(dataset) == before
        return "same"
    undo(dataset, FIELD)
    now = state(dataset)[0][FIELD]["detections"]
    assert sorted(now, key=lambda mask: mask["mask_id"]) == before[0][FIELD]["detections"]
    dataset._sample_collection.replace_one({"_id": before[0]["_id"]}, before[0])
    return "changed"


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
