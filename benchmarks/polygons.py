"""Polygons of masks: their size, the time they take, and what they keep of the masks.

    python benchmarks/polygons.py --annotations shared/data/coco16/instances.json
    python benchmarks/polygons.py --run RUN
    python benchmarks/polygons.py --ragged 1000

Prints a Markdown table. Time is CPU time of one thread (set OMP_NUM_THREADS=1), in the mask's box. Bytes are those of
the JSON text of all coordinates. IoU is of the mask with what pycocotools draws, and for one polygon a mask also with
what cv2.fillPoly draws from whole coordinates, as ultralytics does.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from gem_label.formats.outlines.polygons import Outline, mask_polygons, outline, single_outline
from gem_label.runs import open_run

Mask = NDArray[np.bool_]
TOLERANCES = (0.0, 0.5, 1.0, 1.5, 2.0)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--annotations", type=Path, help="masks of a COCO instances file")
    source.add_argument("--run", type=Path, help="masks of a run")
    source.add_argument("--ragged", type=int, metavar="SIDE", help="drawn masks with the most borders")
    arguments = parser.parse_args()
    if arguments.ragged:
        _print_ragged(arguments.ragged)
    else:
        masks = [
            _crop(mask)
            for mask in (
                _annotated(arguments.annotations) if arguments.annotations else _found(arguments.run)
            )
            if mask.any()
        ]
        _print_real(masks)


def _annotated(path: Path) -> Iterator[Mask]:
    coco = COCO(str(path))
    return (coco.annToMask(annotation).astype(bool) for annotation in coco.anns.values())


def _found(path: Path) -> Iterator[Mask]:
    return (mask for _, masks, _ in open_run(path).photo_masks() for mask in masks)


def _crop(mask: Mask) -> Mask:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return mask[y : y + height, x : x + width].copy()


def _print_real(masks: list[Mask]) -> None:
    print(f"{len(masks)} masks, {np.mean([mask.sum() for mask in masks]):.0f} pixels on average\n")
    print(
        "| outlines | tolerance | polygons | corners | bytes | ms | mean IoU | lowest | mean IoU, fillPoly |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    _print_row("exact", "", masks, _exact)
    makers: tuple[tuple[str, Callable[..., Outline]], ...] = (
        ("bridges", outline),
        ("cut", _cut),
        ("one polygon", single_outline),
    )
    for name, make in makers:
        for tolerance in TOLERANCES:
            _print_row(name, f"{tolerance:g}", masks, partial(make, tolerance=tolerance))


def _exact(mask: Mask) -> Outline:
    return Outline([polygon.astype(np.float64) for polygon in mask_polygons(mask)], 1.0)


def _cut(mask: Mask, tolerance: float) -> Outline:
    return outline(mask, tolerance, holes="cut")


def _print_row(name: str, tolerance: str, masks: list[Mask], make: Callable[[Mask], Outline]) -> None:
    started = time.process_time()
    outlines = [make(mask) for mask in masks]
    milliseconds = (time.process_time() - started) / len(masks) * 1000
    texts = [json.dumps([_numbers(each) for each in found.polygons]) for found in outlines]
    ious = [found.iou for found in outlines]
    filled = [_filled_iou(found, mask) for found, mask in zip(outlines, masks, strict=True)]
    print(
        f"| {name} | {tolerance} | {np.mean([len(found.polygons) for found in outlines]):.2f} "
        f"| {np.mean([sum(map(len, found.polygons)) for found in outlines]):.1f} "
        f"| {np.mean([len(text) for text in texts]):.0f} | {milliseconds:.1f} "
        f"| {np.mean(ious):.3f} | {min(ious):.3f} "
        f"| {f'{np.mean(filled):.3f}' if name == 'one polygon' else ''} |"
    )


def _numbers(polygon: NDArray[np.float64]) -> list[int | float]:
    return [int(value) if value.is_integer() else value for value in polygon.ravel().tolist()]


def _filled_iou(found: Outline, mask: Mask) -> float:
    mask = np.pad(mask, ((0, 1), (0, 1)))  # it adds the pixels right of and below the box
    drawn = np.zeros(mask.shape, np.uint8)
    for polygon in found.polygons:
        cv2.fillPoly(drawn, [polygon.astype(np.int32)], 1)
    return float((mask & (drawn > 0)).sum() / (mask | (drawn > 0)).sum())


def _print_ragged(side: int) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    kinds = {
        "noise, half of it": rng.random((side, side)) < 0.5,
        "noise, 70%": rng.random((side, side)) < 0.7,
        "checkerboard": (x + y) % 2 == 0,
        "comb": (x % 2 == 0) | (y == 0),
        "a hole in every 9 pixels": (x % 3 != 1) | (y % 3 != 1),
    }
    makers: dict[str, Callable[[Mask], object]] = {
        "exact": mask_polygons,
        "bridges, 0 px": lambda mask: outline(mask, 0),
        "bridges, 1 px": lambda mask: outline(mask, 1),
        "one polygon, 1 px": lambda mask: single_outline(mask, 1),
    }
    print("| mask | " + " | ".join(f"{name}, s" for name in makers) + " |")
    print("|---|" + "--:|" * len(makers))
    for name, mask in kinds.items():
        seconds = []
        for make in makers.values():
            started = time.process_time()
            make(mask)
            seconds.append(f"{time.process_time() - started:.1f}")
        print(f"| {name} | " + " | ".join(seconds) + " |")


if __name__ == "__main__":
    main()
