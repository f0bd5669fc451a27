"""Patch features that text can find: GEM and the other training-free methods over one tower."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gem_label.checks import Numbers
from gem_label.clip.mask_tokens import advance_mask_tokens, check_mask_tokens, mask_bias
from gem_label.clip.methods import DenseMethod, named
from gem_label.clip.models import Clip, as_clip
from gem_label.clip.streams import Step, ordinary_steps
from gem_label.clip.text import TextEncoder
from gem_label.clip.windows import Encode, Window, encode_scales, encode_windows
from gem_label.errors import UsageError
from gem_label.precision import computing_in

if TYPE_CHECKING:
    import open_clip

CPU_PATCHES_AT_ONCE = 2048
"""Larger batches fall out of a processor's caches, and their memory goes back to the system after every layer."""


@dataclass(frozen=True)
class PhotoFeatures:
    """What CLIP's image tower says of a photo; all vectors are of unit length.

    Attributes:
        patches: (h, w, d) patch features.
        embedding: (d,) the ordinary image embedding.
        mask_tokens: (N, d) embeddings of N masks by tokens of their own; None where none were asked for.
    """

    patches: NDArray[np.float32]
    embedding: NDArray[np.float32]
    mask_tokens: NDArray[np.float32] | None = None


class DenseEncoder:
    """Dense features of images in the space of the text embeddings.

    Args:
        clip: what `load_clip` returns, or any open_clip model with a ViT.
        method: a name such as "gem", "clip", "maskclip" or "table7/depth-3+mlp" (see `gem_label.clip.methods`),
            or a `DenseMethod`. The next four change its settings; None leaves them as the method has them.
        depth: how many of the last blocks the method runs on; GEM's is the model's own, 6 as a rule.
            The authors' package counts one more: its `gem_depth=7` is `depth=6`. The paper's text says 4.
        iterations: grouping steps of the self-self attention, 0 or more; GEM's is 1.
        temperature: a number is used as it stands as the factor on the cosines inside the softmax (an inverse
            temperature, what the authors' package calls `ss_attn_temp`); GEM adapts it to each image.
        projections: which of the projections "q", "k" and "v" are averaged.
        text: the text encoder that `similarity` uses; None makes one with the prompt "a photo of a {}.".
        window: for large images, slides a window of its crop over them; None takes images whole.
        scales: factors on the images' sides; features are averaged over them.

    Attributes:
        method: the resolved settings, with a number for `depth`.

    Raises:
        UsageError: for settings that do not exist or do not fit the model.
    """

    def __init__(
        self,
        clip: Clip | open_clip.CLIP,
        method: str | DenseMethod = "gem",
        depth: int | None = None,
        iterations: int | None = None,
        temperature: float | None = None,
        projections: str | None = None,
        text: TextEncoder | None = None,
        window: Window | None = None,
        scales: Sequence[float] = (1.0,),
    ) -> None:
        self.clip = as_clip(clip)
        self.tower = self.clip.tower
        changes = {
            "depth": depth,
            "iterations": iterations,
            "temperature": temperature,
            "projections": projections,
        }
        chosen = replace(
            named(method) if isinstance(method, str) else method,
            **{name: value for name, value in changes.items() if value is not None},  # type: ignore[arg-type]
        )
        self.depth = self.clip.dense_depth if chosen.depth is None else chosen.depth
        self.method = replace(chosen, depth=self.depth)
        self.text = text or TextEncoder(self.clip)
        self.window = window
        self.scales = tuple(scales)
        if not Numbers(1, self.tower.num_blocks, whole=True).allow(self.depth):
            raise UsageError(
                f"depth {self.depth} is not 1 to {self.tower.num_blocks}, the blocks of {self.clip.name}"
            )
        patch = self.tower.patch_size
        if window is not None and (window.crop % patch or window.stride % patch):
            raise UsageError(f"a window's crop and stride must be multiples of {patch} px, not {window}")
        if not self.scales or not all(Numbers(0, above=True).allow(scale) for scale in self.scales):
            raise UsageError(f"scales must be numbers above 0, not {self.scales}")

    @property
    def settings(self) -> dict[str, Any]:
        """What decides over the features of a model, as JSON: the method's settings, windows and scales."""
        settings = asdict(self.method)
        if not settings["neighborhood"]:  # so that runs of versions that had none are resumed
            del settings["neighborhood"]
        return {
            "method": settings.pop("name"),
            **settings,
            "window": None if self.window is None else asdict(self.window),
            "scales": list(self.scales),
        }

    def encode(self, images: Tensor) -> Tensor:
        """Patch features.

        Args:
            images: (B, 3, H, W) normalised floats, sides multiples of the patch size (see `Clip.preprocess`).

        Returns:
            (B, h, w, d) float32 of unit length, on the model's device.
        """
        encode: Encode = self._encode_whole
        if self.window is not None:
            encode = functools.partial(
                encode_windows, encode, window=self.window, patch_size=self.tower.patch_size
            )
        if self.scales == (1.0,):
            return encode(images)
        return encode_scales(encode, images, self.scales, self.tower.patch_size)

    def encode_with_class_token(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Patch features and the ordinary image embedding, out of one pass where images are taken whole.

        Args:
            images: as in `encode`.

        Returns:
            (B, h, w, d) patch features and (B, d) image embeddings, both float32 of unit length. At the
            tower's native size the embedding is that of the model's own `encode_image`. With windows or
            scales it is that of the image reduced to the native size, in its aspect ratio.
        """
        if self.window is None and self.scales == (1.0,):
            return self._run(images)
        return self.encode(images), self._embed(self._at_native_size(images))

    def encode_photo(self, image: Tensor, mask_shares: NDArray[np.float32] | None = None) -> PhotoFeatures:
        """All that a photo's labels need.

        Args:
            image: (3, H, W), as in `encode`.
            mask_shares: (N, h, w) share of each patch's area under each of N masks, in [0, 1], for mask tokens;
                None: no mask tokens.

        Raises:
            UsageError: mask tokens from a model without a class token, or with windows or scales.
        """
        if mask_shares is None:
            patches, embedding = self.encode_with_class_token(image[None])
            return PhotoFeatures(patches[0].cpu().numpy(), embedding[0].cpu().numpy())
        check_mask_tokens(self.tower, self.clip.name)
        if self.window is not None or self.scales != (1.0,):
            raise UsageError("mask tokens need the whole image at once: leave out windows and scales")
        patches, embedding, tokens = self._forward(image[None], torch.from_numpy(mask_shares))
        return PhotoFeatures(*(each.cpu().numpy() for each in (patches[0], embedding[0], tokens)))

    def encode_layers(self, images: Tensor) -> Tensor:
        """The dense stream after every block, as if it were the last (GEM supplement, D.3).

        Args:
            images: as in `encode`, taken whole.

        Returns:
            (blocks, B, h, w, d) float32 of unit length; the last is what `encode` gives. Blocks ahead of the
            last `depth` show the ordinary stream.
        """
        grid = self.tower.grid(images)
        layers = []
        with torch.no_grad(), computing_in(self.clip.precision, self.clip.device):
            dense = x = self.tower.tokens(images.to(self.clip.device))
            bias = self._bias(grid, x)
            for index, step in enumerate(ordinary_steps(self.tower, x)):
                dense = self._advance(dense, step, index, bias)
                layers.append(self._features(dense, grid))
        return torch.stack(layers)

    def similarity(self, images: Tensor, texts: str | Sequence[str]) -> Tensor:
        """Cosine of each patch with each text.

        Args:
            images: as in `encode`.
            texts: C phrases, which go through the text encoder's templates, or text as `TextEncoder.encode` takes it.

        Returns:
            (B, C, h, w) float32 in [-1, 1].
        """
        patches = self.encode(images)
        embeddings = torch.from_numpy(self.text.encode(texts)).to(patches)
        return torch.einsum("bhwd,cd->bchw", patches, embeddings)

    def _encode_whole(self, images: Tensor) -> Tensor:
        return torch.cat([self._forward(part, finish=False)[0] for part in self._parts(images)])

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = [self._forward(part) for part in self._parts(images)]
        return torch.cat([patches for patches, _, _ in found]), torch.cat([pooled for _, pooled, _ in found])

    @torch.no_grad()
    def _forward(
        self, images: Tensor, mask_shares: Tensor | None = None, finish: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One pass over images.

        Args:
            images: as in `encode`.
            mask_shares: (N, h, w) of the one image; None: there are no masks.
            finish: False: the ordinary stream may stop short of its last block.

        Returns:
            (B, h, w, d) patch features, (B, d) image embeddings, none unless `finish` is set, and (N, d) mask tokens.
        """
        grid = self.tower.grid(images)
        with computing_in(self.clip.precision, self.clip.device):
            dense = x = self.tower.tokens(images.to(self.clip.device))
            bias = self._bias(grid, x)
            seen = (
                None if mask_shares is None or not len(mask_shares) else mask_bias(mask_shares.to(x.device))
            )
            tokens = x[:1, :1].expand(-1, 0 if seen is None else len(seen), -1)
            for index, step in enumerate(ordinary_steps(self.tower, x, finish or self.method.is_ordinary)):
                dense = self._advance(dense, step, index, bias)
                if seen is not None:
                    tokens = advance_mask_tokens(step.block, tokens, step.k, step.v, seen)
            pooled = self._pool(step.output if finish else x[:0])
            return self._features(dense, grid), pooled, self._pool(tokens[0, :, None])

    def _parts(self, images: Tensor) -> tuple[Tensor, ...]:
        """A batch in parts that are no slower than one image at a time; on a GPU, the batch."""
        if self.clip.device.type != "cpu":
            return (images,)
        h, w = self.tower.grid(images)
        return images.split(max(1, CPU_PATCHES_AT_ONCE // (h * w)))

    @torch.no_grad()
    def _embed(self, images: Tensor) -> Tensor:
        with computing_in(self.clip.precision, self.clip.device):
            *_, step = ordinary_steps(self.tower, self.tower.tokens(images.to(self.clip.device)))
            return self._pool(step.output)

    def _pool(self, tokens: Tensor) -> Tensor:
        """The last block's output (B, n, D) to image embeddings (B, d) of unit length."""
        return F.normalize(self.tower.pool(tokens).float(), dim=-1)

    def _at_native_size(self, images: Tensor) -> Tensor:
        size = self.clip.input_size(images.shape[-2], images.shape[-1], self.tower.native_size)
        return F.interpolate(images, size=size, mode="bicubic", antialias=True)

    def _features(self, dense: Tensor, grid: tuple[int, int]) -> Tensor:
        return F.normalize(self.tower.project(self.tower.patches(dense, grid)).float(), dim=-1)

    def _bias(self, grid: tuple[int, int], like: Tensor) -> Tensor | None:
        bias = self.method.bias(grid, self.tower.class_tokens)
        return None if bias is None else bias.to(like)

    def _advance(self, dense: Tensor, step: Step, index: int, bias: Tensor | None) -> Tensor:
        """The dense stream (B, n, D) after a block; the ordinary one feeds it (GEM, figure 2)."""
        if self.method.is_ordinary or index < self.tower.num_blocks - self.depth:
            return step.output
        branch = step.block.out_proj(self.method.attend(step.normed, step.q, step.k, step.v, bias))
        dense = dense + branch if self.method.residual else branch
        return step.block.feed_forward(dense) if self.method.mlp else dense
