"""Corrections of less likely masks: only what the file changes moves, and an import that fails moves nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from test_review_less_likely import FIELD, HIDDEN, dataset, ids_of, masks_of, run

from gem_label.errors import GemLabelError
from gem_label.progress import finish
from gem_label.review.editing.decisions import undo
from gem_label.review.exchange.corrections import import_corrections
from gem_label.review.exchange.export import export_masks

__all__ = ["dataset", "fiftyone_db", "run"]


def with_label(path: Path, mask_id: str, label: str) -> Path:
    content = json.loads(path.read_text())
    number = 99 + len(content["categories"])
    content["categories"].append({"id": number, "name": label})
    next(a for a in content["annotations"] if a["mask_id"] == mask_id)["category_id"] = number
    path.write_text(json.dumps(content))
    return path


def test_only_corrected_masks_move(dataset: Any, tmp_path: Path) -> None:
    finish(export_masks(dataset, HIDDEN, tmp_path / "o.json"))
    main, hidden = ids_of(dataset, FIELD), ids_of(dataset, HIDDEN)
    report = finish(import_corrections(dataset, FIELD, tmp_path / "o.json"))
    assert (report.unchanged, report.decision) == (len(hidden), None)
    assert (ids_of(dataset, FIELD), ids_of(dataset, HIDDEN)) == (main, hidden)
    report = finish(import_corrections(dataset, FIELD, with_label(tmp_path / "o.json", "a#2", "wolf")))
    assert (report.relabeled, report.added) == (1, 0)
    assert (ids_of(dataset, FIELD), ids_of(dataset, HIDDEN)) == (main | {"a#2"}, hidden - {"a#2"})
    assert masks_of(dataset, FIELD)["a#2"].label == "wolf"
    undo(dataset, FIELD)
    assert masks_of(dataset, FIELD)["a#2"].label == "cat"


def test_a_failed_import_moves_nothing(dataset: Any, tmp_path: Path) -> None:
    finish(export_masks(dataset, HIDDEN, tmp_path / "o.json"))

    def state() -> dict[str, dict[str, Any]]:
        fields = (FIELD, HIDDEN)
        found = {name: masks_of(dataset, name) for name in fields}
        return {
            name: {id: (d.label, d.tags, d.mask.tolist()) for id, d in found[name].items()} for name in fields
        }

    before = state()
    path = with_label(with_label(tmp_path / "o.json", "a#3", "wolf"), "a#2", "x" * (17 << 20))
    with pytest.raises(GemLabelError, match="nothing changed"):
        finish(import_corrections(dataset, FIELD, path))
    assert state() == before
    assert np.sum([len(masks) for masks in before.values()]) == 8
