"""`Labeler`: SAM's masks, GEM's patch features, and words, put together for one photo at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from gem_label.clip.dense import DenseEncoder, PhotoFeatures
from gem_label.clip.mask_tokens import check_mask_tokens
from gem_label.clip.methods import named, needs_guide
from gem_label.clip.models import Clip, as_clip, load_clip
from gem_label.clip.text import TextEncoder
from gem_label.errors import GemLabelError, UsageError
from gem_label.guides import SAM_PROXY, check_proxy, load_guide
from gem_label.labeled_photo import EmbeddedPhoto, LabeledPhoto, LabelJob, label_embedded, pool_photo
from gem_label.labeling import LabelSettings, Thresholds, Vocabulary
from gem_label.labeling.negatives import Wanted
from gem_label.learning.learned import Learned, apply_learned
from gem_label.masks import MaskSet, patch_weights
from gem_label.photos.pictures import Picture, as_pixels
from gem_label.precision import Precision
from gem_label.runs import Run, RunWriter
from gem_label.runs.manifest import MASK_TOKENS, new_manifest
from gem_label.runs.shared import PHOTOS_PER_SHARD, SharedRun
from gem_label.sam.fast import FastSettings
from gem_label.sam.models import Sam, load_sam
from gem_label.sam.proposals import AnySettings, propose_masks
from gem_label.stores import open_store
from gem_label.words import WordsPerImage

if TYPE_CHECKING:
    import open_clip

P = ParamSpec("P")
R = TypeVar("R")


def _free_memory_on_failure(
    method: Callable[Concatenate[Labeler, P], R],
) -> Callable[Concatenate[Labeler, P], R]:
    """After an out-of-memory error give cached GPU memory back, so that the next photo has it."""

    @functools.wraps(method)
    def wrapped(self: Labeler, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            raise

    return wrapped


class Labeler:
    """Proposes and labels the masks of photos.

    Args:
        clip: what `load_clip` returns, or any open_clip model with a ViT.
        sam: what `load_sam` returns.
        proposals: how masks are proposed, `FastSettings` or `ProposalSettings`; None: fast, as it comes.
        dense: the patch features; None: GEM with the model's own settings.
        text: prompts and cache of the words; None: the dense encoder's, "a photo of a {}.".
        mask_tokens: embed every mask by a class token of its own, too (`gem_label.clip.mask_tokens`).

    Raises:
        UsageError: mask tokens from a model without a class token.
    """

    def __init__(
        self,
        clip: Clip | open_clip.CLIP,
        sam: Sam,
        proposals: AnySettings | None = None,
        dense: DenseEncoder | None = None,
        text: TextEncoder | None = None,
        mask_tokens: bool = False,
    ) -> None:
        self.clip = dense.clip if dense is not None else as_clip(clip)
        self.sam = sam
        self.proposals = proposals or FastSettings()
        self.dense = dense or DenseEncoder(self.clip)
        self.text = text or self.dense.text
        self.mask_tokens = mask_tokens
        if mask_tokens:
            check_mask_tokens(self.clip.tower, self.clip.name, "--mask-tokens")
        self._vocabularies: dict[tuple[Vocabulary, str | int | tuple[str, ...]], Vocabulary] = {}

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.sam.device

    def propose(self, image: Picture) -> MaskSet:
        """All masks of a photo, with their pooled embeddings e_m.

        Args:
            image: a path, a PIL image (EXIF rotation is applied), or (H, W, 3) uint8 RGB.
        """
        pixels = as_pixels(image)
        return self.embed(pixels, self.propose_masks(pixels)).masks

    def label(
        self,
        image: Picture,
        classes: Vocabulary | Sequence[str] | str,
        background: str | Sequence[str] = (),
        min_score: float | str | Mapping[str, float] | Thresholds | None = None,
        top_k: int = 5,
        negatives: Wanted = "auto",
        learned: Learned | None = None,
    ) -> LabeledPhoto:
        """All masks of a photo with their labels.

        Args:
            image: a path, a PIL image, or (H, W, 3) uint8 RGB.
            classes: words, text for `Vocabulary.parse`, or a vocabulary, which has its own background.
            background: words that compete with the classes and are never a label, or text as --background takes.
            min_score: score in [0, 1] below which a mask is not kept; for all classes, or by class: see
                `Thresholds.of`. None: the default.
            top_k: how many classes to give per mask.
            negatives: words that compete besides, as for `job`.
            learned: what labels rest on besides the words, as for `job`.
        """
        vocabulary = as_vocabulary(classes, background)
        pixels = as_pixels(image)
        embedded = self.embed(pixels, self.propose_masks(pixels))
        settings = LabelSettings(Thresholds.of(min_score), top_k)
        job = self.job(vocabulary, settings, negatives=negatives, learned=learned)
        return label_embedded(embedded, job)

    @_free_memory_on_failure
    def propose_masks(self, image: NDArray[np.uint8]) -> MaskSet:
        """SAM's masks of (H, W, 3) uint8 pixels, without embeddings."""
        return propose_masks(self.sam, image, self.proposals)

    @_free_memory_on_failure
    def embed(self, image: NDArray[np.uint8], masks: MaskSet) -> EmbeddedPhoto:
        """Pool the photo's patch features under its masks and around them.

        Embeddings are rounded as a run stores them: new labels for a run are then the very labels that the photo
        would get.

        Args:
            image: (H, W, 3) uint8 RGB.
            masks: N masks of it.
        """
        features = self.photo_features(image, masks)
        return pool_photo(masks, features.patches, features.embedding, features.mask_tokens)

    def photo_features(self, image: NDArray[np.uint8], masks: MaskSet) -> PhotoFeatures:
        """The features of (H, W, 3) uint8 RGB and of its N masks."""
        pixels = self.dense.preprocess(image)
        look_at_masks = self.mask_tokens or needs_guide(self.dense.method)
        shares = patch_weights(masks, self.clip.tower.grid(pixels[None])) if look_at_masks else None
        return self.dense.encode_photo(pixels, shares, self.mask_tokens)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides over masks and embeddings, as JSON for a run's manifest."""
        proposals = asdict(self.proposals)
        proposals.pop(
            "points_per_batch", None
        )  # speed and memory, not the masks: a resumed run may change it
        precision = {"clip": self.clip.precision.value, "sam": self.sam.precision.value}
        return {
            "clip": self.clip.name,
            "short_side": self.clip.short_side,
            "sam": self.sam.name,
            "proposals": proposals,
            "dense": self.dense.settings,
            "templates": list(self.text.templates),
            # only where they differ from what earlier versions did, so that their runs resume
            **({MASK_TOKENS: True} if self.mask_tokens else {}),
            **({} if set(precision.values()) == {Precision.float32} else {"precision": precision}),
        }

    @property
    def weights(self) -> dict[str, Any]:
        """Names and sha256 of the weights, as JSON for a run's manifest."""
        return {
            "clip": {"name": self.clip.name, "sha256": self.clip.weights_sha256},
            "sam": {"name": self.sam.name, "sha256": self.sam.weights_sha256},
        }

    def job(
        self,
        vocabulary: Vocabulary,
        settings: LabelSettings | None = None,
        words: WordsPerImage | None = None,
        keep_patches: bool = False,
        negatives: Wanted = "auto",
        learned: Learned | None = None,
    ) -> LabelJob:
        """What an engine has to do with every photo.

        Args:
            vocabulary: the words.
            settings: thresholds; None: the defaults.
            words: words per photo; None: every photo may have every class.
            keep_patches: keep each photo's patch features, float16, in RUN/patches.
            negatives: words of the lexicon that compete and are never a label: "auto", "none", how many, or the
                words; see `add_negatives`. A vocabulary that has negatives keeps them.
            learned: what labels rest on besides the words, see `gem_label.runs.learned_file`; None: nothing.

        Raises:
            UsageError: words that the text encoder cannot tell apart or not read whole, a word per photo that the
                vocabulary does not have, or something that was learned with another CLIP model.
        """
        vocabulary = self._with_negatives(vocabulary, negatives)
        if words is not None:
            words.check(vocabulary)
        if learned is not None:
            learned.check_model(self.clip.weights_sha256, self.clip.embedding_dim)
        scale = self.clip.logit_scale
        text, rescore = apply_learned(learned, self.text.encode(vocabulary.phrases), vocabulary, scale)
        return LabelJob(
            vocabulary=vocabulary,
            text=text,
            logit_scale=scale,
            settings=settings or LabelSettings(),
            words=words,
            keep_patches=keep_patches,
            learned=learned,
            rescore=rescore,
        )

    def _with_negatives(self, vocabulary: Vocabulary, wanted: Wanted) -> Vocabulary:
        """`TextEncoder.prepare`, once for each vocabulary, as `label` asks for it image by image."""
        key = vocabulary, wanted if isinstance(wanted, str | int) else tuple(wanted)
        if key not in self._vocabularies:
            self._vocabularies[key] = self.text.prepare(vocabulary, wanted)
        return self._vocabularies[key]

    def start_run(self, path: str | Path, job: LabelJob) -> RunWriter:
        """Make a run directory for this labeler and job, or go on with it: see
        `RunWriter.create_or_resume`.
        """
        return RunWriter.create_or_resume(path, **self._run_settings(job), learned=job.learned)

    def join_run(self, place: str | Path, job: LabelJob, photos_per_shard: int | None = None) -> SharedRun:
        """Make or join a run that several processes write: see `SharedRun.create_or_join`.

        Args:
            place: a folder, or an address such as "s3://bucket/run".
            job: what is done with every photo.
            photos_per_shard: how many photos a chunk has; None: the default.
        """
        manifest = new_manifest(**self._run_settings(job), learned=job.learned)
        return SharedRun.create_or_join(
            open_store(place), manifest, photos_per_shard or PHOTOS_PER_SHARD, job.learned
        )

    def _run_settings(self, job: LabelJob) -> dict[str, Any]:
        return {
            "settings": self.settings | {"keep_patches": job.keep_patches},
            "vocabulary": job.vocabulary,
            "embedding_dim": self.clip.embedding_dim,
            "logit_scale": job.logit_scale,
            "label_settings": job.settings,
            "weights": self.weights,
            "words_per_image": None if job.words is None else job.words.digest,
        }


