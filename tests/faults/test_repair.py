"""`gem-label repair`: what is damaged is named and set aside, and the same `label` command labels it again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from random_run import ANIMALS, THINGS, open_writer, photos, rows_of, text_of, write_photo, write_run
from run_content import content, files_of, full_run
from shared_worker import join, work
from test_engines import save

from gem_label.cli import run as gem_label
from gem_label.errors import GemLabelError
from gem_label.runs import open_run, relabel_run
from gem_label.runs.repair import check_run, repair_run


def damage(path: Path, place: int | None = None) -> None:
    """Flip a bit of a byte, by default in the middle."""
    data = path.read_bytes()
    place = len(data) // 2 if place is None else place
    path.write_bytes(data[:place] + bytes([data[place] ^ 64]) + data[place + 1 :])


def test_a_whole_run_has_no_faults_and_is_not_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = full_run(tmp_path / "run")
    before = {path: path.read_bytes() for path in files_of(run.path)}
    assert gem_label(["repair", str(run.path), "--check"]) == 0
    assert capsys.readouterr().out == "checked 9 files with 11 photos and 33 masks\nfaults: 0\n"
    assert gem_label(["repair", str(run.path)]) == 0
    assert {path: path.read_bytes() for path in files_of(run.path)} == before


def test_a_damaged_shard_is_set_aside_and_labeled_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = rows_of(write_run(tmp_path / "whole", 20))
    run = write_run(tmp_path / "run", 20)
    shard = run.path / "masks" / "shard-000001.parquet"
    damage(shard)
    assert gem_label(["repair", str(run.path), "--check"]) == 1
    output = capsys.readouterr().out
    assert f"{shard} is damaged (the checksum of " in output
    assert "checked 5 files with 13 photos" in output
    assert "faults: 1\nphotos without masks: 7; the same `gem-label label` labels them" in output
    assert shard.exists()
    assert gem_label(["repair", str(run.path)]) == 0
    assert "[moved to the folder damaged]" in capsys.readouterr().out
    assert [path.name for path in (run.path / "damaged").iterdir()] == [shard.name]
    counts = open_run(run.path).manifest["counts"]
    rows = rows_of(open_run(run.path))
    assert (counts["photos"], counts["masks"]) == (13, len(rows))
    assert counts["kept"] == sum(row["kept"] for row in rows) == sum(counts["kept_by_class"].values())
    assert not open_run(run.path).manifest["finished"]
    with open_writer(run.path) as writer:
        todo = writer.register(photos(20))
        assert [photo.number for photo in todo] == list(range(8, 15))
        for photo in todo:
            write_photo(writer, photo)
    assert rows_of(open_run(run.path)) == expected
    assert not check_run(run.path).faults


def test_a_damaged_shard_of_a_shared_run_is_labeled_again(tmp_path: Path) -> None:
    folder = save(
        tmp_path / "photos", **{f"{i:02d}": color for i, color in enumerate(["red", "blue", "black"] * 3)}
    )
    out = tmp_path / "run"
    work(str(folder), str(out), 0, 1)
    counts = join(str(out)).finish()
    expected = rows_of(open_run(out))
    damage(out / "masks" / "shard-000001.parquet")
    with pytest.raises(GemLabelError, match=r"shard-000001\.parquet is damaged .*`gem-label repair"):
        join(str(out)).finish()
    (fault,) = repair_run(out).faults
    assert fault.path.name == "shard-000001.parquet"
    assert check_run(out).missing == 3  # and one that failed
    with pytest.raises(GemLabelError, match="1 of 3 chunks are missing"):
        join(str(out)).finish()
    work(str(folder), str(out), 0, 1)
    assert join(str(out)).finish() == counts
    assert rows_of(open_run(out)) == expected
    assert not check_run(out).faults


def test_repaired_photos_get_the_words_that_the_run_has_now(tmp_path: Path) -> None:
    expected = rows_of(write_run(tmp_path / "whole", 10, THINGS))
    run = relabel_run(write_run(tmp_path / "run", 10), THINGS, text_of(THINGS))
    damage(run.path / "masks" / "shard-000000.parquet")
    assert len(repair_run(run.path).faults) == 1
    with pytest.raises(GemLabelError, match="made with other settings"):
        open_writer(run.path, ANIMALS)
    with open_writer(run.path, THINGS) as writer:
        for photo in writer.register(photos(10)):
            write_photo(writer, photo, THINGS)
    assert [row["label"] for row in rows_of(open_run(run.path))] == [row["label"] for row in expected]


def test_every_file_that_can_be_repaired_is(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run")
    expected = content(run.path)
    names = ["masks/shard-000001.parquet", "masks/pending/9.parquet", "patches/3.npy"]
    for name in [*names, "failures.jsonl"]:
        damage(run.path / name)
    damage(run.path / "images.jsonl", 20)  # in the line of a photo whose shard is whole
    check = repair_run(run.path)
    assert sorted(str(fault.path.relative_to(run.path)) for fault in check.faults) == sorted(
        [*names, "images.jsonl", "failures.jsonl"]
    )
    for name in names:
        assert not (run.path / name).exists()
    assert sorted(path.name for path in (run.path / "damaged").iterdir()) == [
        "3.npy",
        "9.parquet",
        "shard-000001.parquet",
    ]
    assert not check_run(run.path).faults
    with open_writer(run.path, photos_per_shard=4, learned=run.learned) as writer:
        for photo in writer.register(photos(13)):
            if photo.number > 11:
                writer.fail(photo, "read", "broken")
            else:
                write_photo(writer, photo)
    found = content(run.path)
    for name in ("photos", "masks", "listing", "failures"):
        key = (lambda row: (row["image_number"], row["mask_id"])) if name == "masks" else str
        assert sorted(found[name], key=key) == sorted(expected[name], key=key), name


def test_a_copy_of_a_shard_is_set_aside(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 20)
    expected = rows_of(run)
    for _ in range(2):
        shutil.copy(run.path / "masks/shard-000000.parquet", run.path / "masks/shard-000007.parquet")
        (fault,) = repair_run(run.path).faults
        assert fault.problem.endswith("holds photo 1, which shard-000000.parquet holds too")
    assert sorted(path.name for path in (run.path / "damaged").iterdir()) == [
        "shard-000007-1.parquet",
        "shard-000007.parquet",
    ]
    assert rows_of(open_run(run.path)) == expected
    assert open_run(run.path).manifest["finished"]


@pytest.mark.parametrize("name", ["manifest.json", "learned.json"])
def test_what_cannot_be_repaired_is_said(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = full_run(tmp_path / "run")
    damage(run.path / name)
    assert gem_label(["repair", str(run.path)]) == 1
    output = capsys.readouterr()
    assert name in output.out + output.err
    assert (run.path / name).exists()


def _lose_lines(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[2:7]))


@pytest.mark.parametrize("lose", [_lose_lines, Path.unlink, damage], ids=["lines", "all", "bit"])
def test_a_listing_is_completed_from_the_shards(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    run = write_run(tmp_path / "run", 9)
    listing = list(run.listing())
    lose(run.path / "images.jsonl")
    (fault,) = repair_run(run.path).faults
    assert fault.path.name == "images.jsonl"
    assert list(open_run(run.path).listing()) == listing
    with open_writer(run.path) as writer:
        assert writer.register(photos(9)) == []


def test_repair_waits_for_no_writer(tmp_path: Path) -> None:
    with open_writer(tmp_path / "run") as writer:
        for photo in writer.register(photos(3)):
            write_photo(writer, photo)
        assert not check_run(tmp_path / "run").faults
        with pytest.raises(GemLabelError, match="is being written by another gem-label"):
            repair_run(tmp_path / "run")


def test_a_manifest_of_a_later_version_or_with_unknown_settings_is_one_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 3)
    manifest = json.loads((run.path / "manifest.json").read_text())
    del manifest["crc32"]
    settings = manifest["labeling"]["settings"]
    for changed, complaint in [
        (
            manifest | {"format": 99},
            r"is of gem-label 0\.1\.0, whose format this version cannot read: use that one",
        ),
        (
            {k: v for k, v in manifest.items() if k != "labeling"},
            r"has no labeling\.settings that can be read",
        ),
        (manifest | {"labeling": manifest["labeling"] | {"settings": settings | {"glow": 1}}}, "'?glow"),
    ]:
        (run.path / "manifest.json").write_text(json.dumps(changed))
        for use in (lambda: list(open_run(run.path).photo_masks()), lambda: open_writer(run.path)):
            with pytest.raises(GemLabelError, match=complaint) as caught:
                use()
            assert "\n" not in str(caught.value)
