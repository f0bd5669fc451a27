"""Heat maps: where a photo is like a word (the figures of the GEM paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Scaling = Literal["word", "photo"]


def scale_maps(similarity: NDArray[np.float32], scaling: Scaling = "word") -> NDArray[np.float32]:
    """Similarities in [0, 1].

    Args:
        similarity: (C, h, w) cosines of patches with C words.
        scaling: "word" stretches each map from its least to its greatest value, as the paper's figures and its point
            evaluation do, so that a word that is nowhere has a warm place too; "photo" stretches all maps by one
            range, so that words can be compared.

    Returns:
        (C, h, w); 0 where a map is flat.
    """
    axes = (1, 2) if scaling == "word" else None
    low, high = (bound(similarity, axis=axes, keepdims=True) for bound in (np.min, np.max))
    return ((similarity - low) / np.maximum(high - low, np.finfo(np.float32).tiny)).astype(np.float32)


def draw_heatmap(
    image: NDArray[np.uint8], scaled: NDArray[np.float32], opacity: float = 0.55
) -> NDArray[np.uint8]:
    """A photo under one heat map.

    Args:
        image: (H, W, 3) uint8 RGB.
        scaled: (h, w) in [0, 1], resized bilinearly to the photo.
        opacity: of the colors (turbo: blue is low, red is high), in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    large = cv2.resize(scaled, (width, height), interpolation=cv2.INTER_LINEAR)
    levels = np.clip(large * 255, 0, 255).round().astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.addWeighted(image, 1 - opacity, colors, opacity, 0), np.uint8)


def draw_heatmaps(
    image: NDArray[np.uint8],
    similarity: NDArray[np.float32],
    words: Sequence[str],
    scaling: Scaling = "word",
) -> list[tuple[NDArray[np.uint8], str]]:
    """The photo and its heat map for each word, with captions, for `contact_sheet`.

    Args:
        image: (H, W, 3) uint8 RGB.
        similarity: (C, h, w) cosines of patches with C words.
        words: the C words.
        scaling: see `scale_maps`.

    Returns:
        C + 1 pictures with a line of text each: the word and its greatest cosine.
    """
    pictures = [(image, "photo")]
    for word, cosines, scaled in zip(words, similarity, scale_maps(similarity, scaling), strict=True):
        pictures.append((draw_heatmap(image, scaled), f"{word} (up to {cosines.max():.3f})"))
    return pictures
