"""`fast` proposals: prompts go where something is unexplained, and find more than a grid of as many points."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from sam_fixture import RememberingEncoder

from gem_label.bench import Annotations
from gem_label.cli import run
from gem_label.demo import demo_folder
from gem_label.errors import ImageError, UsageError
from gem_label.masks import MaskSet, encode_mask
from gem_label.metrics.coverage import Coverage, coverage, overlap
from gem_label.photos.reading import read_image
from gem_label.runs import open_run
from gem_label.sam import FastSettings, ProposalSettings, Sam, load_sam, propose_masks
from gem_label.sam.decoder import PointDecoder
from gem_label.sam.fast import distinct_masks
from gem_label.sam.proposals import read_proposals
from gem_label.sam.residual import next_tokens, similarity_to_masks, token_cover
from gem_label.weights import pull_weights

SCENES = demo_folder() / "data"
INSTANCES = demo_folder() / "instances.json"


@functools.cache
def mobile_sam() -> Sam:
    pull_weights("mobile_sam", progress=False)
    sam = load_sam("mobile_sam")
    sam.model.image_encoder = RememberingEncoder(sam.model.image_encoder)
    return sam


@functools.cache
def proposed(scene: str, how: FastSettings | ProposalSettings) -> MaskSet:
    """Masks of a packaged scene, once for all tests."""
    return propose_masks(mobile_sam(), read_image(SCENES / scene), how)


# --- pure functions ---


def test_settings_of_older_runs_have_other_names() -> None:
    older = asdict(FastSettings(min_residual=0.4, confident_iou=0.9))
    older["min_surprise"], older["explaining_iou"] = older.pop("min_residual"), older.pop("confident_iou")
    assert read_proposals(older) == FastSettings(min_residual=0.4, confident_iou=0.9)


def test_a_mask_explains_what_is_like_the_rest_of_it() -> None:
    """Sky over grass, each with its mask, and a bird in the sky that no mask tells apart; the border is nobody's."""
    sky, grass, bird = torch.eye(3)
    features = torch.zeros(3, 4, 6)
    features[:, :2], features[:, 2:], features[:, 0, 1] = sky[:, None, None], grass[:, None, None], bird
    masks = torch.zeros(2, 16, 24, dtype=torch.bool)
    masks[0, :8, :20], masks[1, 8:, :20] = True, True
    similarity = similarity_to_masks(features, token_cover(masks))
    plain = torch.ones(4, 6, dtype=torch.bool)
    plain[0, 1], plain[:, 5] = False, False
    assert (similarity[plain] > 0.99).all()
    assert similarity[0, 1] < 0.2
    assert (similarity[:, 5] == 0).all()
    places = next_tokens(1 - similarity.numpy(), np.array([[5.0, 0.0]]), 2, least=0.3)
    assert places.tolist() == [[1, 0], [5, 3]]  # the bird, then the far end of what no mask covers


def test_no_masks_explain_nothing() -> None:
    features = torch.nn.functional.normalize(torch.randn(8, 5, 7, generator=torch.manual_seed(0)), dim=0)
    cover = token_cover(torch.zeros(0, 18, 28, dtype=torch.bool))
    assert cover.shape == (0, 5, 7)
    assert (similarity_to_masks(features, cover) == 0).all()


def test_cover_is_the_share_of_each_token() -> None:
    masks = torch.rand(3, 18, 21, generator=torch.manual_seed(0)) > 0.5
    cover = token_cover(masks)
    assert cover.shape == (3, 5, 6)
    for row in range(5):
        for column in range(6):
            token = masks[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            torch.testing.assert_close(cover[:, row, column], token.float().mean(dim=(1, 2)))


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), least=st.floats(0, 0.9), count=st.integers(0, 30))
def test_next_tokens_are_the_plain_greedy_choice(seed: int, least: float, count: int) -> None:
    random = np.random.default_rng(seed)
    residual = random.random((4, 6)).astype(np.float32)
    asked = [tuple(place) for place in random.uniform(0, 4, (2, 2))]
    chosen = next_tokens(residual, np.array(asked), count, least)
    expected: list[tuple[int, int]] = []
    for _ in range(count):
        worth = {
            (x, y): residual[y, x] * min(np.hypot(x - a, y - b) for a, b in [*asked, *expected])
            for y in range(4)
            for x in range(6)
            if residual[y, x] >= least
        }
        best = max(worth, key=worth.__getitem__, default=None)
        if best is None or worth[best] == 0:
            break
        expected.append(best)
    assert chosen.tolist() == [list(place) for place in expected]


