"""gem_label.runs: what is written is read, whatever happens in between. No models: small random
embeddings.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from gem_label.errors import GemLabelError, UsageError
from gem_label.images import Photo
from gem_label.labeling import LabelSettings, label_maskset
from gem_label.masks import MaskSet, encode_mask
from gem_label.runs import Run, RunPhoto, RunWriter, open_run, relabel_run, search_run
from gem_label.runs.files import MANIFEST, MASKS, RELABEL_READY, REPLACED, read_jsonl
from gem_label.vocabulary import Vocabulary
from gem_label.words import WordsPerImage

DIM = 8
ANIMALS = Vocabulary.parse("cat; dog, puppy => dog; bird", background="sky")
COWS = Vocabulary.parse("cat; dog, puppy => dog; cow", background="sky")
TURNED = Vocabulary.parse("dog, puppy => dog; cat; bird", background="sky")
THINGS = Vocabulary.parse("bottle, cup", background="wall, floor")


def text_of(vocabulary: Vocabulary) -> NDArray[np.float32]:
    """A text encoder of sorts: the same phrase has the same unit vector everywhere."""
    rows = [np.random.default_rng(list(phrase.encode())).normal(size=DIM) for phrase in vocabulary.phrases]
    return np.array([row / np.linalg.norm(row) for row in rows], np.float32)


def make_photo(number: int) -> tuple[MaskSet, NDArray[np.float16]]:
    """The masks and class token that "the models" see in photo `number`; every fifth has no mask."""
    rng = np.random.default_rng(number)
    n = 0 if number % 5 == 0 else int(rng.integers(1, 6))
    counts = []
    for _ in range(n):
        mask = np.zeros((20, 30), bool)
        y, x, h, w = rng.integers(0, 15), rng.integers(0, 25), rng.integers(1, 9), rng.integers(1, 9)
        mask[y : y + h, x : x + w] = True
        counts.append(encode_mask(mask))
    embeddings = rng.normal(size=(n, DIM)).astype(np.float16).astype(np.float32) / 4
    masks = MaskSet(
        20,
        30,
        tuple(counts),
        rng.random(n).astype(np.float32),
        rng.random(n).astype(np.float32),
        rng.random((n, 2)).astype(np.float32),
        embeddings,
    )
    return masks, rng.normal(size=DIM).astype(np.float16)


def photos(n: int) -> list[Photo]:
    return [Photo(f"/photos/{i:04d}.jpg", f"{i:04d}") for i in range(1, n + 1)]


def open_writer(path: Path, vocabulary: Vocabulary = ANIMALS, **changes: Any) -> RunWriter:
    settings = {"clip": "random", "points": (4, 4)} | changes.pop("settings", {})
    options = {"embedding_dim": DIM, "logit_scale": 20.0, "photos_per_shard": 7} | changes
    return RunWriter.create_or_resume(path, settings=settings, vocabulary=vocabulary, **options)


def write_photo(
    writer: RunWriter,
    photo: RunPhoto,
    vocabulary: Vocabulary = ANIMALS,
    settings: LabelSettings | None = None,
    words: WordsPerImage | None = None,
) -> None:
    masks, token = make_photo(photo.number)
    allowed = None if words is None else words.allowed(vocabulary, photo.path, photo.image_id)
    labels = label_maskset(masks, text_of(vocabulary), vocabulary, 20.0, settings, allowed, token)
    writer.write(photo, masks, labels, token)


def write_run(path: Path, n: int, vocabulary: Vocabulary = ANIMALS, **changes: Any) -> Run:
    settings, words = changes.get("label_settings"), changes.pop("words", None)
    with open_writer(path, vocabulary, **changes) as writer:
        for photo in writer.register(photos(n)):
            write_photo(writer, photo, vocabulary, settings, words)
    return open_run(path)


def rows_of(run: Run) -> list[dict]:
    """All mask rows, in order of photo and mask."""
    rows = [row for table in run.tables() for row in table.to_pylist()]
    return sorted(rows, key=lambda row: (row["image_number"], int(row["mask_id"].rpartition("#")[2])))


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
        assert np.array_equal(masks.embeddings, expected.embeddings)
        assert np.array_equal(masks.points, expected.points)
        wanted = label_maskset(expected, text_of(ANIMALS), ANIMALS, 20.0)
        assert labels.names == wanted.names
        assert np.array_equal(labels.top_classes, wanted.top_classes)
        assert np.allclose(labels.score, wanted.score)
        assert np.array_equal(labels.margin, wanted.margin)
        assert np.array_equal(labels.kept, wanted.kept)
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
    assert len(row["embedding"]) == DIM
    assert str(table.schema.field("embedding").type).startswith("fixed_size_list<element: halffloat")


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
            RunPhoto(4, "/photos/0000.jpg", "0000"),
            RunPhoto(5, "/photos/0002.png", "0002.png"),  # "0002" is the .jpg's already
            RunPhoto(6, "/photos/0004.jpg", "0004"),
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
        ({"label_settings": LabelSettings(min_score=0.5)}, "min_score: was 0.0, is now 0.5"),
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


def test_only_one_process_writes(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "run")
    output = child("child_opens", tmp_path / "run").communicate(timeout=60)[0]
    assert f"is being written by another gem-label (process {os.getpid()})" in output
    with pytest.raises(GemLabelError, match="being written"):
        relabel_run(open_run(tmp_path / "run"), THINGS, text_of(THINGS))
    writer.close()
    open_writer(tmp_path / "run").close()


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
    with pytest.raises(GemLabelError, match=r"shard-000000.parquet is damaged .* delete it"):
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


def without_numbers(rows: list[dict]) -> list[dict]:
    """Rows with scores to float16 accuracy."""
    names = ("score", "margin", "top_scores")
    return [row | {name: np.float16(np.round(row[name], 3)).tolist() for name in names} for row in rows]


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("finished", [True, False])
def test_relabel_gives_what_label_would_have_given(tmp_path: Path, in_place: bool, finished: bool) -> None:
    table = {f"{i:04d}.jpg": ["cup"] for i in range(1, 12, 3)}
    for name, settings, words in [
        ("plain", LabelSettings(), None),
        ("strict", LabelSettings(min_score=0.6, top_k=1, containment=0.5), None),
        ("top", LabelSettings(image_top_k=1), WordsPerImage(table)),
    ]:
        digest = None if words is None else words.digest
        path = tmp_path / name / "run"
        write_run(path, 9)
        if not finished:  # photos in no shard yet
            writer = open_writer(path)
            for photo in writer.register(photos(12)):
                write_photo(writer, photo)
            writer._lock.close()
        n = 9 if finished else 12
        expected = write_run(
            tmp_path / name / "label", n, THINGS, label_settings=settings, words=words, words_per_image=digest
        )
        out = None if in_place else tmp_path / name / "out"
        run = relabel_run(
            open_run(path), THINGS, text_of(THINGS), label_settings=settings, words=words, out=out
        )
        assert run.path == (path if in_place else out)
        assert without_numbers(rows_of(run)) == without_numbers(rows_of(expected))
        assert [p.number for p in run.photos()] == list(range(1, n + 1))
        assert run.vocabulary == THINGS
        assert run.label_settings == settings
        assert run.manifest["labeling"] == expected.manifest["labeling"]
        for key in ("photos", "masks", "kept", "kept_by_class"):
            assert run.manifest["counts"][key] == expected.manifest["counts"][key]
        if not in_place:
            assert open_run(path).vocabulary == ANIMALS
            with pytest.raises(UsageError, match="exists already"):
                relabel_run(open_run(path), THINGS, text_of(THINGS), out=out)
        with open_writer(run.path, THINGS, label_settings=settings, words_per_image=digest) as writer:
            assert writer.register(photos(n)) == []  # `label` with the new words goes on from there


def test_relabel_refuses_embeddings_of_another_model(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 2)
    with pytest.raises(UsageError, match="use the CLIP model"):
        relabel_run(run, THINGS, np.zeros((len(THINGS.phrases), DIM + 1), np.float32))
    with pytest.raises(UsageError, match="'spoon' is not among the classes"):
        relabel_run(run, THINGS, text_of(THINGS), words=WordsPerImage({"0001": ["spoon"]}))
    assert open_run(run.path).vocabulary == ANIMALS


def test_search_finds_the_likest_masks(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 30)
    query = text_of(THINGS)[:2]
    rows = rows_of(run)
    similarity = np.array([row["embedding"] for row in rows], np.float32) @ query.T
    for embedding, best in ((query[0], similarity[:, 0]), (query, similarity.max(axis=1))):
        hits = search_run(run, embedding, top=10)
        expected = [rows[i]["mask_id"] for i in np.argsort(-best, kind="stable")[:10]]
        assert [hit.mask_id for hit in hits] == expected
        assert np.allclose([hit.similarity for hit in hits], np.sort(best)[::-1][:10])
    assert len(search_run(run, query, top=1000)) == len(rows)
    assert hits[0].image.startswith("/photos/")


# Kills. Each child does the same work as `write_run`, or relabels, until it is killed.


def child(function: str, path: Path) -> subprocess.Popen:
    code = "import sys; from pathlib import Path; import test_runs as t; getattr(t, sys.argv[1])(Path(sys.argv[2]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", code, function, str(path)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def child_opens(path: Path) -> None:
    try:
        open_writer(path)
    except GemLabelError as error:
        print(error)


def child_writes(path: Path) -> None:
    print("ready", flush=True)
    write_run(path, 120, photos_per_shard=5)


def child_relabels(path: Path) -> None:
    run = open_run(path)
    for vocabulary in (THINGS, ANIMALS) * 1000:
        run = relabel_run(run, vocabulary, text_of(vocabulary))
        print("ready", flush=True)


def kill_after(process: subprocess.Popen, seconds: float) -> bool:
    """Whether the kill came before the end."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_kill_and_resume_gives_the_rows_of_an_uninterrupted_run(tmp_path: Path) -> None:
    """kill -9 at random moments, again and again on the same run, with a reader after each."""
    whole = write_run(tmp_path / "whole", 120, photos_per_shard=5)
    rng, path, kills, done = random.Random(0), tmp_path / "run", 0, 0
    while kills < 8:
        if not kill_after(child("child_writes", path), rng.uniform(0.0, 0.35)):
            break
        kills += 1
        if (path / MANIFEST).exists():
            numbers = [photo.number for photo in open_run(path).photos()]
            assert (
                len(numbers) == len(set(numbers)) >= done
            )  # nothing twice, and nothing that was there is lost
            done = len(numbers)
    assert kills >= 2
    run = write_run(path, 120, photos_per_shard=5)
    assert rows_of(run) == rows_of(whole)
    assert sorted(p.number for p in run.photos()) == list(range(1, 121))
    assert run.manifest["counts"] == whole.manifest["counts"]
    assert not list(path.rglob("*.tmp"))


