"""Patch features that text can find: GEM and the other training-free methods over one tower."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gem_label.checks import Numbers
from gem_label.clip.methods import DenseMethod, named
from gem_label.clip.models import Clip, as_clip
from gem_label.clip.text import TextEncoder
from gem_label.clip.windows import Encode, Window, encode_scales, encode_windows
from gem_label.errors import UsageError
from gem_label.precision import computing_in

if TYPE_CHECKING:
    import open_clip

MAX_PATCHES = 4096
"""Attention grows with the square of the patches; a photo longer than about 5:1 is seen smaller instead."""
CPU_PATCHES_AT_ONCE = 2048
"""Larger batches fall out of a processor's caches, and their memory goes back to the system after every layer."""


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

    def preprocess(self, image: NDArray[np.uint8], short_side: int | None = None) -> Tensor:
        """A photo as `encode` takes it: `Clip.preprocess`, and without a window at most `MAX_PATCHES` patches.

        Args:
            image: (height, width, 3) uint8 RGB.
            short_side: pixels; None takes the model's.

        Returns:
            (3, H, W) float32.
        """
        clip, side = self.clip, short_side or self.clip.short_side
        height, width = image.shape[:2]
        rows, columns = (length // clip.patch_size for length in clip.input_size(height, width, side))
        if rows * columns > MAX_PATCHES and self.window is None:
            side = max(clip.patch_size, int(side * math.sqrt(MAX_PATCHES / (rows * columns))))
        return clip.preprocess(image, side)

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

    def encode_layers(self, images: Tensor) -> Tensor:
        """The dense stream after every block, as if it were the last (GEM supplement, D.3).

        Args:
            images: as in `encode`, taken whole.

        Returns:
            (blocks, B, h, w, d) float32 of unit length; the last is what `encode` gives. Blocks ahead of the
            last `depth` show the ordinary stream.
        """
        grid = self.tower.grid(images)
        with torch.no_grad(), computing_in(self.clip.precision, self.clip.device):
            return torch.stack([self._features(dense, grid) for dense, _ in self._streams(images)])

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

    @torch.no_grad()
    def _encode_whole(self, images: Tensor) -> Tensor:
        features = []
        with computing_in(self.clip.precision, self.clip.device):
            for part in self._parts(images):
                *_, (dense, _) = self._streams(part, finish=False)
                features.append(self._features(dense, self.tower.grid(part)))
        return torch.cat(features)

    @torch.no_grad()
    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, embeddings = [], []
        with computing_in(self.clip.precision, self.clip.device):
            for part in self._parts(images):
                *_, (dense, ordinary) = self._streams(part)
                features.append(self._features(dense, self.tower.grid(part)))
                embeddings.append(F.normalize(self.tower.pool(ordinary).float(), dim=-1))
        return torch.cat(features), torch.cat(embeddings)

    def _parts(self, images: Tensor) -> tuple[Tensor, ...]:
        """A batch in parts that are no slower than one image at a time; on a GPU, the batch."""
        if self.clip.device.type != "cpu":
            return (images,)
        h, w = self.tower.grid(images)
        return images.split(max(1, CPU_PATCHES_AT_ONCE // (h * w)))

    @torch.no_grad()
    def _embed(self, images: Tensor) -> Tensor:
        with computing_in(self.clip.precision, self.clip.device):
            x = self.tower.tokens(images.to(self.clip.device))
            for block in self.tower.blocks:
                x = block(x)
            return F.normalize(self.tower.pool(x).float(), dim=-1)

    def _at_native_size(self, images: Tensor) -> Tensor:
        size = self.clip.input_size(images.shape[-2], images.shape[-1], self.tower.native_size)
        return F.interpolate(images, size=size, mode="bicubic", antialias=True)

    def _features(self, dense: Tensor, grid: tuple[int, int]) -> Tensor:
        return F.normalize(self.tower.project(self.tower.patches(dense, grid)).float(), dim=-1)

    def _streams(self, images: Tensor, finish: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        """The dense and the ordinary stream after every block, both (B, n, D).

        The ordinary stream stays as trained and feeds every block (GEM, figure 2). Unless `finish` is set it
        stops short of its last block wherever the dense stream does not need it.
        """
        first = self.tower.num_blocks - (0 if self.method.is_ordinary else self.depth)
        dense = x = self.tower.tokens(images.to(self.clip.device))
        bias = self.method.bias(self.tower.grid(images), self.tower.class_tokens)
        bias = None if bias is None else bias.to(x)
        for index, block in enumerate(self.tower.blocks):
            if index < first:
                dense = x = block(x)
            else:
                normed = block.ln_1(x)
                q, k, v = block.qkv(normed)
                branch = block.out_proj(self.method.attend(normed, q, k, v, bias))
                dense = dense + branch if self.method.residual else branch
                if self.method.mlp:
                    dense = block.feed_forward(dense)
                if finish or index + 1 < self.tower.num_blocks:
                    x = block.attend(x, q, k, v)
            yield dense, x
