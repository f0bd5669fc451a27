"""Mask proposals: our `exact` and `fast`, and segment-anything's generator, in one run.

    python benchmarks/proposals.py --data shared/data/coco16 --json proposals.json --plot proposals.png
    python benchmarks/proposals.py --render 12 --clip demo --sides exact fast

The folder has photos in data/ and COCO instances in instances.json; without --data it is the package's scenes, or
freshly rendered ones. All sides use the same weights. Printed per side, with malloc told to keep what it has freed
(--malloc installed: without; page faults then take much of the generator's time):

- recall of the instances by any mask: mean best IoU, AR (IoU 0.5:0.05:0.95, one mask per instance, at most 1000 masks
  a photo), R@0.5, and AR by COCO's sizes; crowd regions are left out;
- with --clip: p-mIoU of GEM-SAM over labels/points.csv, averaged over image-class pairs, both rules;
- masks and CPU seconds per photo (of all threads, so that a busy machine matters less), and how many times faster
  than the generator: the median over photos and repeats of the ratio on one photo, sides taking turns on it. The
  generator is slow: --peer-photos N has it look at the first N photos alone, and its recall is left out then;
- peak memory of a process that does one photo, and how much of it was there before the photo.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from segment_anything import SamAutomaticMaskGenerator
from tqdm import tqdm

from gem_label.bench import Annotations
from gem_label.demo import demo_folder
from gem_label.errors import UsageError
from gem_label.evaluation.results import text_table
from gem_label.masks import MaskSet
from gem_label.metrics.coverage import Coverage, coverage_by_size, overlap
from gem_label.metrics.points import AssignmentRule
from gem_label.precision import Precision
from gem_label.sam import FastSettings, ProposalSettings, load_sam, propose_masks

Photo = NDArray[np.uint8]
Proposer = Callable[[Photo], MaskSet]

PEER = "SamAutomaticMaskGenerator"
SIDES = ("exact", "fast:64", "fast:128", "fast", "fast:256", "fast:384")
RULES: tuple[AssignmentRule, ...] = ("threshold", "argmax")
_KEEPING = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}


def main() -> None:
    """Parse the command line; measure in processes of their own, or be one of these."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with data/ and instances.json")
    parser.add_argument("--render", type=int, metavar="N", help="render so many scenes instead")
    parser.add_argument("--photos", type=int, help="only the first so many photos")
    parser.add_argument("--sides", nargs="*", default=SIDES, help="of ours: exact, fast, fast:MAX_PROMPTS")
    parser.add_argument("--points-per-side", type=int, default=32, help="of the generator and of exact")
    parser.add_argument("--peer-photos", type=int, help="photos for the generator; 0 leaves it out")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--sam", default="mobile_sam", help="a name, or a checkpoint file")
    parser.add_argument("--precision", type=Precision, choices=list(Precision), default=Precision.float32)
    parser.add_argument("--clip", help="measure p-mIoU of GEM-SAM too: demo, or a name as in gem-label label")
    parser.add_argument("--malloc", choices=["tuned", "installed"], default="tuned")
    parser.add_argument("--json", type=Path, help="write the numbers into this file too")
    parser.add_argument("--plot", type=Path, help="draw recall against time into this PNG")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part == "all":
        print(json.dumps(_compare(arguments)))
    elif arguments.part:
        print(json.dumps(_peak_memory(arguments)))
    else:
        numbers = _measure(arguments)
        print(_table(numbers))
        if arguments.json:
            arguments.json.write_text(json.dumps(numbers, indent=2) + "\n")
        if arguments.plot:
            draw_plot(numbers, arguments.plot)


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time and quality in one process, memory in one per side, all with this process's arguments."""
    environment = {key: value for key, value in os.environ.items() if key not in _KEEPING}
    environment |= _KEEPING if arguments.malloc == "tuned" else {}
    with tempfile.TemporaryDirectory() as folder:
        given = sys.argv
        if arguments.render:
            _render(arguments.render, Path(folder))
            given = [*sys.argv, "--data", folder]

        def part(name: str) -> dict[str, Any]:
            command = [sys.executable, *given, "--part", name]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            return json.loads(done.stdout)

        numbers = part("all")
        for side in numbers["sides"]:
            numbers["sides"][side]["memory"] = part(side)
    return numbers


def _render(count: int, folder: Path) -> None:
    from gem_label.demo.dataset import write_dataset
    from gem_label.demo.sprites import load_sprites
    from gem_label.demo.truth import held_out_scenes

    book = load_sprites()
    write_dataset(held_out_scenes(book, count), book.nouns, folder)


