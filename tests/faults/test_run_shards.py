"""Shards that are not what a run holds: each fault is one line that names the file and says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from random_run import (
    ANIMALS,
    THINGS,
    make_photo,
    open_writer,
    photos,
    rows_of,
    text_of,
    write_photo,
    write_run,
)
from run_content import as_earlier_version, content, full_run, replaced, rewrite

from gem_label.errors import GemLabelError
from gem_label.labeling import label_maskset
from gem_label.runs import Run, open_run, relabel_run, search_run
from gem_label.runs.export import export_run
from gem_label.runs.repair import check_run

SHARD = "shard-000000.parquet"


def swapped(values: list[Any]) -> list[Any]:
    return [*values[1:], values[0]]


FAULTS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "no column": (lambda t: t.drop_columns("rle_counts"), "it has no column rle_counts"),
    "no embedding": (lambda t: t.drop_columns("embedding"), "it has no column embedding"),
    "two columns": (lambda t: t.append_column("score", t["margin"]), "it has 2 columns score"),
    "another type": (
        lambda t: t.set_column(8, "area", t["area"].cast(pa.float64())),
        "its column area has the type double, not int64",
    ),
    "vectors of another length": (
        lambda t: t.set_column(
            t.schema.get_field_index("embedding"), "embedding", pa.array([b"12"] * len(t), pa.binary(2))
        ),
        r"its column embedding has the type fixed_size_binary\[2\]",
    ),
    "not a number": (
        replaced("score", lambda v: [float("nan"), *v[1:]]),
        "column score has numbers that are not",
    ),
    "an infinite scale": (
        replaced("embedding_scale", lambda v: [np.float16("inf"), *v[1:]]),
        "its column embedding_scale has numbers that are not finite",
    ),
    "not a number in a list": (
        replaced("top_scores", lambda v: [[float("nan")] * len(each) for each in v]),
        "its column top_scores has numbers that are not finite",
    ),
    "lists of other lengths": (
        replaced("top_scores", lambda v: [each[:1] for each in v]),
        "columns top_labels and top_scores have lists of different lengths",
    ),
    "run lengths of another mask": (
        replaced("rle_counts", lambda v: ["04", *v[1:]]),
        "the run lengths of mask 0001#0 do not cover 20 x 30 pixels",
    ),
    "run lengths that do not end": (
        replaced("rle_counts", lambda v: ["o", *v[1:]]),
        "mask 0001#0 do not cover",
    ),
    "no run lengths": (replaced("rle_counts", lambda v: [*v[:-1], ""]), "do not cover"),
    "the same mask twice": (
        replaced("mask_id", lambda v: [v[1], *v[1:]]),
        "its column mask_id does not count",
    ),
    "rows in another order": (replaced("mask_id", swapped), "its column mask_id does not count"),
    "rows of other photos": (
        replaced("image_number", lambda v: [each + 100 for each in v]),
        "its column image_number does not match its list of photos",
    ),
    "overlaps with masks that come later": (
        replaced("overlap_with", lambda v: [[5] * len(each) for each in v]),
        "its column overlap_with names masks that are not before their own",
    ),
    "fewer rows": (lambda t: t.slice(1), "its rows do not fit its list of photos"),
}


def uses(run: Run, out: Path) -> list[Callable[[], object]]:
    """Everything that reads masks."""
    return [
        lambda: relabel_run(run, THINGS, text_of(THINGS), out=out / "relabeled"),
        lambda: export_run(run, out / "masks.json"),
        lambda: search_run(run, text_of(ANIMALS)[:1]),
        lambda: open_writer(run.path, photos_per_shard=4),
    ]


@pytest.mark.parametrize("name", FAULTS)
def test_rows_that_no_run_holds_are_refused(tmp_path: Path, name: str) -> None:
    """In a run of a version that wrote no checksums; where there are some, any change is found by them."""
    change, complaint = FAULTS[name]
    run = write_run(tmp_path / "run", 12)
    as_earlier_version(run.path)
    rewrite(run.path / "masks" / SHARD, change)
    run = open_run(run.path)
    with pytest.raises(GemLabelError, match=complaint) as caught:
        rows_of(run)
    assert f"masks/{SHARD} is damaged (" in str(caught.value)
    assert f"`gem-label repair {run.path}` sets it aside" in str(caught.value)
    assert "\n" not in str(caught.value)
    for fault in check_run(run.path).faults:
        assert fault.path.name == SHARD
    with pytest.raises(GemLabelError, match=complaint):
        relabel_run(run, THINGS, text_of(THINGS))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: rows[0].pop("image"), "photo 0 of its list has no image that can be read"),
        (lambda rows: rows[0].update(width=0), "photo 0 of its list has no width that can be read"),
        (lambda rows: rows[1].update(masks=-1), "photo 1 of its list has no masks that can be read"),
        (lambda rows: rows[1].update(number=1), "two of its photos have the same number"),
        (lambda rows: rows[1].update(image_id="0001"), "two of its photos have the same image_id"),
        (lambda rows: rows[0].update(grid=[1, "2"]), "photo 0 of its list has no grid that can be read"),
        (lambda rows: rows.pop(), "photos"),
    ],
)
def test_lists_of_photos_that_no_run_holds_are_refused(
    tmp_path: Path, change: Callable[[list[dict[str, Any]]], object], complaint: str
) -> None:
    run = write_run(tmp_path / "run", 4)
    as_earlier_version(run.path)
    rewrite(run.path / "masks" / SHARD, lambda table: table, change)
    with pytest.raises(GemLabelError, match=complaint) as caught:
        list(open_run(run.path).photos())
    assert f"masks/{SHARD} is damaged (" in str(caught.value)


def test_a_run_of_an_earlier_version_is_read_and_resumed(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run")
    expected = content(run.path)
    as_earlier_version(run.path)
    found = content(run.path)
    del expected["manifest"]["id"]
    assert found == expected
    with open_writer(run.path, photos_per_shard=4, learned=run.learned) as writer:
        for photo in writer.register(photos(13)):
            write_photo(writer, photo)
    assert len(list(open_run(run.path).photos())) == 13
    again = relabel_run(open_run(run.path), ANIMALS, text_of(ANIMALS))
    assert again.manifest["id"]
    assert not check_run(run.path).faults


def test_columns_and_fields_of_a_later_version_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 4)
    rows = rows_of(run)
    as_earlier_version(run.path)

    def add(listed: list[dict[str, Any]]) -> None:
        for photo in listed:
            photo["camera"] = "new"

    rewrite(run.path / "masks" / SHARD, lambda t: t.append_column("depth", t["score"]), add)
    assert rows_of(open_run(run.path)) == rows
    assert len(list(relabel_run(open_run(run.path), THINGS, text_of(THINGS)).photos())) == 4


def test_a_shard_under_two_names_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 12)
    masks = run.path / "masks"
    shutil.copy(masks / SHARD, masks / "shard-000009.parquet")
    for use in [lambda: rows_of(run), *uses(run, tmp_path)]:
        with pytest.raises(
            GemLabelError,
            match=rf"shard-000009\.parquet holds photo 1, which {SHARD} holds too: `gem-label repair",
        ):
            use()


def test_a_stray_file_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", 12)
    masks, rows = run.path / "masks", rows_of(run)
    capsys.readouterr()
    for name in ("shard-000000 copy.parquet", "notes.txt", ".DS_Store"):
        shutil.copy(masks / SHARD, masks / name)
    assert rows_of(open_run(run.path)) == rows
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("masks/")[2] for line in lines] == [
        "notes.txt is no file of the run and is left out: move it away",
        "shard-000000 copy.parquet is no file of the run and is left out: move it away",
    ]
    assert export_run(run, tmp_path / "a.json").masks == sum(row["kept"] for row in rows)


def test_a_shard_of_another_run_is_named(tmp_path: Path) -> None:
    """Of the same settings and photos even: its labels may be of other words."""
    run, other = write_run(tmp_path / "run", 12), write_run(tmp_path / "other", 12)
    shutil.copy(other.path / "masks" / SHARD, run.path / "masks" / SHARD)
    with pytest.raises(GemLabelError, match=rf"{SHARD} is of another run: `gem-label repair"):
        rows_of(run)
    relabeled = relabel_run(other, ANIMALS, text_of(ANIMALS))
    shutil.copy(run.path / "masks" / SHARD, relabeled.path / "masks" / SHARD)  # from before
    with pytest.raises(GemLabelError, match="is of another run"):
        rows_of(open_run(other.path))


def test_a_reader_says_that_its_run_was_relabeled_or_removed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 12)
    relabel_run(open_run(run.path), THINGS, text_of(THINGS))
    with pytest.raises(GemLabelError, match=r"run was relabeled since it was opened: open it again"):
        rows_of(run)
    run = open_run(run.path)
    with run.shards() as shards:
        next(shards)
        shutil.rmtree(run.path)
        with pytest.raises(GemLabelError, match=r"run was removed while it was read"):
            next(shards)


def test_photos_behind_the_end_of_the_listing_are_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 12)
    listing = run.path / "images.jsonl"
    listing.write_bytes(b"".join(listing.read_bytes().splitlines(keepends=True)[:3]))
    with pytest.raises(
        GemLabelError, match=r"images\.jsonl ends with photo 3, but .* holds photo 7: `gem-label rep"
    ):
        rows_of(open_run(run.path))
    with open_writer(run.path) as writer:  # writes it again
        assert writer.register(photos(12)) == []
    assert len(rows_of(open_run(run.path))) == len(rows_of(write_run(tmp_path / "whole", 12)))


@pytest.mark.parametrize("name", ["embeddings", "predicted_iou", "token"])
def test_numbers_of_models_that_are_not_finite_fail_their_photo(tmp_path: Path, name: str) -> None:
    with open_writer(tmp_path / "run") as writer:
        todo = writer.register(photos(3))
        masks, token = make_photo(1)
        labels = label_maskset(masks, text_of(ANIMALS), ANIMALS, 20.0)
        if name == "token":
            token[0] = np.nan
        else:
            values = getattr(masks, name).copy()
            values[0] = np.nan
            masks = replace(masks, **{name: values})
        with np.errstate(invalid="ignore"):
            writer.write(todo[0], masks, labels, token)
        write_photo(writer, todo[1])
    run = open_run(tmp_path / "run")
    assert [photo.number for photo in run.photos()] == [2]
    (failure,) = run.failures()
    assert (failure.image_id, failure.stage) == ("0001", "label")
    assert failure.error.startswith("the models gave ")
    assert failure.error.endswith("finite")