@pytest.mark.slow
def test_kill_while_relabelling_leaves_the_old_labels_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "run"
    expected = {
        vocabulary.classes: rows_of(write_run(tmp_path / vocabulary.classes[0], 60, vocabulary))
        for vocabulary in (ANIMALS, THINGS)
    }
    write_run(path, 60)
    rng = random.Random(1)
    for _ in range(7):
        assert kill_after(child("child_relabels", path), rng.uniform(0.0, 0.3))
        run = open_run(path)
        assert without_numbers(rows_of(run)) == without_numbers(expected[run.vocabulary.classes])
    with open_writer(path, run.vocabulary) as writer:
        assert writer.register(photos(60)) == []
    assert sorted(file.name for file in path.iterdir()) == [".lock", "images.jsonl", "manifest.json", "masks"]


@pytest.mark.parametrize("steps", range(5))
def test_a_relabel_killed_in_its_swap_is_finished_by_the_next_reader(tmp_path: Path, steps: int) -> None:
    """Every state that the swap can be left in."""
    run, other = write_run(tmp_path / "run", 10), write_run(tmp_path / "other", 10, THINGS)
    ready = run.path / RELABEL_READY
    swap: list[Callable[[], object]] = [
        lambda: os.rename(run.path / MASKS, run.path / REPLACED),
        lambda: os.rename(ready / MASKS, run.path / MASKS),
        lambda: os.replace(ready / MANIFEST, run.path / MANIFEST),
        lambda: ready.rmdir(),
    ]
    ready.mkdir()
    os.rename(other.path / MASKS, ready / MASKS)
    os.rename(other.path / MANIFEST, ready / MANIFEST)
    for step in swap[:steps]:
        step()
    after = open_run(run.path)
    assert after.vocabulary == THINGS
    assert set(after.vocabulary.classes) >= {row["label"] for row in rows_of(after)} - {None}
    assert len(list(after.photos())) == 10
    assert not ready.exists()


