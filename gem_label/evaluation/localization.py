"""Localization properties of patch features (GEM supplement, section D), per layer.

Visual distinctiveness: are the patches of one object alike, and unlike the rest? Vision-language alignment: are they
closer to the object's name than the rest is? All measures take unit-length features, so that products are cosines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from gem_label.evaluation.datasets import IGNORE, SegmentationDataset
from gem_label.evaluation.predictors import EncoderModel
from gem_label.masks import area_weights

INSIDE = 0.5  # a patch belongs to a mask that covers at least this share of it
# the photo, the objects' masks (K, H, W) bool, and the objects' words
AnnotatedPhoto = tuple[NDArray[np.uint8], NDArray[np.bool_], list[str]]


def patch_patch_similarity(features: Tensor) -> float:
    """Mean cosine of any two different patches, S_pp (section D.1).

    Args:
        features: (n, d) of unit length, n > 1.

    Example:
        Two equal patches and one at a right angle to them: of three pairs one has cosine 1.

        >>> round(patch_patch_similarity(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])), 4)
        0.3333
    """
    n = len(features)
    # the sum over all pairs is the squared length of the sum; each patch's product with itself is not asked
    return float((features.sum(dim=0).square().sum() - features.square().sum()) / (n * (n - 1)))


def contrast(inside: Tensor, outside: Tensor) -> Tensor:
    """Michelson contrast (a - b) / (a + b) in [-1, 1]; NaN where both are 0 (equation 10)."""
    return (inside - outside) / (inside + outside)


def object_background_contrast(features: Tensor, inside: Tensor) -> Tensor:
    """How much more alike an object's patches are to each other than to the rest, C^M (equations 9 and 10).

    Args:
        features: (n, d) of unit length.
        inside: (K, n) bool, the patches of K objects.

    Returns:
        (K,) in [-1, 1]; NaN for an object of fewer than 2 patches or of all.

    Example:
        The first two patches are the object and equal to each other; the third has cosine 0.6 with both:
        (1 - 0.6) / (1 + 0.6).

        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]])
        >>> round(object_background_contrast(features, torch.tensor([[True, True, False]])).item(), 4)
        0.25
    """
    alike = (features @ features.T).clamp(min=0)
    masks = inside.to(features.dtype)
    m = masks.sum(dim=1)
    towards = masks @ alike  # (K, n): summed over the object's patches
    own = (towards * masks).sum(dim=1) - masks @ alike.diagonal()
    other = (towards * (1 - masks)).sum(dim=1)
    return contrast(own / (m * (m - 1)), other / (m * (len(features) - m)))


def text_object_background_contrast(similarity: Tensor, inside: Tensor) -> Tensor:
    """How much closer an object's patches are to its name than the rest is, TC^M (equation 11).

    Args:
        similarity: (K, n) cosines of each patch with each object's name.
        inside: (K, n) bool, the patches of K objects.

    Returns:
        (K,) in [-1, 1]; NaN for an object of no patch or of all, or when no patch is at all like the name.

    Example:
        >>> similarity = torch.tensor([[0.3, 0.1, 0.1, -0.5]])
        >>> text_object_background_contrast(similarity, torch.tensor([[True, True, False, False]])).round(decimals=4)
        tensor([0.6000])
    """
    positive, masks = similarity.clamp(min=0), inside.to(similarity.dtype)
    m = masks.sum(dim=1)
    own = (positive * masks).sum(dim=1) / m
    other = (positive * (1 - masks)).sum(dim=1) / (inside.shape[1] - m)
    return contrast(own, other)


def patches_inside(masks: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Patches of which each mask covers half or more: (K, H, W) -> (K, h, w)."""
    rows, columns = area_weights(masks.shape[1], grid[0]), area_weights(masks.shape[2], grid[1])
    return rows @ masks.astype(np.float32) @ columns.T >= INSIDE - 1e-6


