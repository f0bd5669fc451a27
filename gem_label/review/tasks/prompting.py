"""Things that a run missed: asked for by points or a box, drawn by SAM, named by the words of the run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gem_label.errors import GemLabelError, UsageError
from gem_label.evaluation.models import encoder_of_run
from gem_label.labeled_photo import pool_photo
from gem_label.labeling.proposing import NO_PROPOSAL, LabelProposal, propose_labels
from gem_label.learning.learned import apply_learned
from gem_label.masks import MaskSet
from gem_label.photos.reading import read_image
from gem_label.review.editing.adding import store_mask
from gem_label.review.storage.fields import check_mask_field, run_of
from gem_label.review.storage.internals import samples_of
from gem_label.runs import Run
from gem_label.sam.encoding import EncodedImage, encode_image
from gem_label.sam.models import Sam, load_sam
from gem_label.sam.prompting import Point, Prompt, prompt_masks

KEPT = 4
"""Photos whose features stay in memory: some 6 MB each."""


class PhotoPrompter:
    """SAM, asked about things in photos; the last photos stay encoded, so that only the first question takes long.

    Several threads may ask; they are answered one after the other.

    Args:
        sam: the model.
        kept: so many photos stay encoded.
    """

    def __init__(self, sam: Sam, kept: int = KEPT) -> None:
        self.sam = sam
        self._lock = Lock()
        self._encoded = lru_cache(maxsize=kept)(self._encode)

    def draw(self, path: str, prompt: Prompt, size: tuple[int, int] | None = None) -> MaskSet:
        """SAM's masks for a prompt.

        Args:
            path: of the photo.
            prompt: points and box.
            size: width and height in pixels of the photo that the prompt is for; None: of the file.

        Returns:
            Masks over the file's pixels, the preferred one first, see `prompt_masks`.

        Raises:
            ImageError: the photo cannot be read.
        """
        with self._lock:
            encoded = self._encoded(path, _changed_at(path))
            if size is not None:
                prompt = prompt.scaled(encoded.size[1] / size[0], encoded.size[0] / size[1])
            return prompt_masks(self.sam, encoded, prompt)

    def _encode(self, path: str, changed_at: int) -> EncodedImage:
        return encode_image(self.sam, read_image(path))


class MaskNamer:
    """The words of a run, for masks that it does not have; the last photos stay encoded.

    Several threads may ask; they are answered one after the other.

    Args:
        run: the run; its CLIP is loaded.
        kept: so many photos stay encoded.

    Raises:
        GemLabelError: the CLIP of the run cannot be loaded, or has other weights now.
    """

    def __init__(self, run: Run, kept: int = KEPT) -> None:
        self._encoder = encoder_of_run(run)
        self._vocabulary, self._logit_scale = run.vocabulary, run.logit_scale
        text = self._encoder.dense.text.encode(run.vocabulary.phrases)
        self._text, _ = apply_learned(run.learned, text, run.vocabulary, run.logit_scale)
        self._lock = Lock()
        self._features = lru_cache(maxsize=kept)(self._encode)

    def propose(self, path: str, masks: MaskSet) -> list[LabelProposal]:
        """The classes that fit each of some masks of a photo best.

        Raises:
            ImageError: the photo cannot be read.
        """
        with self._lock:
            patches, class_token = self._features(path, _changed_at(path))
        photo = pool_photo(masks, patches, class_token)
        return propose_labels(
            photo.masks, self._text, self._vocabulary, self._logit_scale, photo.image_embedding
        )

    @torch.no_grad()
    def _encode(self, path: str, changed_at: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        pixels = self._encoder.preprocess(read_image(path))
        patches, class_token = self._encoder.dense.encode_with_class_token(pixels[None])
        return patches[0].cpu().numpy(), class_token[0].cpu().numpy()


def _changed_at(path: str) -> int:
    """When a file was written, in nanoseconds; 0 where there is none, which whoever reads it will say."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def add_mask(
    dataset: Any,
    field: str,
    sample_id: str,
    points: Sequence[Point] = (),
    negative_points: Sequence[Point] = (),
    box: Sequence[float] | None = None,
    label: str | None = None,
    author: str | None = None,
    prompter: PhotoPrompter | None = None,
    namer: MaskNamer | None = None,
) -> str:
    """Add a thing that the run missed to a dataset, as an accepted mask; `undo` takes it back.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        sample_id: the id of the sample.
        points: points x, y in pixels of the photo that are inside the thing.
        negative_points: points that are not.
        box: x0, y0, x1, y1 in pixels, a box around the thing.
        label: its class; None: the best of the run's words.
        author: the name of the person who adds it; None: whose process this is.
        prompter: SAM, to be given where many masks are added; None: MobileSAM is loaded.
        namer: the words of the field's run, to be given where many masks are added; None: they are loaded where
            there is no label.

    Returns:
        The id of the new detection.

    Raises:
        UsageError: no such field or photo, a prompt that is none, or SAM sees nothing there.
        GemLabelError: a model cannot be loaded, the photo cannot be read, or the database did not take the mask.

    Example:
        add_mask(dataset, "gem_label", sample.id, points=[(210, 80)], label="cup")
    """
    from bson import ObjectId

    check_mask_field(dataset, field)
    corners = None if box is None else tuple(float(number) for number in box)
    if corners is not None and len(corners) != 4:
        raise UsageError("a box is x0, y0, x1, y1")
    prompt = Prompt(tuple(points), tuple(negative_points), corners)
    path = photo_path(dataset, sample_id)
    if label is None and namer is None:
        namer = MaskNamer(run_of(dataset, field))
    masks = (prompter or PhotoPrompter(load_sam())).draw(path, prompt)
    if not len(masks):
        raise UsageError("SAM sees nothing there: give another point or a box")
    proposal = NO_PROPOSAL if namer is None else namer.propose(path, masks)[0]
    chosen = proposal.classes[0][0] if label is None else label
    new = str(ObjectId())
    answer = store_mask(dataset, field, sample_id, masks.rles[0], chosen, proposal, new, author)
    if answer.outcome != "stored":
        raise GemLabelError(f"the photo {path} left the dataset meanwhile")
    return new


def photo_path(dataset: Any, sample_id: str) -> str:
    """The path of a sample's photo.

    Raises:
        UsageError: the dataset has no such sample.
    """
    from bson import ObjectId
    from bson.errors import InvalidId

    try:
        document = samples_of(dataset).find_one({"_id": ObjectId(sample_id)}, ["filepath"])
    except InvalidId:
        document = None
    if document is None:
        raise UsageError(f"dataset {dataset.name!r} has no photo {sample_id!r}")
    return str(document["filepath"])
