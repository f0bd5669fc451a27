"""Patch features that text can find: GEM and the other training-free methods over one tower."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gem_label.checks import Numbers
from gem_label.clip.guides import PROXY, Guide
from gem_label.clip.last_block import Guidance, LastBlockMethod
from gem_label.clip.mask_tokens import check_mask_tokens
from gem_label.clip.method_settings import method_settings
from gem_label.clip.methods import AnyMethod, DenseMethod, named, needs_guide
from gem_label.clip.models import Clip, as_clip
from gem_label.clip.passes import Pass, advance_frame, frame_bias, run_pass
from gem_label.clip.streams import ordinary_steps
from gem_label.clip.surgery import surgery_texts
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
        guide: what methods such as "proxyclip" look at besides CLIP; None: nothing.

    Attributes:
        method: the resolved settings, with a number for `depth`.

    Raises:
        UsageError: for settings that do not exist or do not fit the model.
    """

    def __init__(
        self,
        clip: Clip | open_clip.CLIP,
        method: str | AnyMethod = "gem",
        depth: int | None = None,
        iterations: int | None = None,
        temperature: float | None = None,
        projections: str | None = None,
        text: TextEncoder | None = None,
        window: Window | None = None,
        scales: Sequence[float] = (1.0,),
        guide: Guide | None = None,
    ) -> None:
        self.clip = as_clip(clip)
        self.tower = self.clip.tower
        chosen = named(method) if isinstance(method, str) else method
        given = {
            "depth": depth,
            "iterations": iterations,
            "temperature": temperature,
            "projections": projections,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        if isinstance(chosen, DenseMethod):
            chosen = replace(chosen, **changes)  # type: ignore[arg-type]
            chosen = replace(chosen, depth=self.clip.dense_depth if chosen.depth is None else chosen.depth)
        elif changes:
            raise UsageError(f"{chosen.name} has no {' or '.join(changes)}")
        else:
            chosen.check(self.tower, self.clip.name)
        self.method = chosen
        self.depth = chosen.depth
        self.guide = guide or Guide()
        self.guide.check(chosen)
        self.text = text or TextEncoder(self.clip)
        self.window = window
        self.scales = tuple(scales)
        if not Numbers(1, self.tower.num_blocks, whole=True).allow(self.method.depth):
            raise UsageError(
                f"depth {self.method.depth} is not 1 to {self.tower.num_blocks}, the blocks of {self.clip.name}"
            )
        patch = self.tower.patch_size
        if window is not None and (window.crop % patch or window.stride % patch):
            raise UsageError(f"a window's crop and stride must be multiples of {patch} px, not {window}")
        if not self.scales or not all(Numbers(0, above=True).allow(scale) for scale in self.scales):
            raise UsageError(f"scales must be numbers above 0, not {self.scales}")

    @property
    def settings(self) -> dict[str, Any]:
        """What decides over the features of a model, as JSON: the method's settings, windows and scales."""
        proxy = self.guide.proxy
        return {
            **method_settings(self.method),
            **({PROXY: proxy.describe()} if proxy is not None and needs_guide(self.method) else {}),
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
            images: (B, 3, H, W) normalized floats, sides multiples of the patch size (see `Clip.preprocess`).

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

    def encode_photo(
        self, image: Tensor, mask_shares: NDArray[np.float32] | None = None, mask_tokens: bool = False
    ) -> PhotoFeatures:
        """All that a photo's labels need.

        Args:
            image: (3, H, W), as in `encode`.
            mask_shares: (N, h, w) share of each patch's area under each of N masks, in [0, 1]; None: not known.
            mask_tokens: whether to embed the masks by class tokens of their own.

        Raises:
            UsageError: mask tokens from a model without a class token, or with windows or scales.
        """
        whole = self.window is None and self.scales == (1.0,)
        if mask_tokens:
            check_mask_tokens(self.tower, self.clip.name, "--mask-tokens")
        if mask_shares is None or not whole:
            if mask_tokens:
                raise UsageError(
                    "mask tokens need masks and the whole image at once: leave out windows and scales"
                )
            patches, embedding = self.encode_with_class_token(image[None])
            return PhotoFeatures(patches[0].cpu().numpy(), embedding[0].cpu().numpy())
        found = self._forward(image[None], torch.from_numpy(mask_shares), mask_tokens)
        tokens = None if found.mask_tokens is None else self._pool(found.mask_tokens[:, None]).cpu().numpy()
        assert found.last is not None
        return PhotoFeatures(found.features[0].cpu().numpy(), self._pool(found.last)[0].cpu().numpy(), tokens)

    def encode_layers(self, images: Tensor) -> Tensor:
        """The dense stream after every block, as if it were the last (GEM supplement, D.3).

        Args:
            images: as in `encode`, taken whole.

        Returns:
            (blocks, B, h, w, d) float32 of unit length; the last is what `encode` gives. Blocks ahead of the
            last `depth` show the ordinary stream.
        """
        grid, method = self.tower.grid(images), self.method
        layers = []
        with torch.no_grad(), computing_in(self.clip.precision, self.clip.device):
            dense = x = self.tower.tokens(images.to(self.clip.device))
            bias = frame_bias(method, self.tower, grid, x) if isinstance(method, DenseMethod) else None
            for left, step in zip(
                range(self.tower.num_blocks)[::-1], ordinary_steps(self.tower, x), strict=True
            ):
                if isinstance(method, DenseMethod):
                    dense = advance_frame(method, dense, step, left, bias)
                else:
                    dense = step.output
                layers.append(self.tower.project(self.tower.patches(dense, grid)))
        if not isinstance(method, DenseMethod):
            layers[-1] = self._forward(images).features
        return torch.stack([F.normalize(layer.float(), dim=-1) for layer in layers])

    def similarity(self, images: Tensor, texts: str | Sequence[str], feature_surgery: bool = False) -> Tensor:
        """Cosine of each patch with each text.

        Args:
            images: as in `encode`.
            texts: C phrases, which go through the text encoder's templates, or text as `TextEncoder.encode` takes it.
            feature_surgery: take off what all texts have in common, see `gem_label.clip.surgery`.

        Returns:
            (B, C, h, w) float32 in [-1, 1], or what feature surgery makes of it.
        """
        words = torch.from_numpy(self.text.encode(texts)).to(self.clip.device)
        if not feature_surgery:
            return torch.einsum("bhwd,cd->bchw", self.encode(images), words)
        patches, embeddings = self.encode_with_class_token(images)
        return torch.einsum("bhwd,bcd->bchw", patches, surgery_texts(words, embeddings))

    def _encode_whole(self, images: Tensor) -> Tensor:
        return torch.cat([self._forward(part, finish=False).features for part in self._parts(images)])

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = [self._forward(part) for part in self._parts(images)]
        pooled = [self._pool(each.last) for each in found if each.last is not None]
        return torch.cat([each.features for each in found]), torch.cat(pooled)

    @torch.no_grad()
    def _forward(
        self,
        images: Tensor,
        mask_shares: Tensor | None = None,
        mask_tokens: bool = False,
        finish: bool = True,
    ) -> Pass:
        """One pass over images, see `run_pass`; features are of unit length."""
        device = self.clip.device
        on_device, shares = images.to(device), None if mask_shares is None else mask_shares.to(device)
        guidance = Guidance(mask_shares=shares)
        if isinstance(self.method, LastBlockMethod) and needs_guide(self.method):
            guidance = self.guide.look(
                self.method, self._denormalize(on_device), self.tower.grid(images), shares
            )
        with computing_in(self.clip.precision, self.clip.device):
            found = run_pass(self.tower, self.method, on_device, guidance, mask_tokens, finish)
        return replace(found, features=F.normalize(found.features.float(), dim=-1))

    def _denormalize(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] of normalized images."""
        mean, std = (torch.tensor(each).to(images)[:, None, None] for each in (self.clip.mean, self.clip.std))
        return (images * std + mean).clamp(0, 1)

    def _parts(self, images: Tensor) -> tuple[Tensor, ...]:
        """A batch in parts that are no slower than one image at a time; on a GPU, the batch."""
        if not isinstance(self.method, DenseMethod) and self.method.needs_masks:
            return images.split(1)
        if self.clip.device.type != "cpu":
            return (images,)
        h, w = self.tower.grid(images)
        return images.split(max(1, CPU_PATCHES_AT_ONCE // (h * w)))

    @torch.no_grad()
    def _embed(self, images: Tensor) -> Tensor:
        with computing_in(self.clip.precision, self.clip.device):
            *_, step = ordinary_steps(self.tower, self.tower.tokens(images.to(self.clip.device)))
        return self._pool(step.output)

    @torch.no_grad()
    def _pool(self, tokens: Tensor) -> Tensor:
        """The last block's output (B, n, D) to image embeddings (B, d) of unit length."""
        with computing_in(self.clip.precision, self.clip.device):
            return F.normalize(self.tower.pool(tokens).float(), dim=-1)

    def _at_native_size(self, images: Tensor) -> Tensor:
        size = self.clip.input_size(images.shape[-2], images.shape[-1], self.tower.native_size)
        return F.interpolate(images, size=size, mode="bicubic", antialias=True)