def _compare(arguments: argparse.Namespace) -> dict[str, Any]:
    annotations, proposers = Annotations.read(_folder(arguments) / "instances.json"), _proposers(arguments)
    photos = _photos(arguments)
    gem_sam = _GemSam(arguments.clip, arguments.precision, _folder(arguments)) if arguments.clip else None
    seconds: dict[str, list[list[float]]] = {side: [] for side in proposers}
    overlaps: dict[str, list] = {side: [] for side in proposers}
    masks: dict[str, list[int]] = {side: [] for side in proposers}
    for number, path in enumerate(tqdm(photos, unit="photo")):
        pixels = _read(path)
        asked = [
            side
            for side in proposers
            if side != PEER or arguments.peer_photos is None or number < arguments.peer_photos
        ]
        for side in asked:
            seconds[side].append([])
        for repeat in range(arguments.repeats):
            for side in asked if (number + repeat) % 2 else reversed(asked):
                started = time.process_time()
                found = proposers[side](pixels)
                seconds[side][-1].append(time.process_time() - started)
                if repeat == 0:
                    instances, areas = annotations.instances(path.name)
                    overlaps[side].append(overlap(found.rles, found.predicted_iou, instances, areas))
                    masks[side].append(len(found))
                    if gem_sam:
                        gem_sam.add(side, path.stem, pixels, found)
    peer = seconds.get(PEER, [])
    return {
        "photos": len(photos),
        "threads": torch.get_num_threads(),
        "malloc": arguments.malloc,
        "points_per_side": arguments.points_per_side,
        "sides": {
            side: {
                "coverage": {size: asdict(found) for size, found in coverage_by_size(overlaps[side]).items()}
                if len(overlaps[side]) == len(photos)
                else None,
                "points": gem_sam.averages(side) if gem_sam and len(masks[side]) == len(photos) else None,
                "masks": statistics.mean(masks[side]),
                "seconds": seconds[side],
                "speed": [
                    theirs / ours
                    for ours_of, theirs_of in zip(seconds[side], peer, strict=False)
                    for ours, theirs in zip(ours_of, theirs_of, strict=True)
                ],
            }
            for side in proposers
        },
    }


class _GemSam:
    """p-mIoU of GEM-SAM for each side's masks.

    Args:
        clip: name of the CLIP model.
        precision: what it computes in.
        folder: has labels/points.csv and metadata/.
    """

    def __init__(self, clip: str, precision: Precision, folder: Path) -> None:
        from gem_label.clip.dense import DenseEncoder
        from gem_label.clip.models import load_clip
        from gem_label.evaluation.openimages import class_names, read_points
        from gem_label.evaluation.predictors import EncoderModel
        from gem_label.metrics.points import PointTotals

        points = folder / "labels" / "points.csv"
        self._table = read_points(points)
        self._names = class_names(self._table, points)
        self._model = EncoderModel(DenseEncoder(load_clip(clip, precision=precision)))
        self._totals: dict[tuple[str, str], PointTotals] = {}
        self._similarity: tuple[str, NDArray[np.float32]] = ("", np.zeros((0, 1, 1), np.float32))

    def add(self, side: str, image_id: str, pixels: Photo, masks: MaskSet) -> None:
        """Count one photo's points."""
        from gem_label.evaluation.predictors import pooled_scores, similarity_of
        from gem_label.metrics.points import PointTotals, assign_masks, mask_prediction, point_counts

        labels, points = self._table.image(self._table.index[image_id])
        if self._similarity[0] != image_id:  # the same for every side
            words = [self._names[label] for label in labels]
            self._similarity = (image_id, similarity_of(self._model, pixels, words))
        scores = pooled_scores(masks, self._similarity[1])
        for rule in RULES:
            predicted = mask_prediction(masks, assign_masks(scores, rule), points)
            totals = self._totals.setdefault((side, rule), PointTotals())
            totals.add(labels, point_counts(predicted, points, len(labels)))

    def averages(self, side: str) -> dict[str, float]:
        """p-mIoU over image-class pairs, by rule."""
        return {rule: self._totals[side, rule].averages().pairs for rule in RULES}


def _peak_memory(arguments: argparse.Namespace) -> dict[str, float]:
    """Peak resident memory in MiB of this process, before and after one photo."""
    propose, pixels = _proposers(arguments)[arguments.part], _read(_photos(arguments)[0])
    before = _peak_mib()
    propose(pixels)
    return {"loaded": before, "peak": _peak_mib()}


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _folder(arguments: argparse.Namespace) -> Path:
    return arguments.data or demo_folder()


def _photos(arguments: argparse.Namespace) -> list[Path]:
    return sorted((_folder(arguments) / "data").iterdir())[: arguments.photos]


def _read(path: Path) -> Photo:
    return np.asarray(Image.open(path).convert("RGB"))


