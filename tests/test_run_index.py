"""The index of shard footers: used while it is that of the very shards that are there, passed over otherwise."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from random_run import ANIMALS, COWS, open_writer, photos, rows_of, text_of, write_photo, write_run
from test_engines import JOB, ColorModels, save

from gem_label.engines.shared import Part, label_chunks
from gem_label.errors import GemLabelError
from gem_label.photos.listing import list_images
from gem_label.runs import PhotoRecord, Run, open_run, relabel_run
from gem_label.runs.files import INDEX, MASKS, shard_paths
from gem_label.runs.index import LEAST_SHARDS
from gem_label.runs.manifest import new_manifest
from gem_label.runs.repair import check_run
from gem_label.runs.shared import SharedRun
from gem_label.stores import open_store

PART = f"{INDEX}/part-000000.parquet"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of 20 shards of one photo each."""
    return write_run(tmp_path / "run", 20, photos_per_shard=1)


def listed(run: Run) -> list[PhotoRecord]:
    """The photos by their rows' shards."""
    return [replace(photo, embedding=None) for found, _ in run.groups(["mask_id"]) for photo in found]


def break_shards(run: Run) -> None:
    """Zeros in the place of all shards, in files of the same sizes."""
    for path in shard_paths(run.path / MASKS):
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(GemLabelError, match="is damaged"):
        list(run.tables())


def test_photos_come_from_the_index(run: Run) -> None:
    expected = listed(run)
    assert len(expected) == 20
    assert list(run.photos()) == expected
    break_shards(run)
    assert list(open_run(run.path).photos()) == expected


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])


@pytest.mark.parametrize("harm", [Path.unlink, cut, flip, lambda path: path.write_bytes(b"")])
def test_a_damaged_index_is_passed_over(run: Run, harm: Callable[[Path], None]) -> None:
    expected = listed(run)
    harm(run.path / PART)
    assert list(run.photos()) == expected
    assert not check_run(run.path).faults


def test_an_index_of_other_shards_is_passed_over(run: Run, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", 20, COWS, photos_per_shard=1)
    shutil.copyfile(other.path / PART, run.path / PART)
    expected = listed(run)
    assert list(run.photos()) == expected
    shards = shard_paths(run.path / MASKS)
    with open_writer(run.path, photos_per_shard=1):
        pass  # every session ends with the index of what is there
    shards[3].unlink()
    assert list(run.photos()) == expected[:3] + expected[4:]
    with shards[4].open("ab") as file:
        file.write(b"more")
    with pytest.raises(GemLabelError, match=r"shard-000004\.parquet is damaged"):
        list(run.photos())


def test_a_run_that_grows_or_gets_new_words_has_a_new_index(run: Run, tmp_path: Path) -> None:
    with open_writer(run.path, photos_per_shard=1) as writer:
        for photo in writer.register(photos(23)):
            write_photo(writer, photo)
    grown = open_run(run.path)
    rows = rows_of(grown)
    for relabeled in (relabel_run(grown, COWS, text_of(COWS), out=tmp_path / "cows"), grown):
        expected = listed(relabeled)
        assert len(expected) == 23
        break_shards(relabeled)
        assert list(relabeled.photos()) == expected
    again = write_run(tmp_path / "again", 23, photos_per_shard=1)
    assert rows_of(again) == rows
    relabeled = relabel_run(again, COWS, text_of(COWS))
    break_shards(relabeled)
    assert [photo.number for photo in relabeled.photos()] == list(range(1, 24))


def test_a_small_run_has_none(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", LEAST_SHARDS - 1, ANIMALS, photos_per_shard=1)
    assert not (run.path / INDEX).exists()


def test_finishing_a_shared_run_writes_the_index(tmp_path: Path) -> None:
    folder = save(tmp_path / "photos", **{f"{i:02d}": color for i, color in enumerate(["red", "white"] * 10)})
    manifest = new_manifest(
        settings={}, vocabulary=JOB.vocabulary, embedding_dim=3, logit_scale=JOB.logit_scale
    )
    shared = SharedRun.create_or_join(open_store(tmp_path / "run"), manifest, photos_per_shard=1)
    shared.add_photos(list_images([folder]))
    label_chunks(shared, Part(0, 1).of(shared), ColorModels(), JOB, 1, progress=False)
    shared.finish()
    run = open_run(tmp_path / "run")
    expected, failures = listed(run), run.failures()
    assert len(expected) + len(failures) == 20
    break_shards(run)
    assert list(run.photos()) == expected
    assert run.failures() == failures
    assert [row["image"] for row in shared.failures()] == [failure.image for failure in failures]
