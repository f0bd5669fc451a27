"""`exact` proposals against segment-anything's generator: CPU time, peak memory, and whether the masks are the same.

    python benchmarks/exact.py --data shared/data/coco16 --photos 2 --repeats 3

Both sides run in one process with the same weights, grid and thresholds, alternating photo by photo and repeat by
repeat; their ratio is taken per pair of runs. CPU time is that of all threads. Peak memory is measured in a process
for each side, on the first photo. All of it is done twice, with malloc as installed and with malloc told to keep what
it has freed (glibc; on other systems both are the same), since page faults otherwise take much of the generator's
time. The folder holds photos in data/; any photos will do.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from segment_anything import SamAutomaticMaskGenerator
from tqdm import tqdm

from gem_label.sam import ProposalSettings, load_sam, propose_masks

Photo = NDArray[np.uint8]
Proposer = Callable[[Photo], list[dict]]

_KEEPING = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}
_MALLOC = {"malloc tuned": _KEEPING, "malloc as installed": {}}
_SIDES = ("gem-label exact", "SamAutomaticMaskGenerator")


def main() -> None:
    """Parse the command line; measure in processes of their own, or be one of these."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with photos in data/")
    parser.add_argument("--photos", type=int, default=2, help="how many, the first by name")
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sam", default="mobile_sam", help="a name, or a checkpoint file")
    parser.add_argument("--malloc", choices=[*_MALLOC, "both"], default="both")
    parser.add_argument("--json", type=Path, help="write the numbers into this file too")
    parser.add_argument("--part", choices=["time", *_SIDES], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part == "time":
        print(json.dumps(_compare(arguments)))
    elif arguments.part:
        print(json.dumps(_peak_memory(arguments)))
    else:
        names = list(_MALLOC) if arguments.malloc == "both" else [arguments.malloc]
        numbers = {name: _measure(name) for name in names}
        for name, found in numbers.items():
            _print(name, found)
        if arguments.json:
            arguments.json.write_text(json.dumps(numbers, indent=2))


def _measure(malloc: str) -> dict:
    """Everything under one malloc setting, each part in a process of its own with this process's arguments."""
    environment = {key: value for key, value in os.environ.items() if key not in _KEEPING} | _MALLOC[malloc]

    def part(name: str) -> dict:
        command = [sys.executable, *sys.argv, "--part", name]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout)

    return {**part("time"), "memory": {side: part(side) for side in _SIDES}}


def _compare(arguments: argparse.Namespace) -> dict:
    proposers = _proposers(arguments.sam, arguments.points_per_side)
    photos = _photos(arguments)
    seconds: dict[str, list[float]] = {side: [] for side in _SIDES}
    agreement = []
    runs = [(repeat, photo) for repeat in range(arguments.repeats) for photo in photos]
    for index, (repeat, photo) in enumerate(tqdm(runs, unit="pair")):
        found = {}
        for side in _SIDES if index % 2 else reversed(_SIDES):
            started = time.process_time()
            found[side] = proposers[side](photo)
            seconds[side].append(time.process_time() - started)
        if repeat == 0:
            agreement.append(_agreement(*(found[side] for side in _SIDES)))
    return {"threads": torch.get_num_threads(), "seconds": seconds, "agreement": agreement}


def _peak_memory(arguments: argparse.Namespace) -> dict:
    """Peak resident memory in MiB of this process, before and after one photo."""
    propose = _proposers(arguments.sam, arguments.points_per_side)[arguments.part]
    photo = _photos(arguments)[0]
    before = _peak_mib()
    propose(photo)
    return {"loaded": before, "peak": _peak_mib()}


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _photos(arguments: argparse.Namespace) -> list[Photo]:
    paths = sorted((arguments.data / "data").iterdir())[: arguments.photos]
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def _proposers(name: str, points_per_side: int) -> dict[str, Proposer]:
    sam = load_sam(name)
    settings = ProposalSettings(points_per_side=points_per_side)
    generator = SamAutomaticMaskGenerator(sam.model, points_per_side=points_per_side, output_mode="coco_rle")
    ours, theirs = _SIDES
    return {
        ours: lambda photo: propose_masks(sam, photo, settings).rles,
        theirs: lambda photo: [record["segmentation"] for record in generator.generate(photo)],
    }


def _agreement(ours: list[dict], theirs: list[dict]) -> dict:
    """Numbers of masks, how many of ours are matched one to one with IoU >= 0.99, and the lowest best IoU."""
    if not ours or not theirs:
        return {"ours": len(ours), "theirs": len(theirs), "matched": 0, "lowest": 0.0}
    iou = np.asarray(coco_mask.iou(ours, theirs, [0] * len(theirs)))
    best = iou.argmax(axis=1)
    matched = len({int(mask) for mask, value in zip(best, iou.max(axis=1), strict=True) if value >= 0.99})
    lowest = min(iou.max(axis=0).min(), iou.max(axis=1).min())
    return {"ours": len(ours), "theirs": len(theirs), "matched": matched, "lowest": float(lowest)}


def _print(malloc: str, numbers: dict) -> None:
    print(f"{malloc}, {numbers['threads']} thread(s)")
    print(f"  {'':26}{'CPU s/photo':>12}{'lowest':>9}{'highest':>9}{'peak MiB':>10}{'of it loaded':>14}")
    for side in _SIDES:
        seconds, memory = numbers["seconds"][side], numbers["memory"][side]
        print(
            f"  {side:26}{statistics.median(seconds):12.2f}{min(seconds):9.2f}{max(seconds):9.2f}"
            f"{memory['peak']:10.0f}{memory['loaded']:14.0f}"
        )
    ratios = [
        theirs / ours for ours, theirs in zip(*(numbers["seconds"][side] for side in _SIDES), strict=True)
    ]
    print(
        f"  the generator takes {statistics.median(ratios):.2f} x our CPU time "
        f"({min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} pairs of runs)"
    )
    for photo, found in enumerate(numbers["agreement"]):
        print(
            f"  photo {photo}: {found['ours']} masks, the generator's {found['theirs']}, {found['matched']} the same "
            f"(IoU >= 0.99 one to one), lowest IoU {found['lowest']:.4f}"
        )


if __name__ == "__main__":
    main()
