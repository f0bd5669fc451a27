"""Less likely labels: pushed beside the labels, hidden, moved by decisions and thresholds, and never lost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from run_factory import CLASSES, DIMENSION, make_run, mask_labels, mask_set, rectangles

from gem_label.errors import UsageError
from gem_label.labeling import Thresholds, Vocabulary
from gem_label.progress import finish
from gem_label.review.editing.decisions import decide, undo
from gem_label.review.editing.joining import join_masks
from gem_label.review.exchange.corrections import import_corrections
from gem_label.review.exchange.export import export_masks
from gem_label.review.statistics.review import least_certain, review_statistics
from gem_label.review.storage.decision_log import list_decisions
from gem_label.review.storage.fields import (
    has_less_likely,
    label_fields,
    main_field,
    mask_fields,
    pushed_fields,
    run_of,
)
from gem_label.review.storage.less_likely import HIDDEN_FLOOR
from gem_label.review.storage.selection import Selection
from gem_label.runs import Run, open_run

__all__ = ["fiftyone_db"]

FIELD, HIDDEN = "gem_label", "gem_label_less_likely"
SCORES = {"a#0": 0.9, "a#1": 0.5, "a#2": 0.2, "a#3": 0.15, "a#4": 0.25, "a#5": 0.3, "b#0": 0.6, "b#1": 0.12}
"""Of selected masks with a score above the floor; the run keeps those from 0.35 on."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """a#6 repeats a better mask, a#7 is background, b#2 is below the floor."""
    names = ["cat", "dog", "cat", "cup", "dog", "cat", "cat", None]
    scores = [0.9, 0.5, 0.2, 0.15, 0.25, 0.3, 0.3, 0.9]
    labels = mask_labels(names, scores, kept=[score >= 0.35 for score in scores])
    selected = labels.selected.copy()
    selected[6] = False
    few = mask_labels(["cup", "dog", "cat"], [0.6, 0.12, 0.05], kept=[True, False, False])
    return make_run(
        tmp_path / "run",
        {
            "a.jpg": (mask_set(rectangles(8)), replace(labels, selected=selected)),
            "empty.jpg": (mask_set([]), mask_labels([], [])),
            "b.jpg": (mask_set(rectangles(3, seed=1)), few),
        },
    )


