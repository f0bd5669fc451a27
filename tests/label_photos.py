"""Photos with labels and annotations to measure: a worked example, and random ones with slow measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.masks import encode_mask
from gem_label.metrics.labels import PhotoLabels

CLASSES = ("cat", "dog", "cup")
SIZE = 20
Rectangle = Sequence[int]  # x, y, width, height


def pixels(rectangle: Rectangle, size: int = SIZE) -> NDArray[np.bool_]:
    x, y, width, height = rectangle
    mask = np.zeros((size, size), bool)
    mask[y : y + height, x : x + width] = True
    return mask


def rle(rectangle: Rectangle, size: int = SIZE) -> dict[str, Any]:
    return {"size": [size, size], "counts": encode_mask(pixels(rectangle, size))}


def decoded(mask: dict) -> NDArray[np.bool_]:
    return coco_mask.decode([mask])[:, :, 0].astype(bool)


def photo(
    labels: Sequence[tuple[str, float, Rectangle]],
    truths: Sequence[tuple[str, Rectangle, bool]],
    threshold: float = 0.4,
) -> PhotoLabels:
    """A photo of (word, score, rectangle) and (word, rectangle, crowd)."""
    scores = np.array([score for _, score, _ in labels], float)
    return PhotoLabels(
        "photo",
        [rle(rectangle) for *_, rectangle in labels],
        np.array([CLASSES.index(word) for word, *_ in labels], int),
        scores,
        scores >= threshold,
        [rle(rectangle) for _, rectangle, _ in truths],
        np.array([CLASSES.index(word) for word, *_ in truths], int),
        np.array([crowd for *_, crowd in truths], bool),
    )


# Photo 1: a cat (area 100) and a dog (area 100).
#   A cat 0.9, 9 x 9 of the cat: IoU 81/100, right
#   B cat 0.6, all of the cat: IoU 1, a duplicate
#   C cat 0.5, 5 x 4 inside the cat: IoU 20/100, badly outlined
#   D cat 0.7, 90 of the dog's 100 pixels: IoU 0.9, the wrong word
#   E dog 0.3, all of the dog: right, but below the threshold 0.4
# Photo 2: a dog without a label, and a crowd of cats (area 200).
#   F cat 0.8, inside the crowd: ignored
#   G cup 0.45, on nothing: background
# Photo 3: empty, no label.
WORKED = (
    photo(
        [("cat", 0.9, (0, 0, 9, 9)), ("cat", 0.6, (0, 0, 10, 10)), ("cat", 0.5, (0, 0, 5, 4)),
         ("cat", 0.7, (10, 10, 10, 9)), ("dog", 0.3, (10, 10, 10, 10))],
        [("cat", (0, 0, 10, 10), False), ("dog", (10, 10, 10, 10), False)],
    ),
    photo(
        [("cat", 0.8, (12, 0, 4, 10)), ("cup", 0.45, (0, 12, 5, 5))],
        [("dog", (0, 0, 10, 10), False), ("cat", (10, 0, 10, 20), True)],
    ),
    photo([], []),
)  # fmt: skip


def random_photos(seed: int, count: int = 6, crowds: bool = True) -> list[PhotoLabels]:
    """Photos whose labels lie near their instances; some scores are equal."""
    random = np.random.default_rng(seed)
    photos = []
    for _ in range(count):
        truths = random.integers(1, 10, (random.integers(0, 5), 4))
        words = random.integers(0, 3, len(truths))
        labels, names = random.integers(1, 10, (random.integers(0, 8), 4)), random.integers(0, 3, 8)
        for i in range(len(labels)):
            if len(truths) and random.random() < 0.8:
                j = random.integers(len(truths))
                labels[i] = np.clip(truths[j] + random.integers(-1, 2, 4) * (random.random() < 0.7), 1, None)
                names[i] = words[j] if random.random() < 0.7 else names[i]
        photos.append(
            photo(
                [
                    (CLASSES[names[i]], float(random.integers(0, 21) / 20), labels[i])
                    for i in range(len(labels))
                ],
                [
                    (CLASSES[w], t, bool(crowds and random.random() < 0.2))
                    for w, t in zip(words, truths, strict=True)
                ],
            )
        )
    return photos


def slow_iou(a: dict, b: dict, crowd: bool) -> float:
    one, other = (decoded(mask) for mask in (a, b))
    common = int((one & other).sum())
    return common / (int(one.sum()) if crowd else int((one | other).sum()))


def slow_matching(each: PhotoLabels, threshold: float) -> tuple[dict[int, int], set[int]]:
    """Label to instance, and the ignored labels, of labels with at least this score."""
    classes, scores = np.asarray(each.classes), np.asarray(each.scores)
    true_classes, crowd = np.asarray(each.true_classes), np.asarray(each.crowd)
    pairs: dict[int, int] = {}
    ignored = set()
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if scores[i] < threshold:
            continue
        best, best_iou = None, 0.5
        for j in range(len(crowd)):
            if true_classes[j] == classes[i] and not crowd[j] and j not in pairs.values():
                iou = slow_iou(each.masks[i], each.true_masks[j], False)
                if iou >= best_iou:
                    best, best_iou = j, iou
        if best is not None:
            pairs[i] = best
        elif any(
            crowd[j]
            and true_classes[j] == classes[i]
            and slow_iou(each.masks[i], each.true_masks[j], True) >= 0.5
            for j in range(len(crowd))
        ):
            ignored.add(i)
    return pairs, ignored


def coco_files(photos: Sequence[PhotoLabels]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same photos as a COCO instances file and a results list."""
    annotations, results = [], []
    for number, each in enumerate(photos, start=1):
        rows = zip(each.true_masks, np.asarray(each.true_classes), np.asarray(each.crowd), strict=True)
        for mask, label_class, crowd in rows:
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": int(label_class) + 1,
                "segmentation": plain(mask), "area": float(coco_mask.area(mask)), "iscrowd": int(crowd),
                "bbox": coco_mask.toBbox(mask).tolist(),
            })  # fmt: skip
        results += [
            {
                "image_id": number,
                "category_id": int(c) + 1,
                "segmentation": plain(mask),
                "score": float(score),
            }
            for mask, c, score in zip(
                each.masks, np.asarray(each.classes), np.asarray(each.scores), strict=True
            )
        ]
    images = [
        {"id": number, "file_name": f"{number}.jpg", "width": SIZE, "height": SIZE}
        for number in range(1, len(photos) + 1)
    ]
    categories = [{"id": k, "name": name} for k, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def plain(mask: dict) -> dict[str, Any]:
    return {"size": mask["size"], "counts": mask["counts"].decode("ascii")}
