"""Label a folder of photos with any words: SAM proposes masks, GEM names them, no training.

    import gem_label
    labeler = gem_label.Labeler(gem_label.load_clip("ViT-B-16/openai"), gem_label.load_sam("mobile_sam"))
    labeled = labeler.label("photo.jpg", ["cat", "dog"])

Names are loaded on first use: `import gem_label` alone is quick and brings in no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gem_label.clip.dense import DenseEncoder
    from gem_label.clip.models import load_clip
    from gem_label.clip.text import TextEncoder
    from gem_label.formats.reading import read_annotations
    from gem_label.formats.writing import write_annotations
    from gem_label.labeler import Labeler
    from gem_label.masks import MaskSet
    from gem_label.runs import open_run
    from gem_label.runs.export import export_run
    from gem_label.sam.models import load_sam
    from gem_label.vocabulary import Vocabulary

__all__ = [
    "DenseEncoder",
    "Labeler",
    "MaskSet",
    "TextEncoder",
    "Vocabulary",
    "export_run",
    "load_clip",
    "load_sam",
    "open_run",
    "read_annotations",
    "write_annotations",
]

_HOMES = {
    "DenseEncoder": "gem_label.clip.dense",
    "Labeler": "gem_label.labeler",
    "MaskSet": "gem_label.masks",
    "TextEncoder": "gem_label.clip.text",
    "Vocabulary": "gem_label.vocabulary",
    "export_run": "gem_label.runs.export",
    "load_clip": "gem_label.clip.models",
    "load_sam": "gem_label.sam.models",
    "open_run": "gem_label.runs",
    "read_annotations": "gem_label.formats.reading",
    "write_annotations": "gem_label.formats.writing",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What tab completion shows."""
    return sorted([*globals(), *__all__])
