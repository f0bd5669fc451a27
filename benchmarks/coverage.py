"""How well proposals cover annotated instances: ours and segment-anything's generator, in one run.

The folder holds photos in data/ and COCO instances in instances.json. Both sides use the same weights, the same
grid and the same thresholds; crowd regions are left out.

    python benchmarks/coverage.py --data shared/data/coco16 --points-per-side 32

Printed per side: mean over instances of the best IoU that any mask reaches; AR, recall averaged over IoU
thresholds 0.5:0.05:0.95 with one mask per instance, classes ignored, at most 1000 masks a photo (COCO's AR@1000);
R@0.5, recall at the first of these thresholds; masks and seconds per photo.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from segment_anything import SamAutomaticMaskGenerator
from tqdm import tqdm

from gem_label.sam import ProposalSettings, load_sam, propose_masks

# What proposes: an image (H, W, 3) uint8 -> its masks as compressed RLEs, and their scores.
Proposer = Callable[[NDArray[np.uint8]], tuple[list[dict], list[float]]]


@dataclass
class Coverage:
    """What one side found: COCO results of every photo, the best IoU of every instance, seconds in all."""

    results: list[dict] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    seconds: float = 0.0


def main() -> None:
    """Parse the command line, run both sides photo by photo, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with data/ and instances.json")
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--sam", default="mobile_sam", help="a name, or a checkpoint file")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--photos", type=int, help="only the first so many photos")
    parser.add_argument("--json", type=Path, help="write the numbers into this file too")
    arguments = parser.parse_args()

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress on stdout
        truth = COCO(str(arguments.data / "instances.json"))
    photos = truth.loadImgs(sorted(truth.getImgIds()))[: arguments.photos]
    sides = {side: Coverage() for side in ("gem-label exact", "SamAutomaticMaskGenerator")}
    proposers = _proposers(arguments.sam, arguments.device, arguments.points_per_side)
    for photo in tqdm(photos, unit="photo"):
        pixels = np.asarray(Image.open(arguments.data / "data" / photo["file_name"]).convert("RGB"))
        instances = truth.loadAnns(truth.getAnnIds(imgIds=photo["id"], iscrowd=False))
        for coverage, propose in zip(sides.values(), proposers, strict=True):
            started = time.perf_counter()
            rles, scores = propose(pixels)
            coverage.seconds += time.perf_counter() - started
            coverage.best += _best_iou([truth.annToRLE(instance) for instance in instances], rles)
            coverage.results += [
                {"image_id": photo["id"], "category_id": 1, "segmentation": rle, "score": score}
                for rle, score in zip(rles, scores, strict=True)
            ]

    numbers = {side: _summary(truth, photos, coverage) for side, coverage in sides.items()}
    instances = len(sides["gem-label exact"].best)
    grid = f"{arguments.points_per_side} x {arguments.points_per_side} points"
    print(f"{len(photos)} photos, {instances} instances, {arguments.sam}, {grid}")
    _print_table(numbers)
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=2))


def _print_table(numbers: dict[str, dict[str, float]]) -> None:
    print(f"{'':26}{'mean best IoU':>15}{'AR 0.5:0.95':>13}{'R@0.5':>8}{'masks/photo':>13}{'s/photo':>9}")
    for side, row in numbers.items():
        print(
            f"{side:26}{row['mean_best_iou']:15.4f}{row['ar']:13.4f}{row['recall_50']:8.4f}"
            f"{row['masks_per_photo']:13.1f}{row['seconds_per_photo']:9.1f}"
        )


def _proposers(name: str, device: str, points_per_side: int) -> tuple[Proposer, Proposer]:
    sam = load_sam(name, device)
    settings = ProposalSettings(points_per_side=points_per_side)
    generator = SamAutomaticMaskGenerator(sam.model, points_per_side=points_per_side, output_mode="coco_rle")

    def ours(pixels: NDArray[np.uint8]) -> tuple[list[dict], list[float]]:
        masks = propose_masks(sam, pixels, settings)
        return masks.rles, masks.predicted_iou.tolist()

    def theirs(pixels: NDArray[np.uint8]) -> tuple[list[dict], list[float]]:
        records = generator.generate(pixels)
        return [r["segmentation"] for r in records], [r["predicted_iou"] for r in records]

    return ours, theirs


def _best_iou(instances: list[dict], masks: list[dict]) -> list[float]:
    """Per instance the highest IoU with any mask; 0 where there is none."""
    if not instances or not masks:
        return [0.0] * len(instances)
    return np.asarray(coco_mask.iou(instances, masks, [0] * len(masks))).max(axis=1).tolist()


def _summary(truth: COCO, photos: list[dict], coverage: Coverage) -> dict[str, float]:
    recall = np.zeros(10)
    if coverage.results:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(truth, truth.loadRes(coverage.results), "segm")
            evaluation.params.imgIds = [photo["id"] for photo in photos]
            evaluation.params.useCats = 0
            evaluation.params.maxDets = [1000]
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
            evaluation.evaluate()
            evaluation.accumulate()
        recall = evaluation.eval["recall"][:, 0, 0, 0]
    return {
        "mean_best_iou": float(np.mean(coverage.best)),
        "ar": float(recall.mean()),
        "recall_50": float(recall[0]),
        "masks_per_photo": len(coverage.results) / len(photos),
        "seconds_per_photo": coverage.seconds / len(photos),
    }


if __name__ == "__main__":
    main()
