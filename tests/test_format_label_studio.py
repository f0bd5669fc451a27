"""Label Studio's files, written and read."""

from __future__ import annotations

import json
import random
from collections.abc import Generator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from mutations import flipped, mutated_json
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.errors import GemLabelError, UsageError
from gem_label.formats.annotations import AnnotatedMask, AnnotatedPhoto, Annotations, WriteReport
from gem_label.formats.coco import read_coco
from gem_label.formats.drawing import WriteSettings
from gem_label.formats.label_studio.brush import encode_brush_crop
from gem_label.formats.label_studio.reading import photo_name
from gem_label.formats.label_studio.writing import (
    decode_brush,
    encode_brush,
    is_label_studio,
    read_label_studio,
    write_label_studio,
)
from gem_label.geometry import Shape, ellipse, polygons, rectangle

Mask = NDArray[np.bool_]
FIXTURES = Path(__file__).parent / "fixtures"
HEIGHT, WIDTH = 40, 60

# encode_rle of label-studio-sdk 2.1.2
SDK = [
    (np.eye(3, 5, dtype=bool), [0, 0, 0, 60, 57, 27, 252, 127, 248, 76, 2, 63, 252, 38, 1, 31, 252, 224, 0]),
    (np.ones((4, 6), bool), [0, 0, 0, 96, 57, 27, 254, 95, 255, 0]),
    (
        np.arange(40).reshape(5, 8) % 7 > 3,
        [
            0, 0, 0, 160, 57, 27, 253, 240, 11, 127, 247, 192, 45, 255, 223, 0, 183, 255, 124, 2, 223, 253, 240,
            11, 127, 247, 192, 35, 255, 0,
        ],
    ),
]  # fmt: skip

# encode of @thi.ng/rle-pack 3.2.12, with which Label Studio's editor packs: its packets hold single values, too
EDITOR = [0, 0, 0, 32, 57, 27, 252, 96, 3, 132, 132, 3, 131, 2, 130, 1, 129, 68, 2, 0, 4, 255, 243, 128, 0]
EDITOR_OPACITIES = [0, 6, 2, 0, 255, 255, 0, 0]


def drain(work: Generator[int, None, WriteReport]) -> WriteReport:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def shape_of(mask: Mask) -> Shape:
    return Shape(dict(coco_mask.encode(np.asfortranarray(mask, np.uint8))))


def annotated(label: str, mask: Mask, **about: Any) -> AnnotatedMask:
    return AnnotatedMask(label, lambda height, width: shape_of(mask), **about)


