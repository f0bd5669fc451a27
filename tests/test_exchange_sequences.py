"""Random sequences of review steps among which files leave in any format, are edited elsewhere, and come back."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from review_safety import FIELD, HIDDEN, two_photos, write_photos
from soak import seeds
from test_review_sequences import Review, facts

from gem_label.formats.drawing import WriteSettings
from gem_label.formats.reading import read_annotations
from gem_label.formats.writing import FORMATS, write_annotations
from gem_label.progress import finish
from gem_label.review import push_run
from gem_label.review.exchange.comparing import MISSING
from gem_label.review.exchange.corrections import import_corrections
from gem_label.review.exchange.export import export_masks
from gem_label.review.storage.detections import is_decided

__all__ = ["fiftyone_db"]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["push", "decide", "relabel", "copy", "tag", "undo", *["exchange"] * 4]),
        st.integers(0, 1 << 16),
    ),
    min_size=3,
    max_size=9,
)
EDITS = ("none", "none", "relabel", "delete", "duplicate")


class Exchange(Review):
    """A review whose masks go through files, too."""

    def step(self, step: str, seed: int) -> None:
        if step == "exchange":
            self.exchange(np.random.default_rng(seed))
        else:
            super().step(step, seed)

    def exchange(self, rng: np.random.Generator) -> None:
        """Export in some format, edit a mask in the file as another tool does, and import that."""
        name = str(rng.choice(list(FORMATS)))
        folder = Path(tempfile.mkdtemp(dir=self.out.parent))
        out = folder / f"out{FORMATS[name].suffix}"
        settings = WriteSettings(photos=str(rng.choice(["link", "list"])))  # type: ignore[arg-type]
        exported = finish(export_masks(self.dataset, FIELD, out, name, settings=settings))
        assert not exported.left_out, (name, exported.left_out)
        edit = str(rng.choice(EDITS))
        path, touched = edited(out, name, edit, rng, folder)
        missing = str(rng.choice(MISSING))
        before = {mask["_id"]: (field, mask) for field in (FIELD, HIDDEN) for mask in self.masks(field)}
        self.take_in(path, missing, before, dry_run=True)
        report = self.take_in(path, missing, before)
        now = {mask["_id"]: (field, mask) for field in (FIELD, HIDDEN) for mask in self.masks(field)}
        told = (name, edit, missing, str(report), report.problems)
        assert not report.refused, told
        absent = [
            mask["_id"]
            for field, mask in before.values()
            if field == FIELD
            and ("rejected" in mask["tags"] or (mask["mask_id"] in touched and edit == "delete"))
        ]
        allowed = {key for key, (_, mask) in before.items() if mask["mask_id"] in touched}
        allowed |= set(absent) if missing != "keep" else set()
        changed = {key for key in before if key not in now or facts(now[key][1]) != facts(before[key][1])}
        assert changed <= allowed, told
        if missing != "delete":
            assert before.keys() <= now.keys(), told
        new = now.keys() - before.keys()
        assert len(new) == (edit == "duplicate" and bool(touched)), told
        if report.decision is None:
            assert not changed, told
            assert not new, told
            return
        ids = changed | new
        self.history.append((report.decision.id, FIELD, {key: self.decided.get(key) for key in ids}))
        for key in ids:
            self.decided.pop(key, None)
            if key not in now:
                self.deleted.add(key)
            elif is_decided(now[key][1]):
                self.decided[key] = facts(now[key][1])

    def take_in(self, path: Path, missing: str, before: dict[Any, Any], dry_run: bool = False) -> Any:
        work = import_corrections(self.dataset, FIELD, path, missing, dry_run=dry_run)  # type: ignore[arg-type]
        report = finish(work)
        if dry_run:
            assert report.decision is None
            after = {mask["_id"]: (field, mask) for field in (FIELD, HIDDEN) for mask in self.masks(field)}
            assert after == before
        return report


def edited(out: Path, name: str, edit: str, rng: np.random.Generator, folder: Path) -> tuple[Path, set[Any]]:
    """A file with one mask relabeled, deleted or there twice, written by the format's own writer.

    Returns:
        The file, and the mask ids that were touched.
    """
    annotations = read_annotations(out)
    photos = list(annotations.photos)
    places = [(i, j) for i, photo in enumerate(photos) for j in range(len(photo.masks))]
    if edit == "none" or not places:
        return out, set()
    i, j = places[rng.integers(len(places))]
    masks = list(photos[i].masks)
    touched = masks[j]
    if edit == "relabel":
        masks[j] = replace(touched, label="owl" if touched.label != "owl" else "mug")
    elif edit == "delete":
        del masks[j]
    else:
        masks.append(replace(touched, id=None))
    photos[i] = replace(photos[i], masks=masks)
    path = folder / f"edited{FORMATS[name].suffix}"
    classes = tuple(dict.fromkeys((*annotations.classes, "owl", "mug")))
    content = replace(annotations, photos=photos, classes=classes, category_ids=())
    finish(write_annotations(content, path, name, WriteSettings(photos="list")))
    return path, {touched.mask_id}


def check(steps: Sequence[tuple[str, int]]) -> None:
    """Do steps; after each, every decided mask is what reviewers left, and nothing else changed."""
    import fiftyone as fo

    name = "safety of exchanges"
    with tempfile.TemporaryDirectory() as folder:
        run = two_photos(Path(folder) / "run")
        write_photos(run)
        push_run(run, name)
        try:
            review = Exchange(run, fo.load_dataset(name), Path(folder))
            for step in steps:
                review.step(*step)
                review.check()
        finally:
            fo.delete_dataset(name)


@pytest.mark.slow
def test_no_exchange_of_files_loses_or_changes_a_decided_mask(
    fiftyone_db: str, request: pytest.FixtureRequest
) -> None:
    for number in seeds(request, 1):
        quick = settings(
            max_examples=12,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        seed(number)(quick(given(STEPS)(check)))()
