"""SAM: our proposals are the automatic mask generator's, our MobileSAM is its authors', memory is bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from sam_fixture import RememberingEncoder
from segment_anything import SamAutomaticMaskGenerator, sam_model_registry
from segment_anything.utils.amg import build_all_layer_point_grids, generate_crop_boxes
from segment_anything.utils.transforms import ResizeLongestSide
from torch.nn import functional

from gem_label.errors import GemLabelError, ImageError, UsageError
from gem_label.masks import MaskSet, encode_mask
from gem_label.sam import ProposalSettings, Sam, load_sam, mask_runs, propose_masks, upsample
from gem_label.sam.models import checkpoint_kind
from gem_label.sam.prompts import crop_prompts
from gem_label.weights import WEIGHTS, pull_weights

Photos = dict[str, NDArray[np.uint8]]
# so low that many masks pass, of which suppression then has to choose
LENIENT = {"pred_iou_thresh": 0.6, "stability_score_thresh": 0.7, "points_per_batch": 4}


@pytest.fixture(scope="module")
def mobile_sam() -> Sam:
    pull_weights("mobile_sam", progress=False)
    return load_sam("mobile_sam")


@pytest.fixture(scope="module")
def quick_sam(mobile_sam: Sam) -> Sam:
    """MobileSAM that does not encode an image twice, as the encoder takes most of these tests' time."""
    sam = load_sam("mobile_sam")
    sam.model.image_encoder = RememberingEncoder(sam.model.image_encoder)
    return sam


def assert_same_masks(ours: MaskSet, theirs: list[dict], photo: NDArray[np.uint8]) -> None:
    """Matched one to one with IoU >= 0.99, and with the same scores and prompts."""
    assert (ours.height, ours.width) == photo.shape[:2]
    assert len(ours) == len(theirs)
    iou = coco_mask.iou(ours.rles, [record["segmentation"] for record in theirs], [0] * len(theirs))
    match = iou.argmax(axis=1)
    assert sorted(match) == list(range(len(theirs)))
    assert iou.max(axis=1).min() >= 0.99
    matched = [theirs[i] for i in match]
    np.testing.assert_allclose(ours.predicted_iou, [r["predicted_iou"] for r in matched], atol=1e-4)
    np.testing.assert_allclose(ours.stability, [r["stability_score"] for r in matched], atol=1e-3)
    np.testing.assert_allclose(ours.points, [r["point_coords"][0] for r in matched], atol=1e-3)
    # the generator's boxes leave out the last row and column of pixels: x1 - x0 of inclusive edges
    np.testing.assert_allclose(ours.boxes - [0, 0, 1, 1], [r["bbox"] for r in matched], atol=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "at_least"),
    [
        ("astronaut", {"points_per_side": 7}, 20),
        ("chelsea", {"points_per_side": 5, "min_mask_region_area": 300}, 8),
        ("coffee", {"points_per_side": 4, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2}, 10),
    ],
    ids=["grid", "small_regions", "crops"],
)
def test_proposals_are_those_of_the_automatic_mask_generator(
    quick_sam: Sam, photos: Photos, name: str, settings: dict, at_least: int
) -> None:
    photo = photos[name]
    generator = SamAutomaticMaskGenerator(quick_sam.model, output_mode="coco_rle", **LENIENT, **settings)
    theirs = generator.generate(photo)
    encoded = len(quick_sam.model.image_encoder.seen)
    ours = propose_masks(quick_sam, photo, ProposalSettings(**LENIENT, **settings))
    assert len(quick_sam.model.image_encoder.seen) == encoded  # we fed the encoder the very same pixels
    assert len(theirs) >= at_least
    assert_same_masks(ours, theirs, photo)


@pytest.mark.slow
def test_the_batch_of_prompts_changes_nothing_and_calls_repeat(quick_sam: Sam, photos: Photos) -> None:
    photo = photos["chelsea"][::2, ::2]  # smaller than the model's input, and not contiguous
    settings = ProposalSettings(points_per_side=2, pred_iou_thresh=0.6, stability_score_thresh=0.7)
    one, two, again = (
        propose_masks(quick_sam, photo, replace(settings, points_per_batch=batch))
        for batch in (None, 3, None)
    )
    assert one.counts == again.counts
    assert len(one) == len(two) > 0
    assert np.diag(coco_mask.iou(one.rles, two.rles, [0] * len(two))).min() > 0.99


