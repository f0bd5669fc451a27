"""Label a folder of images with any words: SAM proposes masks, GEM names them, no training.

    import gem_label
    run = gem_label.label_images(["photos/"], "cat, dog", "RUN")       # a folder into a run directory

    labeler = gem_label.load_labeler(clip="ViT-B-16/openai", sam="mobile_sam")
    labeled = labeler.label("photo.jpg", ["cat", "dog"])               # one image

Names are loaded on first use: `import gem_label` alone is quick and does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gem_label.clip.dense import DenseEncoder
    from gem_label.clip.methods import DenseMethod
    from gem_label.clip.models import load_clip
    from gem_label.clip.text import TextEncoder
    from gem_label.clip.windows import Window
    from gem_label.engines.stream import iter_labeled_photos
    from gem_label.errors import GemLabelError, ImageError, UsageError
    from gem_label.formats.reading import read_annotations
    from gem_label.formats.writing import write_annotations
    from gem_label.label_folder import label_images
    from gem_label.labeled_photo import LabeledPhoto, PhotoError
    from gem_label.labeler import Labeler, load_labeler
    from gem_label.labeling import LabelSettings, MaskLabels, Thresholds
    from gem_label.masks import MaskSet
    from gem_label.photos.listing import list_images
    from gem_label.photos.photo import Photo
    from gem_label.runs import Run, open_run, relabel_run, search_run
    from gem_label.runs.export import export_run
    from gem_label.runs.learn import learn_run
    from gem_label.runs.summary import summarize_run
    from gem_label.sam.fast import FastSettings
    from gem_label.sam.models import load_sam
    from gem_label.sam.proposals import ProposalSettings
    from gem_label.vocabulary import Vocabulary
    from gem_label.words import WordsPerImage

    __version__: str

__all__ = [
    "DenseEncoder",
    "DenseMethod",
    "FastSettings",
    "GemLabelError",
    "ImageError",
    "LabelSettings",
    "LabeledPhoto",
    "Labeler",
    "MaskLabels",
    "MaskSet",
    "Photo",
    "PhotoError",
    "ProposalSettings",
    "Run",
    "TextEncoder",
    "Thresholds",
    "UsageError",
    "Vocabulary",
    "Window",
    "WordsPerImage",
    "export_run",
    "iter_labeled_photos",
    "label_images",
    "learn_run",
    "list_images",
    "load_clip",
    "load_labeler",
    "load_sam",
    "open_run",
    "read_annotations",
    "relabel_run",
    "search_run",
    "summarize_run",
    "write_annotations",
]

_HOMES = {
    "DenseEncoder": "gem_label.clip.dense",
    "DenseMethod": "gem_label.clip.methods",
    "FastSettings": "gem_label.sam.fast",
    "GemLabelError": "gem_label.errors",
    "ImageError": "gem_label.errors",
    "LabelSettings": "gem_label.labeling",
    "LabeledPhoto": "gem_label.labeled_photo",
    "Labeler": "gem_label.labeler",
    "MaskLabels": "gem_label.labeling",
    "MaskSet": "gem_label.masks",
    "Photo": "gem_label.photos.photo",
    "PhotoError": "gem_label.labeled_photo",
    "ProposalSettings": "gem_label.sam.proposals",
    "Run": "gem_label.runs",
    "TextEncoder": "gem_label.clip.text",
    "Thresholds": "gem_label.labeling",
    "UsageError": "gem_label.errors",
    "Vocabulary": "gem_label.vocabulary",
    "Window": "gem_label.clip.windows",
    "WordsPerImage": "gem_label.words",
    "export_run": "gem_label.runs.export",
    "iter_labeled_photos": "gem_label.engines.stream",
    "label_images": "gem_label.label_folder",
    "learn_run": "gem_label.runs.learn",
    "list_images": "gem_label.photos.listing",
    "load_clip": "gem_label.clip.models",
    "load_labeler": "gem_label.labeler",
    "load_sam": "gem_label.sam.models",
    "open_run": "gem_label.runs",
    "read_annotations": "gem_label.formats.reading",
    "relabel_run": "gem_label.runs",
    "search_run": "gem_label.runs",
    "summarize_run": "gem_label.runs.summary",
    "write_annotations": "gem_label.formats.writing",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("gem-label")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, as tab completion shows them."""
    return sorted([*__all__, "__doc__", "__file__", "__name__", "__path__", "__version__"])
