"""Phrases to unit-length text embeddings."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from gem_label.checks import check_phrase
from gem_label.clip.templates import GEM_TEMPLATES
from gem_label.clip.text_cache import TextCache
from gem_label.clip.tokens import token_lengths, unknown_words
from gem_label.errors import UsageError
from gem_label.labeling.negatives import Wanted, add_negatives
from gem_label.phrases import as_words
from gem_label.tables import shorten

if TYPE_CHECKING:
    from gem_label.clip.adapters.blip import BlipClip
    from gem_label.clip.models import Clip
    from gem_label.vocabulary import Vocabulary

    TextModel: TypeAlias = open_clip.CLIP | open_clip.CustomTextCLIP | BlipClip

PROMPTS_PER_BATCH = 256  # for the tokenizer
PROMPTS_AT_ONCE = 16  # for the network: faster than fewer, and more are not faster yet on a CPU
STORE_AT_LEAST = 32  # phrases that are worth a look at the disk
SHOWN_ABOVE = 512  # phrases that are worth a progress bar
SAVE_SECONDS = 10.0
PROBE = "photo"


class TextEncoder:
    """The text tower of a CLIP, with prompt templates and two caches: in memory, and on disk for weights from a file.

    Args:
        clip: the model.
        templates: prompts with one `{}` each for the phrase; a phrase's embedding is the mean over them.

    Raises:
        UsageError: for a template without `{}`, or none at all.
    """

    def __init__(self, clip: Clip, templates: str | Sequence[str] = GEM_TEMPLATES) -> None:
        templates = (templates,) if isinstance(templates, str) else tuple(templates)
        wrong = [template for template in templates if template.count("{}") != 1]
        if wrong or not templates:
            raise UsageError(f"a prompt template needs one {{}}, like 'a photo of a {{}}.', unlike {wrong}")
        self.clip = clip
        self.templates = templates
        self._cache: dict[str, NDArray[np.float32]] = {}

    @property
    def known_words(self) -> tuple[str, ...] | None:
        """The words that a small model was trained on; None for models that know any word."""
        if self.clip.known_tokens is None:
            return None
        from gem_label.demo import demo_words  # the one model of this kind

        return tuple(demo_words())

    def prepare(self, vocabulary: Vocabulary, negatives: Wanted = "auto") -> Vocabulary:
        """A vocabulary as a run can use it: words that this encoder can tell apart, and negative words.

        Args:
            vocabulary: the classes and background words.
            negatives: see `add_negatives`; a vocabulary that has negatives keeps them.

        Returns:
            The vocabulary with negatives, without phrases of a class that have the same tokens as another of it.

        Raises:
            UsageError: two phrases have the same tokens but stand for different things, so that they would share one
                score; or a phrase is too long.
        """
        self.check_lengths(vocabulary.phrases)
        distinct = vocabulary.merged(
            lambda phrases: [tokens.tobytes() for tokens in self.token_ids(phrases).numpy()],
            "have the same tokens for this text encoder",
        )
        return add_negatives(distinct, self.encode, negatives, self.known_words)

    def token_ids(self, phrases: str | Sequence[str]) -> Tensor:
        """The tokens of C phrases in the T prompts, (C, T, n) int64, padded and cut as the network gets them."""
        phrases = as_words(phrases)
        prompts = [template.replace("{}", phrase) for phrase in phrases for template in self.templates]
        if not prompts:
            return torch.zeros((0, len(self.templates), 0), dtype=torch.long)
        return self.clip.tokenizer(prompts).unflatten(0, (len(phrases), len(self.templates)))

    def unknown_words(self, phrases: str | Sequence[str]) -> list[str]:
        """Words that the tokenizer takes to single letters or bytes, as those of other scripts: see
        `gem_label.clip.tokens.unknown_words`.
        """
        return unknown_words(self.clip.tokenizer, as_words(phrases))

    def check_lengths(self, phrases: Sequence[str]) -> None:
        """Make sure that the network gets phrases whole.

        Raises:
            UsageError: a phrase in its longest prompt has more tokens than the network reads.
        """
        limit = getattr(self.clip.tokenizer, "context_length", None)
        prompts = [self._longest_template.replace("{}", phrase) for phrase in phrases]
        lengths = token_lengths(self.clip.tokenizer, prompts)
        if limit is None or lengths is None:
            return
        for phrase, prompt, length in zip(phrases, prompts, lengths, strict=True):
            if length > limit:
                raise UsageError(
                    f"{shorten(phrase)!r} has {length} tokens in the prompt {shorten(prompt)!r}, more than the "
                    f"{limit} that this text encoder reads: give a shorter phrase"
                )

    @cached_property
    def _longest_template(self) -> str:
        lengths = token_lengths(self.clip.tokenizer, self.templates) or [len(each) for each in self.templates]
        return self.templates[int(np.argmax(lengths))]

    def encode(self, phrases: str | Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of phrases, computed once for each phrase.

        Args:
            phrases: C phrases as they stand in the template, such as "electric scooter"; or text in which they
                stand between commas.

        Returns:
            (C, d) float32 on the CPU, rows of unit length: the normalized mean over the templates.

        Raises:
            UsageError: a phrase is empty, or longer than what the network reads.
        """
        phrases = as_words(phrases)
        for phrase in phrases:
            check_phrase(phrase)
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._cache]
        store = self._store() if len(new) >= STORE_AT_LEAST else None
        if store is not None:
            stored = store.read()
            self._cache.update({phrase: stored[phrase].copy() for phrase in new if phrase in stored})
            new = [phrase for phrase in new if phrase not in stored]
        self._encode_new(new, store)
        if not phrases:
            return np.zeros((0, self.clip.embedding_dim), np.float32)
        return np.stack([self._cache[phrase] for phrase in phrases])

    def _store(self) -> TextCache | None:
        """The file of this model's embeddings; None for a model without a weight file."""
        if self.clip.weights_sha256 is None:
            return None
        probe = self._embed([PROBE])[0]
        return TextCache(self.clip.weights_sha256, self.templates, self.clip.device.type, probe)

    def _encode_new(self, phrases: list[str], store: TextCache | None) -> None:
        """Encode phrases into the cache in memory and, every few seconds and at the end, into the one on disk."""
        step = max(1, PROMPTS_PER_BATCH // len(self.templates))
        once = "" if store is None else ", once for this model"
        unsaved: dict[str, NDArray[np.float32]] = {}
        saved_at = time.monotonic()
        with tqdm(
            total=len(phrases),
            desc=f"encoding {len(phrases):,} words{once}",
            unit="word",
            disable=len(phrases) <= SHOWN_ABOVE,
        ) as bar:
            try:
                for start in range(0, len(phrases), step):
                    batch = phrases[start : start + step]
                    unsaved.update(zip(batch, self._embed(batch), strict=True))
                    self._cache.update((phrase, unsaved[phrase]) for phrase in batch)
                    bar.update(len(batch))
                    if store is not None and time.monotonic() - saved_at > SAVE_SECONDS:
                        store.add(unsaved)
                        unsaved, saved_at = {}, time.monotonic()
            finally:
                if store is not None and unsaved:
                    store.add(unsaved)

    @torch.no_grad()
    def _embed(self, phrases: list[str]) -> NDArray[np.float32]:
        """Embeddings (C, d) of C phrases, each to the bit what it is alone or among others.

        Arithmetic depends on the shape of what goes through the network at once, so that is given by the phrase:
        as many tokens as its longest prompt has, and always the same number of prompts, filled up where needed.
        """
        templates, device = len(self.templates), self.clip.device
        tokens = self.token_ids(phrases)
        lengths = token_counts(self.clip.model, tokens).amax(dim=1)
        self.check_lengths([phrases[row] for row in (lengths == tokens.shape[-1]).nonzero()[:, 0].tolist()])
        together = max(1, PROMPTS_AT_ONCE // templates)
        out = np.empty((len(phrases), self.clip.embedding_dim), np.float32)
        for length in lengths.unique().tolist():
            encode = text_encoder_of_length(self.clip.model, length)
            for rows in (lengths == length).nonzero()[:, 0].split(together):
                filled = torch.cat([rows, rows[-1:].expand(together - len(rows))])
                embeddings = encode(tokens[filled, :, :length].flatten(0, 1).to(device)).float()
                each = F.normalize(embeddings, dim=-1).unflatten(0, (together, templates))
                out[rows.numpy()] = F.normalize(each.mean(dim=1), dim=-1)[: len(rows)].cpu().numpy()
        return out


def _causal_tower(model: TextModel) -> Any:
    """The module of an open_clip model whose text positions see only those before; None for other models."""
    tower = getattr(model, "text", model)  # open_clip.CustomTextCLIP keeps it apart
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    plain = isinstance(tower, (open_clip.CLIP, TextTransformer)) and getattr(tower, "cls_emb", None) is None
    causal = isinstance(getattr(tower, "attn_mask", None), Tensor)
    return tower if plain and causal and pool == "argmax" else None


def token_counts(model: TextModel, tokens: Tensor) -> Tensor:
    """How many tokens of each prompt its embedding depends on: those behind make no difference.

    Args:
        model: a text tower as `Clip.model` holds it.
        tokens: (..., n) token ids.

    Returns:
        (...) int64 in [1, n]; n wherever nothing is known about the model.
    """
    if _causal_tower(model) is not None:
        return (
            tokens.argmax(dim=-1) + 1
        )  # the end of the text has the highest id, and the embedding is read there
    padding = getattr(model, "pad_token_id", None)
    if padding is not None:  # BLIP masks it
        return (tokens != padding).sum(dim=-1).clamp(min=1)
    return torch.full(tokens.shape[:-1], tokens.shape[-1])


def text_encoder_of_length(model: TextModel, length: int) -> Callable[[Tensor], Tensor]:
    """What embeds prompts that are cut to their first tokens: of 77 that CLIP pads to, most prompts use ten.

    Args:
        model: a text tower as `Clip.model` holds it; its weights are used, not copied.
        length: n tokens, at least `token_counts` of each prompt.

    Returns:
        (C, n) token ids on the model's device -> (C, d), as the whole prompts' up to rounding; not normalized.
    """
    tower = _causal_tower(model)
    if tower is None:
        return model.encode_text
    short = copy.copy(tower)  # the module alone; the model may be at work in another thread
    short._parameters = {**tower._parameters}
    short._buffers = {**tower._buffers}
    position, mask = tower.positional_embedding, tower.attn_mask
    short._parameters["positional_embedding"] = nn.Parameter(position[:length], requires_grad=False)
    short._buffers["attn_mask"] = mask[:length, :length]
    return short.encode_text if tower is model else short
