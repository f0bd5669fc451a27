"""Repair of a run in an object store; here its store is a folder, in test_buckets.py it is a bucket."""

from __future__ import annotations

from pathlib import Path

from random_run import COWS, rows_of, text_of
from test_generations import files, label

from gem_label.runs import relabel_run
from gem_label.runs.repair import Mend
from gem_label.runs.repair_stored import check_stored_run, repair_stored_run
from gem_label.runs.stored import StoredRun
from gem_label.stores import Store, open_store, put


def damage(store: Store, name: str) -> None:
    """Flip a bit in the middle."""
    data = store.read(name)
    middle = len(data) // 2
    put(store, name, data[:middle] + bytes([data[middle] ^ 64]) + data[middle + 1 :])


def test_a_damaged_shard_is_set_aside_and_labeled_again(tmp_path: Path) -> None:
    store = open_store(tmp_path / "run")
    label(store).finish()
    assert not check_stored_run(store).faults
    expected, counts = rows_of(StoredRun(store)), StoredRun(store).manifest["counts"]
    name = "masks/shard-000001.parquet"
    damage(store, name)
    for found in (check_stored_run(store), repair_stored_run(store)):
        assert [(fault.path.name, fault.mend) for fault in found.faults] == [
            (Path(name).name, Mend.SET_ASIDE)
        ]
        assert "the checksum of" in found.faults[0].problem
        assert (found.photos, found.missing) == (7, 2)
    assert not check_stored_run(store).faults
    assert f"damaged/{Path(name).name}" in files(store)
    assert not StoredRun(store).manifest["finished"]
    assert StoredRun(store).manifest["counts"]["photos"] == 7
    label(store).finish()
    assert rows_of(StoredRun(store)) == expected
    assert StoredRun(store).manifest["counts"] == counts


def test_a_relabeled_run_is_checked_and_its_other_files_are_named(tmp_path: Path) -> None:
    store = open_store(tmp_path / "run")
    label(store).finish()
    relabel_run(StoredRun(store), COWS, text_of(COWS))
    folder = f"generations/{StoredRun(store).manifest['id']}/masks"
    store.create(f"{folder}/shard-000001 copy.parquet", b"")
    put(store, "failures.jsonl", b"no line\n")
    damage(store, f"{folder}/shard-000002.parquet")
    found = repair_stored_run(store)
    assert [note for note in found.notes if "shard-000001 copy.parquet is no file of the run" in note]
    assert [fault.mend for fault in found.faults] == [Mend.SET_ASIDE, Mend.DROP_LINES]
    assert store.read("failures.jsonl") == b""
    assert not check_stored_run(store).faults
