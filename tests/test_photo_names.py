"""File names of other systems find their photos; what is ambiguous is refused by name."""

from __future__ import annotations

import unicodedata

import pytest

from gem_label.errors import UsageError
from gem_label.formats.photo_names import match_photos, pair_photos

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
        ("https://bucket.host/p/a/x%20y.png?X-Signature=a%2Fb&e=1#x", "other"),
        ("HTTP://host/a/1.png?", "a"),
        ("x%20y.png?v=2", None),
        ("C%3A%5Cp%5Ca%5Cx%20y.png", "other"),
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
        (
            ("/p/a/1.png", "/p/b/1.png"),
            ["1.png"],
            "'1.png' could be any of 2 photos, /p/a/1.png or /p/b/1.png",
        ),
        (("/p/a/1.png", "/p/b/1.png"), ["a/1.png", "1.png"], "'1.png' could be any of 2 photos"),
        (("/p/1.png", "/p/1.png"), ["1.png"], "'1.png' could be any of 2 photos"),
        (("/p/1.png",), ["x/1.png", "y/1.png"], "'x/1.png' and 'y/1.png' could both be /p/1.png"),
    ],
)
def test_what_is_ambiguous_is_refused_by_name(
    photos: tuple[str, ...], names: list[str], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        match_photos(dict(enumerate(photos)), names)


def test_names_of_photos_that_are_not_there_are_no_ambiguity() -> None:
    assert match_photos({1: "/p/c/1.png"}, ["a/1.png", "b/1.png", "c/1.png"]) == [None, None, 1]
    photos = {1: "/p/a/1.png", 2: "/p/b/1.png"}
    assert match_photos(photos, ["c/1.png", "a/1.png", "b/1.png"]) == [None, 1, 2]
    # the folder of a part of the photos makes no name exact that shares less
    assert match_photos({1: "/p/a/1.png"}, ["1.png", "a/1.png"]) == [None, 1]


def test_photos_have_names_of_other_systems_too() -> None:
    photos = {1: "upload/1/cb0618f6-x%20y.png", 2: r"images\z.png"}
    assert match_photos(photos, ["x y.png", "a/z.png"]) == [1, 2]
    assert match_photos(photos | {3: "x y.png"}, ["x y.png"]) == [3]


def test_photos_of_two_sources_are_paired_one_to_one() -> None:
    labeled = {1: "/data/a/1.jpg", 2: "/data/b/1.jpg", 3: "/data/c/1.jpg", 4: "/data/b/2.jpg"}
    names = {"x": "b/1.jpg", "y": "a/1.jpg", "z": "other\\2.jpg"}
    assert pair_photos(labeled, names) == {1: "y", 2: "x", 4: "z"}
    assert list(pair_photos(labeled, names)) == [1, 2, 4]
    assert pair_photos({1: "/data/1.jpg"}, {"x": "2.jpg"}) == {}
    assert pair_photos({1: "/data/x1.jpg"}, {"x": "1.jpg"}) == {}  # whole names
    with pytest.raises(
        UsageError, match=r"^'1.jpg' could be any of 3 photos, /data/a/1.jpg or /data/b/1.jpg"
    ):
        pair_photos(labeled, {"x": "1.jpg"})
    with pytest.raises(UsageError, match=r"^'a/1.jpg' and 'b/1.jpg' could both be /data/1.jpg"):
        pair_photos({1: "/data/1.jpg"}, {"x": "a/1.jpg", "y": "b/1.jpg"})
    with pytest.raises(UsageError, match=r"^'1.jpg' and './1.jpg' could both be /data/1.jpg: each photo"):
        pair_photos({1: "/data/1.jpg"}, {"x": "1.jpg", "y": "./1.jpg"})


def test_many_photos_of_the_same_name_take_no_time_each() -> None:
    count = 20_000
    photos = {i: f"/data/{i // 100}/{i}/rgb.png" for i in range(count)}
    assert match_photos(photos, [f"{i}/rgb.png" for i in range(count)]) == list(range(count))
