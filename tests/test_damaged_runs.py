"""Runs whose files were cut, emptied or changed: one line says what to do, and `label` redoes what can be redone."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from random_run import ANIMALS, open_writer, photos, rows_of, text_of, write_photo, write_run

from gem_label.errors import GemLabelError, UsageError
from gem_label.photos.photo import Photo
from gem_label.runs import open_run, relabel_run
from gem_label.runs.files import FAILURES, IMAGES, MANIFEST, MASKS, PENDING
from gem_label.runs.jsonl import append_jsonl, json_line, last_row, read_jsonl, repair_jsonl

WHOLE = [{"number": 1, "name": "ä"}, {"number": 2, "name": "b"}]
LINES = b"".join(map(json_line, WHOLE))
CUT = [
    b'{"number": 3, "na',
    "{'ü".encode()[:-1],
    bytes(4096),
    bytes(512) + b"\n",
    b'{"number": 3, "name": "\0\0\0\0\0\0',
]


@pytest.mark.parametrize("rest", CUT)
def test_a_cut_last_line_is_left_out_and_repaired(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINES + rest)
    assert list(read_jsonl(path)) == WHOLE
    assert repair_jsonl(path) == ([] if not rest.strip(b"\0\n") else [3])
    assert path.read_bytes() == LINES
    append_jsonl(path, {"number": 4})
    assert list(read_jsonl(path)) == [*WHOLE, {"number": 4}]


def test_a_whole_last_line_without_its_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n\r\n").rstrip())
    assert list(read_jsonl(path)) == WHOLE
    assert repair_jsonl(path) == []
    assert path.read_bytes() == LINES
    assert list(read_jsonl(tmp_path / "gone.jsonl")) == repair_jsonl(tmp_path / "gone.jsonl") == []


@pytest.mark.parametrize(
    "line", [b'{"number": 3, "na', b"[3]", b"nonsense", b"\xff\xfe", b'{"number": "3"}', b"[" * 100_000]
)
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINES + line + b"\n" + LINES)
    with pytest.raises(GemLabelError, match=r"rows\.jsonl, line 3 is damaged: delete that line$"):
        list(read_jsonl(path, {"number": int}))
    assert repair_jsonl(path, {"number": int}) == [3]
    assert path.read_bytes() == LINES + LINES


def test_a_damaged_last_line_with_its_end_is_named(tmp_path: Path) -> None:
    """A kill leaves no line end, so this line is no cut one."""
    path = tmp_path / "rows.jsonl"
    for line in (b'{"number": 3, "na', json_line(WHOLE[0]).replace(b'"number": 1', b'"number": 5').rstrip()):
        path.write_bytes(LINES + line + b"\n")
        with pytest.raises(GemLabelError, match=r"rows\.jsonl, line 3 is damaged"):
            list(read_jsonl(path))
        assert repair_jsonl(path) == [3]
        assert list(read_jsonl(path)) == WHOLE


def test_lines_without_checksums_are_read(tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"number": 1, "name": "ä"}\n{"number": 2, "name": "b"}\n', encoding="utf-8")
    assert list(read_jsonl(path)) == WHOLE
    assert last_row(path, {"number": int}) == WHOLE[1]
    assert repair_jsonl(path) == []
    assert path.read_bytes() == LINES


def test_an_append_begins_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINES + b'{"number": 3, "na')
    append_jsonl(path, {"number": 4})
    assert repair_jsonl(path) == [3]
    assert list(read_jsonl(path)) == [*WHOLE, {"number": 4}]


def test_zeros_before_a_line_are_no_damage(tmp_path: Path) -> None:
    """A power cut left zeros, and an earlier version appended to them."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(bytes(100) + LINES)
    assert list(read_jsonl(path)) == WHOLE


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINES)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(LINES) + 10, hard))  # stands for a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            append_jsonl(path, {"number": 3, "name": "too long"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == LINES


def failing_run(path: Path) -> Path:
    with open_writer(path) as writer:
        for photo in writer.register(photos(4)):
            if photo.number > 2:
                writer.fail(photo, "read", "broken")
            else:
                write_photo(writer, photo)
    return path / FAILURES


