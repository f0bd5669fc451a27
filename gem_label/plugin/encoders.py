"""The text encoder of a run, kept between calls: forms ask for embeddings as one types."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from gem_label.runs import Run, open_run

if TYPE_CHECKING:
    from gem_label.clip.text import TextEncoder


def text_encoder(run: Run) -> TextEncoder:
    """The text encoder that goes with a run's embeddings.

    Raises:
        GemLabelError: the CLIP of the run cannot be loaded, or has other weights now.
    """
    return _encoder(run.path, run.manifest["weights"]["clip"]["sha256"])


@lru_cache(maxsize=1)  # loading takes seconds, and reviewers work on one run at a time
def _encoder(path: Path, sha256: str | None) -> TextEncoder:
    from gem_label.labeler import text_encoder_of  # torch: not before it is needed

    return text_encoder_of(open_run(path))
