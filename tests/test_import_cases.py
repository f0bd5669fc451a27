"""Annotation files with traits that other tools give them; `fixtures/cases` are about one photo of 64 x 48 pixels.

Its dataset has three masks: 1#0 cat (x, y, width, height 4, 4, 12, 10), 1#1 dog (30, 6, 14, 12), 1#2 cup (10, 28,
20, 14).
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from numpy.typing import NDArray
from PIL import Image
from run_factory import make_run, mask_labels, mask_set

from gem_label.errors import UsageError
from gem_label.progress import finish
from gem_label.review.editing.decisions import undo
from gem_label.review.exchange.corrections import CorrectionReport, import_corrections
from gem_label.runs import open_run

__all__ = ["fiftyone_db"]

FIELD = "gem_label"
CASES = Path(__file__).parent / "fixtures" / "cases"
BOXES = {"1#0": (4, 4, 12, 10), "1#1": (30, 6, 14, 12), "1#2": (10, 28, 20, 14)}
SHARED = "photo.bom.json"


def filled(x: int, y: int, width: int, height: int) -> NDArray[np.bool_]:
    mask = np.zeros((48, 64), bool)
    mask[y : y + height, x : x + width] = True
    return mask


def build(folder: Path, name: str, photos: tuple[str, ...] = ("1.png",)) -> Any:
    """A dataset of photos that all have the three masks."""
    import fiftyone as fo

    from gem_label.review import push_run

    masks = mask_set([filled(*box) for box in BOXES.values()])
    run = make_run(
        folder / "run",
        {photo: (masks, mask_labels(["cat", "dog", "cup"], [0.9, 0.8, 0.7])) for photo in photos},
    )
    for photo in run.photos():
        Path(photo.image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48)).save(photo.image)
    push_run(run, name)
    return fo.load_dataset(name)


@pytest.fixture
def dataset(fiftyone_db: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    import fiftyone as fo

    yield build(tmp_path, f"cases {request.node.name}")
    fo.delete_dataset(f"cases {request.node.name}")


def push_again(dataset: Any, folder: Path) -> None:
    from gem_label.review import push_run

    push_run(open_run(folder / "run"), dataset.name)


def set_size(dataset: Any, width: int, height: int) -> None:
    sample = dataset.first()
    sample.metadata.width, sample.metadata.height = width, height
    sample.save()


def state(dataset: Any) -> list[dict[str, Any]]:
    """All documents of a dataset, as the database has them."""
    dataset.reload()
    return list(dataset._sample_collection.find())


def masks(dataset: Any) -> dict[str, NDArray[np.bool_]]:
    """Mask id -> (48, 64) booleans."""
    dataset.reload()
    found = {}
    for detection in dataset.first()[FIELD].detections:
        x, y, _, _ = np.round(np.array(detection.bounding_box) * [64, 48, 64, 48]).astype(int)
        whole = np.zeros((48, 64), bool)
        height, width = detection.mask.shape
        whole[y : y + height, x : x + width] = detection.mask
        assert detection.mask_id not in found
        found[detection.mask_id] = whole
    return found


def load(dataset: Any, path: Path, **options: Any) -> CorrectionReport:
    started = time.process_time()
    report = finish(import_corrections(dataset, FIELD, path, **options))
    assert time.process_time() - started < 5
    return report


def counts(report: CorrectionReport) -> dict[str, int]:
    names = ("unchanged", "relabeled", "redrawn", "added", "missing", "refused")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def coco(change: Callable[[dict[str, Any]], Any] = lambda content: None) -> dict[str, Any]:
    """The three masks as COCO instances, changed."""
    content = json.loads((CASES / SHARED).read_text(encoding="utf-8-sig"))
    change(content)
    return content


def written(folder: Path, content: Any, name: str = "file.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photo_listed_twice.json", {"relabeled": 2, "unchanged": 1}),
        ("image_id_as_text.json", {"unchanged": 3}),
        ("windows_path.json", {"unchanged": 3}),
        ("absolute_path_elsewhere.json", {"unchanged": 3}),
        ("short_part_first.json", {"unchanged": 3}),
        ("empty_part.json", {"unchanged": 2, "refused": 1}),
        ("flat_list.json", {"unchanged": 3}),
        ("points_on_a_line.json", {"unchanged": 2, "refused": 1}),
        ("outside.json", {"unchanged": 2, "refused": 1}),
        ("rle_too_short.json", {"unchanged": 2, "refused": 1}),
        ("rle_of_another_resolution.json", {"refused": 3}),
        ("box_only.json", {"unchanged": 3}),
        ("mask_id_copied.json", {"unchanged": 3, "added": 1}),
        ("photo.bom.json", {"unchanged": 3}),
        ("mask_split.xml", {"unchanged": 2, "redrawn": 1, "added": 1}),
        ("box_rotated.xml", {"unchanged": 2, "redrawn": 1}),
        ("ellipse.xml", {"unchanged": 2, "redrawn": 1}),
        ("mask_over_the_edge.xml", {"unchanged": 2, "redrawn": 1}),
        ("two_parts_one_id.xml", {"unchanged": 2, "redrawn": 1, "added": 1}),
    ],
)
def test_what_comes_out_of_a_case(dataset: Any, tmp_path: Path, name: str, expected: dict[str, int]) -> None:
    before = state(dataset)
    report = load(dataset, CASES / name, missing="delete")
    assert counts(report) == expected
    assert (report.photos, report.unknown) == (1, 0)
    if report.decision is None:
        assert state(dataset) == before
    now = masks(dataset)
    assert set(BOXES) <= set(now)
    for id, box in BOXES.items():
        if id != "1#0" or "redrawn" not in expected:
            np.testing.assert_array_equal(now[id], filled(*box))
    push_again(dataset, tmp_path)
    after = masks(dataset)
    assert set(after) == set(now)
    assert all((after[id] == now[id]).all() and now[id].any() for id in now)
    if report.decision is not None:
        undo(dataset, FIELD)
        assert all((mask == filled(*BOXES[id])).all() for id, mask in masks(dataset).items())
        assert set(masks(dataset)) == set(BOXES)


def test_the_shapes_of_cvat(dataset: Any) -> None:
    def first(name: str) -> NDArray[np.bool_]:
        load(dataset, CASES / name)
        mask = masks(dataset)["1#0"]
        undo(dataset, FIELD)
        return mask

    np.testing.assert_array_equal(first("box_rotated.xml"), filled(29, 11, 6, 24))
    np.testing.assert_array_equal(first("mask_over_the_edge.xml"), filled(60, 40, 4, 8))
    y, x = np.mgrid[:48, :64] + 0.5
    expected = ((x - 30) / 10) ** 2 + ((y - 24) / 6) ** 2 <= 1
    assert (first("ellipse.xml") ^ expected).sum() <= 12
    load(dataset, CASES / "mask_split.xml")
    now = masks(dataset)
    assert set(now) == {*BOXES, "1#0.2"}
    np.testing.assert_array_equal(now["1#0"] | now["1#0.2"], filled(*BOXES["1#0"]))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("short_part_first.json", "^annotation 1 has a polygon that is no list of at least three points"),
        ("points_on_a_line.json", "^annotation 1 has no pixels inside of the photo"),
        ("outside.json", "^annotation 1 has no pixels inside"),
        ("rle_too_short.json", "^annotation 1 has run lengths that do not cover 48 x 64 pixels"),
        (
            "rle_of_another_resolution.json",
            "^annotation 1 has a mask of 96 x 128 pixels, the image has 48 x 64",
        ),
        ("empty_part.json", "^annotation 1 has a polygon"),
    ],
)
def test_what_is_left_out_is_named(dataset: Any, name: str, problem: str) -> None:
    import re

    assert re.search(problem, load(dataset, CASES / name).problems[0])


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("annotation_of_no_image.json", "annotation 2 is of image 77"),
        ("file_name_null.json", "image 1 lacks"),
    ],
)
def test_lists_that_do_not_fit_together_are_refused(dataset: Any, name: str, problem: str) -> None:
    before = state(dataset)
    with pytest.raises(UsageError, match=problem):
        load(dataset, CASES / name, missing="delete")
    assert state(dataset) == before


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1e8, 1e8, 2e8, 1e8, 2e8, 2e8]],
        [[float("nan")] * 6],
        [[None] * 6],
        [None],
        [[4, 4, 16, 4, 16, 14, 4]],
        [["4", "4", "16", "4", "16", "14"]],
        {"size": [48, 64], "counts": [-1, 3073]},
        {"size": [48, 64], "counts": [3000, 1e9]},
        {"size": [48, 64], "counts": "o" * 5000},
        {"size": [48, 64], "counts": "\u00e9"},
        {"size": [48, 64], "counts": None},
        {"size": [48, 64], "counts": [3072]},
        {"size": [64, 48], "counts": [3000, 72]},
        {"size": None, "counts": [3000, 72]},
        {"counts": [3000, 72]},
        {"size": [10**12, 10**12], "counts": [10**24]},
        "text",
        True,
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_shapes_that_are_none_leave_the_masks_alone(
    dataset: Any, tmp_path: Path, segmentation: Any, named: bool
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["segmentation"] = segmentation
        if not named:
            del content["annotations"][0]["mask_id"], content["annotations"][0]["attributes"]

    before = state(dataset)
    report = load(dataset, written(tmp_path, coco(change)), missing="delete")
    assert counts(report) == {"unchanged": 2, "refused": 1}
    assert state(dataset) == before


def test_run_lengths_of_no_length_are_no_change(dataset: Any, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        flat = np.r_[False, filled(*BOXES["1#0"]).ravel(order="F")]
        edges = np.flatnonzero(flat[1:] != flat[:-1])
        lengths = np.diff(np.r_[0, edges, 48 * 64]).tolist()
        content["annotations"][0]["segmentation"]["counts"] = [0, 0, lengths[0], 0, 0, *lengths[1:], 0, 0]

    assert counts(load(dataset, written(tmp_path, coco(change)))) == {"unchanged": 3}


def test_a_photo_of_another_size_is_refused(dataset: Any, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"][0] |= {"width": 128, "height": 96}
        content["annotations"][0]["segmentation"] = [[8, 8, 32, 8, 32, 28, 8, 28]]

    report = load(dataset, written(tmp_path, coco(change)), missing="delete")
    assert counts(report) == {"unchanged": 2, "refused": 1}
    assert report.problems == [
        "annotation 1 has a photo of 96 x 128 pixels in the file, the image has 48 x 64 pixels"
    ]


def test_boxes_are_rectangles_or_left_out(dataset: Any, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        del content["annotations"][0]["segmentation"]
        content["annotations"][1] |= {"segmentation": [], "bbox": [50, 20, 5.2, 7]}
        content["annotations"][2] |= {"segmentation": None, "bbox": [50, 20, 0, 7]}

    path = written(tmp_path, coco(change))
    report = load(dataset, path, boxes="leave")
    assert counts(report) == {"refused": 3}
    report = load(dataset, path)
    assert counts(report) == {"unchanged": 1, "redrawn": 1, "refused": 1}
    np.testing.assert_array_equal(masks(dataset)["1#1"], filled(50, 20, 5, 7))
    with pytest.raises(UsageError, match="boxes is one of"):
        load(dataset, path, boxes="circle")
    with pytest.raises(UsageError, match="where a SAM model is given"):
        load(dataset, path, boxes="sam")


def test_polygons_as_lists_of_points(dataset: Any, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for row, nest in zip(content["annotations"], (False, True, True), strict=True):
            x, y, w, h = BOXES[row["mask_id"]]
            points = [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]
            row["segmentation"] = [points] if nest else points

    assert counts(load(dataset, written(tmp_path, coco(change)))) == {"unchanged": 3}


def test_the_tracks_of_a_video_are_told(dataset: Any, tmp_path: Path) -> None:
    box = '<box frame="0" xtl="1" ytl="1" xbr="2" ybr="2"/>'
    text = f'<annotations><track id="0" label="cat">{box}</track></annotations>'
    with pytest.raises(UsageError, match="tracks of a video: export it as CVAT for images"):
        load(dataset, written(tmp_path, text, "video.xml"))


def test_the_box_of_a_mask_does_not_flatten_it(dataset: Any, tmp_path: Path) -> None:
    def round_cat(content: dict[str, Any]) -> None:
        content["annotations"][0]["segmentation"] = [[4, 9, 10, 4, 16, 9, 10, 14]]

    def box_alone(content: dict[str, Any]) -> None:
        content["annotations"][0]["segmentation"] = []

    load(dataset, written(tmp_path, coco(round_cat)))
    before = state(dataset)
    assert counts(load(dataset, written(tmp_path, coco(box_alone)))) == {"unchanged": 3}
    assert state(dataset) == before


SHAPES = """<annotations><image id="0" name="1.png" width="64" height="48">
<polyline label="cat" points="1,1;5,5;9,1"/><points label="cat" points="1,1"/><box label="cat" xtl="5" ytl="5"
xbr="5" ybr="9"/><mask label="cat" rle="0, 4" left="nan" top="0" width="2" height="2"/><mask label="cat" rle="0, 5"
left="1" top="0" width="2" height="2"/><mask label="cat" rle="0, 4" left="70" top="0" width="2" height="2"/><polygon
label="cat" points="1,1;2"/><polygon points="1,1;9,1;9,9"/><ellipse label="cat" cx="3" cy="3" rx="0" ry="2"/><ellipse
label="cat" cx="3" cy="3"/><mask label="cat" rle="0, 1000000000000" left="0" top="0" width="1000000"
height="1000000"/>
<mask label="cat" rle="0, 4" left="-1" top="46" width="2" height="2"><attribute name="mask_id">1#0</attribute></mask>
</image></annotations>"""


def test_shapes_of_cvat_that_are_no_masks_are_reported(dataset: Any, tmp_path: Path) -> None:
    report = load(dataset, written(tmp_path, SHAPES, "a.xml"))
    assert counts(report) == {"redrawn": 1, "refused": 11}
    assert report.problems[0] == "'1.png', shape 1 (polyline) has no mask: it has no area"
    assert all(line.startswith("'1.png', shape ") and "\n" not in line for line in report.problems)
    np.testing.assert_array_equal(masks(dataset)["1#0"], filled(0, 46, 1, 2))


@pytest.mark.parametrize("suffix", [".json", ".xml"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "zip"])
def test_text_of_other_systems(dataset: Any, tmp_path: Path, suffix: str, encoding: str) -> None:
    shapes = (CASES / "box_rotated.xml").read_text()
    text = json.dumps(coco()) if suffix == ".json" else shapes
    path = tmp_path / f"file{suffix}"
    if encoding == "zip":
        path = tmp_path / "file.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(
                "annotations.xml" if suffix == ".xml" else "annotations/instances_default.json", text
            )
            archive.writestr("images/1.png", b"")
    elif encoding == "utf-16-be":
        path.write_bytes(b"\xfe\xff" + text.encode("utf-16-be"))
    else:
        path.write_bytes(text.encode(encoding))
    expected = {"unchanged": 3} if suffix == ".json" else {"unchanged": 2, "redrawn": 1}
    assert counts(load(dataset, path)) == expected