@dataclass(frozen=True)
class LayerProperties:
    """Averages of one layer; None without any object.

    Attributes:
        layer: from 1, the first block.
        patch_patch_similarity: mean over photos.
        object_background_contrast: mean over objects.
        text_object_background_contrast: mean over objects.
    """

    layer: int
    patch_patch_similarity: float
    object_background_contrast: float | None
    text_object_background_contrast: float | None


class _Mean:
    """A running mean that leaves NaN out."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, values: Tensor) -> None:
        values = values[~values.isnan()]
        self.total += float(values.sum())
        self.count += len(values)

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


def layer_properties(
    model: EncoderModel, photos: Iterable[AnnotatedPhoto], count: int | None = None, progress: bool = True
) -> tuple[list[LayerProperties], int]:
    """The three measures after every block of a dense model, as if it were the last.

    Args:
        model: the dense model; photos are taken whole.
        photos: photo, masks of its objects, their words.
        count: how many photos there are, for the progress bar.
        progress: a bar on stderr.

    Returns:
        The layers' averages, first to last, and the number of objects that have a contrast.
    """
    layers = [(_Mean(), _Mean(), _Mean()) for _ in range(model.dense.tower.num_blocks)]
    for image, masks, words in tqdm(photos, total=count, unit="photo", disable=not progress):
        stacked = model.dense.encode_layers(model.preprocess(image)[None])[:, 0]
        grid = (stacked.shape[1], stacked.shape[2])
        inside = torch.from_numpy(patches_inside(masks, grid)).flatten(1).to(stacked.device)
        text = torch.from_numpy(model.dense.text.encode(words)).to(stacked)
        for features, (pairs, objects, texts) in zip(stacked.flatten(1, 2), layers, strict=True):
            pairs.add(torch.tensor([patch_patch_similarity(features)]))
            objects.add(object_background_contrast(features, inside))
            texts.add(text_object_background_contrast(text @ features.T, inside))
    rows = [
        LayerProperties(i + 1, float(pairs.value or 0.0), objects.value, texts.value)
        for i, (pairs, objects, texts) in enumerate(layers)
    ]
    return rows, layers[-1][1].count


def dataset_objects(dataset: SegmentationDataset, limit: int | None = None) -> Iterator[AnnotatedPhoto]:
    """The objects of a segmentation dataset: each class's region, cut into things where VOC has object maps."""
    first = int(dataset.background)
    for index in range(min(len(dataset), limit or len(dataset))):
        image, truth = dataset.read(index)
        things = _things(dataset, index)
        masks: list[NDArray[np.bool_]] = []
        words: list[str] = []
        for c in np.unique(truth[truth != IGNORE]):
            if c < first:
                continue
            region = truth == c
            parts = (
                [region] if things is None else [region & (things == t) for t in np.unique(things[region])]
            )
            masks.extend(parts)
            words.extend([dataset.phrasings[c - first][0]] * len(parts))
        if masks:
            yield image, np.stack(masks), words


def _things(dataset: SegmentationDataset, index: int) -> NDArray[np.integer] | None:
    """VOC's map of single objects beside the label map, if there is one."""
    label = dataset.samples[index][1]
    path = label.parent.parent / "SegmentationObject" / label.name
    if not (label.parent.name == "SegmentationClass" and path.is_file()):
        return None
    with Image.open(path) as image:
        return np.asarray(image)


def evaluate_localization(
    dataset: SegmentationDataset, model: EncoderModel, limit: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """The measures over a dataset, as JSON."""
    count = min(len(dataset), limit or len(dataset))
    rows, objects = layer_properties(model, dataset_objects(dataset, limit), count, progress)
    return {
        "evaluation": "localization",
        "dataset": dataset.name,
        "split": dataset.split,
        "images": count,
        "objects": objects,
        "settings": {"model": model.describe()},
        "layers": [asdict(row) for row in rows],
    }
