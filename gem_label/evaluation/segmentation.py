"""Semantic segmentation: similarity to label maps, and mIoU (GEM paper, section 4.1).

A photo is seen with a short side of 448; per patch each class has the cosine of its best phrasing; these maps are
resized bilinearly to the label map's size, where each pixel takes its best class. With a background class, pixels
whose softmax over the classes stays below 0.85 are background.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from gem_label.errors import UsageError
from gem_label.evaluation.datasets import IGNORE, SegmentationDataset
from gem_label.masks import MaskSet
from gem_label.predictors import ClassMasks, DenseModel, MaskModel

BACKGROUND_THRESHOLD = 0.85  # for PASCAL VOC with background (GEM paper, section 4.1)
ELEMENTS_AT_A_TIME = 1 << 24


class ConfusionMatrix:
    """Pixels by true and predicted class, added up image by image.

    Args:
        classes: C; a predicted class of C means "no class", which is always wrong.

    Example:
        Six pixels, one of them ignored: class 0 is right twice and missed once, class 1 right once and once too much,
        the other pixel is called no class at all.

        >>> confusion = ConfusionMatrix(2)
        >>> confusion.add(np.array([0, 0, 0, 1, 1, 255]), np.array([0, 0, 1, 1, 2, 0]))
        >>> confusion.counts.tolist()
        [[2, 1, 0], [0, 1, 1]]
        >>> confusion.ious().round(3).tolist(), round(confusion.miou(), 3), confusion.accuracy()
        ([0.667, 0.333], 0.5, 0.6)
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts = np.zeros((classes, classes + 1), np.int64)

    def add(self, truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> None:
        """Add pixels; those whose truth is 255 are ignored.

        Raises:
            ValueError: the two have different shapes.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"truth is {truth.shape}, prediction {predicted.shape}")
        asked = truth != IGNORE
        pairs = truth[asked].astype(np.int64) * (self.classes + 1) + predicted[asked]
        self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)

    def ious(self) -> NDArray[np.float64]:
        """(C,) IoU of each class, NaN for a class that is neither true nor predicted anywhere."""
        hit = np.diagonal(self.counts).astype(np.float64)
        union = self.counts.sum(axis=1) + self.counts[:, :-1].sum(axis=0) - hit
        return np.divide(hit, union, out=np.full(self.classes, np.nan), where=union > 0)

    def miou(self) -> float:
        """Mean IoU over the classes that are true or predicted anywhere; 0 without any."""
        ious = self.ious()
        return float(np.nanmean(ious)) if not np.isnan(ious).all() else 0.0

    def accuracy(self) -> float:
        """Share of pixels whose class is right."""
        return float(np.trace(self.counts) / max(1, self.counts.sum()))


def best_phrasing(similarity: Tensor, sizes: Sequence[int]) -> Tensor:
    """Similarity of classes from that of their phrasings: (P, h, w) -> (C, h, w), the largest of each class.

    Args:
        similarity: of P phrases, class by class.
        sizes: how many phrases each of the C classes has.

    Example:
        >>> best_phrasing(torch.tensor([[[0.1]], [[0.5]], [[0.3]]]), [2, 1]).flatten().tolist()
        [0.5, 0.30000001192092896]
    """
    return torch.stack([part.amax(dim=0) for part in similarity.split(list(sizes))])


def predict_labels(
    similarity: Tensor, size: tuple[int, int], logit_scale: float = 1.0, background: float | None = None
) -> NDArray[np.uint8]:
    """Class of each pixel.

    The maps are resized bilinearly (align_corners=False) to the size, some rows at a time: ADE20K has photos where
    all maps at once would take gigabytes.

    Args:
        similarity: (C, h, w) float32, C < 255.
        size: (H, W) of the result.
        logit_scale: factor on similarities ahead of the softmax.
        background: share in [0, 1] that the best class must have of the softmax; below it the pixel is background,
            class 0, and the C classes count from 1. None: no background.

    Returns:
        (H, W) class indices.

    Example:
        Two patches, two pixels wide: like class 0 on the left, like class 1 on the right, unsure in the second row.

        >>> maps = torch.tensor([[[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.4]]])
        >>> predict_labels(maps, (2, 2)).tolist()
        [[0, 1], [0, 0]]
        >>> predict_labels(maps, (2, 2), logit_scale=10, background=0.85).tolist()
        [[1, 2], [0, 0]]
    """
    classes, h, w = similarity.shape
    height, width = size
    left, right, across = _between(width, w, similarity.device)
    columns = torch.lerp(similarity[..., left], similarity[..., right], across)
    top, bottom, down = _between(height, h, similarity.device)
    labels = np.empty(size, np.uint8)
    step = max(1, ELEMENTS_AT_A_TIME // (classes * width))
    for start in range(0, height, step):
        rows = slice(start, start + step)
        maps = torch.lerp(columns[:, top[rows]], columns[:, bottom[rows]], down[rows, None])
        best, found = maps.max(dim=0)
        if background is not None:
            share = 1 / torch.exp(logit_scale * (maps - best)).sum(dim=0)
            found = torch.where(share >= background, found + 1, 0)
        labels[rows] = found.cpu().numpy()
    return labels


def _between(length: int, patches: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `length` pixel centers the patches on both sides, and how far along it lies between them."""
    at = ((torch.arange(length, device=device) + 0.5) * (patches / length) - 0.5).clamp(0, patches - 1)
    low = at.floor().long()
    return low, (low + 1).clamp(max=patches - 1), at - low


def paint_masks(found: ClassMasks, sizes: Sequence[int]) -> NDArray[np.uint8]:
    """Class of each pixel from masks: that of the best scored mask over it, C where there is none.

    Args:
        found: masks with scores of P phrases.
        sizes: how many phrases each of the C classes has.
    """
    owner = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.full((found.masks.height, found.masks.width), len(sizes), np.uint8)
    best = np.full(labels.shape, -np.inf, np.float32)
    scores = np.where(found.belongs, found.scores, -np.inf)
    for mask, row in zip(found.masks, scores, strict=True):
        phrase = int(row.argmax())
        over = mask & (row[phrase] > best)
        labels[over], best[over] = owner[phrase], row[phrase]
    return labels


def correct_labels(labels: NDArray[np.uint8], masks: MaskSet) -> NDArray[np.uint8]:
    """CorrCLIP's map correction: all pixels of a mask get the class that most of them have.

    Where masks overlap a pixel belongs to the largest, as in the authors' code.

    Args:
        labels: (H, W) class indices.
        masks: of the photo, which may have another size: regions are resized to the label map.

    Returns:
        (H, W); pixels under no mask stay as they are, and of classes that are equally frequent the first wins.
    """
    regions = np.zeros((masks.height, masks.width), np.int32)
    for number in np.argsort(masks.areas, kind="stable"):
        regions[masks.decode(int(number))] = number + 1
    if regions.shape != labels.shape:
        size = (labels.shape[1], labels.shape[0])
        regions = cv2.resize(regions, size, interpolation=cv2.INTER_NEAREST).astype(np.int32)
    classes = int(labels.max(initial=0)) + 1
    counts = np.bincount((regions * classes + labels).ravel(), minlength=(len(masks) + 1) * classes)
    most = counts.reshape(-1, classes).argmax(axis=1).astype(np.uint8)
    return np.where(regions > 0, most[regions], labels)


@dataclass(frozen=True)
class SegmentationSettings:
    """How label maps are predicted.

    Attributes:
        phrasings: "first" gives each class its plain name alone, as the papers do; "all" all phrasings.
        background_threshold: see `predict_labels`; for datasets with a background class.
        background_words: what the background class is called; none: it is what no class reaches the threshold for.
    """

    phrasings: Literal["first", "all"] = "first"
    background_threshold: float = BACKGROUND_THRESHOLD
    background_words: tuple[str, ...] = ()


def predict_image(
    model: DenseModel | MaskModel,
    image: NDArray[np.uint8],
    size: tuple[int, int],
    phrasings: Sequence[Sequence[str]],
    background: float | None = None,
) -> NDArray[np.uint8]:
    """Label map of one photo.

    Args:
        model: dense, or of masks.
        image: (H', W', 3) uint8 RGB.
        size: (H, W) of the label map.
        phrasings: of the C classes.
        background: as in `predict_labels`; of masks' label maps any number means that pixels without a mask are
            background.

    Returns:
        (H, W) class indices; pixels under no mask are class C when there is no background.
    """
    texts = [phrase for phrases in phrasings for phrase in phrases]
    sizes = [len(phrases) for phrases in phrasings]
    if not isinstance(model, MaskModel):
        with torch.no_grad():
            similarity = model.similarity(model.preprocess(image)[None], texts)[0].float()
            return predict_labels(best_phrasing(similarity, sizes), size, model.logit_scale, background)
    labels = paint_masks(model.label(image, texts), sizes)
    if background is not None:
        labels = np.where(labels == len(sizes), 0, labels + 1).astype(np.uint8)
    if labels.shape != size:
        labels = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    return labels


def evaluate_segmentation(
    dataset: SegmentationDataset,
    model: DenseModel | MaskModel,
    settings: SegmentationSettings | None = None,
    limit: int | None = None,
    progress: bool = True,
    propose: Callable[[NDArray[np.uint8]], MaskSet] | None = None,
) -> dict[str, Any]:
    """mIoU over a dataset, one image in memory at a time.

    Args:
        dataset: photos and label maps.
        model: dense, or of masks.
        settings: None: the defaults.
        limit: only so many images, from the first.
        progress: a bar on stderr.
        propose: masks of a photo, for `correct_labels`; None: label maps stay as they are.

    Returns:
        The result as JSON.

    Raises:
        UsageError: background words for a dataset without a background class.
    """
    settings = settings or SegmentationSettings()
    keep = 1 if settings.phrasings == "first" else None
    phrasings = [phrases[:keep] for phrases in dataset.phrasings]
    background = settings.background_threshold if dataset.background else None
    if settings.background_words:
        if not dataset.background:
            raise UsageError(f"{dataset.name} has no background class: leave out background words")
        phrasings, background = [settings.background_words, *phrasings], None
    confusion = ConfusionMatrix(len(dataset.names))
    count = min(len(dataset), limit or len(dataset))
    seconds = 0.0
    for index in tqdm(range(count), unit="photo", disable=not progress):
        image, truth = dataset.read(index)
        started = time.monotonic()
        predicted = predict_image(model, image, (truth.shape[0], truth.shape[1]), phrasings, background)
        if settings.background_words:  # what lies under no mask
            predicted[predicted == len(phrasings)] = 0
        if propose is not None:
            predicted = correct_labels(predicted, propose(image))
        seconds += time.monotonic() - started
        confusion.add(truth, predicted)
    ious, pixels = confusion.ious(), confusion.counts.sum(axis=1)
    return {
        "evaluation": "segmentation",
        "dataset": dataset.name,
        "split": dataset.split,
        "images": count,
        "settings": {
            "model": model.describe(),
            "phrasings": settings.phrasings,
            "background_threshold": background,
            **({"background_words": list(settings.background_words)} if settings.background_words else {}),
            **({} if propose is None else {"map_correction": True}),
        },
        "miou": confusion.miou(),
        "accuracy": confusion.accuracy(),
        "seconds_per_image": seconds / count,
        "per_class": [
            {"name": name, "iou": None if np.isnan(iou) else float(iou), "pixels": int(number)}
            for name, iou, number in zip(dataset.names, ious, pixels, strict=True)
        ],
    }
