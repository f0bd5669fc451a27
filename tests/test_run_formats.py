"""Runs of every format that a version wrote: tests/fixtures has one of each, which opens and is used as a new one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from random_run import ANIMALS, COWS, make_photo, open_writer, rows_of, text_of, write_run

from gem_label.errors import UsageError
from gem_label.runs import open_run, relabel_run, search_run
from gem_label.runs.export import export_run
from gem_label.runs.files import FORMAT
from gem_label.runs.repair import check_run

RUNS = ["run_format_2_unsealed", "run_format_2", "run_format_2_shared", "run_format_3"]
"""Format 1, which has no surrounds, has a test of its own in test_runs.py."""


@pytest.fixture(params=RUNS)
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(__file__).parent / "fixtures" / request.param, tmp_path / "run"))


def test_an_earlier_run_is_what_it_was(earlier: Path) -> None:
    run = open_run(earlier)
    assert run.has_surrounds
    assert len(list(run.listing())) == 9
    found = list(run.photo_masks())
    assert len(found) == 9 - len(run.failures())
    for photo, masks, _ in found:
        expected, token = make_photo(photo.number)
        assert masks.counts == expected.counts
        for name in ("predicted_iou", "stability", "points"):
            assert np.array_equal(getattr(masks, name), getattr(expected, name))
        for name, tolerance in (("embeddings", 0), ("surrounds", 0.02)):  # rounded in other steps
            assert np.allclose(getattr(masks, name), getattr(expected, name), atol=tolerance)
        assert masks.grid == expected.grid
        assert np.array_equal(photo.embedding, token)
    check = check_run(earlier)
    assert not check.faults
    assert (check.photos, check.masks) == (len(found), run.manifest["counts"]["masks"])


def test_an_earlier_run_has_the_labels_of_today(earlier: Path, tmp_path: Path) -> None:
    run = open_run(earlier)
    today = {row["mask_id"]: row for row in rows_of(write_run(tmp_path / "today", 9))}
    rows = rows_of(run)
    assert len(rows) == run.manifest["counts"]["masks"]
    for row in rows:
        assert row["label"] == today[row["mask_id"]]["label"]
        assert row["top_labels"] == today[row["mask_id"]]["top_labels"]
        assert row["top_scores"] == pytest.approx(today[row["mask_id"]]["top_scores"], abs=0.02)
        assert row["score"] == pytest.approx(row["top_scores"][0], rel=1e-3, abs=1e-6)


def test_an_earlier_run_is_searched_and_relabeled_and_exported(earlier: Path, tmp_path: Path) -> None:
    run = open_run(earlier)
    hits = search_run(run, text_of(ANIMALS)[0], top=5)
    today = search_run(write_run(tmp_path / "today", 9), text_of(ANIMALS)[0], top=5)
    assert [hit.similarity for hit in hits] == pytest.approx([hit.similarity for hit in today], abs=0.05)
    there = rows_of(run)
    relabeled = relabel_run(run, COWS, text_of(COWS), out=tmp_path / "cows")
    assert relabeled.format == run.format
    again = relabel_run(relabeled, ANIMALS, text_of(ANIMALS))
    for old, new in zip(there, rows_of(again), strict=True):
        for name in ("score", "margin", "top_scores"):
            assert new.pop(name) == pytest.approx(old.pop(name), abs=1e-6)
        assert new == old
    report = export_run(again, tmp_path / "masks.json", min_score=0.0)
    written = json.loads((tmp_path / "masks.json").read_text())
    selected = sum(row["selected"] for row in there)
    assert len(written["annotations"]) == report.masks == selected > 0


def test_an_earlier_run_is_not_resumed_with_other_columns(earlier: Path) -> None:
    format = open_run(earlier).format
    if format == FORMAT:
        open_writer(earlier).close()
    else:
        with pytest.raises(UsageError, match=rf"format: was {format}, is now {FORMAT}|several processes"):
            open_writer(earlier)
