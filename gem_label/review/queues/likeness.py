"""Masks that look alike beside each other: a pure function on embeddings and margins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering

Indices = NDArray[np.int64]


def arrange_pages(embeddings: NDArray[np.float32], margins: NDArray[np.float64], size: int) -> list[Indices]:
    """Divide masks into pages of like ones.

    The masks are clustered by the angles between their embeddings (average linkage). The leaves of that tree are cut
    into pages of equal length, and on each page the order is the one with the smallest sum of distances between
    neighbors that the tree allows.

    Args:
        embeddings: (N, d) of any length; of up to some thousand masks, because time and memory grow with N².
        margins: (N,) between the two best classes of each mask; small ones are in doubt.
        size: masks of a page at most.

    Returns:
        Pages of indices, the page with the smallest mean margin first; each begins with the end of its order that is
        more in doubt.
    """
    count = len(embeddings)
    distances = _distances(embeddings)
    order = leaves_list(linkage(distances, "average")) if count > 1 else np.arange(count)
    pages = [_like_beside_like(page, embeddings) for page in split_evenly(order, size)]
    pages = [page if _begins_in_doubt(margins[page]) else page[::-1] for page in pages]
    return doubt_first(pages, margins)


def split_evenly(order: Indices, size: int) -> list[Indices]:
    """As few parts of at most `size` as it takes, which differ by one in length; none of an empty order."""
    return np.array_split(order, -(-len(order) // size)) if len(order) else []


def doubt_first(pages: Sequence[Indices], margins: NDArray[np.float64]) -> list[Indices]:
    """Pages by the mean margin of their masks, the smallest first."""
    return sorted(pages, key=lambda page: float(margins[page].mean()))


def _like_beside_like(page: Indices, embeddings: NDArray[np.float32]) -> Indices:
    if len(page) < 3:
        return page
    distances = _distances(embeddings[page])
    tree = optimal_leaf_ordering(linkage(distances, "average"), distances)
    return page[leaves_list(tree)]


def _begins_in_doubt(margins: NDArray[np.float64]) -> bool:
    half = len(margins) // 2
    return not half or bool(margins[:half].mean() <= margins[-half:].mean())


def _distances(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N (N - 1) / 2,) distances in [0, 2] between embeddings of unit length, as scipy has them: row by row."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    units = embeddings / np.where(lengths > 0, lengths, 1.0)
    first, second = np.triu_indices(len(units), 1)
    cosines = (units @ units.T)[first, second].astype(np.float64)
    return np.sqrt(np.maximum(2.0 - 2.0 * cosines, 0.0))
