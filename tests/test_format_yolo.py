"""YOLO folders of ours: what ultralytics finds in them, and what comes back."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from format_factory import NASTY, blobs, by_name, encode, iou, photos
from numpy.typing import NDArray

from gem_label.errors import GemLabelError, UsageError
from gem_label.formats.annotations import AnnotatedMask, AnnotatedPhoto, Annotations, unusable
from gem_label.formats.drawing import WriteSettings
from gem_label.formats.yolo.reading import is_yolo_folder, read_yolo
from gem_label.formats.yolo.side_file import SIDE_FILE
from gem_label.formats.yolo.writing import place, write_yolo
from gem_label.progress import finish

NAMES = [
    "a.jpg",
    "sub folder/ü,猫.png",
    "empty.jpg",
    'quo"te.jpg',
    "line\nbreak.jpg",
    "a.png",
    "images/b.jpg",
    ".h.jpg",
]
KEPT = ("label", "mask_id", "id", "score", "margin", "state")


def like_ultralytics(folder: Path) -> dict[str, list[tuple[str, NDArray[np.float32]]]]:
    """Class and polygon of every line by image below the folder, found and parsed as ultralytics 8.4 does."""
    data = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))
    names = {int(key): str(name) for key, name in data["names"].items()}
    assert sorted(names) == list(range(len(names)))
    images = (folder / data["train"]).resolve().glob("**/*.*")
    found = {}
    for image in sorted(images):
        labels = "/labels/".join(str(image).rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"
        lines = [
            line.split() for line in Path(labels).read_text("utf-8-sig").strip().splitlines() if line.strip()
        ]
        polygons = [np.array(line[1:], np.float32).reshape(-1, 2) for line in lines]
        assert all(len(line) > 6 for line in lines)
        assert all(points.min() >= 0 and points.max() <= 1 for points in polygons)
        found[image.relative_to(folder.resolve() / data["train"]).as_posix()] = [
            (names[int(line[0])], points) for line, points in zip(lines, polygons, strict=True)
        ]
    return found


def test_tools_find_every_photo_and_every_mask(tmp_path: Path) -> None:
    given = photos(tmp_path / "photos", NAMES)
    report = finish(write_yolo(given, tmp_path / "out"))
    found = like_ultralytics(tmp_path / "out")
    assert set(found) == {
        "a.jpg", "sub folder/ü,猫.png", "empty.jpg", 'quo"te.jpg', "line_break.jpg", "a~2.png", "images_/b.jpg",
        "_.h.jpg",
    }  # fmt: skip
    assert report.altered == {"photos with another name": 4}
    assert (report.photos, report.masks, report.outlines) == (8, 24, 24)
    before = by_name(given)
    for name, place_ in zip(NAMES, [*map(place, NAMES[:5]), "a~2.png", *map(place, NAMES[6:])], strict=True):
        photo, lines = before[name], found[place_]
        assert [label for label, _ in lines] == [mask.label for mask in photo.masks]
        height, width = photo.size or (0, 0)
        for mask, (_, points) in zip(photo.masks, lines, strict=True):
            fine = np.zeros(
                (height * 16, width * 16), np.uint8
            )  # OpenCV draws the border too, here a 16th of a pixel
            cv2.fillPoly(fine, [np.round(points * (width * 16, height * 16)).astype(np.int32)], 1)
            again = AnnotatedMask("", encode(fine[8::16, 8::16].astype(bool)))
            assert iou(mask, again, (height, width)) > report.lowest_iou - 0.02


@pytest.mark.parametrize("files", ["link", "copy", "list"])
def test_everything_about_a_mask_comes_back(tmp_path: Path, files: str) -> None:
    given = photos(tmp_path / "photos", NAMES[:4] + NAMES[5:])
    out = tmp_path / "out"
    report = finish(write_yolo(given, out, WriteSettings(photos=files)))  # type: ignore[arg-type]
    assert report.lowest_iou < 0.98
    assert is_yolo_folder(out)
    found = read_yolo(out)
    assert found.classes == NASTY
    before, after = by_name(given), by_name(found)
    assert (out / "images").exists() == (files != "list")
    assert set(after) == set(before)
    for name, photo in before.items():
        assert after[name].size == photo.size
        kept = [[getattr(mask, key) for key in KEPT] for mask in photo.masks]
        assert [[getattr(mask, key) for key in KEPT] for mask in after[name].masks] == kept
        for a, b in zip(photo.masks, after[name].masks, strict=True):
            assert iou(a, b, photo.size or (0, 0)) == 1.0
        if files != "list":
            assert os.path.samefile(str(after[name].path), str(photo.path)) == (files == "link")


def test_polygons_keep_what_the_report_says(tmp_path: Path) -> None:
    given = photos(tmp_path / "photos", [f"{i}.jpg" for i in range(8)], ["cat"])
    report = finish(write_yolo(given, tmp_path / "out"))
    (tmp_path / "out" / SIDE_FILE).unlink()
    after = by_name(read_yolo(tmp_path / "out"))
    pairs = [
        (a, b, photo.size or (0, 0))
        for photo in given.photos
        for a, b in zip(photo.masks, after[photo.name].masks, strict=True)
    ]
    values = [iou(*pair) for pair in pairs]
    # six decimals may take a pixel of a hundred to the other side of a border
    assert np.mean(values) == pytest.approx(report.mean_iou, abs=3e-3)
    assert min(values) == pytest.approx(report.lowest_iou, abs=2e-2)
    assert report.lowest_iou > 0.85


def one_photo(tmp_path: Path, masks: int = 4) -> tuple[Path, Path, list[AnnotatedMask]]:
    """A folder with one photo, its label file, and its masks."""
    given = photos(tmp_path / "photos", ["a.jpg"], ["cat", "dog"], masks)
    finish(write_yolo(given, tmp_path / "out"))
    return tmp_path / "out", tmp_path / "out/labels/train/a.txt", list(given.photos[0].masks)  # type: ignore[index]


def ids(folder: Path) -> list[str | None]:
    (photo,) = read_yolo(folder).photos
    return [mask.mask_id for mask in photo.masks]


def test_ids_follow_their_polygons_whatever_becomes_of_the_lines(tmp_path: Path) -> None:
    out, labels, masks = one_photo(tmp_path)
    lines = labels.read_text().splitlines()
    names = [mask.mask_id for mask in masks]
    labels.write_text("\n".join(lines[::-1]))
    assert ids(out) == names[::-1]
    labels.write_text("\n".join([lines[2], "0 0.1 0.1 0.2 0.1 0.2 0.2", lines[0]]))
    assert ids(out) == [names[2], None, names[0]]
    rounded = [" ".join(f"{float(value):.4g}" for value in line.split()) for line in lines]
    labels.write_text("\n".join(rounded))  # as a tool that reads and writes them does
    assert ids(out) == names
    labels.write_text("\n".join("1" + line[1:] for line in lines))
    assert ids(out) == names
    assert {mask.label for photo in read_yolo(out).photos for mask in photo.masks} == {"dog"}
    moved = np.array(lines[0].split()[1:], float) * 0.9
    labels.write_text("\n".join(["0 " + " ".join(map(str, moved)), *lines[1:]]))
    assert ids(out) == [None, *names[1:]]


def test_only_polygons_that_nobody_touched_stand_for_the_exact_mask(tmp_path: Path) -> None:
    out, labels, masks = one_photo(tmp_path)
    size = (60, 90)
    lines = labels.read_text().splitlines()

    def kept() -> list[bool]:
        (photo,) = read_yolo(out).photos
        return [iou(a, b, size) == 1.0 for a, b in zip(masks, photo.masks, strict=True)]

    labels.write_text("\n".join(" ".join(f"{float(value):g}" for value in line.split()) for line in lines))
    assert kept() == [True] * 4  # rewritten with six digits
    fields = lines[0].split()
    turned = [fields[0], *fields[7:], *fields[1:7]]
    labels.write_text("\n".join([" ".join(turned), *lines[1:]]))
    assert kept() == [True] * 4  # another point first
    middle = len(fields) // 4 * 2 + 1
    fields[middle] = f"{float(fields[middle]) + 1 / 90:.6f}"  # one point by one pixel
    labels.write_text("\n".join([" ".join(fields), *lines[1:]]))
    assert kept() == [False, True, True, True]
    labels.write_text("\n".join(lines))
    (photo,) = read_yolo(out).photos
    assert photo.masks[0].draw(120, 180).rle is not None  # the photo in another resolution
    text = (out / SIDE_FILE).read_text().replace('"rle_counts": "', '"rle_counts": "~')
    (out / SIDE_FILE).write_text(text)
    assert kept() == [False] * 4


def test_of_equal_polygons_the_label_tells_which_is_which(tmp_path: Path) -> None:
    mask = encode(blobs(np.random.default_rng(0), 50, 60))
    same = [AnnotatedMask(label, mask, mask_id=label) for label in ("cat", "dog")]
    finish(
        write_yolo(Annotations([AnnotatedPhoto("a.jpg", (50, 60), same)], ("cat", "dog")), tmp_path / "out")
    )
    labels = tmp_path / "out/labels/train/a.txt"
    lines = labels.read_text().splitlines()
    labels.write_text(lines[1])
    assert ids(tmp_path / "out") == ["dog"]
    labels.write_text("\n".join([*lines, lines[0]]))
    assert ids(tmp_path / "out") == ["cat", "dog", None]


def test_without_the_side_file_masks_have_no_ids(tmp_path: Path) -> None:
    out, _, _ = one_photo(tmp_path)
    (out / SIDE_FILE).write_text("{broken")
    with pytest.raises(UsageError, match="line 1: without that file"):
        read_yolo(out)
    (out / SIDE_FILE).unlink()
    assert ids(out) == [None] * 4


def test_only_folders_of_ours_are_replaced(tmp_path: Path) -> None:
    given = photos(tmp_path / "photos", ["a.jpg", "b.jpg"])
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.md").write_text("mine")
    with pytest.raises(UsageError, match="no YOLO folder of gem-label"):
        finish(write_yolo(given, out))
    (out / "notes.md").unlink()
    finish(write_yolo(given, out))
    (out / "labels/train.cache").write_text("of ultralytics")
    few = replace(given, photos=given.photos[:1])  # type: ignore[index]
    finish(write_yolo(few, out))
    assert sorted(path.name for path in (out / "labels/train").iterdir()) == ["a.txt"]
    assert (tmp_path / "photos/b.jpg").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]
    for name in ("weights.pt", "images/val"):
        (out / name).mkdir()
        with pytest.raises(UsageError, match=f"it holds '{name}' too"):
            finish(write_yolo(few, out))
        (out / name).rmdir()
    (out / "data.yaml").write_text("names: [cat]\ntrain: images/train\n")
    with pytest.raises(UsageError, match="no YOLO folder of gem-label"):
        finish(write_yolo(few, out))


def test_photos_that_are_only_in_the_old_folder_stay(tmp_path: Path) -> None:
    given = photos(tmp_path / "photos", ["a.jpg", "b.jpg"])
    out = tmp_path / "out"
    finish(write_yolo(given, out, WriteSettings(photos="copy")))
    shutil.rmtree(tmp_path / "photos")
    again = read_yolo(out)
    finish(write_yolo(again, out))  # links to photos inside would point to nothing
    assert not (out / "images/train/b.jpg").is_symlink()
    fewer = replace(again, photos=again.photos[:1])  # type: ignore[index]
    for settings in (WriteSettings(), WriteSettings(photos="list")):
        with pytest.raises(UsageError, match=r"only there is images/train/[ab]\.jpg"):
            finish(write_yolo(fewer, out, settings))
    assert len(list(read_yolo(out).photos)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    given = photos(tmp_path / "photos", ["a.jpg"])
    out = tmp_path / "out"
    finish(write_yolo(given, out))
    broken = replace(
        given, photos=[AnnotatedPhoto("a.jpg", (9, 9), [AnnotatedMask("no", unusable("no shape"))])]
    )
    with pytest.raises(GemLabelError, match="no shape"):
        finish(write_yolo(broken, out))
    assert ids(out) == [f"a.jpg#{i}" for i in range(4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]


def test_what_the_format_cannot_hold_is_counted(tmp_path: Path) -> None:
    specks = np.zeros((100, 120), bool)
    specks[::4, ::4] = True
    masks = [AnnotatedMask("cat", encode(specks)), AnnotatedMask("cat", encode(~specks), crowd=True)]
    given = Annotations([AnnotatedPhoto("far/away.jpg", (100, 120), masks)], ("cat",))
    report = finish(write_yolo(given, tmp_path / "out"))
    assert report.altered == {
        "photos that are not on this machine": 1,
        "masks whose smallest parts were dropped": 1,
        "masks that are no crowds any more": 1,
    }
    (photo,) = read_yolo(tmp_path / "out").photos
    assert (photo.name, photo.size, photo.path) == ("far/away.jpg", (100, 120), None)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("/abs/a.jpg", "abs/a.jpg"),
        ("../../a.jpg", "a.jpg"),
        (r"C:\x\a.jpg", "C:/x/a.jpg"),
        ("images/images/images", "images_/images_/images"),
        ("..", "photo"),
        ("a\0b.jpg", "a_b.jpg"),
        ("\udcff.jpg", "?.jpg"),
        ("a.txt/b.jpg", "a.txt_/b.jpg"),
        ("x" * 300 + ".jpg", "x" * 196 + ".jpg"),
    ],
)
def test_places_are_below_the_folder(name: str, found: str) -> None:
    assert place(name) == found


def test_mutated_folders_are_read_or_one_line(tmp_path: Path) -> None:
    given = photos(tmp_path / "photos", ["a.jpg", "b.jpg"], ["cat", "dog"], masks=2)
    out = tmp_path / "out"
    finish(write_yolo(given, out))
    names = ["data.yaml", SIDE_FILE, "labels/train/a.txt", "labels/train/b.txt"]
    whole = {name: (out / name).read_bytes() for name in names}
    rng = random.Random(3)
    odd = [
        b"",
        b"nan",
        b"inf",
        b"-1",
        b"1e308",
        b"9" * 40,
        b"{",
        b"]",
        b"\n",
        b"\0",
        b"\xff\xfe",
        b"..",
        b"/",
        b": ",
        b"&a",
    ]
    problems = []
    for _ in range(300):
        for name in rng.sample(names, rng.choice([1, 1, 2])):
            data = whole[name]
            for _ in range(rng.choice([1, 2, 6])):
                at = rng.randrange(len(data) + 1)
                data = data[:at] + rng.choice(odd) + data[at + rng.choice([0, 1, 5, 100]) :]
            (out / name).write_bytes(data)
        try:
            for photo in read_yolo(out).photos:
                for mask in photo.masks:
                    mask.draw(60, 90)
        except UsageError as error:
            problems.append(str(error))
        for name in names:
            (out / name).write_bytes(whole[name])
    assert problems
    assert not [text for text in problems if "\n" in text]
