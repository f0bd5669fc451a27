"""One photo on its way through the models: decoded, with masks, with embeddings, with labels.

    pixels -> propose_masks -> MaskSet -> embed -> EmbeddedPhoto -> label_embedded -> LabeledPhoto

`label_photo` is the whole way; engines, the App and Python take many photos through it as one stream
(`gem_label.engines.stream`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gem_label.checks import Numbers, check_number
from gem_label.errors import GemLabelError, ImageError, UsageError
from gem_label.labeling import LabelSettings, MaskLabels, Rescore, Vocabulary, label_maskset
from gem_label.learning.learned import Learned
from gem_label.masks import MaskSet, patch_weights, pool_patches
from gem_label.overlaps import find_overlaps
from gem_label.photos.photo import Photo
from gem_label.quantization import round_differences, round_to_codes
from gem_label.surround import surround_weights
from gem_label.words import WordsPerImage


@dataclass(frozen=True)
class EmbeddedPhoto:
    """A photo that the models are done with.

    Attributes:
        masks: N masks with embeddings (N, d).
        image_embedding: (d,) float16 class-token embedding of the photo.
        patches: (h, w, d) float32 unit-length patch features.
    """

    masks: MaskSet
    image_embedding: NDArray[np.float16]
    patches: NDArray[np.float32]


@dataclass(frozen=True)
class LabeledPhoto:
    """The masks of a photo and their labels, N each; `kept` has those that passed all thresholds.

    Attributes:
        masks: N masks with embeddings (N, d).
        labels: of the same N masks.
        image_embedding: (d,) float16 class-token embedding of the photo.
        patches: (h, w, d) float32 unit-length patch features; None: not asked for.
    """

    masks: MaskSet
    labels: MaskLabels
    image_embedding: NDArray[np.float16]
    patches: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def kept(self) -> LabeledPhoto:
        """The photo with only the masks whose labels are kept."""
        kept = self.labels.kept
        return replace(self, masks=self.masks[kept], labels=self.labels[kept])


class PhotoModels(Protocol):
    """What `label_photo` needs of the models; `gem_label.Labeler` is one."""

    def propose_masks(self, image: NDArray[np.uint8]) -> MaskSet:
        """SAM's masks of (H, W, 3) uint8 pixels."""
        ...

    def embed(self, image: NDArray[np.uint8], masks: MaskSet) -> EmbeddedPhoto:
        """The same masks with pooled patch features."""
        ...


@dataclass(frozen=True)
class LabelJob:
    """What to do with every photo besides the models; plain data, so that it can travel to other machines.

    Attributes:
        vocabulary: the words.
        text: (P, d) embeddings of `vocabulary.phrases`, of unit length where nothing was learned about them.
        logit_scale: the CLIP model's scale.
        settings: thresholds.
        words: words per photo; None: every photo may have every class.
        keep_patches: keep each photo's patch features in RUN/patches.
        learned: what the labels rest on besides the words; None: nothing. It is in `text` and `rescore` already.
        rescore: what it does with scores.

    Raises:
        UsageError: the embeddings do not fit the words, or are not finite; a scale that is not above 0.
    """

    vocabulary: Vocabulary
    text: NDArray[np.float32]
    logit_scale: float
    settings: LabelSettings
    words: WordsPerImage | None = None
    keep_patches: bool = False
    learned: Learned | None = None
    rescore: Rescore | None = None

    def __post_init__(self) -> None:
        check_number("logit_scale", self.logit_scale, Numbers(0, above=True))
        if self.text.ndim != 2 or len(self.text) != len(self.vocabulary.phrases):
            raise UsageError(
                f"text embeddings of shape {self.text.shape} for {len(self.vocabulary.phrases)} phrases: "
                "give one for each"
            )
        if not np.isfinite(self.text).all():
            raise UsageError("text embeddings must be finite numbers: the CLIP model gave others")


class PhotoError(GemLabelError):
    """A photo that could not be labeled: in which stage (read, propose, embed, label), and the reason."""

    def __init__(self, stage: str, reason: str) -> None:
        self.stage = stage
        super().__init__(reason)

    def __reduce__(self) -> tuple[type[PhotoError], tuple[str, str]]:
        """To travel between processes."""
        return PhotoError, (self.stage, str(self))


def pool_photo(
    masks: MaskSet,
    patches: NDArray[np.float32],
    class_token: NDArray[np.float32],
    mask_tokens: NDArray[np.float32] | None = None,
) -> EmbeddedPhoto:
    """Pool a photo's features under its masks and around them, rounded as a run stores them.

    Args:
        masks: N masks.
        patches: (h, w, d) unit-length patch features.
        class_token: (d,).
        mask_tokens: (N, d) embeddings of the masks by class tokens of their own; None: there are none.
    """
    grid = (patches.shape[0], patches.shape[1])
    inside = around = np.zeros((0, patches.shape[2]), np.float32)
    if len(masks):
        inside = round_to_codes(pool_patches(patch_weights(masks, grid), patches))
        around = round_differences(pool_patches(surround_weights(masks, grid), patches), inside)
    return EmbeddedPhoto(
        masks=replace(
            masks,
            embeddings=inside,
            surrounds=around,
            mask_tokens=None if mask_tokens is None else round_to_codes(mask_tokens),
            overlaps=find_overlaps(masks),
            grid=grid,
        ),
        image_embedding=class_token.astype(np.float16),
        patches=patches,
    )


def failure_reason(error: Exception) -> str:
    """One line for failures.jsonl."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, GemLabelError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def label_embedded(embedded: EmbeddedPhoto, job: LabelJob, photo: Photo | None = None) -> LabeledPhoto:
    """Label the masks of a photo.

    Args:
        embedded: what the models made of it.
        job: the words and thresholds.
        photo: which one, for the words per photo; None: every class is allowed.
    """
    allowed = None
    if job.words is not None and photo is not None:
        allowed = job.words.allowed(job.vocabulary, photo.path, photo.image_id)
    labels = label_maskset(
        embedded.masks,
        job.text,
        job.vocabulary,
        job.logit_scale,
        job.settings,
        allowed,
        embedded.image_embedding,
        job.rescore,
    )
    patches = embedded.patches if job.keep_patches else None
    return LabeledPhoto(embedded.masks, labels, embedded.image_embedding, patches)


def label_photo(
    photo: Photo, image: NDArray[np.uint8] | ImageError, models: PhotoModels, job: LabelJob
) -> LabeledPhoto:
    """Take one photo through all stages.

    Args:
        photo: which.
        image: (H, W, 3) uint8 RGB, or why it could not be read.
        models: SAM and GEM.
        job: the words and thresholds.

    Raises:
        PhotoError: whatever went wrong, out of memory included.
    """
    stage = "read"
    try:
        if isinstance(image, ImageError):
            raise image
        stage = "propose"
        masks = models.propose_masks(image)
        stage = "embed"
        embedded = models.embed(image, masks)
        stage = "label"
        return label_embedded(embedded, job, photo)
    except Exception as error:  # one photo must never end a night's run
        raise PhotoError(stage, failure_reason(error)) from error
