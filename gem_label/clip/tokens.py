"""What a tokenizer makes of phrases: how many tokens they have, and which words it has only letters or bytes for.

A tokenizer is what `Clip.tokenizer` holds: one of open_clip's, or one of transformers' as its attribute `tokenizer`.
Of any other callable nothing is known but the token ids that it returns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from open_clip import SimpleTokenizer
from torch import Tensor

from gem_label.phrases import tidy

Tokenizer = Callable[[list[str]], Tensor]
SPACE = "\u2581"
"""What sentencepiece has in place of a space."""
BYTE = re.compile("<0x[0-9A-F]{2}>")
"""sentencepiece's token for a byte of a letter that it lacks."""


def token_lengths(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[int] | None:
    """How many tokens each prompt has, with those for the start and end, if nothing is cut.

    Returns:
        None for a tokenizer that does not say.
    """
    if isinstance(tokenizer, SimpleTokenizer):
        return [len(tokenizer.encode(prompt)) + 2 for prompt in prompts]
    if (inner := _transformers_tokenizer(tokenizer)) is not None:
        if not prompts:
            return []
        whole = inner([_cleaned(tokenizer, prompt) for prompt in prompts], truncation=False, verbose=False)
        return [len(ids) for ids in whole["input_ids"]]
    return None


def unknown_words(tokenizer: Tokenizer, phrases: Sequence[str]) -> list[str]:
    """The words in other alphabets, or outside a fixed vocabulary, that a tokenizer has no piece of.

    Such a word comes to the network as single letters, parts of letters or "unknown": whatever it answers, it has not
    learned what the word means. A word counts as known as soon as a piece of two letters is known. English words
    are never listed for tokenizers that spell what they lack, and none is listed for a tokenizer of which nothing
    is known.
    """
    words = dict.fromkeys(word for phrase in phrases for word in tidy(phrase).split())
    read = _reader(tokenizer)
    return [] if read is None else [word for word in words if not _is_known(word, read(word))]


@dataclass(frozen=True)
class _Pieces:
    """What a tokenizer makes of a word.

    Attributes:
        texts: the text of each piece; None for a part of a letter, or for the token "unknown".
        spells: whether single letters mean that the vocabulary lacks the word.
        is_unknown: whether one of the pieces is the token "unknown".
    """

    texts: list[str | None]
    spells: bool
    is_unknown: bool = False


def _is_known(word: str, pieces: _Pieces) -> bool:
    other_alphabet = any(letter.isalpha() and not letter.isascii() for letter in word)
    if not other_alphabet and not pieces.is_unknown:
        return True
    if any(text is not None and len(text) > 1 for text in pieces.texts):
        return True
    return None not in pieces.texts and (len(pieces.texts) == 1 or not pieces.spells)


def _reader(tokenizer: Tokenizer) -> Callable[[str], _Pieces] | None:
    if isinstance(tokenizer, SimpleTokenizer):
        return lambda word: _byte_pieces(tokenizer, word)
    inner = _transformers_tokenizer(tokenizer)
    if inner is None:
        return None
    # sentencepiece has a token for each letter of its languages
    is_sentencepiece = inner.convert_tokens_to_ids(SPACE) not in (None, inner.unk_token_id)
    is_byte_level = not is_sentencepiece and inner.convert_tokens_to_string(["Ã©"]).strip() == "é"

    def read(word: str) -> _Pieces:
        ids = inner(_cleaned(tokenizer, word), add_special_tokens=False, verbose=False)["input_ids"]
        tokens = inner.convert_ids_to_tokens(ids)
        texts = [text for token in tokens if (text := _transformers_piece(inner, token)) != ""]
        continues = any(token.startswith("##") for token in tokens)  # as BERT marks the rest of a word
        return _Pieces(texts, is_byte_level or continues, is_unknown=inner.unk_token in tokens)

    return read


def _byte_pieces(tokenizer: SimpleTokenizer, word: str) -> _Pieces:
    texts: list[str | None] = []
    for token in tokenizer.encode(word):
        letters = tokenizer.decoder[token].removesuffix("</w>")
        try:
            texts.append(bytes(tokenizer.byte_decoder[letter] for letter in letters).decode())
        except UnicodeDecodeError:
            texts.append(None)
    return _Pieces(texts, spells=True)


def _transformers_piece(inner: Any, token: str) -> str | None:
    """The text of a token, "" for a space, None for a part of a letter or "unknown"."""
    if token == inner.unk_token or BYTE.fullmatch(token):
        return None
    text = "" if token == SPACE else inner.convert_tokens_to_string([token])
    return None if "\ufffd" in text else text.strip().removeprefix("##").strip()


def _transformers_tokenizer(tokenizer: Tokenizer) -> Any:
    inner = getattr(tokenizer, "tokenizer", None)
    return inner if hasattr(inner, "convert_ids_to_tokens") else None


def _cleaned(tokenizer: Any, text: str) -> str:
    """The text as open_clip's wrapper of a tokenizer hands it on."""
    return tokenizer.clean_fn(text) if hasattr(tokenizer, "clean_fn") else text
