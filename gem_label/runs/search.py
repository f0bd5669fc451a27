"""Search by text in a run: no image, no vision model."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.checks import COUNT, check_number
from gem_label.errors import UsageError
from gem_label.runs.reader import Run
from gem_label.runs.schema import table_vectors, vector_names

SURROUND = 0.7
"""How much of the surround a search takes off a mask (docs/label-quality.md)."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A mask that a search found.

    Attributes:
        mask_id: "<image_id>#<index>".
        image: absolute path of its photo.
        image_id: the photo's id.
        similarity: (e_m - SURROUND * s_m) . t, how much more the mask is like the query than what is around it;
            e_m . t, in [-1, 1], for a mask without a surround.
        bbox: x, y, width, height in pixels.
        area: pixels.
        label: the mask's label in the run, or None.
        score: that label's probability.
    """

    mask_id: str
    image: str
    image_id: str
    similarity: float
    bbox: tuple[float, float, float, float]
    area: int
    label: str | None
    score: float


def search_columns(run: Run) -> list[str]:
    """The columns of a run that a search reads."""
    return ["mask_id", "image", "image_id", "bbox", "area", "label", "score", *vector_names(run.format)]


def search_run(run: Run, embedding: NDArray[np.floating], top: int = 50) -> list[SearchHit]:
    """The masks most similar to a text, all proposals, kept or not; reads the run once, holding `top` rows.

    Wholes rank before their parts: a part is surrounded by patches that are as similar to the text.

    Args:
        run: the run.
        embedding: (d,) or (P, d) unit-length text embeddings of the CLIP that labeled the run; of several,
            each mask counts with its best.
        top: how many masks.

    Returns:
        At most `top` hits, the most similar first.

    Raises:
        UsageError: an embedding that is empty, not finite or of another model; `top` below 1.
    """
    check_number("top", top, COUNT)
    query = np.atleast_2d(np.asarray(embedding, np.float32))
    if not query.size or not np.isfinite(query).all() or not query.any(axis=1).all():
        raise UsageError(
            "a search needs the embedding of a word or phrase, of finite numbers that are not all 0"
        )
    if query.shape[1] != run.embedding_dim:
        raise UsageError(
            f"a text embedding of length {query.shape[1]} in a run of length {run.embedding_dim}: "
            "use the CLIP model that labeled the run"
        )
    vectors = vector_names(run.format)
    best: list[
        tuple[float, int, dict[str, Any]]
    ] = []  # a heap, the worst first; the second entry breaks ties
    seen = 0
    for table in run.tables(search_columns(run)):
        masks, surrounds = table_vectors(table)
        if surrounds is not None:
            masks -= np.float32(SURROUND) * surrounds
        similarity = (masks @ query.T).max(axis=1)
        rest = table.drop_columns(vectors)
        for i in np.argsort(-similarity, kind="stable")[:top]:
            if len(best) == top and similarity[i] <= best[0][0]:
                break
            entry = (float(similarity[i]), -(seen + int(i)), rest.slice(int(i), 1).to_pylist()[0])
            (heapq.heappushpop if len(best) == top else heapq.heappush)(best, entry)
        seen += len(table)
    ranked = sorted(best, key=lambda hit: (-hit[0], -hit[1]))
    return [SearchHit(**row | {"similarity": s, "bbox": tuple(row["bbox"])}) for s, _, row in ranked]