def blob(seed: int) -> Mask:
    """A ragged mask with holes and several parts."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((8, 12)) < 0.5
    return np.kron(coarse, np.ones((5, 5), bool)) & (rng.random((HEIGHT, WIDTH)) < 0.98)


def write(out: Path, photos: list[AnnotatedPhoto], **settings: Any) -> WriteReport:
    classes = tuple(dict.fromkeys(mask.label for photo in photos for mask in photo.masks))
    return drain(write_label_studio(Annotations(photos, classes), out, WriteSettings(**settings)))


def read(tasks: Any) -> Annotations:
    return read_label_studio(Path("export.json"), json.loads(json.dumps(tasks)))


def drawn(mask: AnnotatedMask, height: int = HEIGHT, width: int = WIDTH) -> Mask:
    shape = mask.draw(height, width)
    assert shape.rle is not None, shape.problems
    return coco_mask.decode(shape.rle).astype(bool)


def region(**about: Any) -> dict[str, Any]:
    """A region as Label Studio 1.x exports it."""
    return {
        "id": "Dx_aB91ISN",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "origin": "manual",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": {"x": 10, "y": 20, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": ["cat"]},
    } | about


def annotation(*regions: Any, **about: Any) -> dict[str, Any]:
    return {
        "id": 31,
        "completed_by": 1,
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2024-05-01T10:00:00.000000Z",
        "updated_at": "2024-05-01T10:00:00.000000Z",
        "lead_time": 4.2,
        "result": list(regions),
    } | about


def task(*annotations: Any, **about: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "annotations": list(annotations),
        "drafts": [],
        "predictions": [],
        "data": {"image": "/data/upload/3/cb0618f6-1.png"},
        "meta": {},
        "created_at": "2024-05-01T09:00:00.000000Z",
        "updated_at": "2024-05-01T10:00:00.000000Z",
        "project": 3,
        "total_annotations": len(annotations),
    } | about


def problem(*regions: Any) -> str:
    """Why the only mask of an annotation cannot be drawn."""
    (photo,) = read([task(annotation(*regions))]).photos
    (mask,) = photo.masks
    shape = mask.draw(HEIGHT, WIDTH)
    assert shape.rle is None
    return "; ".join(shape.problems)


@pytest.mark.parametrize(("mask", "theirs"), SDK)
def test_brush_masks_are_those_of_the_sdk(mask: Mask, theirs: list[int]) -> None:
    assert encode_brush(mask) == theirs[: len(encode_brush(mask))]
    assert set(theirs[len(encode_brush(mask)) :]) <= {0}
    assert (decode_brush(theirs, mask.size) == mask.ravel()).all()


def test_brush_masks_of_the_editor_are_read_by_their_opacity() -> None:
    assert decode_brush(EDITOR, 8).tolist() == [opacity > 0 for opacity in EDITOR_OPACITIES]


@pytest.mark.parametrize("side", [1, 2, 3, 64, 400])
def test_brush_masks_come_back(side: int) -> None:
    for share in (0, 0.001, 0.5, 1):
        mask = np.random.default_rng(side).random((side, side + 1)) < share
        assert (decode_brush(encode_brush(mask), mask.size) == mask.ravel()).all()


@pytest.mark.parametrize("box", [(0, 0, 9, 3), (2, 1, 4, 3), (5, 0, 4, 5), (0, 2, 1, 3), (8, 4, 1, 1)])
def test_brush_masks_of_a_box_are_those_of_the_photo(box: tuple[int, int, int, int]) -> None:
    x, y, w, h = box
    for share in (0, 0.3, 0.7, 1):
        mask = np.zeros((5, 9), bool)
        mask[y : y + h, x : x + w] = np.random.default_rng(w).random((h, w)) < share
        assert encode_brush_crop(mask[y : y + h, x : x + w], box, 5, 9) == encode_brush(mask)


@pytest.mark.parametrize(
    "rle",
    [
        None, "AAAA", {}, {"0": 1}, [], [0, 0, 0], [1.5] * 9, [-1] * 9, [256] * 9, [10**30], [None], 10**9,
        SDK[2][1][:-4], [0, 0, 0, 0, 57, 27, 0], [0, 0, 0, 7, 57, 27, 252, 127], [255] * 40,
    ],
)  # fmt: skip
def test_a_broken_brush_mask_is_one_line(rle: Any) -> None:
    with pytest.raises(UsageError, match=r"^brush run lengths"):
        decode_brush(rle, 40)


def test_a_brush_mask_that_says_it_is_huge_is_refused_before_memory_is_taken() -> None:
    # 2^32 - 4 values in 16 bit lengths are 262 kB
    bomb = [255, 255, 255, 252, 57, 27] + [255] * 262_144
    with pytest.raises(UsageError, match="values, the image has 4 x 2400"):
        decode_brush(bomb, 2400)
    huge = region(
        original_width=10**9,
        original_height=10**9,
        value={"format": "rle", "rle": bomb, "brushlabels": ["cat"]},
    )
    ((mask,),) = (photo.masks for photo in read([task(annotation(huge))]).photos)
    assert mask.draw(10**9, 10**9).problems == ("a brush mask of 1000000000 x 1000000000 pixels",)
    assert "a region of a photo of 1000000000" in mask.draw(HEIGHT, WIDTH).problems[0]


@pytest.mark.parametrize("settings", [{}, {"segmentation": "polygon"}])
def test_masks_come_back_exactly(tmp_path: Path, settings: dict[str, Any]) -> None:
    whole = np.ones((HEIGHT, WIDTH), bool)
    # like those of runs, ids have a "#"
    photos = [
        AnnotatedPhoto(
            "a b/ü#1.jpg",
            (HEIGHT, WIDTH),
            [
                annotated("cat", blob(1), mask_id="a b/ü#1.jpg#0", score=0.4, margin=0.1, state="accepted"),
                annotated("dog", blob(2), mask_id="a b/ü#1.jpg#1", score=0.9, state="renamed", crowd=True),
                annotated("cat", whole, mask_id="a b/ü#1.jpg#2", score=0.7, margin=0.3),
                annotated("cat", blob(3), id="aB3-dEf_9x", state="undecided"),
                annotated("dog", blob(4), id=12),
            ],
        ),
        AnnotatedPhoto("empty.jpg", (HEIGHT, WIDTH)),
    ]
    report = write(tmp_path / "tasks.json", photos, **settings)
    assert (report.photos, report.masks, report.classes) == (2, 5, 2)
    assert not report.left_out
    assert not report.altered
    content = json.loads((tmp_path / "tasks.json").read_text())
    assert is_label_studio(content)
    back = read(content)
    assert back.classes == ("cat", "dog")
    assert [photo.name for photo in back.photos] == ["a b/ü#1.jpg", "empty.jpg"]
    masks, first = list(back.photos[0].masks), list(photos[0].masks)  # type: ignore[index]
    assert back.photos[0].size == (HEIGHT, WIDTH)  # type: ignore[index]
    for mask, own in zip(masks, first, strict=True):
        assert (drawn(mask) == drawn(own)).all()
        assert (mask.label, mask.mask_id, mask.score, mask.margin, mask.crowd) == (
            own.label, own.mask_id, own.score, own.margin, own.crowd,
        )  # fmt: skip
        assert mask.state == (own.state or "undecided")
    assert masks[3].id == "aB3-dEf_9x"


def test_outlines_with_a_tolerance_stay_within_a_pixel(tmp_path: Path) -> None:
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    disc = (y - 20) ** 2 + (x - 30) ** 2 < 300
    report = write(
        tmp_path / "tasks.json",
        [AnnotatedPhoto("a.jpg", (HEIGHT, WIDTH), [annotated("cat", disc)])],
        segmentation="polygon",
        tolerance=1.0,
    )
    (photo,) = read(json.loads((tmp_path / "tasks.json").read_text())).photos
    both = drawn(photo.masks[0])
    iou = (both & disc).sum() / (both | disc).sum()
    assert report.outlines == 1
    assert report.lowest_iou == pytest.approx(iou)
    assert iou > 0.9


def test_the_file_is_what_label_studio_imports(tmp_path: Path) -> None:
    masks = [
        annotated("cat", blob(1), mask_id="a#0", score=0.25),
        annotated("cat", blob(2), mask_id="a#1", score=0.75),
        annotated("dog", blob(3), mask_id="a#2", state="accepted"),
        annotated("dog", blob(4), mask_id="a#3", state="rejected"),
    ]
    report = write(tmp_path / "tasks.json", [AnnotatedPhoto("x/a%1.jpg", (HEIGHT, WIDTH), masks)])
    assert report.left_out == {"rejected": 1}
    (row,) = json.loads((tmp_path / "tasks.json").read_text())
    assert row["data"] == {"image": "/data/local-files/?d=x/a%251.jpg"}
    ((decided,), (suggested,)) = row["annotations"], row["predictions"]
    assert suggested["model_version"].startswith("gem-label ")
    assert suggested["score"] == 0.5
    assert [each.get("score") for each in suggested["result"]] == [0.25, 0.75, None]
    (found,) = decided["result"]
    # an annotation that somebody makes of the prediction has all masks
    assert found == suggested["result"][2]
    assert decided["ground_truth"] is False
    config = ElementTree.parse(tmp_path / "tasks.config.xml").getroot()
    image, labels = config
    assert (found["from_name"], found["to_name"]) == (labels.get("name"), image.get("name"))
    assert (labels.tag, found["type"]) == ("BrushLabels", "brushlabels")
    assert [label.get("value") for label in labels] == ["cat", "dog"]
    assert image.get("value") == "$image"
    # Label Studio cuts ids at "#"
    assert found["id"] == "gem-a%232"


def test_labels_that_xml_cannot_hold_are_the_same_in_both_files(tmp_path: Path) -> None:
    photos = [AnnotatedPhoto("a.jpg", (HEIGHT, WIDTH), [annotated('a\x00"<b\n', blob(1))])]
    report = write(tmp_path / "tasks.json", photos, segmentation="polygon")
    assert report.altered == {"labels with characters that XML cannot hold": 1}
    ((mask,),) = (photo.masks for photo in read(json.loads((tmp_path / "tasks.json").read_text())).photos)
    labels = ElementTree.parse(tmp_path / "tasks.config.xml").getroot()[1]
    assert labels.tag == "PolygonLabels"
    assert labels[0].get("value") == mask.label == 'a\ufffd"<b\n'


def test_masks_with_one_id_stay_two(tmp_path: Path) -> None:
    masks = [annotated("cat", blob(i), mask_id="a#0") for i in range(2)]
    write(tmp_path / "tasks.json", [AnnotatedPhoto("a.jpg", (HEIGHT, WIDTH), masks)])
    content = json.loads((tmp_path / "tasks.json").read_text())
    assert len({each["id"] for each in content[0]["predictions"][0]["result"]}) == 2
    (photo,) = read(content).photos
    assert [mask.mask_id for mask in photo.masks] == ["a#0", "a#0"]


def test_mask_ids_survive_an_edit_and_copies_have_none(tmp_path: Path) -> None:
    masks = [annotated("cat", blob(i), mask_id=f"a#{i}", margin=0.2) for i in range(3)]
    write(tmp_path / "tasks.json", [AnnotatedPhoto("a.jpg", (HEIGHT, WIDTH), masks)])
    (row,) = json.loads((tmp_path / "tasks.json").read_text())
    first, second, _ = (dict(each, origin="prediction") for each in row["predictions"][0]["result"])
    second["value"]["brushlabels"] = ["dog"]
    copy = first | {"id": "hT5_kk1-2b"}  # with the meta of the first
    mine = region(id="gem_8sk2Lq")
    exported = task(annotation(first, second, copy, mine), data=row["data"], predictions=[12])
    (photo,) = read([exported]).photos
    assert [mask.mask_id for mask in photo.masks] == ["a#0", "a#1", None, None]
    assert [mask.label for mask in photo.masks] == ["cat", "dog", "cat", "cat"]
    assert {mask.state for mask in photo.masks} == {"accepted"}


def test_an_export_of_label_studio() -> None:
    # an export of Label Studio 1.23.2: somebody opened our prediction, drew into the first region, gave the third
    # another label, copied it, and submitted
    path = FIXTURES / "label_studio_export.json"
    content = json.loads(path.read_text())
    assert is_label_studio(content)
    (photo,) = read_label_studio(path, content).photos
    assert (photo.name, photo.size) == ("data/upload/6/cb0618f6-a.png", (30, 50))
    assert [
        (mask.mask_id, mask.label, mask.score, mask.margin, mask.state, drawn(mask, 30, 50).sum())
        for mask in photo.masks
    ] == [
        ("a b/ü#1.jpg#0", "cat", 0.4, 0.1, "accepted", 613),
        ("a b/ü#1.jpg#1", "dog\ufffd", 1.0, None, "renamed", 603),
        ("dup", "dog\ufffd", None, None, "accepted", 603),
        ("dup", "cat", None, None, "accepted", 603),
        (None, "cat", None, None, "accepted", 603),
        (None, "dog\ufffd", None, None, "accepted", 603),
    ]


def test_a_prefix_for_addresses(tmp_path: Path) -> None:
    photos = [AnnotatedPhoto("x/a b.jpg", (HEIGHT, WIDTH))]
    for prefix, address in (
        ("s3://bucket/set/", "s3://bucket/set/x/a b.jpg"),
        ("https://example.org/p/", "https://example.org/p/x/a%20b.jpg"),
        ("", "x/a b.jpg"),
    ):
        write(tmp_path / "tasks.json", photos, image_prefix=prefix)
        content = json.loads((tmp_path / "tasks.json").read_text())
        assert content == [{"data": {"image": address}}]
        (photo,) = read(content).photos
        assert photo.name.endswith("x/a b.jpg")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/1/cb0618f6-1.png", "data/upload/1/cb0618f6-1.png"),
        ("/data/local-files/?d=a%2Fb.jpg", "a/b.jpg"),
        ("/data/local-files/?d=/home/x/%C3%BC%201%2B2.jpg", "home/x/ü 1+2.jpg"),
        ("http://localhost:8080/data/local-files/?d=a/b%231.jpg&x=1", "a/b#1.jpg"),
        ("https://example.org/x/a%20b.jpg?sig=a/b.png#c", "x/a b.jpg"),
        ("s3://bucket/x/a%20b#1?.jpg", "x/a%20b#1?.jpg"),
        ("gs://bucket/a.jpg", "a.jpg"),
        ("images\\a#1.jpg", "images\\a#1.jpg"),
        ("photo [1].jpg", "photo [1].jpg"),
        ("//[a.jpg", "//[a.jpg"),
        ("https://example.org/", ""),
        ("data:image/png;base64,iVBO", ""),
    ],
)
def test_addresses_are_paths(address: str, name: str) -> None:
    assert photo_name(address) == name


def test_shapes_are_percent_of_the_photo() -> None:
    corners = [[10.0, 20.0], [60.0, 20.0], [60.0, 45.0]]
    found = [
        region(),
        region(id="b", type="polygonlabels", value={"points": corners, "polygonlabels": ["cat"]}),
        region(
            id="c",
            type="ellipselabels",
            value={"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "rotation": 30, "ellipselabels": ["dog"]},
        ),
        # the view was turned, coordinates are not
        region(id="d", image_rotation=90),
    ]
    (photo,) = read([task(annotation(*found))]).photos
    box, polygon, round_one, turned = photo.masks
    expected = [
        rectangle([6, 8, 30, 10], HEIGHT, WIDTH),
        polygons([[6, 8, 36, 8, 36, 18]], HEIGHT, WIDTH),
        ellipse((30, 20), (12, 4), HEIGHT, WIDTH, 30),
        rectangle([6, 8, 30, 10], HEIGHT, WIDTH),
    ]
    assert [mask.draw(HEIGHT, WIDTH) for mask in photo.masks] == expected
    assert box.box == turned.box == (6, 8, 30, 10)
    assert polygon.box is round_one.box is None
    assert photo.name == "data/upload/3/cb0618f6-1.png"
    assert photo.size == (HEIGHT, WIDTH)
    assert photo.id == 7


@pytest.mark.parametrize(
    ("value", "corners"),
    [  # convert_annotation_to_yolo_obb of label-studio-sdk 2.1.2
        ((30, 20, 40, 25, 30.0), [18, 8, 38.78461, 20, 33.78461, 28.66025, 13, 16.66025]),
        (
            (20, 80, 40, 25, 296.74382057984246),
            [12, 32, 22.80005, 10.56734, 31.73033, 15.06736, 20.93027, 36.50002],
        ),
    ],
)
def test_boxes_are_turned_around_their_corner(value: tuple[float, ...], corners: list[float]) -> None:
    keys = ("x", "y", "width", "height", "rotation")
    box = region(value={**dict(zip(keys, value, strict=True)), "rectanglelabels": ["cat"]})
    (photo,) = read([task(annotation(box))]).photos
    (mask,) = photo.masks
    assert mask.draw(HEIGHT, WIDTH) == polygons([corners], HEIGHT, WIDTH)
    assert mask.box is None


def test_a_shape_and_its_label_in_two_results_are_one_mask() -> None:
    rle = {"format": "rle", "rle": encode_brush(blob(1))}
    results = [
        region(id="a", type="brush", from_name="brush", value=rle),
        region(id="a", type="labels", from_name="labels", value={**rle, "labels": ["cat"]}),
        region(id="a", type="choices", from_name="size", value={**rle, "choices": ["large"]}),
        {"type": "choices", "value": {"choices": ["outside"]}, "id": "z", "to_name": "image"},
        {"type": "relation", "from_id": "a", "to_id": "a", "direction": "right"},
    ]
    (photo,) = read([task(annotation(*results))]).photos
    (mask,) = photo.masks
    assert mask.label == "cat"
    assert (drawn(mask) == blob(1)).all()


def test_more_than_one_label_is_said() -> None:
    value = region()["value"] | {"rectanglelabels": ["cat", "dog"]}
    ((mask,),) = (photo.masks for photo in read([task(annotation(region(value=value)))]).photos)
    assert mask.label == "cat"
    assert drawn(mask).any()
    assert mask.draw(HEIGHT, WIDTH).problems == ("2 labels, of which the first counts",)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (region(type="keypointlabels", value={"x": 1, "y": 2, "keypointlabels": ["cat"]}), "a keypoint has no area"),
        (region(type="vectorlabels", value={"vertices": [], "vectorlabels": ["cat"]}), "a vector has no area"),
        (region(value=None), "no label"),
        (region(value={"rectanglelabels": ["cat"]}), "a rectangle has no area"),
        (region(type=None, value={"labels": ["cat"]}), "no shape"),
        (region(value=region()["value"] | {"rectanglelabels": []}), "no label"),
        (region(value=region()["value"] | {"x": float("nan")}), "x nan"),
        (region(value=region()["value"] | {"width": None}), "width None"),
        (region(value=region()["value"] | {"height": 10**400}), "height 1000"),
        (region(value=region()["value"] | {"rotation": "x"}), "rotation 'x'"),
        (region(value=region()["value"] | {"width": 0}), "a box of 0 x"),
        (region(value=region()["value"] | {"x": 1e8}), "far outside"),
        (region(original_width=61), "a region of a photo of 40 x 61 pixels, the image has 40 x 60 pixels"),
        (region(value={"points": [[1, 2], [3, 4]], "polygonlabels": ["cat"]}), "at least three points"),
        (region(value={"points": [[1, 2], [3, None], [9, 9]], "polygonlabels": ["cat"]}), "no list of points"),
        (region(value={"points": [[1, 1], [9, 1], [9, 9]], "closed": False, "polygonlabels": ["cat"]}), "not closed"),
        (region(value={"format": "png", "rle": [1], "brushlabels": ["cat"]}), "in the format 'png'"),
        (region(value={"rle": encode_brush(blob(1)[1:]), "brushlabels": ["cat"]}), "a brush mask of 2340 pixels"),
        (["x"], "no region but"),
        (None, "no region but None"),
    ],
)  # fmt: skip
def test_regions_that_are_no_masks_say_why(broken: Any, why: str) -> None:
    assert why in problem(broken)


def test_an_annotation_without_a_list_is_said() -> None:
    ((mask,),) = (photo.masks for photo in read([task(annotation(result=None))]).photos)
    assert mask.draw(HEIGHT, WIDTH).problems == ("no list of regions but None",)


def test_the_annotation_that_counts() -> None:
    def labeled(label: str, **about: Any) -> dict[str, Any]:
        return annotation(region(value=region()["value"] | {"rectanglelabels": [label]}), **about)

    old = labeled("old")
    new = labeled("new", updated_at="2024-05-02T10:00:00.000000Z")
    skipped = labeled("skipped", was_cancelled=True, updated_at="2024-05-03T10:00:00.000000Z")
    imported = labeled("imported", ground_truth=True)  # as everything is that Label Studio imports
    suggested = {"id": 1, "model_version": "x", "result": labeled("suggested")["result"]}

    def read_labels(found: Annotations) -> list[tuple[str, str | None]]:
        return [(mask.label, mask.state) for photo in found.photos for mask in photo.masks]

    found = read([task(new, old, skipped, predictions=[suggested])])
    assert read_labels(found) == [("new", "accepted")]
    assert found.left_out == ("1 annotations beside the ones that count",)
    assert read_labels(read([task(old, imported, new)])) == [("new", "accepted")]
    found = read([task(skipped, predictions=[5, suggested])])
    assert read_labels(found) == [("suggested", "undecided")]
    # nobody has looked at this photo: it is not one without masks
    found = read([task(skipped, predictions=[5]), task(annotation(), id=8)])
    assert [photo.id for photo in found.photos] == [8]
    assert found.left_out == ("1 tasks that nobody annotated",)


def test_json_min() -> None:
    points = [[10.0, 20.0], [60.0, 20.0], [60.0, 45.0]]
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    entry = {
        "image": "/data/upload/3/cb0618f6-1.png",
        "id": 7,
        "label": [
            {"points": points, "closed": True, "polygonlabels": ["cat"], **size},
            {"format": "rle", "rle": encode_brush(blob(1)), "brushlabels": ["dog"], **size},
        ],
        "scene": "outside",
        "annotator": 1,
        "annotation_id": 31,
        "created_at": "2024-05-01T10:00:00.000000Z",
        "updated_at": "2024-05-01T10:00:00.000000Z",
        "lead_time": 4.2,
    }
    later = entry | {"label": entry["label"][1:], "annotation_id": 32, "updated_at": "2024-06-01"}  # type: ignore[index]
    assert is_label_studio([entry])
    (photo,) = read([entry]).photos
    assert photo.size == (HEIGHT, WIDTH)
    cat, dog = photo.masks
    assert (cat.label, dog.label) == ("cat", "dog")
    assert cat.draw(HEIGHT, WIDTH) == polygons([[6, 8, 36, 8, 36, 18]], HEIGHT, WIDTH)
    assert (drawn(dog) == blob(1)).all()
    nobody = {"image": "b.jpg", "id": 9, "annotator": None, "annotation_id": None, "updated_at": None}
    assert read([nobody]).left_out == ("1 tasks that nobody annotated",)
    found = read([later, entry])
    assert [[mask.label for mask in photo.masks] for photo in found.photos] == [["dog"]]
    assert found.left_out == ("1 annotations beside the ones that count",)


def test_a_task_with_several_photos() -> None:
    pages = {"pages": ["/data/upload/1/a.png", "/data/upload/1/b.png"], "title": "x"}
    found = read([task(annotation(region(item_index=1), region(id="b", item_index=0)), data=pages)])
    assert [(photo.name, len(photo.masks)) for photo in found.photos] == [
        ("data/upload/1/a.png", 1),
        ("data/upload/1/b.png", 1),
    ]


def test_the_address_of_a_task_may_have_any_name() -> None:
    data = {"title": "a/b", "ocr": "https://example.org/x.JPG?sig=1"}
    assert [photo.name for photo in read(task(annotation(), data=data)).photos] == ["x.JPG"]


@pytest.mark.parametrize(
    "data", [{}, {"image": None}, {"image": ""}, {"image": 5}, {"image": "data:image/png;base64,aa"}]
)
def test_a_task_without_an_address_is_an_error(data: Any) -> None:
    with pytest.raises(UsageError, match=r"^export.json: task 7 has no address of an image$"):
        read([task(annotation(), data=data)])


def test_other_files_are_not_taken_for_label_studios() -> None:
    coco = {"images": [], "annotations": [], "categories": [], "data": {}}
    results = [
        {
            "image_id": 1,
            "category_id": 1,
            "segmentation": {},
            "score": 0.5,
            "annotation_id": 1,
            "annotator": 2,
        }
    ]
    for other in (coco, results, [], {}, None, 5, "x", [1], [{}], [{"data": 5}], {"data": []}):
        assert not is_label_studio(other)
    for own in (task(), [task()], [None, task()], [{"data": {"image": "a.jpg"}}]):
        assert is_label_studio(own)
    with pytest.raises(
        UsageError, match=r"^export.json holds no tasks of Label Studio: entry 2 is a NoneType$"
    ):
        read([task(annotation()), None])


@pytest.mark.slow
def test_broken_files_are_one_line_or_masks_that_say_why(tmp_path: Path) -> None:
    write(tmp_path / "tasks.json", [
        AnnotatedPhoto("a.jpg", (HEIGHT, WIDTH), [annotated("cat", blob(i), mask_id=f"a#{i}", state=state)
                                                  for i, state in enumerate(("accepted", None))])
    ])  # fmt: skip
    shapes = [
        region(),
        region(
            id="b", value={"points": [[1, 1], [50, 9], [20, 90]], "closed": True, "polygonlabels": ["cat"]}
        ),
        region(
            id="c", value={"x": 5, "y": 5, "radiusX": 20, "radiusY": 9, "rotation": 3, "ellipselabels": ["a"]}
        ),
        region(
            id="d",
            value={"format": "rle", "rle": SDK[2][1], "labels": ["a"]},
            original_width=8,
            original_height=5,
        ),
    ]
    minimal = {"image": "a.jpg", "annotation_id": 1, "annotator": 1, "id": 1, "label": [shapes[1]["value"]]}
    texts = [
        (tmp_path / "tasks.json").read_text(),
        json.dumps([task(annotation(*shapes), annotation(shapes[0]), predictions=[4])]),
        json.dumps([minimal, minimal | {"id": 2}]),
    ]
    failed: list[str] = []
    refused, whole = 0, 0
    for seed in range(600):
        rng = random.Random(seed)
        text = rng.choice(texts)
        data = flipped(text.encode(), rng) if rng.random() < 0.3 else mutated_json(text, rng)
        try:
            content = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            continue
        try:
            if is_label_studio(content):
                annotations = read_label_studio(tmp_path / "x.json", content)
            else:
                annotations = read_coco(tmp_path / "x.json", content)
        except GemLabelError as error:
            failed.append(str(error))
            continue
        for photo in annotations.photos:
            assert photo.name
            for mask in photo.masks:
                shape = mask.draw(*(photo.size if mask.box else (HEIGHT, WIDTH)))  # type: ignore[misc]
                assert shape.rle is not None or shape.problems
                assert shape.rle is None or mask.label
                assert all("\n" not in line and len(line) < 300 for line in shape.problems)
                refused += shape.rle is None
                whole += shape.rle is not None
    assert all(0 < len(text) < 500 and "\n" not in text for text in failed)
    assert min(len(failed), refused, whole) > 20


@pytest.mark.parametrize("depth", [100, 900, 5000])
def test_values_of_many_levels_are_one_line(depth: int) -> None:
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep]
    value = {"rle": deep, "labels": ["a"]}
    for broken in ([region(value=value)] * 2, [region(id=None, value=value)], [deep], [region(value=deep)]):
        try:
            found = read_label_studio(Path("x.json"), [task(annotation(*broken))])
        except UsageError as error:
            assert str(error) == "x.json has values of too many levels"  # noqa: PT017
        else:
            ((mask,),) = (photo.masks for photo in found.photos)
            assert mask.draw(HEIGHT, WIDTH).problems
