"""Exports in several files, and photos whose numbers and ids do not fit 32 bits."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pycocotools.coco import COCO
from random_run import ANIMALS, COWS, DIM, make_photo, rows_of, text_of, write_run
from typer.testing import CliRunner

from gem_label.cli import make_app
from gem_label.errors import UsageError
from gem_label.formats.drawing import WriteSettings
from gem_label.formats.splitting import write_in_parts
from gem_label.labeling import LabelSettings, Thresholds, label_maskset
from gem_label.photos.photo import Photo
from gem_label.progress import finish
from gem_label.runs import Run, open_run, relabel_run, search_run
from gem_label.runs.checking import checked_table
from gem_label.runs.export import export_run, run_annotations
from gem_label.runs.listing import create_part
from gem_label.runs.manifest import new_manifest
from gem_label.runs.schema import make_record
from gem_label.runs.shared import SharedRun
from gem_label.stores import open_store

LARGE = 2**33
EVERYTHING = LabelSettings(Thresholds(0.0))


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_files_together_are_the_one_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 11, label_settings=EVERYTHING)
    whole = export_run(run, tmp_path / "whole.json")
    report = finish(write_in_parts(run_annotations(run), tmp_path / "a.b.json", 4))
    files = [tmp_path / f"a.b-{i:06d}.json" for i in (1, 2, 3)]
    assert sorted(tmp_path.glob("a.b*")) == files
    parts, one = [read(path) for path in files], read(tmp_path / "whole.json")
    assert [len(part["images"]) for part in parts] == [4, 4, 3]
    for key in ("images", "annotations"):
        assert [row for part in parts for row in part[key]] == one[key]
    for part in parts:
        assert {key: part[key] for key in ("info", "categories")} == {
            key: one[key] for key in ("info", "categories")
        }
        assert {row["image_id"] for row in part["annotations"]} <= {row["id"] for row in part["images"]}
    assert str(report) == str(whole)


def test_the_next_export_replaces_all_files(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 6, label_settings=EVERYTHING)
    for size, files in ((1, 6), (4, 2), (6, 1), (100, 1)):
        finish(write_in_parts(run_annotations(run), tmp_path / "a.csv", size, "csv"))
        assert sorted(path.name for path in tmp_path.glob("a*.csv")) == [
            f"a-{i:06d}.csv" for i in range(1, files + 1)
        ]


def test_outlines_are_reported_over_all_files(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 11, label_settings=EVERYTHING)
    settings = WriteSettings("polygon", 1.0)
    whole = export_run(run, tmp_path / "whole.json", settings=settings)
    report = finish(write_in_parts(run_annotations(run), tmp_path / "a.json", 2, settings=settings))
    assert report.mean_iou == pytest.approx(whole.mean_iou)
    assert (report.outlines, report.lowest_iou) == (whole.outlines, whole.lowest_iou)


def test_what_is_not_split_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 2)
    with pytest.raises(UsageError, match="not split into files"):
        finish(write_in_parts(run_annotations(run), tmp_path / "a", 2, "yolo"))
    with pytest.raises(UsageError, match="photos_per_file must be a whole number from 1, not 0"):
        finish(write_in_parts(run_annotations(run), tmp_path / "a.json", 0))


def test_an_empty_run_is_one_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 0)
    finish(write_in_parts(run_annotations(run), tmp_path / "a.json", 5))
    assert read(tmp_path / "a-000001.json")["images"] == []


def test_the_command(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 3, label_settings=EVERYTHING)
    arguments = ["export", str(tmp_path / "run"), "--out", str(tmp_path / "a.json"), "--photos-per-file", "2"]
    result = CliRunner().invoke(make_app(), arguments)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{tmp_path}{os.sep}a.json: 3 images")
    assert (tmp_path / "a-000002.json").exists()


def large_run(path: Path) -> Run:
    """A run of photos 2^33 + 1 to 2^33 + 6, as a listing of so many photos would number them."""
    manifest = new_manifest(
        settings={}, vocabulary=ANIMALS, embedding_dim=DIM, logit_scale=20.0, label_settings=EVERYTHING
    )
    shared = SharedRun.create_or_join(open_store(path), manifest, photos_per_shard=4)
    numbers = range(LARGE + 1, LARGE + 7)
    create_part(shared.store, 0, [Photo(f"/photos/{number}.jpg", str(number), number) for number in numbers])
    for place in shared.places():
        chunk, rows = shared.read_chunk(place), []
        for photo in chunk.photos:
            masks, token = make_photo(photo.number - LARGE)
            labels = label_maskset(masks, text_of(ANIMALS), ANIMALS, 20.0, EVERYTHING, image_embedding=token)
            record = make_record(photo, masks, token)
            rows.append((record, checked_table(record, masks, labels, DIM)))
        shared.commit(chunk, rows, [])
    shared.finish()
    return open_run(path)


def test_numbers_beyond_32_bits(tmp_path: Path) -> None:
    run = large_run(tmp_path / "run")
    numbers = list(range(LARGE + 1, LARGE + 7))
    assert [photo.number for photo in run.photos()] == numbers
    rows = rows_of(run)
    assert {row["image_number"] for row in rows} <= set(numbers)
    assert search_run(run, text_of(ANIMALS)[0], 1)[0].image_id in map(str, numbers)
    masks = export_run(run, tmp_path / "a.json").masks
    coco = COCO(str(tmp_path / "a.json"))
    assert sorted(coco.getImgIds()) == numbers
    assert len(coco.getAnnIds()) == len(set(coco.getAnnIds())) == masks > 6
    # ids of photo 2^33 + n are those of photo n, moved by 1 000 ids a photo; doubles hold them, for other languages
    assert all(LARGE * 1000 < id < 2**53 and float(id) == id for id in coco.getAnnIds())
    export_run(run, tmp_path / "a.parquet", "parquet")
    assert len(pq.read_table(tmp_path / "a.parquet")) >= masks
    relabeled = relabel_run(run, COWS, text_of(COWS))
    assert [photo.number for photo in relabeled.photos()] == numbers
    assert [row["mask_id"] for row in rows_of(relabeled)] == [row["mask_id"] for row in rows]


def test_shards_are_counted_beyond_six_digits(tmp_path: Path) -> None:
    run = large_run(tmp_path / "run")
    photos = list(run.photos())
    for number in (1, 0):  # as chunks 10^6 + number of a larger run
        old = run.path / "masks" / f"shard-{number:06d}.parquet"
        old.rename(old.with_name(f"shard-{number + 10**6}.parquet"))
    assert list(open_run(run.path).photos()) == photos
    assert np.array_equal(list(SharedRun.open(open_store(run.path)).committed()), [10**6, 10**6 + 1])
