"""Masks with one id, photos with one path, and exports of whatever a dataset holds: nothing is lost."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from PIL import Image
from pycocotools.coco import COCO
from review_safety import (
    FIELD,
    HIDDEN,
    LEFT,
    RIGHT,
    copy_of,
    dataset,
    detections,
    drop_metadata,
    ids_of,
    run,
    set_detections,
    write_photos,
)
from written import EXACT, export

from gem_label.errors import GemLabelError, UsageError
from gem_label.formats.annotations import WriteReport
from gem_label.formats.cvat.writing import xml_text
from gem_label.formats.reading import read_annotations
from gem_label.formats.table.writing import cell_text
from gem_label.formats.writing import FORMATS
from gem_label.progress import finish
from gem_label.review import push_run
from gem_label.review.editing.decisions import decide, undo
from gem_label.review.editing.joining import join_masks
from gem_label.review.statistics.measuring import measure_labels
from gem_label.review.statistics.review import confused_pairs, least_certain, review_statistics
from gem_label.review.storage.documents import find_sizes
from gem_label.review.storage.selection import Selection
from gem_label.runs import Run

__all__ = ["dataset", "fiftyone_db", "run"]

# --- mask ids that occur twice -----------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"tags": ["accepted"]}, {"tags": ["rejected"]}, {"label": "wolf"}])
def test_decided_masks_with_one_id_all_stay(run: Run, dataset: Any, changes: dict[str, Any]) -> None:
    first, second = detections(dataset)
    halves = [
        {**first, **changes, "bounding_box": LEFT},
        copy_of(first, tags=["accepted"], bounding_box=RIGHT),
    ]
    set_detections(dataset, [*halves, second])
    report = push_run(run, dataset.name)
    assert report.decided == 2
    assert detections(dataset) == [*halves, second]
    assert push_run(run, dataset.name, min_score=0.85).decided == 2
    assert detections(dataset) == halves
    push_run(run, dataset.name)
    assert detections(dataset) == [*halves, second]


def test_a_decided_copy_survives_a_run_without_the_mask(run: Run, dataset: Any) -> None:
    first, second = detections(dataset)
    halves = [copy_of(first, tags=["accepted"], mask_id="a#7", bounding_box=box) for box in (LEFT, RIGHT)]
    set_detections(dataset, [first, *halves, second])
    assert push_run(run, dataset.name).decided == 2
    assert detections(dataset) == [first, second, *halves]


def test_of_undecided_copies_one_is_updated_and_drawn_ones_stay(run: Run, dataset: Any) -> None:
    first, second = detections(dataset)
    drawn, equal = copy_of(first, bounding_box=RIGHT), copy_of(first)
    set_detections(dataset, [drawn, {**first, "confidence": 0.1}, equal, second])
    assert push_run(run, dataset.name).decided == 0
    assert detections(dataset) == [drawn, first, second]
    assert push_run(run, dataset.name).unchanged == 2


def test_an_undecided_copy_of_a_decided_mask_goes_unless_it_was_drawn(run: Run, dataset: Any) -> None:
    first, second = detections(dataset)
    accepted, drawn = {**first, "tags": ["accepted"]}, copy_of(first, bounding_box=RIGHT)
    set_detections(dataset, [copy_of(first), accepted, drawn, second])
    push_run(run, dataset.name)
    assert detections(dataset) == [accepted, drawn, second]


def test_copies_that_kept_the_id_of_their_detection_get_one_of_their_own(run: Run, dataset: Any) -> None:
    first, second = detections(dataset)
    halves = [{**first, "tags": ["accepted"], "bounding_box": box} for box in (LEFT, RIGHT)]
    set_detections(dataset, [*halves, second])
    push_run(run, dataset.name)
    one, other, _ = detections(dataset)
    assert one == halves[0]
    assert other == {**halves[1], "_id": other["_id"]}
    assert other["_id"] != one["_id"]
    decide(dataset, FIELD, "reject", Selection(ids=[str(other["_id"])]))
    assert [mask["tags"] for mask in detections(dataset)] == [["accepted"], ["rejected"], []]
    undo(dataset, FIELD)
    assert [mask["tags"] for mask in detections(dataset)] == [["accepted"], ["accepted"], []]


def test_an_accepted_copy_in_the_less_likely_field_comes_forth(run: Run, dataset: Any) -> None:
    (hidden,) = detections(dataset, HIDDEN)
    accepted = [copy_of(hidden, tags=["accepted"], bounding_box=box) for box in (LEFT, RIGHT)]
    set_detections(dataset, [{**hidden, "tags": ["rejected"]}, *accepted], HIDDEN)
    labels = detections(dataset)
    assert push_run(run, dataset.name).decided == 3
    assert detections(dataset) == [*labels, *accepted]
    assert detections(dataset, HIDDEN) == [{**hidden, "tags": ["rejected"]}]


def test_the_same_decided_detection_in_both_fields_counts_once(run: Run, dataset: Any) -> None:
    first, second = detections(dataset)
    accepted = {**first, "tags": ["accepted"]}
    set_detections(dataset, [accepted, second])
    set_detections(dataset, [*detections(dataset, HIDDEN), accepted], HIDDEN)
    assert push_run(run, dataset.name).decided == 1
    assert detections(dataset) == [accepted, second]
    assert [mask["mask_id"] for mask in detections(dataset, HIDDEN)] == ["a#2"]


def test_a_copy_stays_when_the_other_was_deleted(run: Run, dataset: Any) -> None:
    first, second = detections(dataset)
    copy = copy_of(first, bounding_box=RIGHT)
    set_detections(dataset, [first, copy, second])
    decide(dataset, FIELD, "delete", Selection(ids=[str(copy["_id"])]))
    push_run(run, dataset.name)
    assert detections(dataset) == [first, second]


def test_overwriting_gives_copies_the_label_and_drops_none(run: Run, dataset: Any) -> None:
    first, second = detections(dataset)
    accepted = [{**first, "tags": ["accepted"]}, copy_of(first, label="wolf", bounding_box=RIGHT)]
    set_detections(dataset, [*accepted, second])
    assert push_run(run, dataset.name, overwrite=True).decided == 0
    assert detections(dataset) == [accepted[0], {**accepted[1], "label": "cat"}, second]


# --- samples with the same photo ---------------------------------------------------------------------------------


def test_two_samples_of_one_photo_hide_no_other_photo(run: Run, dataset: Any) -> None:
    import fiftyone as fo

    a, b = (photo.image for photo in run.photos())
    other = fo.Dataset(f"{dataset.name} 2")
    try:
        other.add_samples([fo.Sample(filepath=a), fo.Sample(filepath=a)])
        report = push_run(run, other.name)
        assert (report.photos, report.added, report.updated, report.unchanged) == (2, 1, 1, 0)
        assert sorted(other.values("filepath")) == [a, a, b]
        assert other.count(f"{FIELD}.detections") == 2 + 2 + 2
        assert push_run(run, other.name).unchanged == 2
        extra = fo.Dataset(f"{dataset.name} 3")
        extra.add_samples([fo.Sample(filepath=a), fo.Sample(filepath=a)])
        assert push_run(run, extra.name, add_missing=False).photos == 1
        fo.delete_dataset(extra.name)
    finally:
        fo.delete_dataset(other.name)


# --- exports -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [None, {"_cls": "ImageMetadata", "size_bytes": 7}])
@pytest.mark.parametrize("format", EXACT)
def test_sizes_that_are_not_known_are_found_out_and_stored(
    run: Run, dataset: Any, tmp_path: Path, format: Any, metadata: Any
) -> None:
    export(dataset, FIELD, tmp_path / "before", format)
    write_photos(run)
    drop_metadata(dataset, metadata)
    assert export(dataset, FIELD, tmp_path / "out", format) == WriteReport(2, 4, 3)
    before, after = ((tmp_path / name).read_bytes() for name in ("before", "out"))
    assert after == before.replace(b"<name>before<", b"<name>out<")
    dataset.reload()
    assert [(m.width, m.height, m.num_channels) for m in dataset.values("metadata")] == [(64, 48, 3)] * 2
    assert dataset.values("metadata.size_bytes") == [
        7 if metadata else Path(photo.image).stat().st_size for photo in run.photos()
    ]


def test_photos_on_their_side_have_the_size_that_is_shown(run: Run, dataset: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    write_photos(run, exif=exif)
    drop_metadata(dataset)
    ids = dataset.values("_id")
    assert find_sizes(dataset, ids) == dict.fromkeys(ids, (48, 64))


@pytest.mark.parametrize("format", EXACT)
def test_a_mask_that_cannot_be_written_is_told_and_the_old_file_stays(
    run: Run, dataset: Any, tmp_path: Path, format: Any
) -> None:
    out = tmp_path / "out"
    out.write_text("old")

    def refused(message: str) -> None:
        with pytest.raises(GemLabelError, match=message) as error:
            export(dataset, FIELD, out, format)
        assert "\n" not in str(error.value)
        assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out"]
        assert out.read_text() == "old"

    first, second = detections(dataset)
    for changes, message in (
        ({"mask": None, "mask_path": str(tmp_path / "gone.png")}, "cannot read the mask .*gone.png: No such"),
        ({"mask": b"no mask"}, r"cannot read the mask of detection .* \(a#0\)"),
        ({"bounding_box": [float("nan"), 0, 1, 1]}, "mask a#0 of a.png: its box"),
    ):
        set_detections(dataset, [{**first, **changes}, second])
        refused(message)
    set_detections(dataset, [first, second])
    drop_metadata(dataset)
    refused("mask a#0: the size of a.png is not known")
    # a photo without masks needs no size
    export(dataset, FIELD, out, format, Selection(labels=["zebra"]))


@pytest.mark.parametrize("format", EXACT)
def test_counts_are_of_what_the_file_has(dataset: Any, tmp_path: Path, format: Any) -> None:
    first, second = detections(dataset)
    nowhere = copy_of(first, bounding_box=[0.5, 0.5, 0.0, 0.0])
    nameless = {key: value for key, value in copy_of(first).items() if key != "label"}
    odd = copy_of(second, label="do\x00g\x1b\n<&>", mask_id="a#\x01", confidence=float("nan"))
    others = [nameless, copy_of(first, label=None), copy_of(first, label=""), nowhere, odd]
    set_detections(dataset, [first, second, *others])
    out = tmp_path / f"out{FORMATS[EXACT[format][0]].suffix}"
    counts = export(dataset, FIELD, out, format)
    left_out = Counter({"without a label": 3, "without a pixel": 1})
    assert replace(counts, altered=Counter()) == WriteReport(2, 5, 4, left_out)
    odd_label = {"cvat": xml_text, "label-studio": xml_text, "csv": cell_text, "parquet": cell_text}.get(
        format, str
    )("do\x00g\x1b\n<&>")
    assert sum(counts.altered.values()) == (odd_label != "do\x00g\x1b\n<&>")
    labels = [mask.label for photo in read_annotations(out).photos for mask in photo.masks]
    assert sorted(labels) == sorted(["cat", "cup", odd_label, "dog", "dog"])
    if EXACT[format][0] not in ("coco", "lvis"):
        return
    coco = COCO(str(out))
    names = [coco.cats[annotation["category_id"]]["name"] for annotation in coco.anns.values()]
    assert sorted(names) == ["cat", "cup", "do\x00g\x1b\n<&>", "dog", "dog"]
    assert "NaN" not in (out).read_text()
    assert json.loads((out).read_text())["annotations"]


def test_statistics_count_masks_without_a_label(dataset: Any) -> None:
    first, second = detections(dataset)
    nameless = {key: value for key, value in copy_of(first).items() if key != "label"}
    nameless |= {"proposed_label": None, "runner_up": "dog", "margin": 0.01}
    odd = copy_of(first, label="c\x00", proposed_label="c\x00", runner_up="cat", margin=0.1)
    set_detections(dataset, [first, second, nameless, {**copy_of(nameless), "label": None}, odd])
    statistics = review_statistics(dataset, FIELD)
    counts = dict(zip(statistics.classes, statistics.by_class.sum(axis=1).tolist(), strict=True))
    assert counts == {"dog": 2, "(no label)": 2, "cat": 1, "cup": 1, "c\x00": 1}
    assert np.sum(statistics.histogram("(no label)")) == 2
    assert "c\x00" in [mask.label for mask in least_certain(dataset, FIELD)]
    assert len(least_certain(dataset, FIELD)) == 5
    assert [(pair.label, pair.runner_up) for pair in confused_pairs(dataset, FIELD)] == [("c\x00", "cat")]


def test_masks_without_a_label_are_nothing_to_join_or_to_measure(dataset: Any) -> None:
    first, second = detections(dataset)
    nameless = {key: value for key, value in copy_of(first).items() if key != "label"}
    others = [nameless, copy_of(nameless)]
    set_detections(dataset, [first, second, *others])
    with pytest.raises(UsageError, match="no photo has two selected masks with the same label"):
        join_masks(dataset, FIELD, ids_of(*others))
    dataset.clone_sample_field(FIELD, "truth")
    measured = finish(measure_labels(dataset, FIELD, "truth")).report
    assert (measured.micro.precision, measured.micro.recall) == (1, 1)