def child_fills_the_disk(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))  # stands for a full disk
    print("ready", flush=True)
    try:
        write_run(path, 40, photos_per_shard=20)
    except OSError as error:
        print(type(error).__name__, error.errno, flush=True)


def test_a_full_disk_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    process = child("child_fills_the_disk", tmp_path / "run")
    output = process.communicate(timeout=60)[0]
    assert "OSError 27" in output
    done = len(list(open_run(tmp_path / "run").photos()))
    assert 0 < done < 40
    assert rows_of(write_run(tmp_path / "run", 40, photos_per_shard=20)) == rows_of(
        write_run(tmp_path / "whole", 40, photos_per_shard=20)
    )


def test_names_that_are_not_utf8_survive_in_the_listing(tmp_path: Path) -> None:
    name = os.fsdecode(b"/photos/b\xfcro.jpg")
    with open_writer(tmp_path / "run") as writer:
        photo = writer.register([Photo(name, os.fsdecode(b"b\xfcro"))])[0]
        writer.fail(photo, "read", "the file's name is not UTF-8: rename it")
    run = open_run(tmp_path / "run")
    assert [photo.path for photo in run.listing()] == [name]
    assert [failure.image for failure in run.failures()] == [name]
    json.loads((run.path / MANIFEST).read_text())
