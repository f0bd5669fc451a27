"""Self-self attention, the core of GEM: pure functions on tensors.

GEM (Bousselham et al., "Grounding Everything: Emerging Localization Properties in Vision-Language
Transformers", CVPR 2024), section 3: in place of softmax(q k^T) v, tokens attend to the tokens that are like
them in the same projection, softmax(p p^T) v with p in {q, k, v}. This groups the patches of one thing, and
because v and the residual stream stay in the space that the tower was trained in, they keep pointing at its
name.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def adaptive_inv_temp(x: Tensor, d_head: int) -> Tensor:
    """The inverse temperature of an image: the mean norm of its tokens over sqrt(d_head) (GEM, section 3.3).

    Args:
        x: (B, n, D) tokens as they enter the projections (output of the block's first layer norm).
        d_head: width of one head.

    Returns:
        (B, 1, 1, 1), one value per image, so that an image's features do not depend on its batch.
    """
    return x.norm(dim=-1).mean(dim=-1).mul(d_head**-0.5)[:, None, None, None]


def neighborhood_bias(grid: tuple[int, int], deviation: float, class_tokens: int) -> Tensor:
    """How near patches are, to be added to attention scores (NACLIP, Hajimiri et al., WACV 2025, section 3.2).

    Patch i gets exp(-|i - j|^2 / (2 deviation^2)) for patch j, 1 for itself; class tokens get and give 0.

    Args:
        grid: (h, w) patches.
        deviation: standard deviation of the Gaussian, in patches, above 0.
        class_tokens: tokens ahead of the patches.

    Returns:
        (n, n) float32, n = class_tokens + h * w.
    """
    rows, columns = (torch.arange(side, dtype=torch.float32) for side in grid)
    along = [torch.exp(-((side[:, None] - side) ** 2) / (2 * deviation**2)) for side in (rows, columns)]
    return F.pad(torch.kron(along[0], along[1]), (class_tokens, 0, class_tokens, 0))


def self_self_attention(
    p: Tensor,
    v: Tensor,
    inv_temp: Tensor | float,
    iterations: int = 1,
    normalize: bool = True,
    bias: Tensor | None = None,
) -> Tensor:
    """Attention of the tokens to themselves in one projection, read out of `v` (GEM, equations 5 and 6).

    `iterations` times p <- softmax(inv_temp * p p^T) p, where p has unit length before each step; then
    softmax(inv_temp * p p^T) v. More iterations give larger, more even groups.

    Args:
        p: (B, heads, n, d_head) tokens in one projection (queries, keys or values).
        v: (B, heads, n, d_head) values that are averaged over the groups.
        inv_temp: factor on the cosines before the softmax, above 0, a number or (B, 1, 1, 1).
        iterations: grouping steps before the read-out, 0 or more.
        normalize: False leaves p's length as it is, as CLIP Surgery, SCLIP and ClearCLIP do (equation 2).
        bias: (n, n), added to the scores before each softmax; None: nothing is.

    Returns:
        (B, heads, n, d_head).
    """
    # With p scaled by the root of the inverse temperature the scores are p p^T, and p need not be held twice.
    # A group's mean then has the factor too: it goes where p is normalized again, and is right where it is not.
    root = inv_temp**0.5

    def unit(p: Tensor) -> Tensor:
        return p * (root / p.norm(dim=-1, keepdim=True).clamp(min=1e-12))

    p = unit(p) if normalize else p * root
    for _ in range(iterations):
        # the fused kernel never holds the (n, n) attention; its scale is one number, inv_temp one per image
        p = F.scaled_dot_product_attention(p, p, p, attn_mask=bias, scale=1.0)
        p = unit(p) if normalize else p
    return F.scaled_dot_product_attention(p, p, v, attn_mask=bias, scale=1.0)


def gem_attention(
    projections: list[Tensor],
    v: Tensor,
    inv_temp: Tensor | float,
    iterations: int = 1,
    normalize: bool = True,
    bias: Tensor | None = None,
) -> Tensor:
    """Mean of the self-self attentions of several projections (GEM's qkv ensemble, equation 7).

    Args:
        projections: P tensors (B, heads, n, d_head): any of the queries, keys and values.
        v: (B, heads, n, d_head) values.
        inv_temp: as in `self_self_attention`.
        iterations: as in `self_self_attention`.
        normalize: as in `self_self_attention`.
        bias: as in `self_self_attention`.

    Returns:
        (B, heads, n, d_head).
    """
    count = len(projections)
    if isinstance(inv_temp, Tensor):
        inv_temp = inv_temp.repeat(count, 1, 1, 1)
    # all projections along the batch axis: one kernel call a step in place of P
    values = v.repeat(count, 1, 1, 1)
    out = self_self_attention(torch.cat(projections), values, inv_temp, iterations, normalize, bias)
    return out.unflatten(0, (count, -1)).mean(dim=0)
