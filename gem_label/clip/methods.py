"""Training-free methods for dense CLIP features, each a few settings of one frame.

A second, dense stream parts from the tower's ordinary stream ahead of the last `depth` blocks. In each of these
blocks, with q, k and v of the ordinary stream,

    dense = [dense +] out_proj(attention(q, k, v))      with the residual or without
    dense = [dense + mlp(ln_2(dense))]                  with the MLP or without

and after the last block the dense stream is projected like the ordinary one. GEM is "Grounding Everything"
(Bousselham et al., CVPR 2024), ClearCLIP is Lan et al., ECCV 2024, NACLIP is Hajimiri et al., WACV 2025.
docs/methods.md has the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gem_label.checks import COUNT, Numbers
from gem_label.clip.attention import adaptive_inv_temp, gem_attention, neighborhood_bias
from gem_label.clip.corrclip import CorrClip
from gem_label.clip.kmeans import cluster_mean, kmeans
from gem_label.clip.last_block import LastBlockMethod
from gem_label.clip.proxyclip import ProxyClip
from gem_label.clip.resclip import ResClip
from gem_label.clip.scclip import ScClip
from gem_label.errors import UsageError

Attention = Literal["qk", "self", "identity", "kmeans", "multihead_kmeans"]


_ABOVE_0 = Numbers(0, above=True)


@dataclass(frozen=True)
class DenseMethod:
    """Settings of a dense method; `METHODS` has the published ones by name.

    Attributes:
        name: for manifests and tables.
        attention: who attends to whom in the dense stream: "qk" the trained attention, "self" the tokens that
            are alike in a projection, "identity" each token to itself, "kmeans" the tokens of its cluster,
            "multihead_kmeans" the same with clusters of its own for each head.
        depth: how many of the last blocks have the dense stream; None takes the model's own, 6 as a rule.
        residual: whether the stream keeps what it had before each block, or has the attention's output alone.
        mlp: whether the stream goes through each block's MLP.
        projections: which of the projections "q", "k" and "v" attend to themselves or are clustered.
        ensemble: whether the outputs of several projections are averaged or summed.
        iterations: grouping steps of "self" before the read-out, 0 or more.
        normalize: whether projections are scaled to unit length first.
        temperature: of "self": "adaptive" to each image (GEM, equation 4), "trained" for the attention's usual
            factor 1 / sqrt(d_head), or a number as the factor itself inside the softmax (an inverse temperature).
        temperature_multiple: factor on the adaptive temperature (GEM, figure 4); larger gives larger groups.
        clusters: K of the two k-means.
        neighborhood: of "self": standard deviation in patches of a Gaussian that is added to the scores, so that
            patches attend to what is near (NACLIP); 0: nothing is added.

    Raises:
        UsageError: for a setting that does not exist.
    """

    name: str = "custom"
    attention: Attention = "self"
    depth: int | None = None
    residual: bool = True
    mlp: bool = False
    projections: str = "qkv"
    ensemble: Literal["mean", "sum"] = "mean"
    iterations: int = 1
    normalize: bool = True
    temperature: float | Literal["adaptive", "trained"] = "adaptive"
    temperature_multiple: float = 1.0
    clusters: int = 7
    neighborhood: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no method can do."""
        chosen = self.projections
        if not chosen or len(set(chosen)) != len(chosen) or not set(chosen) <= set("qkv"):
            raise UsageError(f"projections must be some of the letters q, k and v, not {chosen!r}")
        for setting, allowed in _CHOICES.items():
            if getattr(self, setting) not in allowed:
                raise UsageError(f"{setting} must be one of {', '.join(allowed)}: {getattr(self, setting)!r}")
        if self.temperature not in ("adaptive", "trained") and not _ABOVE_0.allow(self.temperature):
            raise UsageError(
                f"temperature must be adaptive, trained or a number above 0, not {self.temperature!r}"
            )
        if not Numbers(0, whole=True).allow(self.iterations):
            raise UsageError(f"iterations must be 0 or more, not {self.iterations}")
        if not COUNT.allow(self.clusters):
            raise UsageError(f"clusters must be 1 or more, not {self.clusters}")
        if not Numbers(0).allow(self.neighborhood) or (self.neighborhood and self.attention != "self"):
            raise UsageError("neighborhood must be 0 or more, and is of the attention 'self' alone")
        if not _ABOVE_0.allow(self.temperature_multiple) or (
            self.temperature_multiple != 1 and self.temperature != "adaptive"
        ):
            raise UsageError("temperature_multiple must be above 0, and is of the adaptive temperature alone")

    @property
    def is_ordinary(self) -> bool:
        """Whether the dense stream is the ordinary one, whatever the depth."""
        return self.attention == "qk" and self.residual and self.mlp

    def bias(self, grid: tuple[int, int], class_tokens: int) -> Tensor | None:
        """What is added to the scores of every block, (n, n); None: nothing is. See `neighborhood_bias`."""
        if not self.neighborhood:
            return None
        return neighborhood_bias(grid, self.neighborhood, class_tokens)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """The attention of the dense stream in one block.

        Args:
            x: (B, n, D) what entered the projections, the output of the block's first layer norm.
            q: (B, heads, n, d_head) queries.
            k: keys likewise.
            v: values likewise.
            bias: from the method of this name.

        Returns:
            (B, heads, n, d_head), ahead of the output projection.
        """
        if self.attention == "qk":
            return F.scaled_dot_product_attention(q, k, v)
        if self.attention == "identity":
            return v
        projected = {"q": q, "k": k, "v": v}
        chosen = [projected[name] for name in self.projections]
        if self.attention == "self":
            inv_temp = self._inv_temp(x, v.shape[-1])
            out = gem_attention(chosen, v, inv_temp, self.iterations, self.normalize, bias)
        else:
            out = torch.stack([self._cluster(p, v) for p in chosen]).mean(dim=0)
        return out * len(chosen) if self.ensemble == "sum" else out

    def _inv_temp(self, x: Tensor, d_head: int) -> Tensor | float:
        if self.temperature == "adaptive":
            return adaptive_inv_temp(x, d_head) / self.temperature_multiple
        return d_head**-0.5 if self.temperature == "trained" else self.temperature

    def _cluster(self, p: Tensor, v: Tensor) -> Tensor:
        """Values averaged over the clusters of one projection, per head or over all heads together."""
        if self.attention == "multihead_kmeans":
            return cluster_mean(v, kmeans(F.normalize(p, dim=-1) if self.normalize else p, self.clusters))
        whole = p.transpose(1, 2).flatten(2)
        assigned = kmeans(F.normalize(whole, dim=-1) if self.normalize else whole, self.clusters)
        return cluster_mean(v, assigned[:, None].expand(v.shape[:-1]))


