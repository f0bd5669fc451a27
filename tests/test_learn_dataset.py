"""A run that learns from decisions in a FiftyOne dataset."""

from __future__ import annotations

from pathlib import Path

import pytest
from fiftyone_fixture import fiftyone_db
from learning_run import SIZE, WORDS, write_run
from PIL import Image

from gem_label.cli import run as command
from gem_label.clip.models import load_clip
from gem_label.clip.text import TextEncoder
from gem_label.errors import UsageError
from gem_label.review.editing.decisions import decide
from gem_label.review.exchange.decided import decided_annotations
from gem_label.review.pushing.push_run import push_run
from gem_label.review.storage.selection import Selection
from gem_label.runs import open_run

__all__ = ["fiftyone_db"]

FIELD, REVIEWED, PHOTOS = "gem_label", 16, 20


@pytest.mark.slow
def test_decisions_of_reviewers_teach_the_run(
    fiftyone_db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fiftyone as fo

    encoder, folder = TextEncoder(load_clip("demo", "cpu")), tmp_path / "photos"
    folder.mkdir()
    for i in range(1, PHOTOS + 1):
        Image.new("RGB", (SIZE, SIZE), (i, 90, 90)).save(folder / f"{i:03d}.jpg")
    run = write_run(tmp_path / "run", encoder, range(1, PHOTOS + 1), folder=folder)
    push_run(run, "learning", min_score=0.0, hidden_from=None)
    dataset = fo.load_dataset("learning")
    with pytest.raises(UsageError, match="nobody decided"):
        decided_annotations(dataset, FIELD)
    for sample in dataset.sort_by("filepath").limit(REVIEWED):
        for mask in sample[FIELD].detections:
            place = int(mask.mask_id.rpartition("#")[2])
            chosen = Selection(ids=[mask.id], samples=[sample.id])
            if place == 1 and mask.label != "blick":
                decide(dataset, FIELD, "rename", chosen, label="blick")
            else:
                decide(dataset, FIELD, "accept" if place < 2 else "reject", chosen)
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
