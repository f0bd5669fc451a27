"""Tables: what is written comes back the same; what cannot be read is one line."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_factory import NASTY, by_name, iou, photos

from gem_label.errors import GemLabelError, UsageError
from gem_label.formats.annotations import AnnotatedMask, Annotations, unusable
from gem_label.formats.table.reading import read_csv, read_parquet
from gem_label.formats.table.writing import COLUMNS, write_csv, write_parquet
from gem_label.progress import finish

NAMES = ["a.jpg", "sub folder/ü,猫.png", "empty.jpg", 'quo"te.jpg', "line\nbreak.jpg", "=cmd.jpg"]
KEPT = ("label", "mask_id", "id", "score", "margin", "state", "crowd")


def write(annotations: Annotations, path: Path) -> Path:
    writer = write_csv if path.suffix == ".csv" else write_parquet
    finish(writer(annotations, path))
    return path


def read(path: Path) -> Annotations:
    data = path.read_bytes()
    return read_csv(path, data.decode()) if path.suffix == ".csv" else read_parquet(path, data)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_everything_about_a_mask_comes_back(tmp_path: Path, suffix: str) -> None:
    given = photos(tmp_path, NAMES)
    first = given.photos[0]  # type: ignore[index]
    crowd = replace(first.masks[0], crowd=True, id="seven", mask_id=None)
    given = replace(given, photos=[replace(first, masks=[crowd, *first.masks[1:]]), *given.photos[1:]])  # type: ignore[index]
    found = read(write(given, tmp_path / f"table{suffix}"))
    assert [photo.name for photo in found.photos] == NAMES
    assert found.count == len(NAMES)
    for before, after in zip(given.photos, found.photos, strict=True):
        assert (after.size, after.path) == (before.size, before.path)
        assert [[getattr(mask, key) for key in KEPT] for mask in after.masks] == [
            [getattr(mask, key) for key in KEPT] for mask in before.masks
        ]
        for a, b in zip(before.masks, after.masks, strict=True):
            assert iou(a, b, before.size or (0, 0)) == 1.0
            assert b.size == before.size
    if suffix == ".parquet":
        assert found.classes == NASTY
        assert found.folder == str(tmp_path)
    else:
        assert found.classes == tuple(sorted(NASTY))


def test_texts_that_spreadsheets_run_are_marked_and_come_back(tmp_path: Path) -> None:
    text = write(photos(tmp_path, NAMES), tmp_path / "table.csv").read_text()
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row[:10]]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t")]
    assert "'=1+1" in cells
    assert "''=x" in cells


def test_pandas_reads_both_tables(tmp_path: Path) -> None:
    given = photos(tmp_path, NAMES)
    tables = [
        pd.read_csv(write(given, tmp_path / "a.csv"), keep_default_na=False, na_values=[""]),
        pd.read_parquet(write(given, tmp_path / "a.parquet")),
    ]
    for table in tables:
        assert list(table.columns) == list(COLUMNS)
        masks = table.dropna(subset="rle_counts")
        assert len(masks) == sum(len(photo.masks) for photo in given.photos)
        assert set(table.photo) >= {"a.jpg", "line\nbreak.jpg"}
        assert (masks.area > 0).all()
    tables[1].to_parquet(tmp_path / "b.parquet")  # numbers with gaps become floats, None becomes NaN
    again = read_parquet(tmp_path / "b.parquet", (tmp_path / "b.parquet").read_bytes())
    assert [mask.id for mask in by_name(again)["a.jpg"].masks] == [1000, 1001, 1002, 1003]
    assert by_name(again)["empty.jpg"].masks == []
    tables[1].to_csv(tmp_path / "b.csv", index=False)
    again = read_csv(tmp_path / "b.csv", (tmp_path / "b.csv").read_text())
    assert [mask.id for mask in by_name(again)["a.jpg"].masks] == [1000, 1001, 1002, 1003]


def test_names_that_are_no_text_are_written_with_escapes(tmp_path: Path) -> None:
    mask = replace(photos(None, ["a"]).photos[0].masks[0], label="b\udcff", mask_id="x\0y")  # type: ignore[index]
    given = photos(None, ["a\udcff.jpg"])
    given = replace(given, photos=[replace(given.photos[0], masks=[mask])], classes=("b\udcff",))  # type: ignore[index]
    for suffix in (".csv", ".parquet"):
        found = read(write(given, tmp_path / f"t{suffix}"))
        (photo,) = found.photos
        assert (photo.name, photo.masks[0].label, photo.masks[0].mask_id) == (
            r"a\udcff.jpg",
            r"b\udcff",
            r"x\x00y",
        )
    report = finish(write_csv(given, tmp_path / "t.csv"))
    assert report.altered == {"masks with text that UTF-8 cannot hold": 1}


def test_what_a_spreadsheet_saves_is_read(tmp_path: Path) -> None:
    path = Path("t.csv")
    text = (
        "sep=;\r\nLabel; Photo ;X;Y;W;H;Score;Notes\r\ncat;a.jpg;1,5;2;10;5;0,75;hm\r\ndog;a.jpg;0;0;4;4\r\n"
        ";b.jpg\r\n;;;;;;;\r\n"
    )
    found = by_name(read_csv(path, text))
    cat, dog = found["a.jpg"].masks
    assert (cat.label, cat.score, cat.box) == ("cat", 0.75, (1.5, 2.0, 10.0, 5.0))
    assert dog.draw(20, 20).rle is not None
    assert found["b.jpg"].masks == []
    tabs = by_name(read_csv(path, text.removeprefix("sep=;\r\n").replace(";", "\t").replace(",", ".")))
    assert tabs["a.jpg"].masks[0].score == 0.75


def test_long_run_lengths_pass_the_limit_of_the_csv_module() -> None:
    counts = "111" + "0" * 299_997  # every pixel of its own; differences from the fourth on
    (photo,) = read_csv(Path("t.csv"), f"photo,label,rle_counts\na.jpg,cat,{counts}\n").photos
    assert photo.masks[0].draw(1000, 300).rle is not None
    assert photo.masks[0].size is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no columns photo and label"),
        ("photo,rle_counts\na,b\n", "no columns photo and label"),
        ("photo,label\na,b\n", "no column rle_counts"),
        ("photo,label,x,y,w\na,b,1,2,3\n", "no column rle_counts"),
        ("photo,label,rle_counts\n,cat,04\n", "row 1 names no photo"),
    ],
)
def test_tables_that_are_none_say_what_is_missing(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read_csv(Path("t.csv"), text)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a,cat,999,4,4,,,,", "do not cover"),
        ("a,cat,,4,4,,,,", "no mask"),
        ("a,cat,,4,4,1,2,,", "no list of four numbers"),
        ("a,cat,,4,4,1,2,-3,4", "a box of -3 x 4"),
        ("a,cat,#NAME?,4,4,,,,", "run lengths"),
        ("a,,04,4,4,,,,", "no label"),
        ("a,cat,0@0,5,4,,,,", "5"),
    ],
)
def test_rows_that_are_no_mask_are_reported_by_number(row: str, problem: str) -> None:
    (photo,) = read_csv(Path("t.csv"), f"photo,label,rle_counts,height,width,x,y,w,h\n{row}\n").photos
    (mask,) = photo.masks
    shape = mask.draw(4, 4)
    assert shape.rle is None
    assert problem in shape.problems[0]
    assert mask.name == "row 1"


def test_parquet_streams_in_groups(tmp_path: Path) -> None:
    given = photos(None, ["a.jpg"], masks=1)
    (photo,) = given.photos
    shape = photo.masks[0].draw(*(photo.size or (0, 0)))
    masks = [AnnotatedMask("no", lambda height, width: shape)] * 100
    many = replace(given, photos=(replace(photo, name=f"{i}.jpg", masks=masks) for i in range(104)))
    assert list(write_parquet(many, tmp_path / "t.parquet")) == list(range(100, 10_401, 100))
    file = pq.ParquetFile(tmp_path / "t.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [10_000, 400]


def test_a_mask_that_cannot_be_drawn_leaves_no_file(tmp_path: Path) -> None:
    given = photos(None, ["a.jpg"])
    broken = replace(
        given, photos=[replace(given.photos[0], masks=[AnnotatedMask("no", unusable("no shape"))])]
    )  # type: ignore[index]
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(GemLabelError, match="no shape"):
            write(broken, tmp_path / name)
    assert not list(tmp_path.iterdir())


def draw_all(annotations: Annotations) -> None:
    for photo in annotations.photos:
        for mask in photo.masks:
            mask.draw(*(photo.size if photo.size and max(photo.size) < 10_000 else (64, 64)))


def test_mutated_csv_is_read_or_one_line(tmp_path: Path) -> None:
    path = write(photos(None, NAMES[:3], masks=2), tmp_path / "t.csv")
    text, rng = path.read_text(), random.Random(5)
    odd = ["", "nan", "inf", "-1", "1e308", '"', "'", ",", ";", "\n", "9" * 30, "\ud800", "x", "=1"]
    problems = []
    for _ in range(400):
        mutated = text
        for _ in range(rng.choice([1, 2, 8])):
            at = rng.randrange(len(mutated))
            mutated = mutated[:at] + rng.choice(odd) + mutated[at + rng.choice([0, 1, 5, 200]) :]
        try:
            draw_all(read_csv(path, mutated))
        except UsageError as error:
            problems.append(str(error))
    assert problems
    assert not [text for text in problems if "\n" in text]


def test_mutated_parquet_is_read_or_one_line(tmp_path: Path) -> None:
    path = write(photos(None, NAMES[:3], masks=2), tmp_path / "t.parquet")
    data, rng = path.read_bytes(), random.Random(5)
    problems = []
    for _ in range(400):
        mutated = bytearray(data)
        for _ in range(rng.choice([1, 2, 8])):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        if rng.random() < 0.2:
            del mutated[rng.randrange(len(mutated)) :]
        try:
            draw_all(read_parquet(path, bytes(mutated)))
        except UsageError as error:
            problems.append(str(error))
    assert problems
    assert not [text for text in problems if "\n" in text]


def test_parquet_columns_of_other_types_are_read_or_reported() -> None:
    columns = {
        "photo": pa.array(["a", "a", "a"]).dictionary_encode(),
        "label": pa.array(["cat", None, "dog"], pa.large_string()),
        "rle_counts": pa.array([b"04", None, b"\xff"], pa.binary()),  # pycocotools gives bytes
        "score": pa.array([0.5, float("nan"), 0.0], pa.float32()),
        "width": pa.array([2.0, None, 2.0]),
        "height": pa.array(["2", None, "2"]),
        "mask_id": pa.array([5, 6, 7]),
        "extra": pa.array([{"deep": [1]}, None, None]),
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    (photo,) = read_parquet(Path("t.parquet"), sink.getvalue()).photos
    assert photo.size == (2, 2)
    assert [(mask.label, mask.score) for mask in photo.masks] == [("cat", 0.5), ("", None), ("dog", 0.0)]
    assert photo.masks[0].draw(2, 2).rle == {"size": [2, 2], "counts": b"04"}
    assert photo.masks[2].draw(2, 2).problems == ("run lengths that are no text",)