def test_no_place_is_asked_about_twice() -> None:
    places = next_tokens(np.ones((3, 4), np.float32), np.array([[0.0, 0.0]]), 99, least=0.5)
    assert len({tuple(place) for place in places}) == len(places) == 11


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), threshold=st.sampled_from([0.3, 0.5, 0.8]))
def test_distinct_masks_by_the_iou_of_pycocotools(seed: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    base = random.random((3, 12, 10)) > 0.5
    masks = base[random.integers(0, 3, 8)] ^ (random.random((8, 12, 10)) > 0.9)
    rles = [{"size": [12, 10], "counts": encode_mask(mask)} for mask in masks]
    iou = coco_mask.iou(rles, rles, [0] * 8)
    expected: list[int] = []
    for index in range(8):
        if all(iou[index, other] <= threshold for other in expected):
            expected.append(index)
    assert distinct_masks(torch.as_tensor(masks), threshold).tolist() == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"points_per_side": 0}, "points_per_side"),
        ({"prompts_per_round": 0}, "prompts_per_round"),
        ({"points_per_side": 9, "max_prompts": 80}, "9 x 9"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FastSettings(**values)


# --- with MobileSAM ---


@pytest.mark.slow
def test_a_grid_alone_gives_the_masks_of_exact() -> None:
    """Without rounds, thresholds on stability and suppression both ask and answer the same, in another order."""
    shared = {"points_per_side": 3, "pred_iou_thresh": 0.6, "stability_score_thresh": 0.0}
    fast = proposed("scene_002.jpg", FastSettings(max_prompts=9, mask_nms_thresh=1.0, **shared))
    exact = proposed("scene_002.jpg", ProposalSettings(box_nms_thresh=1.0, **shared))
    assert len(fast) == len(exact) > 5
    iou = coco_mask.iou(fast.rles, exact.rles, [0] * len(exact))
    match = iou.argmax(axis=1)
    assert iou.max(axis=1).min() > 0.99
    assert sorted(match) == list(range(len(exact)))
    np.testing.assert_allclose(fast.stability, exact.stability[match], atol=1e-3)
    np.testing.assert_allclose(fast.points, exact.points[match], atol=1e-3)


def covered(how: FastSettings, scenes: list[str]) -> Coverage:
    annotations = Annotations.read(INSTANCES)
    found = [(proposed(scene, how), *annotations.instances(scene)) for scene in scenes]
    return coverage(
        [overlap(masks.rles, masks.predicted_iou, instances, areas) for masks, instances, areas in found]
    )


@pytest.mark.slow
def test_asking_where_something_is_unexplained_beats_a_grid_of_as_many_points() -> None:
    """The figures guard quality: they are the same on every machine but for float noise."""
    scenes = ["scene_002.jpg", "scene_005.jpg", "scene_009.jpg"]
    fast = covered(FastSettings(points_per_side=4, max_prompts=49, prompts_per_round=17), scenes)
    grid = covered(FastSettings(points_per_side=7, max_prompts=49), scenes)
    assert fast.instances == grid.instances == 11
    assert fast.mean_best_iou == pytest.approx(0.895, abs=0.01)
    assert fast.average_recall == pytest.approx(0.818, abs=0.02)
    assert grid.mean_best_iou == pytest.approx(0.865, abs=0.01)
    assert grid.average_recall == pytest.approx(0.782, abs=0.02)


@pytest.mark.slow
def test_prompts_are_bounded_and_follow_the_photo(
    monkeypatch: pytest.MonkeyPatch, photos: dict[str, NDArray[np.uint8]]
) -> None:
    asked: list[int] = []
    read = PointDecoder.predict_iou

    def counting(self: PointDecoder, prompts: NDArray[np.float64]) -> object:
        asked.append(len(prompts))
        return read(self, prompts)

    monkeypatch.setattr(PointDecoder, "predict_iou", counting)
    how = FastSettings(points_per_side=3, max_prompts=30, prompts_per_round=11, min_residual=0.6)
    masks = propose_masks(mobile_sam(), photos["chelsea"], how)
    assert sum(asked) == 30
    assert (np.diff(masks.predicted_iou) <= 0).all()
    assert (masks.areas > 0).all()
    assert (masks.points >= 0).all()
    assert (masks.points <= [masks.width, masks.height]).all()
    again = propose_masks(mobile_sam(), photos["chelsea"], how)
    assert again.counts == masks.counts
    asked.clear()
    propose_masks(mobile_sam(), np.full((90, 120, 3), 128, np.uint8), how)
    assert sum(asked) == 9  # one mask explains all of it


def test_a_photo_as_thin_as_a_line_is_refused() -> None:
    with pytest.raises(ImageError, match="3000 x 1 pixels"):
        propose_masks(mobile_sam(), np.zeros((1, 3000, 3), np.uint8), FastSettings())


# --- the command line ---


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--crop-layers", "1"], "--crop-layers needs --proposals exact"),
        (["--proposals", "exact", "--max-prompts", "99"], "--max-prompts needs --proposals fast"),
        (["--proposals", "fast", "--max-prompts", "9"], "max_prompts 9"),
    ],
    ids=["crops", "max_prompts", "too_few"],
)
def test_options_of_the_other_mode_are_refused(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["label", str(SCENES), "--classes", "cat", "--out", str(tmp_path / "run"), *arguments]
    assert run(given) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_records_the_settings_of_fast_proposals(tmp_path: Path) -> None:
    given = ["--classes", "cat", "--clip", "demo", "--points-per-side", "2"]  # fast is the default
    out = tmp_path / "run"
    assert run(["label", str(SCENES / "scene_001.jpg"), "--out", str(out), *given, "--max-prompts", "6"]) == 0
    proposals = open_run(out).manifest["settings"]["proposals"]
    assert proposals["mode"] == "fast"
    assert (proposals["points_per_side"], proposals["max_prompts"]) == (2, 6)
    assert "crop_n_layers" not in proposals


@pytest.mark.slow
def test_bench_on_annotated_photos(tmp_path: Path) -> None:
    """As a user runs it: a table on stdout, the same as JSON, and nothing left behind."""
    given = ["--photos", "1", "--proposals", "fast", "--points-per-side", "3", "--max-prompts", "12"]
    given += ["--clip", "demo", "--device", "cpu", "--estimate", "1000", "--json", str(tmp_path / "b.json")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "gem_label.cli",
            "bench",
            str(SCENES),
            "--annotations",
            str(INSTANCES),
            *given,
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    assert "SAM encoder, s/photo" in done.stdout
    assert "1000 photos" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]
    fast = json.loads((tmp_path / "b.json").read_text())["proposals"]["fast"]
    assert fast["photos"] == 1
    assert fast["masks"] > 1
    assert all(seconds > 0 for seconds in fast["stages"].values())
    assert fast["workers"] >= 1
    assert fast["photos_per_hour"] == pytest.approx(3600 / fast["label_seconds"])
    assert fast["seconds"] == pytest.approx(sum(fast["stages"].values()))
    assert 0 < fast["coverage"]["all"]["mean_best_iou"] < 1
    assert fast["coverage"]["small"] == {
        "instances": 0, "mean_best_iou": None, "average_recall": None, "recall_50": None
    }  # fmt: skip


def test_bench_settings_belong_to_one_kind_of_proposals(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", str(SCENES), "--max-prompts", "99"]) == 2
    assert "--proposals fast" in capsys.readouterr().err


def test_annotations_are_found_by_file_name(tmp_path: Path) -> None:
    square = [[1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 1.0, 5.0]]
    content = {
        "images": [{"id": 7, "file_name": "b/c.jpg", "height": 8, "width": 9}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "segmentation": square, "area": 15.5, "iscrowd": 0},
            {"image_id": 7, "category_id": 1, "segmentation": {"size": [8, 9], "counts": [72]}, "iscrowd": 1},
            {
                "image_id": 7,
                "category_id": 1,
                "segmentation": {"size": [8, 9], "counts": [8, 64]},
                "iscrowd": 0,
            },
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    masks, areas = Annotations.read(path).instances("a/b/c.jpg")
    assert areas == [15.5, 64]
    assert coco_mask.area(masks).tolist() == [16, 64]
    with pytest.raises(UsageError, match=r"no photo c\.jpg"):
        Annotations.read(path).instances("c.jpg")


@pytest.mark.parametrize("content", ["no json", "[]", "{}", '{"images": [], "annotations": [{}]}'])
def test_files_without_instances_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"instances\.json (holds no COCO instances|is no JSON file)"):
        Annotations.read(path)
    with pytest.raises(UsageError, match=r"cannot read .*not-there\.json"):
        Annotations.read(tmp_path / "not-there.json")
