"""GEM-SAM as a FiftyOne `Model`: `dataset.apply_model(GemSamModel(labeler, classes), "gem_sam")`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import GemLabelError, UsageError
from gem_label.labeler import Labeler, as_vocabulary, load_labeler
from gem_label.labeling import Thresholds, Vocabulary
from gem_label.labeling.negatives import Wanted
from gem_label.review.pushing.merge import photo_proposals
from gem_label.rle import crop_mask

try:
    import fiftyone as fo
except ImportError as error:
    raise GemLabelError(f"{error}: pip install 'gem-label[fiftyone]'") from error


ZOO = {
    "gem-sam-vit-b-16": "ViT-B-16/openai",
    "gem-sam-vit-l-14": "ViT-L-14/openai",
    "gem-sam-demo": "demo",
}
"""Names of models -> CLIP; SAM is MobileSAM."""

ZOO_SAM = "mobile_sam"


def load_zoo_model(
    name: str,
    classes: Vocabulary | Sequence[str] | str | None = None,
    background: str | Sequence[str] = (),
    min_score: float | str | Mapping[str, float] | Thresholds | None = None,
    negatives: Wanted = "auto",
    max_prompts: int = 192,
    device: str | None = None,
) -> GemSamModel:
    """One of the models of `ZOO`, for `dataset.apply_model(model, "gem_sam")`.

    Args:
        name: one of `ZOO`.
        classes: words, text as `Vocabulary.parse` reads it, or a vocabulary.
        background: words that compete with the classes and are never a label, or text as --background takes.
        min_score: score in [0, 1] below which a mask is left out: a number, "0.5, cat=0.4", or numbers by class;
            None: the default.
        negatives: words that compete besides and are never a label: "auto", "none", how many, or the words.
        max_prompts: most prompts for a photo, see `gem_label.sam.FastSettings`.
        device: "cpu" or "cuda"; None: the GPU when there is one.

    Raises:
        UsageError: no such model, or no classes.
    """
    import torch

    from gem_label.sam import FastSettings

    if name not in ZOO:
        raise UsageError(f"there is no model {name!r}: {', '.join(ZOO)}")
    if not classes:
        raise UsageError(f"give the words: load_zoo_model({name!r}, classes='cat, dog')")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    proposals = FastSettings.with_at_most(max_prompts)
    labeler = load_labeler(device, clip=ZOO[name], sam=ZOO_SAM, proposals=proposals)
    return GemSamModel(labeler, classes, background, min_score, negatives)


class GemSamModel(fo.SamplesMixin, fo.Model):
    """Labeled instance masks of images, for `apply_model`.

    Each prediction is a `Detections` with label, mask, confidence (score) and margin of the masks that are kept.
    Nothing is stored beside them: to relabel with other words later, make a run and push it.

    Args:
        labeler: the models.
        classes: words, text as `Vocabulary.parse` reads it, or a vocabulary, which has its own background.
        background: words that compete with the classes and are never a label, or text as --background takes.
        min_score: score in [0, 1] below which a mask is left out, see `Thresholds.of`; None: the default.
        negatives: words that compete besides and are never a label, see `add_negatives`.
    """

    config = None
    """Asked for by `apply_model`, which then applies `confidence_thresh` and `classes` to the detections itself."""

    def __init__(
        self,
        labeler: Labeler,
        classes: Vocabulary | Sequence[str] | str,
        background: str | Sequence[str] = (),
        min_score: float | str | Mapping[str, float] | Thresholds | None = None,
        negatives: Wanted = "auto",
    ) -> None:
        super().__init__()
        self.labeler, self.min_score = labeler, Thresholds.of(min_score)
        words = as_vocabulary(classes, background)
        self.min_score.by_class(words.classes)  # before any photo is labeled
        # chosen once, not photo by photo
        self.vocabulary = labeler.job(words, negatives=negatives).vocabulary

    @property
    def media_type(self) -> str:
        """What the model takes."""
        return "image"

    @property
    def ragged_batches(self) -> bool:
        """Photos of different sizes are not batched."""
        return True

    @property
    def transforms(self) -> None:
        """Photos are taken as they are."""
        return

    @property
    def preprocess(self) -> bool:
        """Nothing to switch off."""
        return False

    @preprocess.setter
    def preprocess(self, value: bool) -> None:
        pass

    def predict(self, arg: NDArray[np.uint8], sample: Any = None) -> Any:
        """The detections of one photo.

        Args:
            arg: (H, W, 3) uint8 RGB.
            sample: the FiftyOne sample; its file is read again by `gem_label.photos.reading.read_image`, so that
                16-bit, CMYK and transparent photos look as they do in a run.
        """
        picture = arg if sample is None else Path(sample.filepath)
        labeled = self.labeler.label(picture, self.vocabulary, min_score=self.min_score, negatives="none")
        masks = labeled.masks
        return fo.Detections(
            detections=[
                fo.Detection(
                    label=proposal.label,
                    confidence=proposal.score,
                    margin=proposal.margin,
                    bounding_box=list(proposal.bounding_box),
                    mask=crop_mask(masks.counts[proposal.index], masks.height, proposal.box),
                )
                for proposal in photo_proposals("", masks, labeled.labels)
            ]
        )
