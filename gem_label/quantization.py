"""Vectors as 8-bit integers with a scale each: what a run stores of its embeddings (numpy only)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 127


def quantize(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """The nearest integers to each vector divided by its scale, the largest of them 127.

    Quantizing what `dequantize` gives changes nothing: a scale has 11 significant bits and a code 7, so that their
    product is exact in float32.

    Args:
        vectors: (N, d) finite numbers.

    Returns:
        (N, d) codes in [-127, 127] and (N,) scales; a vector of zeros has the scale 0.

    Example:
        >>> codes, scales = quantize(np.array([[0.5, -1.0]], np.float32))
        >>> codes.tolist(), dequantize(codes, scales).round(2).tolist()
        ([[64, -127]], [[0.5, -1.0]])
    """
    largest = np.abs(vectors).max(axis=1, initial=0.0)
    scales = (largest / LARGEST).astype(np.float16)
    divisor = np.where(scales > 0, scales, 1).astype(np.float32)
    codes = np.rint(vectors / divisor[:, None])
    np.clip(codes, -LARGEST, LARGEST, out=codes)
    codes[scales == 0] = 0
    return codes.astype(np.int8), scales


def dequantize(codes: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.float32]:
    """(N, d) float32 from (N, d) codes and (N,) scales."""
    return codes.astype(np.float32) * scales.astype(np.float32)[:, None]


def round_to_codes(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, d) vectors as they come back from a run."""
    return dequantize(*quantize(vectors))