@pytest.fixture
def dataset(run: Run, fiftyone_db: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    import fiftyone as fo

    name = f"less likely {request.node.name}"
    push(run, name)
    yield fo.load_dataset(name)
    fo.delete_dataset(name)


def push(run: Run, name: str, **options: Any) -> Any:
    from gem_label.review import push_run

    return push_run(run, name, **options)


def masks_of(dataset: Any, field: str) -> dict[str, Any]:
    """mask_id -> detection, as FiftyOne reads it from the database."""
    dataset.reload()
    if not dataset.has_field(field):
        return {}
    found = [
        detection for sample in dataset for detection in (sample[field] or {"detections": []})["detections"]
    ]
    by_id = {detection.mask_id: detection for detection in found}
    assert len(by_id) == len(found)
    return by_id


def ids_of(dataset: Any, field: str) -> set[str]:
    return set(masks_of(dataset, field))


def chosen(dataset: Any, field: str, *mask_ids: str) -> Selection:
    masks = masks_of(dataset, field)
    return Selection(ids=[masks[each].id for each in mask_ids])


def above(threshold: float, below: float = 2.0) -> set[str]:
    return {mask for mask, score in SCORES.items() if threshold <= score < below}


def test_a_push_puts_less_likely_labels_beside_the_others(run: Run, dataset: Any) -> None:
    import fiftyone as fo

    assert ids_of(dataset, FIELD) == above(0.35)
    assert ids_of(dataset, HIDDEN) == above(HIDDEN_FLOOR, 0.35)
    report = push(run, dataset.name)
    assert (report.detections, report.less_likely, report.unchanged) == (3, 5, 3)
    assert "3 masks in field 'gem_label', 5 less likely ones hidden" in str(report)
    # the App draws the labels, and not the less likely ones
    assert dataset.app_config.active_fields.paths == [FIELD]
    assert mask_fields(dataset) == [FIELD, HIDDEN]
    assert label_fields(dataset) == [FIELD]
    assert has_less_likely(dataset, FIELD)
    assert (main_field(dataset, HIDDEN), run_of(dataset, HIDDEN).path) == (FIELD, run.path)
    mask = masks_of(dataset, HIDDEN)["a#2"]
    assert (mask.label, mask.proposed_label) == ("cat", "cat")
    assert mask.confidence == pytest.approx(0.2)
    assert mask.mask.any()
    # what counts and what is asked about are the labels alone
    assert review_statistics(dataset, FIELD).total == 3
    assert {m.label_id for m in least_certain(dataset, FIELD)} == {
        d.id for d in masks_of(dataset, FIELD).values()
    }
    assert dataset.classes[HIDDEN] == list(CLASSES)
    # whoever chose which fields are drawn keeps the choice
    dataset.app_config.active_fields = fo.core.odm.dataset.ActiveFields(paths=[FIELD, HIDDEN])
    dataset.save()
    push(run, dataset.name, min_score=0.2)
    dataset.reload()
    assert dataset.app_config.active_fields.paths == [FIELD, HIDDEN]


@pytest.mark.parametrize("min_score", [0.6, "0.35, cat=0.25, dog=0.55", {"cat": 0.2}, 0.2, 0.1, 1.0])
def test_another_threshold_moves_masks_and_their_ids_stay(run: Run, dataset: Any, min_score: Any) -> None:
    held = masks_of(dataset, FIELD) | masks_of(dataset, HIDDEN)
    sample = dataset.match({"filepath": {"$regex": "a.jpg"}}).first()
    sample[HIDDEN].detections[0].tags = ["blurry"]
    sample[FIELD].detections[0].tags = ["sharp"]
    sample.save()
    report = push(run, dataset.name, min_score=min_score)
    thresholds = Thresholds.of(min_score)
    expected = {
        mask
        for mask, score in SCORES.items()
        if score >= thresholds.classes.get(held[mask].label, thresholds.default)
    }
    assert ids_of(dataset, FIELD) == expected
    assert ids_of(dataset, HIDDEN) == set(SCORES) - expected
    assert (report.masks_in_database, report.detections) == (0, len(expected))
    now = masks_of(dataset, FIELD) | masks_of(dataset, HIDDEN)
    assert {mask: d.id for mask, d in now.items()} == {mask: d.id for mask, d in held.items()}
    assert (now["a#2"].tags, now["a#0"].tags) == (["blurry"], ["sharp"])
    for mask, detection in held.items():
        np.testing.assert_array_equal(now[mask].mask, detection.mask)
    assert push(run, dataset.name, min_score=min_score).unchanged == 3
    assert push(run, dataset.name).less_likely == 5


def test_thresholds_and_floors_that_make_no_sense_change_nothing(run: Run, dataset: Any) -> None:
    for options in (
        {"min_score": "0.5, zebra=0.4"},
        {"min_score": 2},
        {"hidden_from": -0.1},
        {"field": HIDDEN},
    ):
        with pytest.raises(UsageError):
            push(run, dataset.name, **options)
    assert ids_of(dataset, FIELD) == above(0.35)
    dataset.delete_sample_field(HIDDEN)
    dataset.add_sample_field(HIDDEN, __import__("fiftyone").FloatField)
    with pytest.raises(UsageError, match="not a Detections"):
        push(run, dataset.name)


def test_without_less_likely_labels_there_is_no_second_field(run: Run, dataset: Any) -> None:
    import fiftyone as fo

    name = f"{dataset.name} 2"
    report = push(run, name, hidden_from=None)
    other = fo.load_dataset(name)
    assert (report.less_likely, other.has_field(HIDDEN), other.app_config.active_fields) == (0, False, None)
    fo.delete_dataset(name)
    # they leave again, but not what was decided about them
    decide(dataset, HIDDEN, "reject", chosen(dataset, HIDDEN, "a#2"))
    report = push(run, dataset.name, hidden_from=None)
    assert ids_of(dataset, HIDDEN) == {"a#2"}
    assert (report.less_likely, report.decided) == (1, 1)


def test_accepting_and_renaming_move_a_mask_and_undo_moves_it_back(run: Run, dataset: Any) -> None:
    before = masks_of(dataset, HIDDEN)
    decision = decide(dataset, HIDDEN, "accept", chosen(dataset, HIDDEN, "a#2", "b#1"))
    assert decision.masks == 2
    assert ids_of(dataset, FIELD) == above(0.35) | {"a#2", "b#1"}
    decide(dataset, HIDDEN, "rename", chosen(dataset, HIDDEN, "a#3"), "mug")
    moved = masks_of(dataset, FIELD)
    assert (moved["a#3"].label, moved["a#2"].tags, moved["a#2"].decision) == (
        "mug",
        ["accepted"],
        decision.id,
    )
    assert {mask: moved[mask].id for mask in ("a#2", "a#3")} == {
        mask: before[mask].id for mask in ("a#2", "a#3")
    }
    assert "mug" in dataset.classes[FIELD]
    # they stay there whatever is pushed
    for options in ({}, {"min_score": 0.6}, {"min_score": 0.1}, {}):
        assert push(run, dataset.name, **options).decided == 3
        assert {"a#2", "a#3", "b#1"} <= ids_of(dataset, FIELD)
        assert masks_of(dataset, FIELD)["a#3"].label == "mug"
    assert [d.action for d in list_decisions(dataset, HIDDEN)] == ["rename", "accept"]
    assert undo(dataset, HIDDEN)[1] == 1
    assert undo(dataset, HIDDEN)[1] == 2
    assert ids_of(dataset, FIELD) == above(0.35)
    after = masks_of(dataset, HIDDEN)
    assert {m: (d.id, d.label, d.tags, getattr(d, "decision", None)) for m, d in after.items()} == {
        m: (d.id, d.label, d.tags, None) for m, d in before.items()
    }


def test_undo_leaves_what_was_decided_again_in_the_other_field(run: Run, dataset: Any) -> None:
    first = decide(dataset, HIDDEN, "accept", chosen(dataset, HIDDEN, "a#2", "a#3"))
    second = decide(dataset, FIELD, "reject", chosen(dataset, FIELD, "a#2"))
    decision, restored = undo(dataset, HIDDEN, first.id)
    assert (decision.id, restored) == (first.id, 1)
    assert ids_of(dataset, FIELD) == above(0.35) | {"a#2"}
    assert masks_of(dataset, FIELD)["a#2"].tags == ["rejected"]
    assert push(run, dataset.name).decided == 1
    undo(dataset, FIELD, second.id)
    assert masks_of(dataset, FIELD)["a#2"].tags == ["accepted"]


def test_rejected_and_deleted_ones_do_not_come_back(run: Run, dataset: Any) -> None:
    decide(dataset, HIDDEN, "reject", chosen(dataset, HIDDEN, "a#2"))
    decide(dataset, HIDDEN, "delete", chosen(dataset, HIDDEN, "a#3"))
    decide(dataset, FIELD, "delete", chosen(dataset, FIELD, "b#0"))
    for min_score in (None, 0.1, 0.7, None):
        push(run, dataset.name, min_score=min_score)
        assert masks_of(dataset, HIDDEN)["a#2"].tags == ["rejected"]
        assert not {"a#3", "b#0"} & (ids_of(dataset, FIELD) | ids_of(dataset, HIDDEN))
    undo(dataset, HIDDEN)
    assert "a#3" in ids_of(dataset, HIDDEN)
    overwritten = push(run, dataset.name, min_score=0.1, overwrite=True)
    assert overwritten.decided == 0
    assert ids_of(dataset, FIELD) == set(SCORES) - {"b#0"}


def test_a_tag_of_the_app_counts_at_the_next_push(run: Run, dataset: Any) -> None:
    sample = dataset.match({"filepath": {"$regex": "b.jpg"}}).first()
    sample[HIDDEN].detections[0].tags.append("accepted")
    sample.save()
    assert push(run, dataset.name).decided == 1
    assert "b#1" in ids_of(dataset, FIELD)


def test_parts_that_are_joined_come_forth(dataset: Any) -> None:
    join_masks(dataset, HIDDEN, Selection(labels=["cat"]))
    assert "a#5" in ids_of(dataset, FIELD)
    assert not {"a#2", "a#5"} & ids_of(dataset, HIDDEN)
    assert undo(dataset, HIDDEN)[1] == 2
    assert {"a#2", "a#5"} <= ids_of(dataset, HIDDEN)


def exported(dataset: Any, path: Path) -> set[str]:
    finish(export_masks(dataset, FIELD, path))
    return {annotation["mask_id"] for annotation in json.loads(path.read_text())["annotations"]}


def test_exports_have_the_labels_and_corrections_find_hidden_masks(
    run: Run, dataset: Any, tmp_path: Path
) -> None:
    assert exported(dataset, tmp_path / "o.json") == above(0.35)
    decide(dataset, HIDDEN, "accept", chosen(dataset, HIDDEN, "a#2"))
    assert exported(dataset, tmp_path / "o.json") == above(0.35) | {"a#2"}
    # a mask that a higher threshold hides meanwhile is still the mask of the file
    file = tmp_path / "o.json"
    content = json.loads(file.read_text())
    other = next(c["id"] for c in content["categories"] if c["name"] == "cat")
    next(a for a in content["annotations"] if a["mask_id"] == "a#1")["category_id"] = other
    file.write_text(json.dumps(content))
    push(run, dataset.name, min_score=0.7)
    assert "a#1" in ids_of(dataset, HIDDEN)
    report = finish(import_corrections(dataset, FIELD, file, missing="delete"))
    assert (report.relabeled, report.added, report.missing) == (1, 0, 0)
    assert masks_of(dataset, FIELD)["a#1"].label == "cat"
    assert "a#1" not in ids_of(dataset, HIDDEN)


@pytest.mark.parametrize("seed", range(4))
def test_no_decision_is_ever_lost(run: Run, dataset: Any, seed: int) -> None:
    """Random pushes, decisions and undos, against a record of what reviewers did last."""
    rng = np.random.default_rng(seed)
    decided: dict[str, str] = {}  # mask id -> the last action
    history: list[tuple[str, str, dict[str, str | None]]] = []
    for _ in range(25):
        field = str(rng.choice([FIELD, HIDDEN]))
        there = sorted(ids_of(dataset, field))
        step = rng.choice(["push", "decide", "undo"], p=[0.3, 0.5, 0.2])
        if step == "push":
            floor = None if rng.random() < 0.2 else HIDDEN_FLOOR
            push(run, dataset.name, min_score=float(rng.choice([0.1, 0.35, 0.7])), hidden_from=floor)
        elif step == "decide" and there:
            some = [str(each) for each in rng.choice(there, rng.integers(1, len(there) + 1), replace=False)]
            action = str(rng.choice(["accept", "reject", "delete", "rename"]))
            label = "mug" if action == "rename" else None
            made = decide(dataset, field, action, chosen(dataset, field, *some), label)  # type: ignore[arg-type]
            history.append((made.id, field, {each: decided.get(each) for each in some}))
            decided |= dict.fromkeys(some, action)
        elif step == "undo" and history:
            identifier, field, before = history.pop()
            undo(dataset, field, identifier)
            for each, action in before.items():
                decided.pop(each, None)
                decided |= {} if action is None else {each: action}
        main, hidden = masks_of(dataset, FIELD), masks_of(dataset, HIDDEN)
        assert not main.keys() & hidden.keys()
        for mask, action in decided.items():
            found = main.get(mask) or hidden.get(mask)
            if action == "delete":
                assert found is None
                continue
            assert found is not None
            assert mask in main or "rejected" in found.tags
            if action in ("accept", "reject"):
                assert f"{action}ed" in found.tags
            elif "rejected" not in found.tags:
                assert found.label == "mug"
    push(run, dataset.name)
    left = (ids_of(dataset, FIELD) | ids_of(dataset, HIDDEN)) - decided.keys()
    assert left == set(SCORES) - decided.keys()


def test_a_run_that_changed_is_pushed_as_before(run: Run, dataset: Any) -> None:
    from gem_label.review.app import dataset_of_run
    from gem_label.runs import relabel_run

    push(run, dataset.name, min_score="0.6, cup=0.95", hidden_from=0.5)
    push_info = pushed_fields(dataset)[FIELD]
    assert (push_info["min_score"], push_info["hidden_from"]) == (
        '{"default": 0.6, "classes": {"cup": 0.95}}',
        0.5,
    )
    time.sleep(1.1)  # a run tells by the second when it changed
    text = np.eye(DIMENSION, dtype=np.float32)[:2]
    relabel_run(run, Vocabulary.from_words(["cat", "dog"]), text)
    assert dataset_of_run(run.path) == dataset.name
    dataset.reload()
    assert json.loads(pushed_fields(dataset)[FIELD]["min_score"]) == 0.6
    scores = {name: [d.confidence for d in masks_of(dataset, name).values()] for name in (FIELD, HIDDEN)}
    assert all(score >= 0.6 for score in scores[FIELD])
    assert all(0.5 <= score < 0.6 for score in scores[HIDDEN])


def test_the_command(run: Run, dataset: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from gem_label.cli import run as gem_label

    def pushed(*options: str) -> str:
        assert gem_label(["push", str(run.path), "--dataset", dataset.name, *options]) == 0
        return capsys.readouterr().out

    assert "with 2 masks in field 'gem_label', 6 less likely ones hidden" in pushed("--for", "review")
    assert ids_of(dataset, FIELD) == above(0.6)
    assert "with 5 masks in field 'gem_label', 3 less" in pushed("--min-score", "0.35, cat=0.2")
    assert "with 6 masks in field 'gem_label'; " in pushed("--for", "training", "--hidden-from", "1")
    assert ids_of(dataset, FIELD) == above(0.2)
    assert "with 3 masks in field 'gem_label', 5 less" in pushed()
    assert open_run(run.path).manifest["counts"]["kept"] == 3