def load_labeler(
    device: torch.device | str = "auto",
    *,
    clip: str,
    sam: str,
    proposals: AnySettings | None = None,
    method: str = "gem",
    precision: Precision = Precision.float32,
    short_side: int | None = None,
    mask_tokens: bool = False,
    proxy: str = SAM_PROXY,
) -> Labeler:
    """A labeler by the names of its parts.

    Args:
        device: where the models run, see `pick_device`.
        clip: as `load_clip` takes it.
        sam: as `load_sam` takes it.
        proposals: how masks are proposed; None: fast.
        method: of the patch features, see `gem_label.clip.methods`.
        precision: what the image encoders compute in.
        short_side: pixels of a photo's shorter side as CLIP sees it; None: the model's, 448 as a rule.
        mask_tokens: as `Labeler` takes it.
        proxy: whose features guide methods such as "proxyclip", as `load_guide` takes it.

    Raises:
        UsageError: a name or setting that does not exist, or mask tokens from a model without a class token.
        GemLabelError: weights that cannot be loaded.
    """
    check_proxy(named(method), proxy)
    loaded = load_clip(clip, device, precision)
    if short_side is not None:
        loaded = replace(loaded, short_side=short_side)
    segmenter = load_sam(sam, device, precision)
    guide = load_guide(segmenter, proposals, proxy) if needs_guide(named(method)) else None
    dense = DenseEncoder(loaded, method, guide=guide)
    return Labeler(dense.clip, segmenter, proposals, dense, mask_tokens=mask_tokens)


