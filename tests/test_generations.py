"""Relabeling a run of a store in its place: the old labels or the new ones, whoever else does what meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_run import ANIMALS, COWS, DIM, make_photo, photos, rows_of, text_of, write_run

from gem_label.errors import GemLabelError, UsageError
from gem_label.labeling import label_maskset
from gem_label.learning.learned import Learned
from gem_label.runs import Run, relabel_run
from gem_label.runs.checking import checked_table
from gem_label.runs.files import MANIFEST
from gem_label.runs.generations import NewGeneration
from gem_label.runs.manifest import new_manifest, new_run_id
from gem_label.runs.schema import make_record
from gem_label.runs.shared import SharedRun
from gem_label.runs.stored import StoredRun
from gem_label.stores import Store, open_store


def label(store: Store, count: int = 9) -> SharedRun:
    """Label the chunks of two photos that have no shard, as `gem-label label --shard` does."""
    manifest = new_manifest(
        settings={"clip": "random", "points": (4, 4)}, vocabulary=ANIMALS, embedding_dim=DIM, logit_scale=20.0
    )
    run = SharedRun.create_or_join(store, manifest, photos_per_shard=2)
    run.add_photos(photos(count))
    for place in run.places():
        chunk, rows = run.read_chunk(place), []
        for photo in chunk.photos:
            masks, token = make_photo(photo.number)
            labels = label_maskset(masks, text_of(ANIMALS), ANIMALS, 20.0, image_embedding=token)
            record = make_record(photo, masks, token)
            rows.append((record, checked_table(record, masks, labels, DIM)))
        run.commit(chunk, rows, [])
    return run


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The store of a finished run; buckets are in test_buckets.py."""
    store = open_store(tmp_path / "run")
    label(store).finish()
    return store


def files(store: Store) -> list[str]:
    return sorted(name for name in store.names("") if not name.startswith("."))


def test_new_labels_are_those_of_a_folder(store: Store, tmp_path: Path) -> None:
    run = StoredRun(store)
    folder = write_run(tmp_path / "folder", 9)
    expected = relabel_run(folder, COWS, text_of(COWS), out=tmp_path / "cows")
    for words in (COWS, ANIMALS, COWS):
        relabel_run(run, words, text_of(words))
        run = StoredRun(store)
        assert run.vocabulary == words
    assert rows_of(run) == rows_of(expected)
    assert run.manifest["counts"] == expected.manifest["counts"]
    assert list(run.photos()) == list(expected.photos())
    kept = [f"generations/{run.manifest['id']}/masks/shard-{i:06d}.parquet" for i in range(5)]
    assert files(store) == ["failures.jsonl", *kept, "listing/part-000000.jsonl", MANIFEST]
    # a copy into a folder is a run by itself
    copy = relabel_run(run, COWS, text_of(COWS), out=tmp_path / "copy")
    assert "generation" not in copy.manifest
    assert rows_of(copy) == rows_of(expected)


def test_what_was_learned_is_of_the_generation(store: Store) -> None:
    learned = Learned(None, source={"by": "a test"})
    relabel_run(StoredRun(store), ANIMALS, text_of(ANIMALS), learned=learned)
    run = StoredRun(store)
    assert run.learned is not None
    assert run.learned.digest == learned.digest
    assert sum(name.endswith("learned.json") for name in files(store)) == 1
    relabel_run(run, ANIMALS, text_of(ANIMALS), learned="none")
    assert StoredRun(store).learned is None
    assert not any(name.endswith("learned.json") for name in files(store))


def test_of_two_who_relabel_one_succeeds(store: Store) -> None:
    first, second = StoredRun(store), StoredRun(store)
    begun = NewGeneration(store, second.manifest, new_run_id())
    begun.write_shard("shard-000000.parquet", lambda file: file.write(b"half of it"))
    relabel_run(first, COWS, text_of(COWS))
    with pytest.raises(GemLabelError, match="was changed while it was relabeled: try again"):
        begun.commit({**second.manifest, "id": "0"})
    with pytest.raises(GemLabelError, match="was relabeled since it was opened: try again"):
        relabel_run(second, ANIMALS, text_of(ANIMALS))
    run = StoredRun(store)
    assert run.vocabulary == COWS
    assert len(list(run.photos())) == 9
    assert {name.split("/")[1] for name in files(store) if "/" in name} == {
        run.manifest["id"],
        "part-000000.jsonl",
    }


def test_what_a_kill_leaves_is_deleted_by_the_next(store: Store) -> None:
    run = StoredRun(store)
    left = NewGeneration(store, run.manifest, new_run_id())
    left.write_shard("shard-000000.parquet", lambda file: file.write(b"half of it"))
    assert len(rows_of(run)) == len(rows_of(StoredRun(store)))
    relabel_run(run, COWS, text_of(COWS))
    assert not [name for name in files(store) if name.startswith(left.folder)]


def test_readers_of_the_old_labels_are_told(store: Store) -> None:
    run = StoredRun(store)
    reading = run.tables()
    next(reading)
    relabel_run(StoredRun(store), COWS, text_of(COWS))
    with pytest.raises(GemLabelError, match="was relabeled or removed while it was read: try again"):
        list(reading)
    for read in (run.tables, run.photos):
        with pytest.raises(GemLabelError, match="was relabeled since it was opened"):
            list(read())


def test_labeling_and_counting_go_on_in_the_new_generation(store: Store) -> None:
    before = SharedRun.open(store)
    relabel_run(StoredRun(store), ANIMALS, text_of(ANIMALS))
    with pytest.raises(GemLabelError, match="was relabeled since it was opened"):
        before.finish()  # it would bring the old manifest back
    more = label(store, 12)
    assert more.finish()["photos"] == 12
    run = StoredRun(store)
    assert len(list(run.photos())) == 12
    assert all(
        name.startswith(f"generations/{run.manifest['id']}/") for name in files(store) if "shard-" in name
    )


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path / "run")
    label(store)
    run: Run = StoredRun(store)
    with pytest.raises(UsageError, match="is still being labeled"):
        relabel_run(run, COWS, text_of(COWS))
