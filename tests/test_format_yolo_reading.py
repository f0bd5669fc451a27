"""YOLO folders of other tools: their layouts, lines of every kind, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from format_factory import encode, iou
from PIL import Image

from gem_label.errors import UsageError
from gem_label.formats.annotations import AnnotatedMask
from gem_label.formats.yolo.reading import read_yolo

SQUARE = "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"


def put(root: Path, files: Mapping[str, str]) -> Path:
    """Write files; images are 40 x 20 pixels."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".jpg", ".png")):
            Image.new("RGB", (40, 20)).save(path)
        else:
            path.write_text(text, encoding="utf-8")
    return root


LAYOUTS: dict[str, tuple[dict[str, str], list[tuple[str, int]]]] = {
    "roboflow": (
        {
            "data.yaml": "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: [cat]\n",
            "README.dataset.txt": "hello",
            "train/images/a.jpg": "", "train/labels/a.txt": SQUARE,
            "valid/images/b.jpg": "", "valid/labels/b.txt": SQUARE,
        },
        [("a.jpg", 1), ("b.jpg", 1)],
    ),
    "plain": (
        {
            "data.yaml": "path: /else/ds\ntrain: images/train\nval: [images/val, images/more]\nnames: {0: cat}\n",
            "images/train/s/a.jpg": "", "labels/train/s/a.txt": SQUARE,
            "images/val/a.jpg": "", "labels/val/a.txt": f"{SQUARE}\n\n{SQUARE}\n",
            "images/more/c.png": "",
        },
        [("s/a.jpg", 1), ("a.jpg", 2), ("c.png", 0)],
    ),
    "the same name in two splits": (
        {
            "data.yaml": "train: images/train\nval: images/val\nnames: {0: cat}\n",
            "images/train/a.jpg": "", "labels/train/a.txt": SQUARE,
            "images/val/a.jpg": "", "labels/val/a.txt": "",
        },
        [("images/train/a.jpg", 1), ("images/val/a.jpg", 0)],
    ),
    "absolute paths of another machine": (
        {
            "data.yaml": "train: 'C:\\data\\ds\\images\\train'\nval: /x/ds/images/train\nnames: {0: cat}\n",
            "images/train/a.jpg": "", "labels/train/a.txt": SQUARE,
        },
        [("a.jpg", 1)],
    ),
    "labels alone": (
        {
            "data.yaml": "train: images/train\nnames: {0: cat}\n",
            "labels/train/s/IMG.2024.txt": SQUARE, "labels/train/classes.txt": "cat",
        },
        [("s/IMG.2024", 1)],
    ),
    "a list, as CVAT writes it": (
        {
            "data.yaml": "path: ./\ntrain: train.txt\nnames:\n  0: cat\n",
            "train.txt": "data/images/train/a.jpg\n./images/train/b.jpg\n/far/c.jpg\n",
            "labels/train/a.txt": SQUARE, "labels/train/c.txt": SQUARE,
        },
        [("data/images/train/a.jpg", 1), ("images/train/b.jpg", 0), ("/far/c.jpg", 1)],
    ),
    "labels beside photos": (
        {"data.yaml": "train: all\nnames: [cat]\n", "all/a.jpg": "", "all/a.txt": SQUARE, "all/classes.txt": "cat"},
        [("a.jpg", 1)],
    ),
    "no split that is there": (
        {"data.yaml": "train: nowhere\nnames: [cat]\n", "x/labels/a.txt": SQUARE, "x/images/a.jpg": ""},
        [("a.jpg", 1)],
    ),
    "nothing but the root": (
        {"data.yaml": "train: .\nnames: [cat]\n", "images/a.jpg": "", "labels/a.txt": SQUARE, "README.txt": "hm"},
        [("images/a.jpg", 1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_other_tools(tmp_path: Path, layout: str) -> None:
    files, wanted = LAYOUTS[layout]
    for path in (put(tmp_path / "ds", files), tmp_path / "ds/data.yaml"):
        found = read_yolo(path)
        assert [(photo.name, len(photo.masks)) for photo in found.photos] == wanted
        for photo in found.photos:
            for mask in photo.masks:
                shape = mask.draw(20, 40)
                assert mask.label == "cat"
                assert shape.rle is not None
            assert photo.size == ((20, 40) if photo.path else None)


def test_photos_that_were_not_unpacked_give_their_names(tmp_path: Path) -> None:
    files = {name: text for name, text in LAYOUTS["roboflow"][0].items() if not name.endswith(".jpg")}
    root = put(tmp_path, files)
    listed = [str(root / name) for name in ("train/images/a.jpg", "valid/images/b.jpg", "valid/images/c.txt")]
    found = read_yolo(root / "data.yaml", listed)
    assert [(photo.name, photo.path, len(photo.masks)) for photo in found.photos] == [
        ("a.jpg", None, 1),
        ("b.jpg", None, 1),
    ]


def test_nothing_above_the_folder_is_searched(tmp_path: Path) -> None:
    put(tmp_path, {"other.jpg": "", "ds/data.yaml": "train: ..\nval: /\nnames: [cat]\n"})
    with pytest.raises(UsageError, match=r"no photos where data\.yaml says"):
        read_yolo(tmp_path / "ds")


def lines(root: Path, text: str, names: str = "[cat, dog]", image: bool = True) -> list[AnnotatedMask]:
    files = {"data.yaml": f"train: images\nnames: {names}\n", "labels/a.txt": text}
    put(root, files | ({"images/a.jpg": ""} if image else {}))
    (photo,) = read_yolo(root).photos
    return list(photo.masks)


def test_lines_of_every_kind(tmp_path: Path) -> None:
    text = f"1 0.5 0.5 0.5 0.5\n1.0 0.5 0.5 0.5 0.5 0.25\n{SQUARE}\n{SQUARE} 0.75\n0 -0.05 0 1.05 0 1 1\n"
    masks = lines(tmp_path, text)
    assert [mask.box_only for mask in masks] == [True, True, False, False, False]
    assert [(mask.label, mask.score, mask.box) for mask in masks] == [
        ("dog", None, (10, 5, 20, 10)),
        ("dog", 0.25, (10, 5, 20, 10)),
        ("cat", None, None),
        ("cat", 0.75, None),
        ("cat", None, None),
    ]
    expected = np.zeros((20, 40), bool)
    expected[5:15, 10:30] = True
    for mask in masks[:4]:
        assert iou(mask, AnnotatedMask("", encode(expected)), (20, 40)) == 1.0
    assert masks[4].draw(20, 40).rle is not None


def test_a_box_has_pixels_only_where_the_photo_is_there(tmp_path: Path) -> None:
    (mask,) = lines(tmp_path, "1 0.5 0.5 0.5 0.5", image=False)
    assert mask.box_only
    assert mask.box is None
    assert mask.draw(20, 40).rle is not None


def test_key_points_are_no_polygons(tmp_path: Path) -> None:
    put(tmp_path, {"data.yaml": "train: images\nkpt_shape: [2, 3]\nnames: [cat]\n", "images/a.jpg": ""})
    put(tmp_path, {"labels/a.txt": "0 0.5 0.5 0.5 0.5 0.1 0.1 2 0.9 0.9 2"})
    (photo,) = read_yolo(tmp_path).photos
    assert photo.masks[0].box == (10, 5, 20, 10)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("2 0.5 0.5 0.5 0.5", "class '2', which data.yaml does not have"),
        ("-1 0.5 0.5 0.5 0.5", "class '-1'"),
        ("0.5 0.5 0.5 0.5 0.5", "class '0.5'"),
        ("nan 0.5 0.5 0.5 0.5", "class 'nan'"),
        ("cat 0.5 0.5 0.5 0.5", "text that is no number"),
        ("0 0.5 0.5 0.5", "a line of 3 coordinates"),
        ("0", "a line of 0 coordinates"),
        ("0 0.5 0.5 nan 0.5", "not finite"),
        ("0 10 5 20 10", "no parts of the photo's sides"),
        ("0 0.5 0.5 0 0.5", "a box of 0 x 10 pixels"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 7", "an odd number of coordinates"),
    ],
)
def test_lines_that_are_no_mask_are_reported_by_number(tmp_path: Path, line: str, problem: str) -> None:
    good, bad = lines(tmp_path, f"{SQUARE}\n{line}\n")
    shape = bad.draw(20, 40)
    assert good.draw(20, 40).rle is not None
    assert (shape.rle, bad.name) == (None, "labels/a.txt, line 2")
    assert problem in shape.problems[0]


def test_a_label_file_that_is_no_text_is_reported(tmp_path: Path) -> None:
    lines(tmp_path, SQUARE)
    (tmp_path / "labels/a.txt").write_bytes(bytes(range(256)))
    (photo,) = read_yolo(tmp_path).photos
    assert "cannot be read" in photo.masks[0].draw(20, 40).problems[0]


def test_class_names_keep_their_text(tmp_path: Path) -> None:
    (mask,) = lines(tmp_path, "2 0.5 0.5 0.5 0.5", "[yes, 1e3, no, null, 2001-99-99]")
    assert mask.label == "no"
    assert read_yolo(tmp_path).classes == ("yes", "1e3", "no", "null", "2001-99-99")
    (mask,) = lines(tmp_path, "7 0.5 0.5 0.5 0.5", "{7: cat, 9: cat, 3: dog}")
    assert mask.label == "cat"
    assert (read_yolo(tmp_path).classes, read_yolo(tmp_path).category_ids) == (("dog", "cat"), (3, 7))


@pytest.mark.parametrize(
    "text",
    ["", "- a", "names: 5", "train: x", "names: {a: b}", "names: [cat, '']", "names: [", "a: &a [*a]", "names: {}",
     "names: [" + "[" * 400, "\0", "names: [cat]"],
)  # fmt: skip
def test_a_data_yaml_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    put(tmp_path, {"data.yaml": text})
    with pytest.raises(UsageError) as caught:
        read_yolo(tmp_path)
    assert "\n" not in str(caught.value)