@pytest.mark.parametrize("rest", [b'{"image": "/photos/00', bytes(100)])
def test_failures_cut_by_a_kill_do_not_stop_the_next_session(tmp_path: Path, rest: bytes) -> None:
    failures = failing_run(tmp_path / "run")
    failures.write_bytes(failures.read_bytes() + rest)
    assert len(open_run(tmp_path / "run").failures()) == 2
    with open_writer(tmp_path / "run") as writer:
        todo = writer.register(photos(5))
        assert [photo.number for photo in todo] == [5, 3, 4]
        writer.fail(todo[0], "read", "broken too")
        write_photo(writer, todo[1])
    assert [f.image_id for f in open_run(tmp_path / "run").failures()] == ["0004", "0005"]


def test_damage_inside_failures_is_named_and_mended_by_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = failing_run(tmp_path / "run")
    first, second = failures.read_bytes().splitlines()
    failures.write_bytes(first[:30] + first + b"\n" + second + b"\n")  # what appending to a cut line made
    with pytest.raises(GemLabelError, match=r"line 1 is damaged: the same `gem-label label` drops that line"):
        open_run(tmp_path / "run").failures()
    with open_writer(tmp_path / "run") as writer:
        assert "failures.jsonl, line 1 was cut or damaged" in capsys.readouterr().err
        assert [photo.number for photo in writer.register(photos(4))] == [3, 4]
    assert [f.image_id for f in open_run(tmp_path / "run").failures()] == ["0004"]


def test_damage_inside_the_listing_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 3)
    lines = (run.path / IMAGES).read_bytes().splitlines(keepends=True)
    other = json_line({"number": 1, "image": "/photos/9999.jpg", "image_id": "9999"})
    for damaged, complaint in {
        b"".join(
            [lines[0], b"nonsense\n", lines[2]]
        ): r"images\.jsonl, line 2 is damaged: restore the file, or del",
        b"".join([lines[1], lines[0]]): r"images\.jsonl: photo 1 follows photo 2",
        b"".join([lines[0].replace(b"0001", b"9999"), *lines[1:]]): r"images\.jsonl, line 1 is damaged",
        b"".join([other, *lines[1:]]): r"has /photos/9999.jpg as photo 1, whose masks",
    }.items():
        (run.path / IMAGES).write_bytes(damaged)
        with pytest.raises(GemLabelError, match=complaint):
            open_writer(run.path)


@pytest.mark.parametrize("lost", ["last line", "part of the last line", "all"])
def test_a_lost_listing_is_written_again_with_the_same_numbers(tmp_path: Path, lost: str) -> None:
    run = write_run(tmp_path / "run", 3)
    before, path = list(run.listing()), run.path / IMAGES
    content = path.read_bytes()
    path.write_bytes(content[: -len(content.splitlines()[-1]) - 1 if lost == "last line" else -9])
    if lost == "all":
        path.unlink()
    # a photo that sorts before them is new: it must not get the number of a finished one
    with open_writer(run.path) as writer:
        todo = writer.register([Photo("/photos/0000.jpg", "0000"), *photos(3)])
        assert [(photo.number, photo.image_id) for photo in todo] == [(4, "0000")]
    assert list(open_run(run.path).listing())[:3] == before


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "manifest.json is empty: restore it from a copy, or label the photos into another --out"),
        ('{"format": 2, "sett', r"manifest.json is damaged \("),
        ("[]", "another version"),
        ('{"format": 2}', "has no settings that can be read"),
        ("[" * 100_000, r"manifest.json is damaged \("),
    ],
)
def test_a_damaged_manifest_is_one_line(tmp_path: Path, content: str, complaint: str) -> None:
    run = write_run(tmp_path / "run", 1)
    (run.path / MANIFEST).write_text(content)
    for use in (open_run, open_writer):
        with pytest.raises(GemLabelError, match=complaint):
            use(run.path)