_CHOICES = {
    "attention": ("qk", "self", "identity", "kmeans", "multihead_kmeans"),
    "ensemble": ("mean", "sum"),
}


def _last_block(name: str, *, bare: bool, **settings: object) -> DenseMethod:
    """A method of the last block: with residual and MLP as trained, or bare of both."""
    return DenseMethod(name, depth=1, residual=not bare, mlp=not bare, **settings)  # type: ignore[arg-type]


# softmax(p p^T / sqrt(d_head)) v: nothing normalized, nothing repeated
_PLAIN_SELF = {"attention": "self", "iterations": 0, "normalize": False, "temperature": "trained"}
_SCLIP = {**_PLAIN_SELF, "projections": "qk", "ensemble": "sum"}

AnyMethod = DenseMethod | LastBlockMethod

FRAME_METHODS: dict[str, DenseMethod] = {
    method.name: method
    for method in (
        DenseMethod("gem"),
        _last_block("clip", bare=False, attention="qk"),
        _last_block("maskclip", bare=False, attention="identity"),
        DenseMethod("clip_surgery", projections="v", **_PLAIN_SELF),  # type: ignore[arg-type]
        _last_block("sclip", bare=False, **_SCLIP),
        _last_block("clearclip", bare=True, projections="q", **_PLAIN_SELF),
        _last_block("naclip", bare=True, projections="k", neighborhood=5.0, **_PLAIN_SELF),
        _last_block("gem_clearclip", bare=True),
        _last_block("maskclip_clearclip", bare=True, attention="identity"),
        _last_block("sclip_clearclip", bare=True, **_SCLIP),
        DenseMethod("kmeans", attention="kmeans"),
        DenseMethod("multihead_kmeans", attention="multihead_kmeans"),
    )
}

