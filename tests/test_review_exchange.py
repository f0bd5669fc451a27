"""Export and corrections: pycocotools and FiftyOne's own importers read what is written; mask ids survive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from run_factory import make_run, mask_labels, mask_set, rectangles
from written import EXACT, export

from gem_label.errors import GemLabelError, UsageError
from gem_label.formats.cvat.reading import from_run_lengths
from gem_label.formats.cvat.writing import run_lengths
from gem_label.formats.writing import FORMATS
from gem_label.masks import encode_mask
from gem_label.progress import finish
from gem_label.review.editing.decisions import decide, undo
from gem_label.review.exchange.corrections import import_corrections
from gem_label.review.exchange.export import export_masks
from gem_label.review.storage.selection import Selection
from gem_label.rle import encode_crop

__all__ = ["fiftyone_db"]

FIELD = "gem_label"
NAMED = '{"images": [{"id": 1, "file_name": "NAME", "width": 64, "height": 48}], "categories": [], "annotations": []}'


@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.data())
@settings(max_examples=100, deadline=None)
def test_a_crop_encodes_like_the_whole_mask(crop: NDArray[np.bool_], data: st.DataObject) -> None:
    height, width = (data.draw(st.integers(side, side + 9)) for side in crop.shape)
    y, x = data.draw(st.integers(0, height - crop.shape[0])), data.draw(st.integers(0, width - crop.shape[1]))
    whole = np.zeros((height, width), bool)
    whole[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    encoded = encode_crop(crop, (x, y, crop.shape[1], crop.shape[0]), height, width)
    assert encoded["counts"] == encode_mask(whole)
    np.testing.assert_array_equal(from_run_lengths(run_lengths(crop), *crop.shape), crop)


def blobs(count: int, seed: int) -> list[NDArray[np.bool_]]:
    """Masks with holes and several parts."""
    rng = np.random.default_rng(seed)
    masks = [
        a ^ b for a, b in zip(rectangles(count, seed=seed), rectangles(count, seed=seed + 50), strict=True)
    ]
    for mask in masks:
        mask[tuple(rng.integers(0, 40, 2))] ^= True
    return masks


@pytest.fixture
def dataset(fiftyone_db: str, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    import fiftyone as fo
    from PIL import Image

    from gem_label.review import push_run

    masks = blobs(4, 1), blobs(3, 2)
    run = make_run(
        tmp_path / "run",
        {
            "a/1.png": (mask_set(masks[0]), mask_labels(["cat", "dog", "cat", "cup"], [0.9, 0.8, 0.3, 0.25])),
            "empty.png": (mask_set([]), mask_labels([], [])),
            "b/1.png": (mask_set(masks[1]), mask_labels(["cup", "dog", "cat"], [0.5, 0.6, 0.7])),
        },
    )
    for photo in run.photos():
        Path(photo.image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48)).save(photo.image)
    name = f"exchange {request.node.name}"
    push_run(run, name)
    dataset = fo.load_dataset(name)
    yield dataset, {"a/1": masks[0], "b/1": masks[1]}
    fo.delete_dataset(name)


@pytest.mark.parametrize("format", ["rle", "polygon"])
def test_coco_has_the_exact_masks(dataset: Any, tmp_path: Path, format: Any) -> None:
    dataset, truth = dataset
    out = tmp_path / "deep" / "out.json"
    counts = export(dataset, FIELD, out, format)
    assert (counts.photos, counts.masks, counts.classes) == (3, 7, 3)
    coco = COCO(str(out))
    assert {image["file_name"] for image in coco.imgs.values()} == {"a/1.png", "b/1.png", "empty.png"}
    for annotation in coco.anns.values():
        photo, index = annotation["mask_id"].split("#")
        mask = truth[photo][int(index)]
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)
        assert annotation["area"] == mask.sum()
        assert (
            annotation["bbox"] == coco_mask.toBbox({"size": [48, 64], "counts": encode_mask(mask)}).tolist()
        )
        assert 0 < annotation["score"] <= 1


def test_only_what_is_asked_for(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    dataset, _ = dataset
    decide(dataset, FIELD, "accept", Selection(labels=["cat"]))
    decide(dataset, FIELD, "reject", Selection(labels=["cup"], below_score=0.4))

    def exported(selection: Selection | None) -> tuple[int, set[str]]:
        export(dataset, FIELD, tmp_path / "o.json", "rle", selection)
        content = json.loads((tmp_path / "o.json").read_text())
        return len(content["images"]), {a["mask_id"] for a in content["annotations"]}

    assert exported(None) == (3, {"a/1#0", "a/1#1", "a/1#2", "b/1#0", "b/1#1", "b/1#2"})
    assert exported(Selection(states=["accepted"])) == (3, {"a/1#0", "a/1#2", "b/1#2"})
    assert exported(Selection(min_score=0.65)) == (3, {"a/1#0", "a/1#1", "b/1#2"})
    view = dataset.match({"filepath": {"$regex": "b/1"}})
    assert exported(Selection(view=view)) == (1, {"b/1#0", "b/1#1", "b/1#2"})
    patches = dataset.filter_labels(FIELD, fo.ViewField("label") == "dog").to_patches(FIELD)
    assert exported(Selection(view=patches)) == (2, {"a/1#1", "b/1#1"})
    assert exported(Selection(labels=["zebra"])) == (3, set())


@pytest.mark.parametrize("format", EXACT)
def test_a_round_trip_changes_nothing(dataset: Any, tmp_path: Path, format: Any) -> None:
    dataset, _ = dataset
    out = tmp_path / f"out{FORMATS[EXACT[format][0]].suffix}"
    export(dataset, FIELD, out, format)
    before = dataset.values(f"{FIELD}.detections.id"), dataset.values("last_modified_at")
    report = finish(import_corrections(dataset, FIELD, out, missing="delete"))
    assert (report.photos, report.unchanged, report.decision) == (3, 7, None)
    assert (dataset.values(f"{FIELD}.detections.id"), dataset.values("last_modified_at")) == before


def test_fiftyone_reads_the_cvat_file(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    dataset, truth = dataset
    export(dataset, FIELD, tmp_path / "labels.xml", "cvat")
    root = ElementTree.parse(tmp_path / "labels.xml").getroot()
    declared = [
        label.findtext("name") for label in root.iter("label") if label.find("attributes") is not None
    ]
    assert declared == ["cat", "dog", "cup"]  # as the field declares them
    shapes = {m.findtext("attribute"): m for m in root.iter("mask")}
    assert len(shapes) == 7
    for mask_id, shape in shapes.items():
        photo, index = mask_id.split("#")
        left, top, w, h = (int(shape.get(side)) for side in ("left", "top", "width", "height"))
        counts = [int(n) for n in shape.get("rle").split(",")]
        expected = truth[photo][int(index)][top : top + h, left : left + w]
        np.testing.assert_array_equal(from_run_lengths(counts, h, w), expected)
    read = fo.Dataset.from_dir(
        dataset_type=fo.types.CVATImageDataset,
        data_path=str(tmp_path / "photos"),
        labels_path=str(tmp_path / "labels.xml"),
    )
    assert len(read) == 3
    fo.delete_dataset(read.name)


def corrected(path: Path, keep_ids: bool) -> None:
    """What a person does elsewhere: one label changed, one shape changed, one gone, one new."""
    coco = json.loads(path.read_text())
    by_id = {a["mask_id"]: a for a in coco["annotations"]}
    category = {c["name"]: c["id"] for c in coco["categories"]} | {"wolf": 99}
    coco["categories"].append({"id": 99, "name": "wolf"})
    by_id["a/1#1"]["category_id"] = category["wolf"]
    box = by_id["b/1#2"]["bbox"]
    drawn = np.zeros((48, 64), bool)
    x, y, w, h = map(int, box)
    drawn[y : y + h, x : x + w] = True
    rle = {"size": [48, 64], "counts": encode_mask(drawn).decode()}
    by_id["b/1#2"]["segmentation"] = rle
    coco["annotations"].remove(by_id["a/1#3"])
    far = np.zeros((48, 64), bool)
    far[46:48, 60:64] = True
    new = {"size": [48, 64], "counts": encode_mask(far).decode()}
    coco["annotations"].append(
        {"id": 1000, "image_id": by_id["a/1#0"]["image_id"], "category_id": 99, "segmentation": new}
    )
    for annotation in coco["annotations"]:
        if not keep_ids:
            annotation.pop("mask_id", None)
            annotation.pop("attributes", None)
    path.write_text(json.dumps(coco))


@pytest.mark.parametrize("keep_ids", [True, False])
def test_corrections_come_back_to_their_masks(dataset: Any, tmp_path: Path, keep_ids: bool) -> None:
    from gem_label.review import push_run
    from gem_label.runs import open_run

    dataset, _ = dataset
    ids = dict(
        zip(
            dataset.values(f"{FIELD}.detections.mask_id", unwind=True),
            dataset.values(f"{FIELD}.detections.id", unwind=True),
            strict=True,
        )
    )
    export(dataset, FIELD, tmp_path / "out.json")
    corrected(tmp_path / "out.json", keep_ids)
    report = finish(import_corrections(dataset, FIELD, tmp_path / "out.json", missing="delete"))
    assert (report.relabeled, report.redrawn, report.added, report.missing) == (1, 1, 1, 1)
    masks = {d.mask_id: d for sample in dataset for d in (sample[FIELD].detections if sample[FIELD] else [])}
    assert set(masks) == set(ids) - {"a/1#3"} | {None}
    assert (masks["a/1#1"].label, masks["a/1#1"].tags, masks["a/1#1"].id) == (
        "wolf",
        ["accepted"],
        ids["a/1#1"],
    )
    assert masks["b/1#2"].mask.all()
    assert masks["a/1#0"].tags == []
    assert masks[None].mask.shape == (2, 4)
    # all of it survives the next push, and one undo takes it back
    push_run(open_run(tmp_path / "run"), dataset.name)
    again = {d.mask_id: d for sample in dataset for d in (sample[FIELD].detections if sample[FIELD] else [])}
    assert {key: (d.label, d.tags) for key, d in again.items()} == {
        key: (d.label, d.tags) for key, d in masks.items()
    }
    np.testing.assert_array_equal(again["b/1#2"].mask, masks["b/1#2"].mask)
    assert undo(dataset, FIELD)[1] == 4
    assert set(dataset.values(f"{FIELD}.detections.mask_id", unwind=True)) == set(ids)
    assert dataset.count_label_tags() == {}


def test_what_happens_to_missing_and_unchanged_masks(dataset: Any, tmp_path: Path) -> None:
    dataset, _ = dataset
    out = tmp_path / "out.json"
    export(dataset, FIELD, out, selection=Selection(labels=["cat"]))
    report = finish(import_corrections(dataset, FIELD, out))
    assert (report.missing, report.decision) == (4, None)
    finish(import_corrections(dataset, FIELD, out, missing="reject", accept_unchanged=True))
    assert dataset.count_label_tags() == {"accepted": 3, "rejected": 4}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("no.json", None, "cannot read"),
        ("broken.json", "{", "is no annotation file"),
        ("list.json", "[]", "holds no COCO instances"),
        ("other.json", '{"images": []}', "holds no COCO instances"),
        ("broken.xml", "<annotations><image", "as CVAT for images"),
        ("ambiguous.json", NAMED.replace("NAME", "1.png"), "any of 2 photos"),
        ("stranger.json", NAMED.replace("NAME", "z.png"), "none of the 3 photos"),
    ],
)  # fmt: skip
def test_files_that_are_none_are_refused(
    dataset: Any, tmp_path: Path, name: str, content: str | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=problem):
        finish(import_corrections(dataset[0], FIELD, tmp_path / name))


def test_an_export_that_fails_leaves_no_file(dataset: Any, tmp_path: Path) -> None:
    dataset, _ = dataset
    (tmp_path / "file").write_text("")
    with pytest.raises(GemLabelError, match="cannot write"):
        export(dataset, FIELD, tmp_path / "file" / "out.json")
    with pytest.raises(UsageError, match="is a folder"):
        export(dataset, FIELD, tmp_path)
    with pytest.raises(UsageError, match="unknown format"):
        finish(export_masks(dataset, FIELD, tmp_path / "x.json", "svg"))
    work = export_masks(dataset, FIELD, tmp_path / "stopped.json")
    next(work)
    work.close()
    assert not list(tmp_path.glob("*stopped*"))


def test_parts_become_one_mask(dataset: Any) -> None:
    from gem_label.review.editing.joining import join_masks

    dataset, truth = dataset
    decision = join_masks(dataset, FIELD, Selection(labels=["cat"]))
    assert (decision.action, decision.masks) == ("merge", 2)
    whole = {d.mask_id: d for d in dataset.match({"filepath": {"$regex": "a/1"}}).first()[FIELD].detections}
    assert set(whole) == {"a/1#0", "a/1#1", "a/1#3"}
    union = truth["a/1"][0] | truth["a/1"][2]
    ys, xs = np.nonzero(union)
    np.testing.assert_array_equal(
        whole["a/1#0"].mask, union[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    )
    assert whole["a/1#0"].tags == ["accepted"]
    assert undo(dataset, FIELD)[1] == 2
    assert dataset.count(f"{FIELD}.detections") == 7
    with pytest.raises(UsageError, match="two selected masks with the same label"):
        join_masks(dataset, FIELD, Selection(labels=["dog"]))