@pytest.mark.parametrize(
    ("where", "value", "complaint"),
    [
        (("labeling", "settings", "min_score"), 1.5, "labeling.settings .* between 0 and 1, not 1.5"),
        (("labeling", "settings", "min_score"), "high", "labeling.settings that cannot be used"),
        (("labeling", "settings", "top_k"), 0, "top_k"),
        (("labeling", "settings", "top_k"), None, "top_k"),
        (("labeling", "settings"), {}, "no min_score"),
        (("labeling", "logit_scale"), "20", "has no labeling.logit_scale that can be read"),
        (("embedding_dim",), None, "has no embedding_dim"),
        (("vocabulary", "classes"), "cat", "has no vocabulary.classes"),
        (("vocabulary", "classes"), [], "has vocabulary that cannot be used"),
    ],
)
def test_a_manifest_changed_by_hand_is_one_line(
    tmp_path: Path, where: tuple[str, ...], value: object, complaint: str
) -> None:
    run = write_run(tmp_path / "run", 1)
    manifest = json.loads((run.path / MANIFEST).read_text())
    part = manifest
    for name in where[:-1]:
        part = part[name]
    part[where[-1]] = value
    (run.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(GemLabelError, match=r"crc32 does not match|that can be read"):
        open_run(run.path)
    del manifest["crc32"]  # as the message says
    (run.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(GemLabelError, match=complaint):
        list(open_run(run.path).photo_masks())
    with pytest.raises(UsageError if len(where) > 2 or value == {} else GemLabelError):
        open_writer(run.path)


def test_a_broken_pending_photo_is_labeled_again(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "run")
    for photo in writer.register(photos(5))[:4]:
        write_photo(writer, photo)
    writer._lock.close()  # what a kill leaves
    pending = tmp_path / "run" / MASKS / PENDING
    for number, damage in enumerate(
        [
            lambda d: b"",
            lambda d: d[: len(d) // 2],
            lambda d: d[:8] + bytes(len(d) // 2) + d[len(d) // 2 + 8 :],
        ],
        1,
    ):
        path = pending / f"{number}.parquet"
        path.write_bytes(damage(path.read_bytes()))
    shutil.copy(pending / "4.parquet", pending / "4 (copy).parquet")
    with pytest.raises(
        GemLabelError, match=r"1\.parquet is damaged .* the same `gem-label label` labels its photos"
    ):
        rows_of(open_run(tmp_path / "run"))
    with open_writer(tmp_path / "run") as writer:
        todo = writer.register(photos(5))
        assert [photo.number for photo in todo] == [1, 2, 3, 5]
        for photo in todo:
            write_photo(writer, photo)
    assert rows_of(open_run(tmp_path / "run")) == rows_of(write_run(tmp_path / "whole", 5))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_cut_shard_is_named(tmp_path: Path, kept: float) -> None:
    run = write_run(tmp_path / "run", 3)
    shard = run.path / MASKS / "shard-000000.parquet"
    data = shard.read_bytes()
    shard.write_bytes(data[: int(len(data) * kept)])
    for use in (
        rows_of,
        lambda run: open_writer(run.path),
        lambda run: relabel_run(run, ANIMALS, text_of(ANIMALS)),
    ):
        with pytest.raises(
            GemLabelError, match=r"shard-000000.parquet is damaged .* `gem-label repair "
        ) as caught:
            use(run)
        assert "\n" not in str(caught.value)
    shard.write_bytes(data[:8] + bytes(len(data) // 2) + data[len(data) // 2 + 8 :])  # the end is whole
    with pytest.raises(GemLabelError, match=r"shard-000000.parquet is damaged .* `gem-label repair "):
        rows_of(run)


def test_damaged_patches_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 1)
    (run.path / "patches").mkdir()
    for content in (b"", b"nonsense", b"\x93NUMPY\x01\x00v\x00"):
        (run.path / "patches" / "1.npy").write_bytes(content)
        with pytest.raises(GemLabelError, match=r"1\.npy is damaged"):
            run.patches(1)
    np.save(run.path / "patches" / "1.npy", np.zeros((2, 2, 3), np.float16))
    assert run.patches(1) is not None
