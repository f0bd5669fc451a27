"""A run that learns from decisions in a FiftyOne dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fiftyone_fixture import fiftyone_db
from learning_run import FIELD, REVIEWED, WORDS, decide_by_truth, learning_dataset
from plugin_calls import execute, form_of, invalid, plugin, told

from gem_label.cli import run as command
from gem_label.errors import UsageError
from gem_label.review.exchange.decided import decided_annotations
from gem_label.review.pushing.push_run import push_run
from gem_label.review.storage.fields import run_of
from gem_label.runs import open_run

__all__ = ["fiftyone_db", "plugin"]


@pytest.fixture
def dataset(fiftyone_db: str, tmp_path: Path) -> Iterator[Any]:
    """Twenty photos of a run; a reviewer has decided about all masks of sixteen."""
    import fiftyone as fo

    dataset = learning_dataset(tmp_path, "learning")
    with pytest.raises(UsageError, match="nobody decided"):
        decided_annotations(dataset, FIELD)
    decide_by_truth(dataset)
    yield dataset
    fo.delete_dataset(dataset.name)


@pytest.mark.slow
def test_decisions_of_reviewers_teach_the_run(dataset: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(dataset, FIELD)
    known = decided_annotations(dataset, FIELD)
    masks = [mask for photo in known.photos for mask in photo.masks]
    assert {mask.label for mask in masks if mask.state == "renamed"} <= {"blick"}
    assert sum(mask.label == "blick" for mask in masks) == REVIEWED
    assert command(["learn", str(run.path), "--dataset", "learning"]) == 0
    said = capsys.readouterr().out
    assert f"{REVIEWED} reviewed photos" in said
    assert f"blick: {REVIEWED} things" in said
    taught = open_run(run.path)
    assert taught.learned is not None
    assert taught.learned.source["dataset"] == "learning"
    for photo, _, labels in taught.photo_masks(embeddings=False):
        if photo.number > REVIEWED:
            assert labels.names[:2] == ["cat", "blick"]
            assert labels.kept.tolist() == [True, True, False, False]
    # what reviewers decided stays as it is when the labels come into the dataset
    push_run(taught, "learning")
    dataset.reload()
    for sample in dataset.sort_by("filepath").limit(REVIEWED):
        states = [(mask.label, mask.tags) for mask in sample[FIELD].detections]
        assert ("cat", ["accepted"]) in states
        assert sum("rejected" in tags for _, tags in states) == 2
    assert WORDS.classes == taught.vocabulary.classes


def unseen(dataset: Any) -> list[tuple[str, ...]]:
    """The labels of the photos that nobody reviewed, photo by photo."""
    dataset.reload()
    photos = dataset.sort_by("filepath").skip(REVIEWED)
    return [tuple(sorted(mask.label for mask in sample[FIELD].detections)) for sample in photos]


@pytest.mark.slow
def test_the_app_learns_shows_what_to_expect_and_goes_back(plugin: Any, dataset: Any) -> None:
    form = form_of("learn", dataset)
    assert f"**{REVIEWED} reviewed photos teach** " in form["lesson"]["default"]
    assert "| by what the other photos teach | 32 | 0 | 0 | 100.0 | 100.0 |" in form["lesson"]["default"]
    assert "masks change" in form["preview"]["default"]
    assert "choice" not in form  # there is nothing to forget
    before = unseen(dataset)
    assert {labels[:2] for labels in before} != {("blick", "cat")}
    message = told(execute("learn", dataset)[1])
    assert f"are labeled by {REVIEWED} reviewed photos; 64 decided masks stay as they are" in message
    assert {labels[:2] for labels in unseen(dataset)} == {("blick", "cat")}
    assert run_of(dataset, FIELD).learned is not None

    assert "choice" in form_of("learn", dataset)
    assert "lesson" not in form_of("learn", dataset, choice="forget")
    execute("learn", dataset, choice="forget")
    assert run_of(dataset, FIELD).learned is None
    assert unseen(dataset) == before


@pytest.mark.slow
def test_too_few_decisions_are_said_to_teach_nothing(plugin: Any, dataset: Any) -> None:
    first = dataset.sort_by("filepath").first()
    for sample in dataset:
        if sample.id != first.id:
            for mask in sample[FIELD].detections:
                mask.tags = []
                mask.label = mask.proposed_label or mask.label
            sample.save()
    dataset.reload()
    assert "nothing that helps is learned" in invalid(form_of("learn", dataset))["nothing"]
    with pytest.raises(Exception, match="nothing that helps is learned"):
        execute("learn", dataset)


@pytest.mark.slow
def test_a_class_that_reviewers_bring_in_is_learned_at_once(
    plugin: Any, fiftyone_db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = learning_dataset(tmp_path, "new-class")
    decide_by_truth(dataset, name="pizza")
    before = unseen(dataset)
    assert not any("pizza" in labels for labels in before)
    path = run_of(dataset, FIELD).path
    assert command(["learn", str(path), "--dataset", "new-class", "--out", str(tmp_path / "out")]) == 0
    assert "classes that reviewers added: pizza\n" in capsys.readouterr().out
    assert open_run(tmp_path / "out").vocabulary.classes == ("cat", "dog", "blick", "pizza")

    assert "may have then: pizza" in form_of("learn", dataset)["lesson"]["default"]
    assert "pizza" in form_of("learn", dataset)["preview"]["default"]
    execute("learn", dataset)
    assert all(labels[-1] == "pizza" for labels in unseen(dataset))
    execute("learn", dataset, choice="forget")
    assert run_of(dataset, FIELD).vocabulary == WORDS
    assert unseen(dataset) == before
    plugin.delete_dataset(dataset.name)
