"""Things that a run missed: found by MobileSAM, named by the run's words, stored, undone, pushed over, exported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fiftyone_fixture import fiftyone_db
from photo_scenes import FIELD, WORDS, middle_of, scene_run, true_things
from pycocotools import mask as coco_mask

from gem_label.errors import GemLabelError, UsageError
from gem_label.labeler import Labeler, load_labeler
from gem_label.review import add_mask, push_run
from gem_label.review.editing.adding import store_mask
from gem_label.review.editing.decisions import decide, undo
from gem_label.review.editing.many_masks import undo_masks
from gem_label.review.exchange.export import export_masks
from gem_label.review.queues.order import MaskReference
from gem_label.review.queues.overlaps import OverlappingPair
from gem_label.review.queues.photos import photo_details, queue_photos, repeated_masks
from gem_label.review.storage.decision_log import list_decisions
from gem_label.review.storage.selection import Selection
from gem_label.review.tasks.prompting import MaskNamer, PhotoPrompter
from gem_label.runs import Run, open_run

__all__ = ["fiftyone_db"]

MISSED = "tent"


@pytest.fixture(scope="module")
def labeler() -> Labeler:
    return load_labeler(clip="demo", sam="mobile_sam")


@pytest.fixture(scope="module")
def run(labeler: Labeler, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two demo scenes; the run has all things of them but a tent."""
    return scene_run(tmp_path_factory.mktemp("scenes"), labeler, [MISSED])


@pytest.fixture
def dataset(fiftyone_db: str, run: Run) -> Iterator[Any]:
    import fiftyone as fo

    push_run(run, "missed things")
    yield fo.load_dataset("missed things")
    fo.delete_dataset("missed things")


def detections(dataset: Any) -> list[Any]:
    dataset.reload()
    return [mask for sample in dataset for mask in sample[FIELD].detections]


@pytest.mark.slow
def test_a_click_on_a_missed_thing_adds_it_with_the_right_word(
    dataset: Any, run: Run, labeler: Labeler, tmp_path: Path
) -> None:
    prompter, namer = PhotoPrompter(labeler.sam), MaskNamer(run)
    sample, truth = dataset.first(), true_things(1)[MISSED]
    before = detections(dataset)
    new = add_mask(
        dataset, FIELD, sample.id, points=[middle_of(truth)], author="Ada", prompter=prompter, namer=namer
    )
    (added,) = [mask for mask in detections(dataset) if mask.id == new]
    assert (added.label, added.tags, added.proposed_label, added.mask_id) == (
        MISSED,
        ["accepted"],
        MISSED,
        None,
    )
    assert 0 < added.confidence <= 1
    assert 0 < added.margin <= 1
    assert added.runner_up in WORDS
    decision = list_decisions(dataset, FIELD)[0]
    assert (decision.action, decision.author, str(decision)) == ("add", "Ada", f"add 1 mask as {MISSED!r}")
    assert (added.decision, added.decided_by) == (decision.id, "Ada")

    # it outlives a push, and is in a file with its exact mask
    push_run(run, dataset.name)
    assert [mask.id for mask in detections(dataset)].count(new) == 1
    for _ in export_masks(dataset, FIELD, tmp_path / "coco.json", selection=Selection(states=["accepted"])):
        pass
    (annotation,) = json.loads((tmp_path / "coco.json").read_text())["annotations"]
    rle = annotation["segmentation"] | {"counts": annotation["segmentation"]["counts"].encode()}
    assert coco_mask.iou([rle], [truth], [0])[0, 0] > 0.8

    # undo takes it out
    undo(dataset, FIELD)
    assert {mask.id for mask in detections(dataset)} == {mask.id for mask in before}
    assert list_decisions(dataset, FIELD) == []

    # a box around it gives the same thing, and the second question about a photo is quick
    x, y, w, h = coco_mask.toBbox(truth)
    masks = prompter.draw(sample.filepath, _box(x, y, x + w, y + h))
    assert coco_mask.iou(masks.rles, [truth], [0])[0, 0] > 0.8
    half = prompter.draw(sample.filepath, _box(x / 2, y / 2, (x + w) / 2, (y + h) / 2), size=(224, 224))
    assert half.counts == masks.counts


