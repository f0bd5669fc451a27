"""Phrases to unit-length text embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from gem_label.clip.templates import GEM_TEMPLATES
from gem_label.errors import UsageError

if TYPE_CHECKING:
    from gem_label.clip.models import Clip

PROMPTS_PER_BATCH = 256


class TextEncoder:
    """The text tower of a CLIP, with prompt templates and a cache.

    Args:
        clip: the model.
        templates: prompts with one `{}` each for the phrase; a phrase's embedding is the mean over them.

    Raises:
        UsageError: for a template without `{}`, or none at all.
    """

    def __init__(self, clip: Clip, templates: Sequence[str] = GEM_TEMPLATES) -> None:
        wrong = [template for template in templates if template.count("{}") != 1]
        if wrong or not templates:
            raise UsageError(f"a prompt template needs one {{}}, like 'a photo of a {{}}.', unlike {wrong}")
        self.clip = clip
        self.templates = tuple(templates)
        self._cache: dict[str, NDArray[np.float32]] = {}

    def encode(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of phrases, computed once for each phrase.

        Args:
            phrases: C phrases as they stand in the template, such as "electric scooter".

        Returns:
            (C, d) float32 on the CPU, rows of unit length: the normalised mean over the templates.
        """
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._cache]
        step = max(1, PROMPTS_PER_BATCH // len(self.templates))
        for start in range(0, len(new), step):
            batch = new[start : start + step]
            self._cache.update(zip(batch, self._embed(batch), strict=True))
        if not phrases:
            return np.zeros((0, self.clip.embedding_dim), np.float32)
        return np.stack([self._cache[phrase] for phrase in phrases])

    @torch.no_grad()
    def _embed(self, phrases: list[str]) -> NDArray[np.float32]:
        prompts = [template.replace("{}", phrase) for phrase in phrases for template in self.templates]
        tokens = self.clip.tokenizer(prompts).to(self.clip.device)
        embeddings = F.normalize(self.clip.model.encode_text(tokens).float(), dim=-1)
        mean = embeddings.unflatten(0, (len(phrases), len(self.templates))).mean(dim=1)
        return F.normalize(mean, dim=-1).cpu().numpy()
