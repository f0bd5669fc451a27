"""Settings out of range are refused in one line that names them, wherever they come from."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from random_run import ANIMALS, open_writer, text_of, write_run

from gem_label.clip.methods import DenseMethod
from gem_label.clip.windows import Window
from gem_label.engines.local import LocalEngine
from gem_label.engines.ray_data import RayEngine
from gem_label.errors import UsageError
from gem_label.labeled_photo import LabelJob
from gem_label.labeling import LabelSettings, Thresholds
from gem_label.labeling.selection import SelectionRule
from gem_label.precision import Precision
from gem_label.runs import relabel_run
from gem_label.sam.fast import FastSettings

WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: LabelSettings(top_k=0), "top_k must be a whole number from 1, not 0"),
    (lambda: LabelSettings(top_k=2.5), "top_k must be a whole number from 1, not 2.5"),  # type: ignore[arg-type]
    (lambda: LabelSettings(top_k=None), "top_k must be a whole number from 1, not None"),  # type: ignore[arg-type]
    (lambda: LabelSettings(image_top_k=0), "image_top_k must be a whole number from 1 or None, not 0"),
    (lambda: LabelSettings(overlaps="no"), "overlaps must be True or False"),  # type: ignore[arg-type]
    (lambda: LabelSettings(min_score=math.nan), "min_score must be a number between 0 and 1, not nan"),  # type: ignore[arg-type]
    (lambda: Thresholds(-0.1), "min_score must be"),
    (lambda: Thresholds(True), "min_score must be"),
    (lambda: Thresholds(0.5, {"cat": 1.2}), "min_score of 'cat' must be a number between 0 and 1, not 1.2"),
    (lambda: Thresholds(0.5, ["cat"]), "mapping of names"),  # type: ignore[arg-type]
    (lambda: Thresholds.from_json({"other": 1}), "min_score has 'other'"),
    (lambda: Thresholds.from_json("0.4"), "min_score must be"),  # type: ignore[arg-type]
    (lambda: LabelSettings.from_dict({}), "no min_score"),
    (lambda: SelectionRule(part=1.5), "part must be a number between 0 and 1"),
    (lambda: SelectionRule(own=math.nan), "own must be"),
    (lambda: FastSettings(max_prompts=0), "max_prompts must be a whole number from 1, not 0"),
    (lambda: FastSettings.with_at_most(0), "max_prompts must be"),
    (lambda: FastSettings.with_at_most(-3), "max_prompts must be"),
    (lambda: FastSettings(points_per_side=0), "points_per_side must be"),
    (lambda: FastSettings(prompts_per_round=0), "prompts_per_round must be"),
    (lambda: FastSettings(min_residual=-0.1), "min_residual must be"),
    (lambda: FastSettings(confident_iou=2), "confident_iou must be"),
    (lambda: FastSettings(mask_nms_thresh=math.nan), "mask_nms_thresh must be"),
    (lambda: FastSettings(pred_iou_thresh=7), "pred_iou_thresh must be"),
    (lambda: FastSettings(stability_score_thresh=-1), "stability_score_thresh must be"),
    (lambda: LocalEngine(workers=0), "workers must be"),
    (lambda: LocalEngine(threads=-1), "threads must be"),
    (lambda: RayEngine(lambda device: None, actors=(0, 1)), "actors must be"),  # type: ignore[arg-type,return-value]
    (lambda: Precision("float16"), "precision must be float32 or bfloat16, not 'float16'"),
    (lambda: DenseMethod(temperature=math.nan), "temperature must be"),
    (lambda: DenseMethod(temperature_multiple=math.inf), "temperature_multiple must be"),
    (lambda: DenseMethod(iterations=1.5), "iterations must be"),  # type: ignore[arg-type]
    (lambda: DenseMethod(clusters=0), "clusters must be"),
    (lambda: Window(crop=0, stride=0), "a window's crop must be"),
    (lambda: Window(crop=32, stride=33), "a window's stride must be"),
    (lambda: job(logit_scale=0), "logit_scale must be a number above 0, not 0"),
    (lambda: job(logit_scale=math.inf), "logit_scale must be"),
    (lambda: job(text=text_of(ANIMALS)[1:]), "for 5 phrases: give one for each"),
    (lambda: job(text=text_of(ANIMALS) * np.nan), "finite"),
]


def job(**changes: object) -> LabelJob:
    values: dict = {
        "vocabulary": ANIMALS,
        "text": text_of(ANIMALS),
        "logit_scale": 10.0,
        "settings": LabelSettings(),
    }
    return LabelJob(**values | changes)


@pytest.mark.parametrize(("make", "complaint"), WRONG, ids=[complaint for _, complaint in WRONG])
def test_settings_out_of_range_are_refused(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    settings = LabelSettings(Thresholds(np.float32(0.5)), top_k=np.int64(2))  # type: ignore[arg-type]
    run = write_run(tmp_path / "run", 1, label_settings=settings)
    assert run.label_settings == LabelSettings(Thresholds(0.5), top_k=2)


@pytest.mark.parametrize(
    "changes",
    [{"logit_scale": 0.0}, {"logit_scale": math.nan}, {"embedding_dim": 0}, {"photos_per_shard": 0}],
)
def test_runs_are_made_with_numbers_in_range(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(changes))} must be"):
        open_writer(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()
    run = write_run(tmp_path / "whole", 1)
    with pytest.raises(UsageError, match="finite"):
        relabel_run(run, ANIMALS, text_of(ANIMALS) * np.inf)
    with pytest.raises(UsageError, match="logit_scale must be"):
        relabel_run(run, ANIMALS, text_of(ANIMALS), logit_scale=-1.0)