def _box(*corners: float) -> Any:
    from gem_label.sam.prompting import Prompt

    return Prompt(box=corners)


def test_a_mask_is_stored_once_and_gone_photos_are_told(dataset: Any) -> None:
    from bson import ObjectId

    sample, rle, new = dataset.first(), true_things(1)[MISSED], str(ObjectId())
    answers = [
        store_mask(dataset, FIELD, sample.id, rle, "marquee", label_id=new, request="one") for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert (answers[0].outcome, answers[0].label, answers[0].state) == ("stored", "marquee", "accepted")
    assert [mask.label for mask in detections(dataset)].count("marquee") == 1
    assert "marquee" in dataset.classes[FIELD]
    (decision,) = list_decisions(dataset, FIELD)
    assert decision.request == "one"
    push_run(open_run(dataset.info["gem_label"][FIELD]["run"]), dataset.name)
    dataset.reload()
    assert "marquee" in dataset.classes[FIELD]  # a push declares the words of reviewers, too

    # a later decision about it keeps it from being taken out
    decide(dataset, FIELD, "reject", Selection(ids=[new]))
    assert undo(dataset, FIELD, decision.id)[1] == 0
    assert new in [mask.id for mask in detections(dataset)]

    # a request that is taken back takes its mask along, and can be sent again
    other = MaskReference(sample.id, str(ObjectId()))
    for _ in range(2):
        again = store_mask(dataset, FIELD, sample.id, rle, "tent", label_id=other.label_id, request="two")
        assert again.outcome == "stored"
        assert [answer.outcome for answer in undo_masks(dataset, FIELD, [other], "two")] == ["gone"]
    assert other.label_id not in [mask.id for mask in detections(dataset)]

    gone = str(ObjectId())
    assert store_mask(dataset, FIELD, gone, rle, "marquee").outcome == "gone"


def test_what_cannot_be_added_is_said_in_one_line(dataset: Any) -> None:
    sample, rle = dataset.first(), true_things(1)[MISSED]
    empty = coco_mask.frPyObjects({"size": [4, 4], "counts": [16]}, 4, 4)
    for message, arguments in {
        "give the label": (FIELD, sample.id, rle, " "),
        "the mask is empty": (FIELD, sample.id, empty, "tent"),
        "no field 'other'": ("other", sample.id, rle, "tent"),
    }.items():
        with pytest.raises(UsageError, match=message):
            store_mask(dataset, *arguments)
    with pytest.raises(UsageError, match="a point inside the thing"):
        add_mask(dataset, FIELD, sample.id)
    with pytest.raises(UsageError, match="a box is x0, y0, x1, y1"):
        add_mask(dataset, FIELD, sample.id, box=[1, 2, 3])
    with pytest.raises(UsageError, match="has no photo 'nowhere'"):
        add_mask(dataset, FIELD, "nowhere", points=[(1, 2)])
    dataset.info = {}
    dataset.save()
    with pytest.raises(GemLabelError, match="did not come from a run"):
        add_mask(dataset, FIELD, sample.id, points=[(1, 2)])
    assert list_decisions(dataset, FIELD) == []


def test_photos_with_undecided_masks_come_first_and_photos_without_masks_are_there(dataset: Any) -> None:
    import fiftyone as fo

    first, second = dataset.values("id")
    third = dataset.add_sample(fo.Sample(filepath=str(Path(dataset.first().filepath).with_name("none.jpg"))))
    assert queue_photos(dataset, FIELD) == [first, second, third]
    decide(dataset, FIELD, "accept", Selection(view=dataset.limit(1)))
    assert queue_photos(dataset, FIELD) == [second, first, third]
    assert queue_photos(dataset, FIELD, limit=2) == [second, first]
    assert queue_photos(dataset, FIELD, Selection(view=dataset.skip(1))) == [second, third]
    patches = dataset.limit(1).to_patches(FIELD)
    assert queue_photos(dataset, FIELD, Selection(view=patches)) == [first]
    label = dataset.first()[FIELD].detections[0].label
    assert queue_photos(dataset, FIELD, Selection(labels=[label])) == [first]
    details = photo_details(dataset, FIELD, third)
    assert details is not None
    assert (details.photo, details.masks, details.repeats) == (None, [], [])


def test_duplicates_come_first_then_parts_of_the_same_class_then_others() -> None:
    pairs = [
        OverlappingPair(1, 0, 0.9, 1.0),
        OverlappingPair(2, 0, 0.1, 0.6),  # half in a mask of its class
        OverlappingPair(3, 0, 0.2, 0.95),  # a cup in a dog
        OverlappingPair(4, 0, 0.2, 0.8),  # a cup on a dog
        OverlappingPair(5, 2, 0.2, 0.8),
    ]
    labels = ["dog", "cat", "dog", "cup", "cup", None]
    found = repeated_masks(pairs, list("abcdef"), labels)
    assert [(pair.kind, pair.whole, pair.part, pair.share) for pair in found] == [
        ("duplicate", "a", "b", 0.9),
        ("part", "a", "c", 0.6),
        ("part", "a", "d", 0.95),
    ]


def test_a_photo_is_told_with_its_masks_and_its_repeated_masks(dataset: Any) -> None:
    sample, things = dataset.first(), true_things(1)
    copy = store_mask(dataset, FIELD, sample.id, things["rose"], "tulip")
    assert copy.outcome == "stored"
    details = photo_details(dataset, FIELD, sample.id, ["tent"])
    assert details is not None
    assert details.photo == (448, 448)
    areas = [mask.box[2] * mask.box[3] for mask in details.masks]
    assert areas == sorted(areas, reverse=True)
    labels = {mask.label_id: mask.label for mask in details.masks}
    (duplicate,) = [pair for pair in details.repeats if pair.kind == "duplicate"]
    assert {labels[duplicate.whole], labels[duplicate.part]} == {"rose", "tulip"}
    assert duplicate.share == pytest.approx(1.0, abs=0.01)
    decide(dataset, FIELD, "reject", Selection(ids=[duplicate.part]))
    again = photo_details(dataset, FIELD, sample.id)
    assert again is not None
    assert [pair for pair in again.repeats if pair.kind == "duplicate"] == []
    assert photo_details(dataset, FIELD, "0" * 24) is None


def ask(dataset: Any, method: str, **params: Any) -> dict[str, Any]:
    """What a method of the panel answers."""
    from fiftyone.operators.executor import ExecutionContext

    from gem_label.plugin.review_panel import ReviewPanel

    request = {"dataset_name": dataset.name, "params": {"field": FIELD, **params}}
    return getattr(ReviewPanel(), method)(ExecutionContext(request))


@pytest.mark.slow
def test_where_no_class_can_be_proposed_the_panel_says_why(dataset: Any) -> None:
    from bson import ObjectId

    sample, truth = dataset.first(), true_things(1)[MISSED]
    dataset.info = {}
    dataset.save()
    answer = ask(dataset, "find_masks", sample_id=sample.id, points=[middle_of(truth)], size=[448, 448])
    assert "did not come from a run" in answer["reason"]
    found = answer["found"][0]
    assert (found["classes"], found["margin"]) == ([], None)
    rle = found["mask"] | {"counts": found["mask"]["counts"].encode()}
    assert coco_mask.iou([rle], [truth], [0])[0, 0] > 0.8

    new = str(ObjectId())
    added = {"mask": [sample.id, new], "label": "marquee", "request": "r1", "author": "Ada"}
    (stored,) = ask(dataset, "add_mask", found=found, **added)["answers"]
    assert (stored["outcome"], stored["label"]) == ("stored", "marquee")
    (mask,) = [mask for mask in detections(dataset) if mask.id == new]
    assert (mask.confidence, mask.proposed_label, mask.margin) == (None, None, None)
    broken = found | {"mask": {"size": [448, 448], "counts": "\u007f"}}
    assert "the mask is none" in ask(dataset, "add_mask", found=broken, **added)["error"]
    nothing = ask(dataset, "find_masks", sample_id=sample.id, size=[448, 448])
    assert "give a point" in nothing["error"]