@pytest.mark.slow
def test_a_photo_without_masks(quick_sam: Sam, photos: Photos) -> None:
    settings = ProposalSettings(points_per_side=1, stability_score_thresh=1.0, min_mask_region_area=10)
    masks = propose_masks(quick_sam, photos["chelsea"], settings)
    assert len(masks) == 0
    assert (masks.height, masks.width) == photos["chelsea"].shape[:2]
    assert masks.points.shape == (0, 2)


@pytest.mark.slow
def test_a_batch_of_prompts_of_which_none_passes(quick_sam: Sam, photos: Photos) -> None:
    """SAM's own estimate is never this high, so every batch is empty before anything is upsampled."""
    masks = propose_masks(
        quick_sam, photos["chelsea"], ProposalSettings(points_per_side=2, pred_iou_thresh=1.0)
    )
    assert len(masks) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_image_features_are_those_of_the_authors_mobile_sam(
    quick_sam: Sam, photos: Photos, name: str
) -> None:
    pixels = torch.as_tensor(ResizeLongestSide(1024).apply_image(photos[name])).permute(2, 0, 1)[None]
    with torch.no_grad():
        features = quick_sam.model.image_encoder(quick_sam.model.preprocess(pixels))[0]
    assert features.shape == (256, 64, 64)
    with np.load(Path(__file__).parent / "fixtures" / "mobile_sam_embedding.npz") as expected:
        np.testing.assert_allclose(features[::8, ::8, ::8].numpy(), expected[name], atol=1e-4)


# Peak memory is a property of a process, so the large photo has one of its own. All masks pass: 27 of them,
# whose full-size logits would take 1.3 GB and whose booleans 0.3 GB.
LARGE_PHOTO = """
import resource
import numpy as np
import torch
from PIL import Image
from gem_label.sam import ProposalSettings, load_sam, propose_masks

torch.set_num_threads(1)
sam = load_sam("mobile_sam")
noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
all_pass = ProposalSettings(
    points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1, points_per_batch=3
)
small, large = (np.array(Image.fromarray(noise).resize(size)) for size in ((400, 300), (4000, 3000)))
propose_masks(sam, small, all_pass)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
masks = propose_masks(sam, large, all_pass)
print(len(masks), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_stays_bounded_for_twelve_megapixels(mobile_sam: Sam) -> None:
    done = subprocess.run([sys.executable, "-c", LARGE_PHOTO], capture_output=True, text=True, check=True)
    count, growth = (int(word) for word in done.stdout.split())
    kilobyte = 1 if sys.platform != "darwin" else 1024
    assert count == 27
    assert growth / kilobyte < 200_000  # three copies of the photo and a strip of one mask


def smooth_logits(seed: int, size: tuple[int, int]) -> torch.Tensor:
    """Blobs like SAM's: some cut off by the border, some with holes."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 1, 7, 7, generator=random) * 8 - 2
    return functional.interpolate(coarse, size, mode="bicubic", align_corners=False)[0, 0]


