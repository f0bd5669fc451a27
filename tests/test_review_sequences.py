"""Random sequences of what people do with a dataset: no decided mask is lost or changed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from fiftyone_fixture import fiftyone_db
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from review_safety import (
    FIELD,
    HIDDEN,
    LEFT,
    RIGHT,
    copy_of,
    dataset,
    detections,
    ids_of,
    run,
    two_photos,
)
from run_factory import DIMENSION

from gem_label.labeling import Vocabulary
from gem_label.progress import finish
from gem_label.review import push_run
from gem_label.review.editing.decisions import decide, undo
from gem_label.review.exchange.export import export_masks
from gem_label.review.storage.detections import DECIDED_TAGS, is_decided
from gem_label.runs import Run, relabel_run

__all__ = ["dataset", "fiftyone_db", "run"]

# --- all of it together ------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "decide", "decide", "relabel", "copy", "tag", "undo", "export"]),
        st.integers(0, 1 << 16),
    ),
    min_size=4,
    max_size=14,
)


class Review:
    """A dataset under random steps, with a record of what every decided mask must be."""

    def __init__(self, run: Run, dataset: Any, folder: Path) -> None:
        self.run, self.dataset, self.out = run, dataset, folder / "out.json"
        self.decided: dict[Any, dict[str, Any]] = {}  # `_id` -> label, tags and shape
        self.deleted: set[Any] = set()
        self.history: list[tuple[str, str, dict[Any, dict[str, Any] | None]]] = []

    def masks(self, field: str) -> list[dict[str, Any]]:
        return [mask for name in "ab" for mask in detections(self.dataset, field, name)]

    def step(self, step: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        field = str(rng.choice([FIELD, HIDDEN]))
        there = self.masks(field)
        if step == "push":
            floor = None if rng.random() < 0.2 else 0.1
            score = float(rng.choice([0.1, 0.35, 0.85]))
            push_run(self.run, self.dataset.name, min_score=score, hidden_from=floor)
        elif step == "relabel":
            text = rng.standard_normal((3, DIMENSION)).astype(np.float32)
            relabel_run(self.run, Vocabulary.from_words(["bird", "car"], ["sky"]), text)
        elif step == "undo" and self.history:
            identifier, field, before = self.history.pop()
            assert undo(self.dataset, field, identifier)[1] == len(before)
            for each, was in before.items():
                self.deleted.discard(each)
                self.decided.pop(each, None)
                if was is not None:
                    self.decided[each] = was
        elif step == "export":
            written = finish(export_masks(self.dataset, FIELD, self.out)).masks
            expected = [m for m in self.masks(FIELD) if "rejected" not in m["tags"]]
            annotations = json.loads(self.out.read_text())["annotations"]
            assert len(annotations) == written == len(expected)
            assert sorted(a["mask_id"] for a in annotations) == sorted(m["mask_id"] for m in expected)
        elif step in ("decide", "copy", "tag") and there:
            some = [there[i] for i in rng.choice(len(there), rng.integers(1, len(there) + 1), replace=False)]
            getattr(self, step)(rng, field, some)

    def decide(self, rng: np.random.Generator, field: str, some: list[dict[str, Any]]) -> None:
        action = str(rng.choice(["accept", "reject", "rename", "delete"]))
        label = str(rng.choice(["mug", "do\x00g"])) if action == "rename" else None
        made = decide(self.dataset, field, action, ids_of(*some), label)  # type: ignore[arg-type]
        self.history.append((made.id, field, {m["_id"]: self.decided.get(m["_id"]) for m in some}))
        for mask in some:
            tags = [*(t for t in mask["tags"] if t not in DECIDED_TAGS), f"{action}ed"]
            new = {"label": label} if action == "rename" else {"tags": tags}
            self.decided[mask["_id"]] = facts({**mask, **new})
            if action == "delete":
                self.deleted.add(mask["_id"])
                del self.decided[mask["_id"]]

    def copy(self, rng: np.random.Generator, field: str, some: list[dict[str, Any]]) -> None:
        """Copy or split a mask by hand; copies of decided masks are decided."""
        box = RIGHT if rng.random() < 0.5 else some[0]["bounding_box"]
        stamps = {"decision": None, "decided_at": None}
        self.write(some[0], field, [copy_of(some[0], bounding_box=box, **stamps)])

    def tag(self, rng: np.random.Generator, field: str, some: list[dict[str, Any]]) -> None:
        """Tag a copy as the App does."""
        tag = str(rng.choice(sorted(DECIDED_TAGS)))
        self.write(some[0], field, [copy_of(some[0], tags=[tag], decision=None, bounding_box=LEFT)])

    def write(self, beside: dict[str, Any], field: str, new: list[dict[str, Any]]) -> None:
        change = {
            "$push": {f"{field}.detections": {"$each": new}},
            "$currentDate": {"last_modified_at": True},
        }
        key = {f"{field}.detections._id": beside["_id"]}
        assert self.dataset._sample_collection.update_one(key, change).matched_count == 1
        self.decided |= {mask["_id"]: facts(mask) for mask in new if is_decided(mask)}

    def check(self) -> None:
        """Every decided mask is there once and is what reviewers left; deleted ones are gone."""
        found = [(name, mask) for name in (FIELD, HIDDEN) for mask in self.masks(name)]
        by_id = {mask["_id"]: facts(mask) for _, mask in found}
        assert len(by_id) == len(found)
        assert {each: by_id.get(each) for each in self.decided} == self.decided
        assert not self.deleted & by_id.keys()
        assert {mask["_id"] for _, mask in found if is_decided(mask)} == self.decided.keys()


def facts(mask: dict[str, Any]) -> dict[str, Any]:
    return {name: mask[name] for name in ("mask_id", "label", "tags", "bounding_box", "mask")}


@given(STEPS)
@settings(max_examples=20, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
def test_no_sequence_of_steps_loses_or_changes_a_decided_mask(fiftyone_db: str, steps: Any) -> None:
    import fiftyone as fo

    name = "safety of sequences"
    with tempfile.TemporaryDirectory() as folder:
        run = two_photos(Path(folder) / "run")
        push_run(run, name)
        try:
            review = Review(run, fo.load_dataset(name), Path(folder))
            for step in steps:
                review.step(*step)
                review.check()
        finally:
            fo.delete_dataset(name)
