"""K-means over tokens: the hard clustering that GEM's self-self attention is compared with (supplement, E)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_STEPS = 30


def kmeans(points: Tensor, clusters: int) -> Tensor:
    """Cluster the points of every set by Lloyd's algorithm with Euclidean distances.

    The first center is the point nearest the mean of the set, each further one the point farthest from the
    centers before it: no chance is involved, so a set's clusters do not depend on its batch or on a seed.

    Args:
        points: (..., n, d), n points in each set.
        clusters: how many; no more than n are made.

    Returns:
        (..., n) int64 cluster numbers in [0, clusters).
    """
    sets = points.float().flatten(0, -3)
    centers = _farthest_first(sets, min(clusters, sets.shape[1]))
    assigned = torch.cdist(sets, centers).argmin(dim=-1)
    for _ in range(MAX_STEPS):
        means, sizes = _sums(sets, assigned, centers.shape[1])
        # an empty cluster keeps its center
        centers = torch.where(sizes > 0, means / sizes.clamp(min=1), centers)
        previous, assigned = assigned, torch.cdist(sets, centers).argmin(dim=-1)
        if torch.equal(previous, assigned):
            break
    return assigned.view(points.shape[:-1])


def cluster_mean(values: Tensor, assigned: Tensor) -> Tensor:
    """Every value replaced by the mean over its cluster.

    Args:
        values: (..., n, d).
        assigned: (..., n) cluster numbers.

    Returns:
        (..., n, d) in the type of `values`.
    """
    sets, flat = values.flatten(0, -3), assigned.flatten(0, -2)
    sums, sizes = _sums(sets, flat, int(flat.max()) + 1)
    means = sums / sizes.clamp(min=1)
    return means.gather(1, flat[..., None].expand_as(sets)).view(values.shape).to(values)


def _farthest_first(sets: Tensor, clusters: int) -> Tensor:
    """Centers to start from: (S, n, d) -> (S, clusters, d)."""
    batch = torch.arange(len(sets), device=sets.device)
    first = torch.cdist(sets, sets.mean(dim=1, keepdim=True))[..., 0].argmin(dim=-1)
    centers = [sets[batch, first]]
    nearest = torch.full(sets.shape[:2], torch.inf, device=sets.device)
    while len(centers) < clusters:
        nearest = nearest.minimum(torch.cdist(sets, centers[-1][:, None])[..., 0])
        centers.append(sets[batch, nearest.argmax(dim=-1)])
    return torch.stack(centers, dim=1)


def _sums(sets: Tensor, assigned: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Sums (S, K, d) and sizes (S, K, 1) of the clusters of (S, n, d)."""
    members = F.one_hot(assigned, clusters).to(sets).transpose(1, 2)
    return members @ sets, members.sum(dim=-1, keepdim=True)