METHODS: dict[str, AnyMethod] = FRAME_METHODS | {
    method.name: method
    for method in (
        ScClip(),
        ResClip(),
        ProxyClip(),
        CorrClip(),
        CorrClip("corrclip_regions", spatial=0.0, semantic=0.0),
        CorrClip("corrclip_sam", merge=0.05, spatial=0.0, semantic=0.0, on_top="smallest"),
    )
}

# "In general, we fix the depth d of GEM to equal to d = 4 for all reported experiments" (GEM supplement, C)
PAPER_DEPTH = 4
# the figure's axis is not in the text; these cover it
FIGURE_4_MULTIPLES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)


def _paper_rows() -> dict[str, DenseMethod]:
    """The rows of GEM's tables 1, 2, 4, 6, 7 and 8 and the points of its figure 4 that are settings of a method."""
    gem = replace(FRAME_METHODS["gem"], depth=PAPER_DEPTH)
    surgery = FRAME_METHODS["clip_surgery"]
    projections = {"v-v": "v", "k-k": "k", "q-q": "q", "qkv": "qkv"}
    unregularised = replace(gem, **_PLAIN_SELF)  # type: ignore[arg-type]
    rows = {"table1/clip": FRAME_METHODS["clip"]}
    for label, letters in projections.items():
        # without iterations: the qkv row's 45.1 on VOC is that of table 4 at K = 0
        rows[f"table1/{label}"] = replace(unregularised, projections=letters)
        rows[f"table1/{label}+norm"] = replace(gem, projections=letters, iterations=0)
        rows[f"table6/{label}"] = replace(gem, projections=letters)
    for name in ("clip", "maskclip_clearclip", "clip_surgery"):  # the paper's MaskCLIP has no MLP
        rows[f"table2/{name.removesuffix('_clearclip')}"] = FRAME_METHODS[name]
    rows["table2/gem"] = rows["table8/gem"] = gem
    rows["table4/clip_surgery"] = surgery
    for iterations in range(4):
        rows[f"table4/gem-{iterations}"] = replace(gem, iterations=iterations)
    for depth in range(1, 12):
        rows[f"table7/depth-{depth}"] = replace(gem, depth=depth)
        rows[f"table7/depth-{depth}+mlp"] = replace(gem, depth=depth, mlp=True)
    for name in ("kmeans", "multihead_kmeans"):
        for clusters in (2, 3, 5, 7, 10):
            rows[f"table8/{name}-{clusters}"] = replace(
                FRAME_METHODS[name], depth=PAPER_DEPTH, clusters=clusters
            )
    for multiple in FIGURE_4_MULTIPLES:
        point = replace(gem, temperature_multiple=multiple)
        rows[f"figure4/norm-x{multiple:g}"] = point
        rows[f"figure4/no-norm-x{multiple:g}"] = replace(point, normalize=False)
    return {name: replace(method, name=name) for name, method in rows.items()}


PAPER_ROWS: dict[str, DenseMethod] = _paper_rows()


def needs_guide(method: AnyMethod) -> bool:
    """Whether a method looks at another vision model or at masks; see `gem_label.clip.guides`."""
    return isinstance(method, LastBlockMethod) and (method.needs_proxy or method.needs_masks)


def named(name: str) -> AnyMethod:
    """A method of `METHODS`, or a row of the GEM paper from `PAPER_ROWS`, such as "table7/depth-3+mlp".

    Raises:
        UsageError: for a name that is neither.
    """
    found = METHODS.get(name) or PAPER_ROWS.get(name)
    if found is None:
        raise UsageError(
            f"unknown dense method {name!r}: choose one of {', '.join(METHODS)}, "
            f"or a row of the GEM paper such as {next(iter(PAPER_ROWS))}"
        )
    return found
