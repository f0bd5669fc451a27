"""SAM's masks of photos, kept in a folder from one benchmark run to the next."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gem_label.masks import MaskSet
from gem_label.photos.reading import read_image
from gem_label.sam import FastSettings, load_sam, propose_masks
from gem_label.weights import file_sha256


def propose_cached(paths: Sequence[Path], sam: str, cache: Path | None) -> list[MaskSet]:
    """SAM's masks of each photo, fast and as it comes; from the cache where it has them."""
    model, settings, masks = load_sam(sam), FastSettings(), []
    made_by = json.dumps([model.name, model.weights_sha256, asdict(settings)])
    for path in tqdm(paths, unit="photo", desc="masks"):
        key = hashlib.sha256((made_by + file_sha256(path)).encode()).hexdigest()[:16]
        kept = None if cache is None else cache / f"{path.stem}-{key}.npz"
        if kept is not None and kept.is_file():
            masks.append(_load(kept))
            continue
        masks.append(propose_masks(model, read_image(path), settings))
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            _save(kept, masks[-1])
    return masks


def _save(path: Path, masks: MaskSet) -> None:
    np.savez_compressed(
        path,
        size=np.array([masks.height, masks.width]),
        counts=np.array(masks.counts, np.bytes_),
        predicted_iou=masks.predicted_iou,
        stability=masks.stability,
        points=masks.points,
    )


def _load(path: Path) -> MaskSet:
    with np.load(path) as data:
        height, width = data["size"].tolist()
        counts = tuple(data["counts"].tolist())
        return MaskSet(height, width, counts, data["predicted_iou"], data["stability"], data["points"])