def _proposers(arguments: argparse.Namespace) -> dict[str, Proposer]:
    sam = load_sam(arguments.sam, precision=arguments.precision)

    def ours(settings: ProposalSettings | FastSettings) -> Proposer:
        return lambda pixels: propose_masks(sam, pixels, settings)

    proposers: dict[str, Proposer] = {}
    for side in arguments.sides:
        mode, _, prompts = side.partition(":")
        if mode == "exact":
            proposers[side] = ours(ProposalSettings(points_per_side=arguments.points_per_side))
        elif mode == "fast":
            proposers[side] = ours(FastSettings(**{"max_prompts": int(prompts)} if prompts else {}))
        else:
            raise UsageError(f"unknown side {side!r}: exact, fast or fast:MAX_PROMPTS")
    if arguments.peer_photos != 0:
        generator = SamAutomaticMaskGenerator(
            sam.model, points_per_side=arguments.points_per_side, output_mode="coco_rle"
        )
        proposers[PEER] = lambda pixels: _records_to_masks(generator.generate(pixels), pixels)
    return proposers


def _records_to_masks(records: list[dict], pixels: Photo) -> MaskSet:
    return MaskSet(
        height=pixels.shape[0],
        width=pixels.shape[1],
        counts=tuple(r["segmentation"]["counts"].encode() for r in records),
        predicted_iou=np.array([r["predicted_iou"] for r in records], np.float32),
        stability=np.array([r["stability_score"] for r in records], np.float32),
        points=np.array([r["point_coords"][0] for r in records], np.float32).reshape(-1, 2),
    )


def _table(numbers: dict[str, Any]) -> str:
    first = next(iter(numbers["sides"].values()))["coverage"]
    instances = first["all"]["instances"] if first else 0
    title = (
        f"{numbers['photos']} photos, {instances} instances, grid {numbers['points_per_side']}, "
        f"malloc {numbers['malloc']}, {numbers['threads']} thread(s)"
    )
    header = ["", "best IoU", "AR", "R@0.5", "AR small", "medium", "large", "p-mIoU thr", "argmax"]
    header += ["masks", "CPU s", "faster", "(range)", "MiB", "loaded"]
    rows = []
    for side, found in numbers["sides"].items():
        every = found["coverage"] and Coverage(**found["coverage"]["all"])
        recall = (every.mean_best_iou, every.average_recall, every.recall_50) if every else (None,) * 3
        sizes = ("small", "medium", "large")
        by_size = [found["coverage"][size]["average_recall"] if every else None for size in sizes]
        points = [found["points"][rule] if found["points"] else None for rule in RULES]
        speed = found["speed"]
        rows.append(
            [side]
            + ["-" if value is None else f"{value:.3f}" for value in (*recall, *by_size, *points)]
            + [f"{found['masks']:.0f}", f"{_cpu_seconds(found):.2f}"]
            + ([f"{statistics.median(speed):.1f}", f"{min(speed):.1f}-{max(speed):.1f}"] if speed else ["-"] * 2)
            + [f"{found['memory']['peak']:.0f}", f"{found['memory']['loaded']:.0f}"]
        )  # fmt: skip
    return f"{title}\n{text_table(header, rows)}"


def _cpu_seconds(found: dict[str, Any]) -> float:
    return statistics.median(seconds for photo in found["seconds"] for seconds in photo)


def draw_plot(numbers: dict[str, Any], path: Path) -> None:
    """Recall against CPU time per photo, a line through the settings of `fast`.

    A generator that did not see all photos gets the recall of `exact`, whose masks are the same.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for axis, measure, name in zip(
        axes, ("mean_best_iou", "average_recall"), ("mean best IoU", "AR"), strict=True
    ):
        sides = {side: found for side, found in numbers["sides"].items() if found["coverage"]}
        spots = {
            side: (_cpu_seconds(found), found["coverage"]["all"][measure]) for side, found in sides.items()
        }
        if PEER in numbers["sides"] and PEER not in spots and "exact" in spots:
            spots[PEER] = _cpu_seconds(numbers["sides"][PEER]), spots["exact"][1]
        line = sorted(spot for side, spot in spots.items() if side.startswith("fast"))
        axis.plot(*zip(*line, strict=True), "o-", color="tab:blue", label="fast, by max_prompts")
        for side, (x, y) in spots.items():
            if side.startswith("fast"):
                label = str(FastSettings().max_prompts) if side == "fast" else side.partition(":")[2]
                axis.annotate(label, (x, y), textcoords="offset points", xytext=(5, -10), fontsize=8)
            else:
                axis.plot(x, y, "s" if side == "exact" else "^", label=side)
        axis.set(xscale="log", xlabel="CPU seconds per photo", ylabel=name)
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
