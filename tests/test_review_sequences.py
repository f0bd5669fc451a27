"""Random sequences of what people do with a dataset: no decided mask is lost or changed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pymongo
from database_commands import Command, changes_samples, watching
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

from gem_label.errors import UsageError
from gem_label.labeling import Vocabulary
from gem_label.progress import finish
from gem_label.review import push_run
from gem_label.review.editing.decisions import decide, undo
from gem_label.review.editing.joining import join_masks
from gem_label.review.exchange.export import export_masks
from gem_label.review.storage.decision_log import Decision, collections
from gem_label.review.storage.detections import DECIDED_TAGS, is_decided
from gem_label.runs import Run, relabel_run

__all__ = ["dataset", "fiftyone_db", "run"]

# --- all of it together ------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "push",
                "push",
                "decide",
                "decide",
                "relabel",
                "copy",
                "tag",
                "undo",
                "undo",
                "export",
                "join",
                "join",
            ]
            + ["meanwhile"] * 4
        ),
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
        self.edited: dict[Any, dict[str, Any] | None] = {}  # by others during a step; None: deleted
        self.refused: list[str] = []
        samples = dataset._sample_collection
        self.client: Any = pymongo.MongoClient(os.environ["GEM_LABEL_TEST_DATABASE"])
        self.others = self.client[samples.database.name][samples.name]

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
            self.run = relabel_run(self.run, Vocabulary.from_words(["bird", "car"], ["sky"]), text)
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
        elif step in ("decide", "join", "copy", "tag") and there:
            some = [there[i] for i in rng.choice(len(there), rng.integers(1, len(there) + 1), replace=False)]
            if step == "join":  # with a copy, as labels seldom repeat
                some = [*some, *self.copy(rng, field, some)]
            getattr(self, step)(rng, field, some)
        elif step == "meanwhile" and there:
            self.meanwhile(rng, field, there)

    def decide(self, rng: np.random.Generator, field: str, some: list[dict[str, Any]]) -> None:
        action = str(rng.choice(["accept", "reject", "rename", "delete"]))
        label = str(rng.choice(["mug", "do\x00g"])) if action == "rename" else None
        made = self.attempt(lambda: decide(self.dataset, field, action, ids_of(*some), label))  # type: ignore[arg-type]
        if made is None:
            assert self.edited
            return
        done = self.logged(made.id)
        assert {m["_id"] for m in some} - done <= self.edited.keys()
        assert (made.masks, made.missed) == (len(done), len(some) - len(done))
        before = {}
        for mask in some:
            if mask["_id"] not in done:
                continue
            now = self.edited.get(mask["_id"]) or mask  # an edit that is what the decision makes of it
            before[mask["_id"]] = self.decided.get(mask["_id"])
            tags = [*(t for t in now["tags"] if t not in DECIDED_TAGS), f"{action}ed"]
            new = {"label": label} if action == "rename" else {"tags": tags}
            self.decided[mask["_id"]] = facts({**now, **new})
            if action == "delete":
                self.deleted.add(mask["_id"])
                del self.decided[mask["_id"]]
        self.history.append((made.id, field, before))

    def join(self, rng: np.random.Generator, field: str, some: list[dict[str, Any]]) -> None:
        groups = [group for name in "ab" for group in self.groups(field, name, some)]
        made = self.attempt(lambda: join_masks(self.dataset, field, ids_of(*some)))
        if made is None:
            assert groups == [] or self.edited
            return
        whole = [group for group in groups if not self.edited.keys() & {mask["_id"] for mask in group}]
        ids = {mask["_id"] for group in whole for mask in group}
        assert self.logged(made.id) == ids
        assert (made.masks, made.missed) == (len(ids), sum(map(len, groups)) - len(ids))
        self.history.append((made.id, field, {each: self.decided.get(each) for each in ids}))
        now = {mask["_id"]: mask for mask in self.masks(FIELD)}
        for best, *others in whole:
            tags = [*(t for t in best["tags"] if t not in DECIDED_TAGS), "accepted"]
            joined = now[best["_id"]]
            assert (joined["label"], joined["tags"], joined["mask_id"]) == (
                best["label"],
                tags,
                best["mask_id"],
            )
            self.decided[best["_id"]] = facts(joined)
            for mask in others:
                self.decided.pop(mask["_id"], None)
                self.deleted.add(mask["_id"])

    def attempt(self, work: Callable[[], Decision]) -> Decision | None:
        """Do something; None when it has nothing to change, or all of it was changed by others."""
        try:
            return work()
        except UsageError as error:
            self.refused.append(str(error))
            return None

    def groups(self, field: str, name: str, some: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """The masks of a photo that a join makes one, the best first."""
        chosen = {mask["_id"] for mask in some}
        by_label: dict[str, list[dict[str, Any]]] = {}
        for mask in detections(self.dataset, field, name):
            if mask["_id"] in chosen:
                by_label.setdefault(mask["label"], []).append(mask)
        order = [sorted(masks, key=lambda mask: -mask["confidence"]) for masks in by_label.values()]
        return [masks for masks in order if len(masks) > 1]

    def logged(self, decision: str) -> set[Any]:
        return {each for entry in collections()[1].find({"decision": decision}) for each in entry["ids"]}

    def meanwhile(self, rng: np.random.Generator, field: str, there: list[dict[str, Any]]) -> None:
        """A step during which somebody else changes a mask, right before the first write."""
        victim = there[rng.integers(len(there))]
        there = [*there, *self.copy(rng, field, [victim])]
        kind = str(rng.choice(["tag", "label", "shape", "delete"]))
        stamp = {"last_modified_at": datetime.now(UTC)} if rng.random() < 0.5 else {}

        def edit(event: Command) -> None:
            if self.edited or not changes_samples(event):
                return
            new = {
                "tag": {"tags": [str(rng.choice(sorted(DECIDED_TAGS))), f"at {rng.integers(1 << 30)}"]},
                "label": {"label": f"owl {rng.integers(1 << 30)}"},
                "shape": {"bounding_box": [float(rng.random()) / 2, 0.0, 0.5, 0.5], "tags": ["accepted"]},
                "delete": None,
            }[kind]
            key = {f"{field}.detections._id": victim["_id"]}
            if new is None:
                change: Any = {"$pull": {f"{field}.detections": {"_id": victim["_id"]}}}
                self.decided.pop(victim["_id"], None)
            else:
                change = {"$set": {**{f"{field}.detections.$.{k}": v for k, v in new.items()}, **stamp}}
                self.decided[victim["_id"]] = facts({**victim, **new})
            assert self.others.update_one(key, change).modified_count == 1
            self.edited[victim["_id"]] = None if new is None else {**victim, **new}

        seed = int(rng.integers(1 << 16))
        with watching(edit):
            if rng.random() < 0.3:
                self.step("push", seed)
            else:
                some = [mask for mask in there if mask is victim or rng.random() < 0.5]
                getattr(self, str(rng.choice(["decide", "join"])))(np.random.default_rng(seed), field, some)
        self.edited = {}

    def copy(self, rng: np.random.Generator, field: str, some: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Copy or split a mask by hand; copies of decided masks are decided."""
        box = RIGHT if rng.random() < 0.5 else some[0]["bounding_box"]
        stamps = {"decision": None, "decided_at": None, "decided_by": None}
        copies = [copy_of(some[0], bounding_box=box, **stamps)]
        self.write(some[0], field, copies)
        return copies

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
        known = ("somebody else changed these masks", "no photo has two selected masks")
        assert all(line.startswith(known) for line in self.refused)
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
            with review.client:
                for step in steps:
                    review.step(*step)
                    review.check()
        finally:
            fo.delete_dataset(name)