def as_vocabulary(
    classes: Vocabulary | Sequence[str] | str, background: str | Sequence[str] = ()
) -> Vocabulary:
    """A vocabulary from words, from text for `Vocabulary.parse`, or from one, which has its own background."""
    if isinstance(classes, Vocabulary):
        return classes
    if isinstance(classes, str):
        return Vocabulary.parse(classes, background)
    return Vocabulary.from_words(classes, background)


def text_encoder_of(run: Run, device: torch.device | str = "cpu") -> TextEncoder:
    """The text encoder that goes with a run's embeddings, for `relabel_run` and `search_run`.

    Raises:
        UsageError: the model of that name has other weights now.
        GemLabelError: it cannot be loaded.
    """
    settings = run.manifest["settings"]
    try:
        name, templates, stored = (
            settings["clip"],
            settings["templates"],
            run.manifest["weights"]["clip"]["sha256"],
        )
        precision = settings.get("precision", {}).get("clip", Precision.float32)
    except (KeyError, TypeError, AttributeError) as error:
        raise GemLabelError(
            f"the manifest of {run.place} does not say which CLIP model made the run"
        ) from error
    clip = load_clip(name, device, precision)
    if clip.weights_sha256 != stored:
        raise UsageError(
            f"{run.place} was made with other weights of {clip.name} (sha256 {str(stored)[:12]}, not "
            f"{str(clip.weights_sha256)[:12]}): bring those weights, or label the photos again"
        )
    return TextEncoder(clip, templates)
