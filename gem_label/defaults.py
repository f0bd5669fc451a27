"""The models that are used where none is named."""

from __future__ import annotations

from typing import Final

DEFAULT_CLIP: Final = "ViT-B-16/openai"
DEFAULT_SAM: Final = "mobile_sam"
