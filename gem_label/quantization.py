"""Vectors as 8-bit integers with a scale each: what a run stores of its embeddings (numpy only).

The embedding of a surround is like that of its mask, so a run stores the difference of both, which needs fewer bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 127

DIFFERENCE_LEVELS = 45
"""Largest code of a difference: labels are the same as with 127, and codes compress to fewer bytes."""

_FINEST = 64
"""A difference has at least this part of the scale of its base, so that float32 holds their sum."""


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


def quantize_differences(
    vectors: NDArray[np.float32], bases: NDArray[np.float32]
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """The codes and scales of vectors minus their bases, for `add_differences`.

    Quantizing what `add_differences` gives changes nothing.

    Args:
        vectors: (N, d) finite numbers.
        bases: (N, d) as `dequantize` gives them.

    Returns:
        (N, d) codes in [-45, 45] and (N,) scales. A vector of zeros has the scale 0, all others a higher one.
    """
    differences = vectors - bases
    largest = np.abs(differences).max(axis=1, initial=0.0) * np.float32(LARGEST / DIFFERENCE_LEVELS)
    least = np.abs(bases).max(axis=1, initial=0.0) / np.float32(_FINEST)
    scales = np.maximum(largest, np.maximum(least, np.finfo(np.float16).tiny)).astype(np.float16)
    codes = np.rint(differences * (LARGEST / scales.astype(np.float32))[:, None])
    codes = np.clip(codes, -DIFFERENCE_LEVELS, DIFFERENCE_LEVELS, out=codes).astype(np.int8)
    empty = ~vectors.any(axis=1)
    codes[empty], scales[empty] = 0, 0
    return codes, scales


def add_differences(
    codes: NDArray[np.int8], scales: NDArray[np.float16], bases: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(N, d) float32 vectors from (N, d) codes and (N,) scales of their differences to (N, d) bases.

    Vectors with the scale 0 are zeros.
    """
    vectors = dequantize(codes, scales)
    vectors += bases
    vectors[scales == 0] = 0
    return vectors


def round_differences(vectors: NDArray[np.float32], bases: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, d) vectors as they come back from a run that stores their differences to (N, d) rounded bases."""
    return add_differences(*quantize_differences(vectors, bases), bases)