@pytest.mark.parametrize("target", [(97, 130), (33, 20), (64, 48), (200, 1), (1, 1), (640, 333)])
def test_interpolation_is_that_of_torch(target: tuple[int, int]) -> None:
    logits = smooth_logits(0, (64, 48))
    expected = functional.interpolate(logits[None, None], target, mode="bilinear", align_corners=False)[0, 0]
    rows, columns = (upsample.resize_matrix(n, [(m, m)]) for n, m in zip(logits.shape, target, strict=True))
    y, x = slice(target[0] // 3, target[0]), slice(0, target[1])
    found = upsample.interpolate(logits, rows, columns, y, x)
    torch.testing.assert_close(found, expected[y, x].T, atol=1e-5, rtol=0)


def test_resizing_twice_is_what_sam_does_after_decoding(quick_sam: Sam) -> None:
    """`postprocess_masks`: to the model's square input, without its padding, to the photo."""
    logits, resized, size = smooth_logits(3, (256, 256)), (683, 1024), (427, 640)
    expected = quick_sam.model.postprocess_masks(logits[None, None], resized, size)[0, 0]
    rows, columns = (
        upsample.resize_matrix(256, [(1024, kept), (n, n)]) for kept, n in zip(resized, size, strict=True)
    )
    assert (rows.reach, columns.reach) == (172, 256)
    found = upsample.interpolate(logits[:172], rows, columns, slice(0, 427), slice(0, 640))
    torch.testing.assert_close(found, expected.T, atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("target", [(97, 130), (33, 20), (150, 400)])
@pytest.mark.parametrize("strip", [1 << 20, 500], ids=["whole", "strips"])
def test_outline_is_the_upsampled_mask(
    monkeypatch: pytest.MonkeyPatch, seed: int, target: tuple[int, int], strip: int
) -> None:
    """Against the plain way: upsample the whole crop, threshold, put it into the photo, encode."""
    monkeypatch.setattr(mask_runs, "_STRIP_PIXELS", strip)
    logits, (top, left) = smooth_logits(seed, (64, 48)), (5, 11) if seed % 2 else (0, 0)
    height, width = target[0] + 2 * top, target[1] + left
    rows, columns = (
        upsample.resize_matrix(64, [(target[0],) * 2]),
        upsample.resize_matrix(48, [(target[1],) * 2]),
    )
    frame = mask_runs.Frame(rows, columns, (top, left), height, cutoff=0.0, offset=1.0)
    found = mask_runs.find_mask_runs(logits, frame)

    full = functional.interpolate(logits[None, None], target, mode="bilinear", align_corners=False)[0, 0]
    mask = np.zeros((height, width), bool)
    mask[top : top + target[0], left : left + target[1]] = (full > 0).numpy()
    assert mask.any()
    y, x = np.nonzero(mask)
    assert mask_runs.encode_runs(found.positions, height, width) == encode_mask(mask)
    assert found.box == (x.min(), y.min(), x.max(), y.max())
    assert found.stability == pytest.approx(float((full > 1).sum() / (full > -1).sum()))


@pytest.mark.parametrize("value", [-5.0, 5.0, 0.0])
def test_outline_of_constant_logits(value: float) -> None:
    """Nothing, everything, and a mask that is there at the lower cutoff alone."""
    axis = upsample.resize_matrix(16, [(40, 40)])
    frame = mask_runs.Frame(axis, axis, (0, 0), 40, 0.0, 1.0)
    found = mask_runs.find_mask_runs(torch.full((16, 16), value), frame)
    everything = value > 1
    assert mask_runs.encode_runs(found.positions, 40, 40) == encode_mask(np.full((40, 40), everything))
    assert found.box == ((0, 0, 39, 39) if everything else (0, 0, 0, 0))
    assert found.stability == float(everything)


@pytest.mark.parametrize("at_once", [1 << 27, 3 * 97 * 130])
def test_outlines_together_are_those_one_by_one(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Eight masks, an empty one and a full one among them, of a crop inside a photo, all or three at a time."""
    monkeypatch.setattr(mask_runs, "_PIXELS_TOGETHER", at_once)
    logits = torch.stack([smooth_logits(seed, (64, 48)) for seed in range(8)])
    logits[2], logits[5] = -5, 5
    rows, columns = (upsample.resize_matrix(n, [(m, m)]) for n, m in ((80, 97), (48, 130)))
    reached = upsample.ResizeMatrix(rows.weights[:77], rows.first[:77], rows.last[:77])
    frame = mask_runs.Frame(reached, columns, (9, 4), 120, cutoff=0.0, offset=1.0)
    together = list(mask_runs.iter_mask_runs_together(logits, frame))
    assert len(together) == 8
    for mask, found in zip(logits, together, strict=True):
        alone = mask_runs.find_mask_runs(mask, frame)
        assert np.array_equal(found.positions, alone.positions)
        assert (found.box, found.stability) == (alone.box, alone.stability)


def test_prompts_are_those_of_the_automatic_mask_generator() -> None:
    crops = crop_prompts(
        480, 641, points_per_side=8, crop_n_layers=2, crop_overlap_ratio=0.3, crop_n_points_downscale_factor=2
    )
    boxes, layers = generate_crop_boxes((480, 641), 2, 0.3)
    grids = build_all_layer_point_grids(8, 2, 2)
    assert [list(crop.box) for crop in crops] == boxes
    for crop, layer in zip(crops, layers, strict=True):
        np.testing.assert_allclose(crop.points, grids[layer] * [crop.width, crop.height])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "fast"}, "exact"),
        ({"mode": "wild"}, "wild"),
        ({"points_per_side": 0}, "points_per_side"),
        ({"points_per_batch": 0}, "points_per_batch"),
        ({"crop_n_layers": -1}, "crop_n_layers"),
        ({"points_per_side": 2.5}, "points_per_side must be a whole number from 1, not 2.5"),
        ({"points_per_side": True}, "points_per_side"),
        ({"pred_iou_thresh": 1.01}, "pred_iou_thresh must be a number between 0 and 1, not 1.01"),
        ({"stability_score_thresh": float("nan")}, "stability_score_thresh"),
        ({"stability_score_offset": -1}, "stability_score_offset must be a number from 0, not -1"),
        ({"stability_score_offset": float("inf")}, "stability_score_offset"),
        ({"box_nms_thresh": -0.1}, "box_nms_thresh"),
        ({"crop_nms_thresh": "0.7"}, "crop_nms_thresh must be a number between 0 and 1, not '0.7'"),
        ({"crop_overlap_ratio": 2}, "crop_overlap_ratio"),
        ({"min_mask_region_area": -1}, "min_mask_region_area"),
        ({"points_per_side": 2, "crop_n_layers": 2, "crop_n_points_downscale_factor": 2}, "crop layer 2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ProposalSettings(**settings)


@pytest.mark.parametrize(("shape", "dtype"), [((8, 8), "u1"), ((8, 8, 3), "f4"), ((8, 8, 4), "u1")])
def test_only_rgb_bytes_are_taken(mobile_sam: Sam, shape: tuple[int, ...], dtype: str) -> None:
    image = np.zeros(shape, dtype)
    with pytest.raises(ValueError, match="uint8"):
        propose_masks(mobile_sam, image)


def test_a_photo_as_thin_as_a_line_is_refused(mobile_sam: Sam) -> None:
    with pytest.raises(ImageError, match="3000 x 1 pixels"):
        propose_masks(mobile_sam, np.zeros((1, 3000, 3), np.uint8))


def test_mobile_sam_says_what_it_is(mobile_sam: Sam) -> None:
    assert mobile_sam.name == "mobile_sam"
    assert mobile_sam.weights_sha256 == WEIGHTS["mobile_sam"].sha256
    assert mobile_sam.device == torch.device("cpu")
    assert not mobile_sam.model.training


def test_mobile_sam_loads_from_a_path_and_strictly(mobile_sam: Sam, tmp_path: Path) -> None:
    published = pull_weights("mobile_sam", progress=False)
    copy = tmp_path / "renamed.bin"
    weights = torch.load(published, weights_only=True)
    torch.save(weights, copy)
    loaded = load_sam(copy)
    assert loaded.name == "mobile_sam"
    expected = mobile_sam.model.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.model.state_dict().items())
    torch.save({**weights, "image_encoder.layers.3.extra": torch.zeros(1)}, copy)
    with pytest.raises(GemLabelError, match=r"does not fit.*stages\.3\.extra"):
        load_sam(copy)
    del weights["image_encoder.layers.1.blocks.0.attn.qkv.weight"]
    torch.save(weights, copy)
    with pytest.raises(GemLabelError, match=r"does not fit.*stages\.1\.blocks\.0\.attn\.qkv\.weight"):
        load_sam(copy)


@pytest.mark.slow
def test_vit_b_loads_from_a_checkpoint_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = sam_model_registry["vit_b"]()
    path = tmp_path / "my_finetuned_sam.pth"
    torch.save(original.state_dict(), path)
    sam = load_sam(path)
    assert sam.name == "vit_b"
    assert len(sam.weights_sha256) == 64
    expected = original.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in sam.model.state_dict().items())


@pytest.mark.parametrize(("width", "kind"), [(768, "vit_b"), (1024, "vit_l"), (1280, "vit_h"), (77, None)])
def test_the_kind_of_a_checkpoint_is_seen_from_its_width(width: int, kind: str | None) -> None:
    assert checkpoint_kind({"image_encoder.pos_embed": torch.zeros(1, 1, 1, width)}) == kind


class RunsWhenUnpickled:
    """What a malicious checkpoint holds."""

    def __reduce__(self) -> tuple:
        return os.mkdir, (os.environ["GEM_LABEL_TEST_MARK"],)


def test_files_that_are_no_checkpoints_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    monkeypatch.setenv("GEM_LABEL_TEST_MARK", str(mark))
    torch.save({"image_encoder.pos_embed": RunsWhenUnpickled()}, tmp_path / "code.pt")
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("not weights at all")
    (tmp_path / "empty.pt").touch()
    whole = (tmp_path / "other.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    for name in ("code", "other", "list", "text", "empty", "cut"):
        with pytest.raises(GemLabelError, match=f"{name}\\.pt") as error:
            load_sam(tmp_path / f"{name}.pt")
        assert "\n" not in str(error.value)
    assert not mark.exists()


def test_an_unknown_name_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="vit_h"):
        load_sam("sam_42")
