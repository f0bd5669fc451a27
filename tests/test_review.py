"""FiftyOne: the push, judged through FiftyOne's own API on a real MongoDB; merging; the `Model`."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from run_factory import CLASSES, DIMENSION, make_run, mask_labels, mask_set, rectangles

from gem_label.errors import GemLabelError, UsageError
from gem_label.labeling import Vocabulary
from gem_label.masks import MaskSet, encode_mask
from gem_label.review.pushing.merge import merge_detections, photo_proposals
from gem_label.review.storage import mask_bytes
from gem_label.review.storage.detections import is_decided, relative_box
from gem_label.review.storage.documents import pixel_box
from gem_label.rle import crop_mask
from gem_label.runs import Run
from gem_label.runs.relabel import relabel_run

__all__ = ["fiftyone_db"]


# --- crops -----------------------------------------------------------------------------------------------------


@given(hnp.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))), st.data())
@settings(max_examples=200, deadline=None)
def test_a_crop_is_what_pycocotools_decodes(mask: NDArray[np.bool_], data: st.DataObject) -> None:
    height, width = mask.shape
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    w, h = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    np.testing.assert_array_equal(
        crop_mask(encode_mask(mask), height, (x, y, w, h)), mask[y : y + h, x : x + w]
    )


@given(st.integers(0, 10_000))
@example(0)
@settings(max_examples=20, deadline=None)
def test_crops_of_large_masks_with_long_runs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((700, 900), bool)
    for _ in range(6):
        y, x = rng.integers(0, 700), rng.integers(0, 900)
        mask[y : y + rng.integers(1, 400), x : x + rng.integers(1, 400)] ^= True
    counts = encode_mask(mask)
    x, y, w, h = coco_mask.toBbox({"size": mask.shape, "counts": counts}).astype(int).tolist()
    np.testing.assert_array_equal(crop_mask(counts, 700, (x, y, w, h)), mask[y : y + h, x : x + w])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_many_crops_at_once_are_the_same(data: st.DataObject) -> None:
    from fiftyone.core.utils import deserialize_numpy_array

    shapes = st.tuples(st.integers(1, 20), st.integers(1, 20))
    masks = data.draw(st.lists(hnp.arrays(bool, shapes).filter(np.any), min_size=1, max_size=5))
    counts = [encode_mask(mask) for mask in masks]
    boxes = [
        coco_mask.toBbox({"size": m.shape, "counts": c}).astype(int)
        for m, c in zip(masks, counts, strict=True)
    ]
    heights = np.array([mask.shape[0] for mask in masks])
    for several in (1 << 24, 1):  # together, and one by one
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mask_bytes, "PIXELS_AT_ONCE", several)
            crops = list(mask_bytes.crop_masks(counts, heights, np.array(boxes)))
        for crop, mask, (x, y, w, h) in zip(crops, masks, boxes, strict=True):
            np.testing.assert_array_equal(crop, mask[y : y + h, x : x + w])
            assert crop.flags.c_contiguous
            stored = deserialize_numpy_array(mask_bytes.serialize_crop(crop))
            np.testing.assert_array_equal(stored, crop)
            assert stored.dtype == bool


# --- merging ---------------------------------------------------------------------------------------------------


def proposals(names: list[str | None]) -> list[Any]:
    return list(
        photo_proposals("p", mask_set(rectangles(len(names))), mask_labels(names, [0.5] * len(names)))
    )


def merged_twice(
    names: list[str | None], changes: dict[str, Any], later: list[str | None], **options: Any
) -> Any:
    """Merge into an empty sample, let a reviewer change the first detection, merge the relabeled masks."""
    first = merge_detections([], proposals(names), {"tags": []})
    for position, proposal in first.masks_needed.items():
        first.detections[position] |= {"bounding_box": list(proposal.bounding_box), "mask": b"x"}
    first.detections[0] |= changes
    return merge_detections(first.detections, proposals(later), {"tags": []}, **options)


def test_a_second_merge_changes_nothing() -> None:
    merged = merged_twice(["cat", "dog"], {}, ["cat", "dog"])
    assert not merged.masks_needed
    assert [d["label"] for d in merged.detections] == ["cat", "dog"]
    assert merged.decided == 0


def test_new_labels_arrive_and_tags_and_further_fields_stay() -> None:
    merged = merged_twice(["cat", "dog"], {"tags": ["blurry"], "color": "red"}, ["cup", "dog"])
    first = merged.detections[0]
    assert (first["label"], first["proposed_label"], first["tags"], first["color"], first["mask"]) == (
        ("cup", "cup", ["blurry"], "red", b"x")
    )


@given(st.integers(1, 6000), st.data())
@settings(max_examples=2000, deadline=None)
def test_a_relative_box_gives_its_pixels_back(side: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, side - 1))
    length = data.draw(st.integers(1, side - start))
    x, _, w, _ = box = relative_box((start, 0, length, 1), side, 1)
    assert (int(side * x), int(side * (x + w))) == (
        start,
        start + length,
    )  # as FiftyOne's `to_segmentation` does
    assert 0 <= x <= 1
    assert x + w <= 1
    assert pixel_box({"bounding_box": list(box)}, side, 1) == (start, 0, length, 1)


@pytest.mark.parametrize("change", [{"tags": ["accepted"]}, {"tags": ["rejected", "x"]}, {"label": "cup"}])
def test_decided_masks_stay_as_they_are(change: dict[str, Any]) -> None:
    merged = merged_twice(["cat", "dog"], change, ["dog", "cup"])
    assert is_decided(merged.detections[0])
    assert merged.detections[0]["label"] == change.get("label", "cat")
    assert merged.detections[1]["label"] == "cup"
    assert merged.decided == 1
    gone = merged_twice(["cat", "dog"], change, [None, "cup"])
    assert [d["mask_id"] for d in gone.detections] == ["p#1", "p#0"]
    assert gone.decided == 1
    overwritten = merged_twice(["cat", "dog"], change, ["dog", "cup"], overwrite=True)
    assert [d["label"] for d in overwritten.detections] == ["dog", "cup"]
    assert overwritten.detections[0].get("tags") == change.get("tags", [])


def test_masks_that_are_no_longer_kept_go_and_drawn_ones_stay() -> None:
    assert [d["mask_id"] for d in merged_twice(["cat", "dog"], {}, [None, "dog"]).detections] == ["p#1"]
    drawn = merged_twice(["cat", "dog"], {"mask_id": None}, [None, "dog"])
    assert [d.get("mask_id") for d in drawn.detections] == ["p#1", None]


def test_masks_are_needed_again_where_the_box_or_the_place_differs() -> None:
    assert list(merged_twice(["cat"], {"bounding_box": [0, 0, 1, 1]}, ["cat"]).masks_needed) == [0]
    assert list(merged_twice(["cat"], {}, ["cat"], storage="disk").masks_needed) == [0]
    assert not merged_twice(["cat"], {}, ["cat"], storage="database").masks_needed


# --- push ------------------------------------------------------------------------------------------------------


@pytest.fixture
def dataset_name(fiftyone_db: str, request: pytest.FixtureRequest) -> Any:
    import fiftyone as fo

    name = f"test {request.node.name}"
    yield name
    for each in (name, f"{name} 2"):
        if fo.dataset_exists(each):
            fo.delete_dataset(each)


@pytest.fixture
def labeled_photos() -> dict[str, Any]:
    masks = mask_set(rectangles(4))
    return {
        "a.jpg": (masks, mask_labels(["cat", "dog", None, "cup"], [0.9, 0.8, 0.7, 0.25])),
        "empty.jpg": (mask_set([]), mask_labels([], [])),
        "deeper/b.jpg": (mask_set(rectangles(2, 30, 50, seed=1)), mask_labels(["cup", "dog"], [0.5, 0.6])),
    }


@pytest.fixture
def run(tmp_path: Path, labeled_photos: dict[str, Any]) -> Run:
    return make_run(tmp_path / "run", labeled_photos)


def full_masks(detections: Any, masks: MaskSet) -> dict[str, NDArray[np.bool_]]:
    """mask_id -> the mask on the whole photo, as the App draws it from box and mask."""
    found = {}
    for detection in detections:
        x, y, w, h = (
            round(v * side)
            for v, side in zip(detection.bounding_box, (masks.width, masks.height) * 2, strict=True)
        )
        whole = np.zeros((masks.height, masks.width), bool)
        whole[y : y + h, x : x + w] = detection.get_mask() > 0
        found[detection.mask_id] = whole
    return found


@pytest.mark.parametrize("storage", ["auto", "database", "disk"])
def test_push_makes_a_persistent_dataset_with_the_runs_masks(
    run: Run, dataset_name: str, storage: str, tmp_path: Path
) -> None:
    import fiftyone as fo

    from gem_label.review import push_run

    report = push_run(run, dataset_name, mask_storage=storage)  # type: ignore[arg-type]
    assert (report.photos, report.added, report.updated, report.unchanged) == (3, 3, 0, 0)
    assert (report.detections, report.masks_on_disk) == (5, 5 if storage == "disk" else 0)
    dataset = fo.load_dataset(dataset_name)
    assert dataset.persistent
    assert len(dataset) == 3
    assert dataset.count("gem_label.detections") == 5
    assert dataset.classes["gem_label"] == list(CLASSES)
    for photo, masks, labels in run.photo_masks():
        sample = dataset[photo.image]
        assert (sample.metadata.width, sample.metadata.height) == (photo.width, photo.height)
        found = full_masks(sample.gem_label.detections, masks)
        kept = np.flatnonzero(labels.kept)
        assert list(found) == [f"{photo.image_id}#{i}" for i in kept]
        for i, detection in zip(kept, sample.gem_label.detections, strict=True):
            np.testing.assert_array_equal(found[detection.mask_id], masks.decode(i))
            assert (detection.label, detection.proposed_label) == (labels.names[i],) * 2
            assert detection.confidence == pytest.approx(labels.score[i])
            assert detection.margin == pytest.approx(labels.margin[i])
            assert (detection.mask_path is None) == (storage != "disk")
            # the App draws no column-major arrays
            assert detection.mask is None or detection.mask.flags.c_contiguous
    assert not (tmp_path / "run" / "fiftyone_masks").exists() or storage == "disk"
    # FiftyOne's own exporter takes the detections as they are
    dataset.export(
        labels_path=str(tmp_path / "coco.json"),
        dataset_type=fo.types.COCODetectionDataset,
        label_field="gem_label",
        abs_paths=True,
    )


def test_pushing_twice_changes_nothing(run: Run, dataset_name: str) -> None:
    import fiftyone as fo

    from gem_label.review import push_run

    push_run(run, dataset_name)
    before = fo.load_dataset(dataset_name)
    ids = before.values(["id", "gem_label.detections.id", "last_modified_at"])
    report = push_run(run, dataset_name)
    assert (report.added, report.updated, report.unchanged, report.masks_in_database) == (0, 0, 3, 0)
    assert fo.load_dataset(dataset_name).values(["id", "gem_label.detections.id", "last_modified_at"]) == ids


def test_a_push_after_relabel_updates_labels_and_keeps_what_reviewers_did(
    run: Run, dataset_name: str, tmp_path: Path
) -> None:
    import fiftyone as fo

    from gem_label.review import push_run

    push_run(run, dataset_name)
    dataset = fo.load_dataset(dataset_name)
    held = dataset[next(photo.image for photo in run.photos() if photo.image_id == "a")]
    held.gem_label.detections[0].tags.append("accepted")
    held.gem_label.detections[1].tags.append("blurry")
    held.gem_label.detections[1]["color"] = "red"
    held.save()
    other = fo.Sample(
        filepath=str(tmp_path / "other.jpg"), gem_label=fo.Detections(detections=[fo.Detection()])
    )
    dataset.add_sample(other)
    text = np.zeros((3, DIMENSION), np.float32)
    relabeled = relabel_run(run, Vocabulary.from_words(["bird", "car"], ["sky"]), text)
    report = push_run(relabeled, dataset_name)
    assert report.decided == 1
    assert len(dataset) == 4
    sample = dataset[held.filepath]
    assert sample is not None
    by_id = {d.mask_id: d for d in sample.gem_label.detections}
    names = {photo.image: labels.names for photo, _, labels in relabeled.photo_masks()}[held.filepath]
    assert by_id["a#0"].label == "cat"
    assert by_id["a#0"].tags == ["accepted"]
    assert by_id["a#1"].label == names[1] == "bird"
    assert (by_id["a#1"].tags, by_id["a#1"]["color"]) == (["blurry"], "red")
    assert by_id["a#1"].mask is not None
    assert len(dataset[other.filepath].gem_label.detections) == 1
    # samples that this process holds are up to date
    assert {d.label for d in held.gem_label.detections} == {"cat", "bird"}


def test_existing_samples_get_the_field_and_keep_the_rest(run: Run, dataset_name: str) -> None:
    import fiftyone as fo

    from gem_label.review import push_run

    path = next(iter(run.photos())).image
    dataset = fo.Dataset(dataset_name)
    dataset.add_sample(fo.Sample(filepath=path, tags=["mine"], truth=fo.Classification(label="cat")))
    report = push_run(run, dataset_name, field="gem_sam")
    assert (report.added, report.updated) == (2, 1)
    sample = dataset[path]
    assert (sample.tags, sample.truth.label, len(sample.gem_sam.detections)) == (["mine"], "cat", 3)
    assert sample.metadata.width == 64
    assert dataset.persistent


def test_masks_move_to_disk_when_a_document_would_get_too_large(tmp_path: Path, dataset_name: str) -> None:
    import fiftyone as fo

    from gem_label.review import push_run

    noise = np.random.default_rng(0).random((30, 150, 200)) > 0.5  # masks of about 5 kB
    large = (mask_set(list(noise)), mask_labels(["cat"] * 30, [0.5] * 30))
    small = (mask_set(rectangles(2)), mask_labels(["cat"] * 2, [0.5] * 2))
    run = make_run(tmp_path / "run", {"large.jpg": large, "small.jpg": small})
    report = push_run(run, dataset_name, database_limit=100_000)
    assert (report.masks_on_disk, report.masks_in_database) == (30, 2)
    dataset = fo.load_dataset(dataset_name)
    paths = dataset.values("gem_label.detections.mask_path")
    assert [len([p for p in of_photo if p]) for of_photo in paths] == [30, 0]
    sample = dataset.first()
    np.testing.assert_array_equal(full_masks(sample.gem_label.detections, large[0])["large#7"], noise[7])
    assert push_run(run, dataset_name, database_limit=100_000).unchanged == 2
    moved = push_run(run, dataset_name, mask_storage="disk")
    assert (moved.updated, moved.masks_on_disk) == (1, 2)
    moved = push_run(run, dataset_name, mask_storage="database")
    assert (moved.updated, moved.masks_in_database) == (2, 32)
    assert dataset.count("gem_label.detections.mask_path") == 0


def test_a_document_that_is_full_is_told_in_one_line(run: Run, dataset_name: str) -> None:
    import fiftyone as fo

    from gem_label.review import push_run

    path = next(iter(run.photos())).image
    # with zlib's overhead and the rest of the sample some hundred bytes short of MongoDB's limit
    ballast = np.random.default_rng(0).integers(0, 256, (16 << 20) - 5800, np.uint8)
    fo.Dataset(dataset_name).add_sample(fo.Sample(filepath=path, ballast=ballast))
    with pytest.raises(GemLabelError, match="push with masks on disk") as error:
        push_run(run, dataset_name)
    assert len(str(error.value)) < 400


def test_push_has_many_times_the_rate_of_saving_each_sample(tmp_path: Path, dataset_name: str) -> None:
    """`benchmarks/review.py` measures 12 times; half of the 10 that it must have is what must never be lost."""
    import fiftyone as fo

    from gem_label.review import push_run

    benchmark = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "review.py"))
    masks = mask_set(rectangles(10, 480, 640))
    labels = mask_labels(["cat", "dog"] * 5, [0.5] * 10)
    run = make_run(tmp_path / "run", {f"{i}.jpg": (masks, labels) for i in range(400)})
    plain = fo.Dataset(f"{dataset_name}-plain")
    for dataset in (fo.Dataset(dataset_name), plain):
        benchmark["add_photos"](dataset, run)
    started = time.process_time()
    report = push_run(run, dataset_name, field=benchmark["FIELD"])
    ours = (time.process_time() - started) / 400
    started = time.process_time()
    benchmark["save_each"](plain, run, 100)
    theirs = (time.process_time() - started) / 100
    assert report.detections == 4000
    assert plain.first()[benchmark["FIELD"]].detections[0].label == "cat"
    fo.delete_dataset(plain.name)
    assert ours < theirs / 5


def test_what_is_no_place_for_masks_is_refused(run: Run, dataset_name: str) -> None:
    import fiftyone as fo

    from gem_label.review import push_run

    dataset = fo.Dataset(dataset_name)
    dataset.add_sample_field("quality", fo.FloatField)
    with pytest.raises(UsageError, match="not a Detections"):
        push_run(run, dataset_name, field="quality")
    with pytest.raises(UsageError, match="'auto', 'database' or 'disk'"):
        push_run(run, dataset_name, mask_storage="cloud")  # type: ignore[arg-type]
    dataset.add_sample(fo.Sample(filepath="/nowhere/film.mp4"))
    with pytest.raises(UsageError, match="video"):
        push_run(run, dataset_name)


def test_a_run_finds_its_dataset(run: Run, dataset_name: str) -> None:
    import fiftyone as fo

    from gem_label.review import push_run
    from gem_label.review.app import dataset_of_run, open_app

    push_run(run, dataset_name, field="masks")
    assert dataset_of_run(run.path) == dataset_name
    fo.delete_dataset(dataset_name)
    made = dataset_of_run(run.path)
    assert len(fo.load_dataset(made)) == 3
    fo.delete_dataset(made)
    with pytest.raises(UsageError, match="neither a run directory nor"):
        open_app("no such thing")


def test_the_database_command_finds_what_is_there(fiftyone_db: str) -> None:
    command = [sys.executable, "-m", "gem_label.review.database"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "mongod: works\n")
    bundled = {k: v for k, v in os.environ.items() if k != "FIFTYONE_DATABASE_URI"}
    ensured = subprocess.run([*command, "--ensure"], capture_output=True, text=True, env=bundled)
    assert ensured.returncode == 0
    assert ensured.stdout.startswith("mongod: found ")


def test_without_fiftyone_there_is_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['fiftyone'] = None\n"
        "from gem_label.errors import GemLabelError\n"
        "try:\n    from gem_label.review import GemSamModel\n"
        "except GemLabelError as error: print(error)\n"
        "from gem_label.review.database import mongod_problem\n"
        "print(mongod_problem())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    assert len(lines) == 2
    assert all("pip install 'gem-label[fiftyone]'" in line for line in lines)


# --- the Model -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_apply_model(dataset_name: str, photo_folder: Path) -> None:
    import fiftyone as fo
    from fixtures.make_gem_torch import build_model

    from gem_label.clip.models import as_clip
    from gem_label.labeler import Labeler
    from gem_label.review import GemSamModel
    from gem_label.sam.models import load_sam
    from gem_label.sam.proposals import ProposalSettings
    from gem_label.weights import pull_weights

    pull_weights("mobile_sam", progress=False)
    proposals = ProposalSettings(points_per_side=2, pred_iou_thresh=0.5, stability_score_thresh=0.5)
    labeler = Labeler(as_clip(build_model()), load_sam("mobile_sam"), proposals)
    dataset = fo.Dataset(dataset_name)
    path = str(photo_folder / "chelsea.jpg")
    dataset.add_sample(fo.Sample(filepath=path))
    model = GemSamModel(labeler, "cat, cup", background=["wall"], min_score=0.0)
    dataset.apply_model(model, "gem_sam", skip_failures=False)
    expected = labeler.label(path, ["cat", "cup"], background=["wall"], min_score=0.0).kept
    detections = dataset[path].gem_sam.detections
    assert len(detections) > 0
    assert [d.label for d in detections] == expected.labels.names
    for i, detection in enumerate(detections):
        x, y, w, h = expected.masks.boxes[i].astype(int)
        np.testing.assert_array_equal(detection.mask, expected.masks.decode(i)[y : y + h, x : x + w])
        assert detection.confidence == pytest.approx(expected.labels.score[i])
        assert detection["margin"] == pytest.approx(expected.labels.margin[i])
