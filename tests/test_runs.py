"""gem_label.runs: what is written is read, and a run resumes where it stopped."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from random_run import (
    ANIMALS,
    COWS,
    DIM,
    TURNED,
    make_photo,
    open_writer,
    photos,
    rows_of,
    text_of,
    vectors_of,
    write_photo,
    write_run,
)

from gem_label.errors import GemLabelError, UsageError
from gem_label.labeling import LabelSettings, Thresholds, label_maskset
from gem_label.overlaps import find_overlaps
from gem_label.photos.photo import Photo
from gem_label.runs import open_run, relabel_run, search_run
from gem_label.runs.files import MANIFEST, MASKS
from gem_label.runs.jsonl import read_jsonl


def test_what_is_written_is_read(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 23)
    assert [shard.name for shard in sorted((run.path / MASKS).glob("*.parquet"))] == [
        f"shard-{i:06d}.parquet" for i in range(4)
    ]
    seen = 0
    for number, (photo, masks, labels) in enumerate(run.photo_masks(), start=1):
        expected, token = make_photo(number)
        assert (photo.number, photo.image, photo.image_id) == (
            number,
            f"/photos/{number:04d}.jpg",
            f"{number:04d}",
        )
        assert (photo.width, photo.height, photo.masks) == (30, 20, len(expected))
        assert photo.embedding is not None
        assert np.array_equal(photo.embedding, token)
        assert masks.counts == expected.counts
        assert masks.embeddings is not None
        assert expected.embeddings is not None
        assert expected.surrounds is not None
        assert np.array_equal(masks.embeddings, expected.embeddings)
        assert np.array_equal(masks.surrounds, expected.surrounds)
        assert masks.grid == expected.grid
        assert masks.overlaps is not None
        for name in ("first", "second", "share"):
            assert np.array_equal(getattr(masks.overlaps, name), getattr(find_overlaps(expected), name))
        assert np.array_equal(masks.points, expected.points)
        wanted = label_maskset(expected, text_of(ANIMALS), ANIMALS, 20.0, image_embedding=token)
        assert labels.names == wanted.names
        assert np.array_equal(labels.top_classes, wanted.top_classes)
        assert np.allclose(labels.score, wanted.score)
        assert np.array_equal(labels.margin, wanted.margin)
        assert np.array_equal(labels.kept, wanted.kept)
        assert np.array_equal(labels.selected, wanted.selected)
        seen += 1
    assert seen == 23
    rows = rows_of(run)
    counts = run.manifest["counts"]
    assert (counts["listed"], counts["photos"], counts["failed"]) == (23, 23, 0)
    assert counts["masks"] == len(rows)
    assert counts["kept"] == sum(row["kept"] for row in rows) == sum(counts["kept_by_class"].values())
    assert run.manifest["finished"] is True
    assert run.manifest["versions"]["pyarrow"]
    assert next(iter(run.photo_masks(embeddings=False)))[1].embeddings is None


def test_the_parquet_files_stand_on_their_own(tmp_path: Path) -> None:
    """The contract of the run directory: any parquet reader sees one row a mask with these columns."""
    run = write_run(tmp_path / "run", 9)
    table = pq.read_table(run.path / MASKS, filters=None, ignore_prefixes=[".", "pending"])
    assert len(table) == len(rows_of(run))
    row = table.to_pylist()[0]
    masks, _ = make_photo(row["image_number"])
    assert row["mask_id"] == f"{row['image_id']}#0"
    assert row["bbox"] == masks.boxes[0].tolist()
    assert row["area"] == masks.areas[0]
    assert row["rle_counts"].encode() == masks.counts[0]
    assert len(row["top_labels"]) == len(row["top_scores"]) == 3
    assert "sky" not in set(table["label"].to_pylist())
    assert masks.surrounds is not None
    for name, vectors in (("embedding", masks.embeddings), ("surround", masks.surrounds)):
        assert vectors is not None
        assert np.allclose(vectors_of([row], name)[0], vectors[0])
    for name in ("embedding", "surround_difference"):
        assert str(table.schema.field(name).type) == f"fixed_size_binary[{DIM}]"
    assert set(table["selected"].to_pylist()) == {True, False}


def test_a_run_of_format_1_is_read_and_relabeled(tmp_path: Path) -> None:
    """tests/fixtures/run_format_1 is what `write_run(path, 9)` of the version before surrounds wrote."""
    shutil.copytree(Path(__file__).parent / "fixtures" / "run_format_1", tmp_path / "run")
    run = open_run(tmp_path / "run")
    before = rows_of(run)
    assert not run.has_surrounds
    assert sum(len(masks) for _, masks, _ in run.photo_masks()) == len(before) == 32
    kept = 0
    for _, masks, labels in run.photo_masks(embeddings=False):
        assert masks.surrounds is None
        assert np.array_equal(labels.selected, labels.kept)
        kept += int(labels.kept.sum())
    assert kept == run.manifest["counts"]["kept"] == 23
    assert len(search_run(run, text_of(ANIMALS)[0], top=5)) == 5
    assert run.label_settings.min_score == Thresholds(0.0)
    relabeled = relabel_run(run, ANIMALS, text_of(ANIMALS))
    after = rows_of(relabeled)
    same = ("mask_id", "rle_counts", "embedding", "bbox", "area")
    assert [[row[name] for name in same] for row in after] == [[row[name] for name in same] for row in before]
    assert {row["label"] for row in after} <= {"cat", "dog", "bird", None}
    for _, masks, labels in relabeled.photo_masks():
        assert masks.overlaps is not None  # found once, and stored
        assert len(labels) == len(masks)
    again = relabel_run(relabeled, ANIMALS, text_of(ANIMALS))
    assert rows_of(again) == after
    with pytest.raises(UsageError, match="format: was 1, is now 3"):
        open_writer(run.path)


def test_a_resumed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = write_run(tmp_path / "whole", 20)
    for stop in (0, 11):
        path = tmp_path / f"stopped{stop}"
        writer = open_writer(path)
        todo = writer.register(photos(20))
        for photo in todo[:stop]:
            write_photo(writer, photo)
        writer._lock.close()  # what a kill leaves: nothing closed, nothing gathered
        before = open_run(path)
        assert len(list(before.photos())) == stop
        assert before.manifest["finished"] is False
        with open_writer(path) as writer:
            rest = writer.register(photos(20))
            assert [photo.number for photo in rest] == list(range(stop + 1, 21))
            for photo in rest:
                write_photo(writer, photo)
        run = open_run(path)
        assert rows_of(run) == rows_of(whole)
        assert run.manifest["counts"] == whole.manifest["counts"]
        assert run.manifest["finished"] is True


def test_a_folder_that_grew_keeps_numbers_and_ids(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 3)
    more = [Photo("/photos/0000.jpg", "0000"), Photo("/photos/0002.png", "0002"), *photos(4)]
    with open_writer(run.path) as writer:
        todo = writer.register(more)
        assert todo == [
            Photo("/photos/0000.jpg", "0000", 4),
            Photo("/photos/0002.png", "0002.png", 5),  # "0002" is the .jpg's already
            Photo("/photos/0004.jpg", "0004", 6),
        ]
    assert [photo.number for photo in open_run(run.path).listing()] == [1, 2, 3, 4, 5, 6]


def test_failures_are_recorded_and_tried_again(tmp_path: Path) -> None:
    with open_writer(tmp_path / "run") as writer:
        for photo in writer.register(photos(4)):
            if photo.number in (1, 3):
                writer.fail(photo, "read", "broken:\n two lines")
            else:
                write_photo(writer, photo)
    run = open_run(tmp_path / "run")
    assert run.manifest["counts"]["failed"] == 2
    assert [(f.image_id, f.stage, f.error) for f in run.failures()] == [
        ("0001", "read", "broken: two lines"),
        ("0003", "read", "broken: two lines"),
    ]
    with open_writer(run.path) as writer:
        todo = writer.register(photos(5))
        assert [photo.number for photo in todo] == [5, 1, 3]  # what failed before comes last
        write_photo(writer, todo[1])
        writer.fail(todo[2], "propose", "OutOfMemoryError: still")
    assert [(f.image_id, f.stage) for f in open_run(run.path).failures()] == [("0003", "propose")]
    assert [row["image_id"] for row in read_jsonl(run.path / "failures.jsonl")] == ["0003"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"settings": {"points": (8, 8)}}, r"settings.points: now"),
        ({"settings": {"clip": "other"}}, "settings.clip: was 'random', is now 'other'"),
        ({"vocabulary": COWS}, r"vocabulary.classes: now without \['bird'\] and with \['cow'\]"),
        ({"vocabulary": TURNED}, "vocabulary.classes: in another order"),
        ({"label_settings": LabelSettings(min_score=0.5)}, "min_score: was 0.4, is now 0.5"),
        ({"weights": {"sam": "abc"}}, "weights.sam"),
        ({"words_per_image": "abc"}, "words_per_image"),
    ],
)
def test_other_settings_are_refused_with_the_difference(
    tmp_path: Path, changes: dict, complaint: str
) -> None:
    write_run(tmp_path / "run", 1)
    with pytest.raises(UsageError, match=complaint):
        open_writer(tmp_path / "run", **changes)
    open_writer(tmp_path / "run").close()  # and the lock is free again


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(GemLabelError, match="is not a run"):
        open_run(tmp_path / "gone")
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UsageError, match="holds other files"):
        open_writer(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / MANIFEST).write_text('{"format": 99}')
    with pytest.raises(GemLabelError, match="another version"):
        open_writer(tmp_path / "run")


def test_a_photo_in_a_shard_and_still_pending_counts_once(tmp_path: Path) -> None:
    """What a kill leaves between the shard's rename and the end of the clean-up."""
    path = tmp_path / "run"
    writer = open_writer(path)
    for photo in writer.register(photos(7))[:6]:
        write_photo(writer, photo)
    pending = {file.name: file.read_bytes() for file in (path / MASKS / "pending").iterdir()}
    writer.close()
    for name, data in list(pending.items())[2:]:
        (path / MASKS / "pending" / name).write_bytes(data)
    (path / MASKS / "pending" / ".7.parquet.tmp").write_bytes(b"half")
    (path / MASKS / "pending" / "7.parquet").write_bytes(b"PAR1 cut by a power failure")
    with open_writer(path) as writer:
        assert [photo.number for photo in writer.register(photos(7))] == [7]
        assert list((path / MASKS / "pending").iterdir()) == []
        write_photo(writer, writer.register(photos(7))[0])
    assert rows_of(open_run(path)) == rows_of(write_run(tmp_path / "whole", 7))


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 3)
    shard = run.path / MASKS / "shard-000000.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(GemLabelError, match=r"shard-000000.parquet is damaged .* `gem-label repair "):
        list(run.photos())
    shard.unlink()
    with open_writer(run.path) as writer:
        assert len(writer.register(photos(3))) == 3


def test_reading_while_a_writer_gathers_shards(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with open_writer(path, photos_per_shard=5) as writer:
        todo = writer.register(photos(12))
        for photo in todo[:9]:
            write_photo(writer, photo)
        reading = open_run(path).photos()
        numbers = [next(reading).number]  # photos 6 to 9 are pending
        for photo in todo[9:]:
            write_photo(writer, photo)  # gathers 6 to 10 into a shard
        numbers += [photo.number for photo in reading]
    assert numbers == list(range(1, 10))


def test_patches_are_kept_when_asked_for(tmp_path: Path) -> None:
    patches = np.random.default_rng(0).random((3, 4, DIM)).astype(np.float32)
    with open_writer(tmp_path / "run") as writer:
        photo = writer.register(photos(1))[0]
        masks, token = make_photo(1)
        writer.write(photo, masks, label_maskset(masks, text_of(ANIMALS), ANIMALS, 20.0), token, patches)
    run = open_run(tmp_path / "run")
    stored = run.patches(1)
    assert stored is not None
    assert stored.dtype == np.float16
    assert np.array_equal(stored, patches.astype(np.float16))
    assert run.patches(2) is None


def test_names_that_are_not_utf8_survive_in_the_listing(tmp_path: Path) -> None:
    name = os.fsdecode(b"/photos/b\xfcro.jpg")
    with open_writer(tmp_path / "run") as writer:
        photo = writer.register([Photo(name, os.fsdecode(b"b\xfcro"))])[0]
        writer.fail(photo, "read", "the file's name is not UTF-8: rename it")
    run = open_run(tmp_path / "run")
    assert [photo.path for photo in run.listing()] == [name]
    assert [failure.image for failure in run.failures()] == [name]
    json.loads((run.path / MANIFEST).read_text())
