"""File names of other systems find their photos; what is ambiguous is refused by name."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from fiftyone_fixture import fiftyone_db
from test_import_cases import FIELD, build, coco, written

from gem_label.errors import UsageError
from gem_label.progress import finish
from gem_label.review.exchange.corrections import import_corrections
from gem_label.review.exchange.photo_names import match_photos

__all__ = ["fiftyone_db"]

PHOTOS = {
    "top": "/p/1.png",
    "a": "/p/a/1.png",
    "b": "/p/b/1.png",
    "other": "/p/a/x y.png",
    "ü": "/p/b/für.png",
}


@pytest.mark.parametrize(
    ("name", "photo"),
    [
        ("1.png", "top"),
        ("a/1.png", "a"),
        (r"a\1.png", "a"),
        (r"C:\Users\me\a\1.png", "a"),
        ("/data/set/7/b/1.png", "b"),
        ("/p/a/1.png", "a"),
        ("./a//1.png", "a"),
        ("x y.png", "other"),
        ("x%20y.png", "other"),
        ("file:///p/a/x%20y.png", "other"),
        ("/data/local-files/?d=a%2Fx%20y.png", "other"),
        ("cb0618f6-x y.png", "other"),
        ("upload/1/cb0618f6-x%20y.png", "other"),
        (unicodedata.normalize("NFD", "für.png"), "ü"),
        (unicodedata.normalize("NFC", "b/für.png"), "ü"),
        ("f%C3%BCr.png", "ü"),
        ("2.png", None),
        ("", None),
        ("/", None),
        ("a/", None),
        ("%", None),
        ("\x00", None),
    ],
)
def test_a_name_finds_its_photo(name: str, photo: str | None) -> None:
    assert match_photos(PHOTOS, [name]) == [photo]


def test_the_longest_common_end_decides() -> None:
    assert match_photos({1: "/p/a/1.png"}, ["b/1.png", "a/1.png", "z/a/1.png"]) == [None, 1, None]
    assert match_photos({1: "/p/1.png"}, ["/data/7/1.png"]) == [1]
    assert match_photos({1: "/p/1.png"}, ["i/1.png", r"i\1.png"]) == [1, 1]
    assert match_photos({1: "/p/a%20b.png", 2: "/p/a b.png"}, ["a%20b.png", "a b.png"]) == [1, 2]
    assert match_photos({1: "/p/cb0618f6-1.png", 2: "/p/1.png"}, ["1.png", "cb0618f6-1.png"]) == [2, 1]
    assert match_photos({}, ["1.png"]) == [None]


def test_a_name_without_a_suffix_finds_its_photo_by_the_rest() -> None:
    photos = {1: "/p/a/IMG.2024.jpg", 2: "/p/b/IMG.2024.jpg", 3: "/p/c", 4: "/p/c.png", 5: "/p/d.png.png"}
    assert match_photos(photos, ["b/IMG.2024", r"a\IMG.2024", "c", "x", "d.png"]) == [2, 1, 3, None, None]
    assert match_photos({1: "/p/a.jpg"}, ["a", "a.jpg"]) == [None, 1]
    with pytest.raises(UsageError, match="'z' could be any of 2 photos"):
        match_photos({1: "/p/z.jpg", 2: "/p/z.png"}, ["z"])


@pytest.mark.parametrize(
    ("photos", "names", "problem"),
    [
        (("/p/a/1.png", "/p/b/1.png"), ["c/1.png"], "'c/1.png' could be any of 2 photos"),
        (("/p/a/1.png", "/p/b/1.png"), ["1.png"], "'1.png' could be any of 2 photos"),
        (("/p/1.png",), ["x/1.png", "y/1.png"], "'x/1.png' and 'y/1.png' could both be /p/1.png"),
    ],
)
def test_what_is_ambiguous_is_refused_by_name(
    photos: tuple[str, ...], names: list[str], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        match_photos(dict(enumerate(photos)), names)


def test_the_report_counts_the_photos_that_matched(fiftyone_db: str, tmp_path: Path) -> None:
    import fiftyone as fo

    dataset = build(tmp_path, "photo names", ("1.png", "a/1.png", "b/2.png"))

    def rename(content: dict[str, Any]) -> None:
        content["images"] += [
            {"id": 2, "file_name": "A%2F1.png".lower(), "width": 64, "height": 48},
            {"id": 3, "file_name": r"D:\b\2.png"},
            {"id": 4, "file_name": "3.png", "width": 64, "height": 48},
        ]
        content["annotations"] = [{**a, "image_id": i} for a in content["annotations"] for i in (1, "3")]
        for number, annotation in enumerate(content["annotations"]):
            annotation["id"] = number
            del annotation["mask_id"], annotation["attributes"]

    report = finish(import_corrections(dataset, FIELD, written(tmp_path, coco(rename))))
    assert (report.photos, report.unknown, report.unchanged, report.missing) == (3, 1, 6, 3)
    assert (report.decision, report.problems) == (None, [])
    fo.delete_dataset(dataset.name)
