"""What to review, what is drawn of it, and decisions about one mask: on a real database, without the App."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from numpy.typing import NDArray
from panel_dataset import CLASSES, FIELD, HEIGHT, WIDTH, discs, panel_dataset
from pycocotools import mask as coco_mask

from gem_label.errors import UsageError
from gem_label.review.editing.decisions import decide
from gem_label.review.editing.many_masks import Answer
from gem_label.review.editing.one_mask import decide_mask, undo_request
from gem_label.review.queues.details import LONGEST_SIDE, NEXT_BEST, mask_details
from gem_label.review.queues.order import MaskReference, count_undecided, queue_masks
from gem_label.review.storage.decision_log import UNDO_STEPS, list_decisions
from gem_label.review.storage.selection import Selection

__all__ = ["fiftyone_db"]

PHOTOS, MASKS = 6, 5


@pytest.fixture
def dataset(fiftyone_db: str, photos: dict[str, NDArray[np.uint8]], tmp_path: Path) -> Iterator[Any]:
    """Six photos with five masks each."""
    import fiftyone as fo

    dataset = panel_dataset(tmp_path / "made", photos, PHOTOS, MASKS, "queues")
    yield dataset
    fo.delete_dataset(dataset.name)


def detections(dataset: Any) -> dict[str, Any]:
    """All masks by their ids, as FiftyOne has them now."""
    dataset.reload()
    return {each.id: each for sample in dataset for each in sample[FIELD].detections}


def ids(masks: list[MaskReference]) -> list[str]:
    return [mask.label_id for mask in masks]


# --- the queue ---


def test_least_certain_masks_come_first_and_masks_without_a_margin_last(dataset: Any) -> None:
    sample = dataset.first()
    unknown = sample[FIELD].detections[0]
    unknown.margin = None
    sample.save()
    found = queue_masks(dataset, FIELD, "uncertain")
    every = detections(dataset)
    margins = [every[i].margin for i in ids(found)[:-1]]
    assert margins == sorted(margins)
    assert found[-1] == MaskReference(sample.id, unknown.id)
    assert len(found) == PHOTOS * MASKS
    assert queue_masks(dataset, FIELD, "uncertain", limit=7) == found[:7]


def test_decided_masks_are_left_out_of_every_order(dataset: Any) -> None:
    decided = ids(queue_masks(dataset, FIELD, "uncertain", limit=4))
    decide(dataset, FIELD, "accept", Selection(ids=decided[:2]))
    decide(dataset, FIELD, "rename", Selection(ids=decided[2:3]), "lynx")
    decide(dataset, FIELD, "reject", Selection(ids=decided[3:]))
    for order in ("teaches", "uncertain", "random", "photo"):
        assert set(ids(queue_masks(dataset, FIELD, order))) == detections(dataset).keys() - set(decided)
    assert count_undecided(dataset, FIELD) == PHOTOS * MASKS - 4
    rejected = queue_masks(dataset, FIELD, "photo", Selection(states=["rejected"]))
    assert ids(rejected) == decided[3:]


def test_a_random_sample_is_the_same_again_and_loses_only_what_is_decided(dataset: Any) -> None:
    sample = ids(queue_masks(dataset, FIELD, "random", seed=3))
    assert sample == ids(queue_masks(dataset, FIELD, "random", seed=3))
    assert sample != ids(queue_masks(dataset, FIELD, "random", seed=4))
    assert sample[:5] == ids(queue_masks(dataset, FIELD, "random", limit=5, seed=3))
    decide(dataset, FIELD, "accept", Selection(ids=sample[:3]))
    assert ids(queue_masks(dataset, FIELD, "random", seed=3)) == sample[3:]


def test_what_teaches_most_stays_the_same_while_masks_are_decided(dataset: Any) -> None:
    found = ids(queue_masks(dataset, FIELD, "teaches"))
    assert found == ids(queue_masks(dataset, FIELD, "teaches"))
    sample = ids(queue_masks(dataset, FIELD, "random"))
    assert found[2] == next(mask for mask in sample if mask not in found[:2])
    every = detections(dataset)
    photos = {mask: photo.id for photo in dataset for mask in (each.id for each in photo[FIELD].detections)}
    assert len({photos[mask] for mask in found[:2]}) == 2
    assert len({every[mask].label for mask in found[:2]}) == 2
    decide(dataset, FIELD, "accept", Selection(ids=found[:10]))
    assert ids(queue_masks(dataset, FIELD, "teaches"))[:2] == found[10:12]
    of_class = queue_masks(dataset, FIELD, "teaches", Selection(labels=[every[found[0]].label]), limit=3)
    assert all(every[mask].label == every[found[0]].label for mask in ids(of_class))


def test_every_mask_is_as_likely_in_a_random_sample(dataset: Any) -> None:
    draws = 300
    first = Counter(
        ids(queue_masks(dataset, FIELD, "random", limit=1, seed=seed))[0] for seed in range(draws)
    )
    expected = draws / (PHOTOS * MASKS)
    chi_square = sum((first[i] - expected) ** 2 / expected for i in detections(dataset))
    assert chi_square < 58.3  # the 99.9th percentile with 29 degrees of freedom


def test_photo_by_photo_keeps_the_masks_of_a_photo_together(dataset: Any) -> None:
    found = queue_masks(dataset, FIELD, "photo")
    assert [mask.sample_id for mask in found] == [i for i in dataset.values("id") for _ in range(MASKS)]
    assert queue_masks(dataset, FIELD, "photo", limit=7) == found[:7]


def test_a_queue_of_a_class_of_a_confused_pair_and_of_a_view(dataset: Any) -> None:
    every = detections(dataset)
    label, runner_up = next((each.label, each.runner_up) for each in every.values())
    of_class = queue_masks(dataset, FIELD, "uncertain", Selection(labels=[label]))
    assert set(ids(of_class)) == {i for i, each in every.items() if each.label == label}
    of_pair = queue_masks(dataset, FIELD, "random", Selection(labels=[label], runner_ups=[runner_up]))
    assert {(every[i].label, every[i].runner_up) for i in ids(of_pair)} == {(label, runner_up)}
    in_view = queue_masks(dataset, FIELD, "photo", Selection(view=dataset.limit(2)))
    assert {mask.sample_id for mask in in_view} == set(dataset.limit(2).values("id"))
    with pytest.raises(UsageError, match="unknown order 'newest'"):
        queue_masks(dataset, FIELD, "newest")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="has no field 'other'"):
        queue_masks(dataset, "other", "photo")


# --- what is drawn ---


def test_details_have_the_mask_inside_its_box_and_the_runs_next_best_classes(dataset: Any) -> None:
    queue = queue_masks(dataset, FIELD, "photo")
    found = mask_details(dataset, FIELD, queue, CLASSES)
    assert [(each.sample_id, each.label_id) for each in found] == [(m.sample_id, m.label_id) for m in queue]
    every = detections(dataset)
    for number, details in enumerate(found):
        drawn = np.zeros((HEIGHT, WIDTH), bool)
        x, y, w, h = details.box
        counts = {"size": details.size[::-1], "counts": details.counts}
        drawn[y : y + h, x : x + w] = coco_mask.decode(counts)
        assert (drawn == discs(MASKS, number // MASKS)[number % MASKS]).all()
        detection = every[details.label_id]
        assert (details.label, details.score) == (detection.label, detection.confidence)
        assert (details.state, details.decision, details.photo) == ("undecided", None, (WIDTH, HEIGHT))
        names = [name for name, _ in details.classes]
        assert names[0] == detection.runner_up
        assert len(set(names) - {details.label}) == NEXT_BEST
        scores = [score for _, score in details.classes]
        assert scores[:3] == sorted((s for s in scores[:3] if s is not None), reverse=True)
        assert scores[3:] == [None] * (NEXT_BEST - 3)


def test_details_do_without_the_run_the_photo_and_the_size(dataset: Any, tmp_path: Path) -> None:
    queue = queue_masks(dataset, FIELD, "photo", limit=MASKS + 1)
    shutil.rmtree(tmp_path / "made" / "run")
    sample = dataset.first()
    Path(sample.filepath).unlink()
    sample.metadata = None
    sample.save()
    other = dataset[queue[-1].sample_id]
    other.metadata = None
    other.save()
    found = mask_details(dataset, FIELD, queue)
    assert {each.problem for each in found[:-1]} == {"the photo cannot be read"}
    assert found[-1].problem is None
    assert found[-1].photo == (WIDTH, HEIGHT)  # read from the file
    runner_up = detections(dataset)[queue[-1].label_id].runner_up
    assert found[-1].classes == [(runner_up, None)]


def test_masks_that_are_gone_are_left_out_of_details(dataset: Any) -> None:
    queue = queue_masks(dataset, FIELD, "photo", limit=3)
    decide(dataset, FIELD, "delete", Selection(ids=[queue[1].label_id]))
    found = mask_details(dataset, FIELD, queue)
    assert [each.label_id for each in found] == [queue[0].label_id, queue[2].label_id]


def test_a_large_mask_is_sent_smaller_than_its_box(dataset: Any) -> None:
    sample = dataset.first()
    sample.metadata.width, sample.metadata.height = 4000, 3000
    detection = sample[FIELD].detections[0]
    detection.bounding_box = [0.0, 0.0, 1.0, 1.0]
    detection.mask = np.tri(3000, 4000, dtype=bool)
    sample.save()
    (details,) = mask_details(dataset, FIELD, [MaskReference(sample.id, detection.id)])
    assert details.box == (0, 0, 4000, 3000)
    assert max(details.size) <= LONGEST_SIDE
    small = coco_mask.decode({"size": details.size[::-1], "counts": details.counts})
    assert small.mean() == pytest.approx(np.tri(3000, 4000).mean(), abs=0.01)


# --- a decision ---


@pytest.fixture
def mask(dataset: Any) -> MaskReference:
    return queue_masks(dataset, FIELD, "uncertain", limit=1)[0]


def stored(dataset: Any, mask: MaskReference) -> tuple[str, tuple[str, ...]]:
    detection = detections(dataset)[mask.label_id]
    return detection.label, tuple(detection.tags)


def test_a_decision_about_one_mask_and_its_undo(dataset: Any, mask: MaskReference) -> None:
    before = stored(dataset, mask)
    label = before[0]
    others = {i: str(each) for i, each in detections(dataset).items() if i != mask.label_id}
    for name, request, expected in (
        (label, "r1", (label, ("accepted",), "accepted")),  # the same name is a confirmation
        ("lynx", "r2", ("lynx", (), "renamed")),
        (None, "r3", (label, ("rejected",), "rejected")),
    ):
        answer = decide_mask(dataset, FIELD, mask, name, None, request, author="Ada")
        assert answer.outcome == "stored"
        assert (*stored(dataset, mask), answer.state) == expected
        (decision,) = list_decisions(dataset, FIELD)
        assert (decision.author, decision.request, decision.id) == ("Ada", request, answer.decision)
        assert undo_request(dataset, FIELD, mask, request) == Answer("stored", label, "undecided", None)
        assert stored(dataset, mask) == before
        assert not list_decisions(dataset, FIELD)
    assert {i: str(each) for i, each in detections(dataset).items() if i != mask.label_id} == others


def test_second_thoughts_lead_to_the_last_one(dataset: Any, mask: MaskReference) -> None:
    label, _ = stored(dataset, mask)
    states = []
    last = None
    for number, name in enumerate((None, "lynx", label, None, label, label)):
        answer = decide_mask(dataset, FIELD, mask, name, last, f"r{number}")
        last = answer.decision
        states.append((answer.outcome, answer.label, answer.state))
    assert states == [
        ("stored", label, "rejected"),
        ("stored", "lynx", "accepted"),
        ("stored", label, "accepted"),
        ("stored", label, "rejected"),
        ("stored", label, "accepted"),
        ("stored", label, "accepted"),
    ]
    for number in reversed(range(6)):
        undo_request(dataset, FIELD, mask, f"r{number}")
    assert stored(dataset, mask) == (label, ())


def test_the_label_that_was_proposed_can_come_back(dataset: Any, mask: MaskReference) -> None:
    label, _ = stored(dataset, mask)
    renamed = decide_mask(dataset, FIELD, mask, "lynx", None, "r1")
    back = decide_mask(dataset, FIELD, mask, label, renamed.decision, "r2")
    assert (back.label, back.state) == (label, "accepted")
    assert undo_request(dataset, FIELD, mask, "r2") == renamed


def test_a_request_that_is_sent_again_is_stored_once(dataset: Any, mask: MaskReference) -> None:
    first = decide_mask(dataset, FIELD, mask, "lynx", None, "r1")
    assert decide_mask(dataset, FIELD, mask, "lynx", None, "r1") == first
    assert len(list_decisions(dataset, FIELD)) == 1
    undone = undo_request(dataset, FIELD, mask, "r1")
    assert undo_request(dataset, FIELD, mask, "r1") == undone


def test_what_somebody_else_decided_stays_and_is_told(dataset: Any, mask: MaskReference) -> None:
    decide(dataset, FIELD, "rename", Selection(ids=[mask.label_id]), "lynx")
    answer = decide_mask(dataset, FIELD, mask, None, None, "r1")
    assert (answer.outcome, answer.label, answer.state) == ("conflict", "lynx", "renamed")
    again = decide_mask(dataset, FIELD, mask, None, answer.decision, "r2")  # after a look at it
    assert (again.outcome, again.state) == ("stored", "rejected")
    decide(dataset, FIELD, "accept", Selection(ids=[mask.label_id]))
    assert undo_request(dataset, FIELD, mask, "r2").state == "accepted"


def test_a_mask_that_is_gone_and_a_label_that_is_empty(dataset: Any, mask: MaskReference) -> None:
    with pytest.raises(UsageError, match="give the new label"):
        decide_mask(dataset, FIELD, mask, "  ", None, "r1")
    decide(dataset, FIELD, "delete", Selection(ids=[mask.label_id]))
    assert decide_mask(dataset, FIELD, mask, None, None, "r1") == Answer("gone")
    assert undo_request(dataset, FIELD, mask, "r1") == Answer("gone")


@pytest.mark.slow
def test_a_decision_that_is_too_old_is_not_undone(dataset: Any, mask: MaskReference) -> None:
    other = queue_masks(dataset, FIELD, "uncertain", limit=2)[1]
    decide_mask(dataset, FIELD, mask, "lynx", None, "r1")
    for number in range(UNDO_STEPS):
        decide(dataset, FIELD, ("accept", "reject")[number % 2], Selection(ids=[other.label_id]))
    with pytest.raises(UsageError, match="only the last 100 decisions can be undone"):
        undo_request(dataset, FIELD, mask, "r1")
    assert stored(dataset, mask)[0] == "lynx"


def test_a_less_likely_label_that_is_accepted_moves_and_comes_back(dataset: Any, mask: MaskReference) -> None:
    from gem_label.review.pushing.push_run import push_run
    from gem_label.runs import open_run

    run = open_run(Path(dataset.info["gem_label"][FIELD]["run"]))
    push_run(run, dataset.name, min_score=1.0, hidden_from=0.0)
    dataset.reload()
    hidden = f"{FIELD}_less_likely"
    less = queue_masks(dataset, hidden, "uncertain", limit=1)[0]
    assert decide_mask(dataset, hidden, less, "lynx", None, "r1").state == "renamed"
    assert stored(dataset, less)[0] == "lynx"  # among the labels now
    assert undo_request(dataset, hidden, less, "r1").state == "undecided"
    assert less in queue_masks(dataset, hidden, "uncertain")


def test_the_database_looks_at_few_samples_for_a_decision(dataset: Any, mask: MaskReference) -> None:
    import fiftyone as fo

    from gem_label.review.storage.internals import database, samples_name

    dataset.add_samples([fo.Sample(filepath=f"/nowhere/{n}.jpg") for n in range(200)])
    decide_mask(dataset, FIELD, mask, "lynx", None, "r0")  # declares attributes, makes indexes
    undo_request(dataset, FIELD, mask, "r0")
    database().command("profile", 2)
    try:
        decide_mask(dataset, FIELD, mask, "lynx", None, "r1")
        undo_request(dataset, FIELD, mask, "r1")
    finally:
        database().command("profile", 0)
    of_samples = database()["system.profile"].find({"ns": {"$regex": f"{samples_name(dataset)}$"}})
    looked_at = [row.get("docsExamined", 0) for row in of_samples]
    database().drop_collection("system.profile")
    assert len(looked_at) >= 4
    assert max(looked_at) <= 2


# --- what the component of the panel calls ---


def ask(dataset: Any, method: str, selected: list[str] | None = None, **params: Any) -> dict[str, Any]:
    """What a method of the panel answers."""
    from fiftyone.operators.executor import ExecutionContext

    from gem_label.plugin.review_panel import ReviewPanel

    request = {"dataset_name": dataset.name, "selected": selected or [], "params": params}
    return getattr(ReviewPanel(), method)(ExecutionContext(request))


def test_the_panel_describes_a_field_and_makes_its_queue(dataset: Any) -> None:
    decide(dataset, FIELD, "accept", Selection(labels=["cat"]))
    told = ask(dataset, "describe_field")
    assert told["field"] == FIELD
    undecided = Counter(each.label for each in detections(dataset).values() if not each.tags)
    counts = {each["name"]: each["undecided"] for each in told["classes"]}
    assert counts == {name: undecided[name] for name in CLASSES}
    pair = told["pairs"][0]
    question = {"field": FIELD, "order": "uncertain", "label": pair["label"], "runner_up": pair["runner_up"]}
    assert ask(dataset, "make_queue", **question)["remaining"] >= pair["masks"]
    one = ask(
        dataset, "make_queue", selected=[dataset.last().id], field=FIELD, order="photo", scope="selected"
    )
    assert {sample for sample, _ in one["masks"]} <= {dataset.last().id}


def test_the_panel_describes_a_dataset_without_masks(dataset: Any) -> None:
    told = ask(dataset, "describe_field")
    dataset.delete_sample_field(FIELD)
    empty = ask(dataset, "describe_field")
    assert empty.keys() == told.keys()
    assert (empty["field"], empty["fields"], empty["classes"], empty["pairs"]) == (None, [], [], [])


def test_the_panel_says_bad_input_in_one_line(dataset: Any, mask: MaskReference) -> None:
    pair = [mask.sample_id, mask.label_id]
    for method, params, problem in (
        ("make_queue", {"field": "other", "order": "photo"}, "has no field 'other'"),
        ("make_queue", {"field": FIELD, "order": "photo", "scope": "selected"}, "no photo is selected"),
        (
            "decide",
            {"field": FIELD, "decisions": [{"mask": pair, "label": " "}], "request": "r1"},
            "give the new",
        ),
        ("undo", {"field": "other", "masks": [pair], "request": "r1"}, "has no field 'other'"),
    ):
        assert problem in ask(dataset, method, **params)["error"]
    assert not list_decisions(dataset, FIELD)
