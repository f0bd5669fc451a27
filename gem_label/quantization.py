"""Vectors as 8-bit integers with a scale each: what a run stores of its embeddings (numpy only)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 127


def quantize(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """The nearest integers to each vector times 127 over its scale, which is its largest absolute value.

    Quantizing what `dequantize` gives changes nothing: its largest value is the scale up to float32's last bit, which
    rounding to half precision takes off.

    Args:
        vectors: (N, d) finite numbers.

    Returns:
        (N, d) codes in [-127, 127] and (N,) scales. A vector of zeros has the scale 0, and so has one without a value
        above 6.1e-5, where half precision loses digits.

    Example:
        >>> codes, scales = quantize(np.array([[0.5, -1.0]], np.float32))
        >>> codes.tolist(), scales.tolist(), dequantize(codes, scales).round(2).tolist()
        ([[64, -127]], [1.0], [[0.5, -1.0]])
    """
    scales = np.abs(vectors).max(axis=1, initial=0.0).astype(np.float16)
    scales[scales < np.finfo(np.float16).tiny] = 0
    factors = np.divide(
        LARGEST, scales, out=np.zeros(len(scales), np.float32), where=scales > 0, dtype=np.float32
    )
    codes = np.rint(vectors * factors[:, None])
    return np.clip(codes, -LARGEST, LARGEST, out=codes).astype(np.int8), scales


def dequantize(codes: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.float32]:
    """(N, d) float32 from (N, d) codes and (N,) scales."""
    return codes * (scales.astype(np.float32) / np.float32(LARGEST))[:, None]


def round_to_codes(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, d) vectors as they come back from a run."""
    return dequantize(*quantize(vectors))
