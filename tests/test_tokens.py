"""What tokenizers make of words: equal tokens, too many tokens, and words that they cannot know."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from open_clip import SimpleTokenizer
from open_clip.tokenizer import HFTokenizer
from small_clip import write_small_clip
from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Metaspace
from transformers import PreTrainedTokenizerFast

from gem_label.clip.blip import BlipTokenizer
from gem_label.clip.models import Clip, load_clip
from gem_label.clip.templates import IMAGENET_TEMPLATES
from gem_label.clip.text import TextEncoder
from gem_label.clip.tokens import token_lengths, unknown_words
from gem_label.errors import UsageError
from gem_label.labeling.negatives import add_negatives
from gem_label.vocabulary import Vocabulary

CAT, CAR, DOG_RU, DOG_KO = "猫", "自動車", "собака", "고양이"
WIDE_CAT = "\uff43\uff41\uff54"  # as Japanese keyboards type "cat"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return load_clip(str(write_small_clip(tmp_path_factory.mktemp("clip"))))


def saved(folder: Path, tokenizer: Tokenizer, **special: str) -> Path:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", **special).save_pretrained(folder)
    return folder


def byte_level(folder: Path) -> HFTokenizer:
    """As RoBERTa's: bytes, a few merges."""
    alphabet = ["[PAD]", *sorted(ByteLevel.alphabet()), "Ġc", "at", "Ġcat", "Ã©"]
    model = BPE(
        {token: n for n, token in enumerate(alphabet)}, [("Ġ", "c"), ("a", "t"), ("Ġc", "at"), ("Ã", "©")]
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=True), decoders.ByteLevel()
    return HFTokenizer(str(saved(folder, tokenizer)), context_length=16)


def sentencepiece(folder: Path, pieces: list[str], **options: bool) -> HFTokenizer:
    """As XLM-R's, T5's or Gemma's."""
    tokenizer = Tokenizer(Unigram([(piece, -1.0 - n) for n, piece in enumerate(pieces)], 1, **options))
    tokenizer.pre_tokenizer, tokenizer.decoder = Metaspace(), decoders.Metaspace()
    return HFTokenizer(str(saved(folder, tokenizer, unk_token="<unk>")), context_length=16)


def wordpiece(folder: Path) -> BlipTokenizer:
    """As BERT's, with one Chinese letter and Russian letters."""
    words = ["[PAD]", "[UNK]", "cat", "zebra", CAT, *DOG_RU, *(f"##{letter}" for letter in set(DOG_RU))]
    tokenizer = Tokenizer(
        WordPiece({word: n for n, word in enumerate(dict.fromkeys(words))}, unk_token="[UNK]")
    )
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    inner = PreTrainedTokenizerFast.from_pretrained(saved(folder, tokenizer, unk_token="[UNK]"))
    return BlipTokenizer(inner, 16)


# --- words that are one word ---


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (["fish & chips", "fish &amp; chips"], "'fish & chips' and 'fish &amp; chips'"),
        (["cat", WIDE_CAT], f"'cat' and '{WIDE_CAT}'"),
    ],
)
def test_classes_with_the_same_tokens_are_refused_by_name(clip: Clip, classes: list[str], names: str) -> None:
    vocabulary = Vocabulary.from_words(classes)
    with pytest.raises(UsageError) as error:
        TextEncoder(clip).prepare(vocabulary)
    assert str(error.value).startswith(
        f"{names} have the same tokens for this text encoder but stand for class"
    )


def test_words_that_no_text_form_makes_are_compared_too(clip: Clip) -> None:
    encoder = TextEncoder(clip)
    phrasings = (("bear",), ("Bear",))
    for vocabulary in (
        Vocabulary(("bear", "other"), phrasings),
        Vocabulary(("bear",), phrasings[:1], background=("BEAR",)),
        Vocabulary(("bear",), phrasings[:1], negatives=("BEAR",)),
        Vocabulary(("bear",), phrasings[:1], own_negatives=(("be\u0061r ",),)),
        Vocabulary(("é", "x"), (("é",), (unicodedata.normalize("NFD", "é"),))),
    ):
        with pytest.raises(UsageError, match="have the same tokens"):
            encoder.prepare(vocabulary, "none")


def test_phrasings_of_one_class_with_the_same_tokens_count_once(clip: Clip) -> None:
    text = "cat, Cat, CAT, kitten => cat ! cat statue, Cat Statue; dog ! cat statue"
    vocabulary = TextEncoder(clip).prepare(Vocabulary.parse(text, "sky, Sky, wall"), "none")
    assert vocabulary.phrasings == (("cat", "kitten"), ("dog",))
    assert vocabulary.background == ("sky", "wall")
    assert vocabulary.own_negatives == (("cat statue",), ("cat statue",))


def test_only_the_tokens_of_all_prompts_decide(clip: Clip) -> None:
    """Punctuation is a token for CLIP; for SigLIP's cleaning it is none."""
    words = Vocabulary.from_words(["cat", "cat."])
    assert TextEncoder(clip).prepare(words, "none") == words
    assert TextEncoder(clip, IMAGENET_TEMPLATES).prepare(words, "none") == words
    ids = TextEncoder(clip, IMAGENET_TEMPLATES).token_ids(["cat", "CAT"])
    assert ids.shape == (2, 80, 77)
    assert (ids[0] == ids[1]).all()
    clip.tokenizer, own = SimpleTokenizer(clean="canonicalize"), clip.tokenizer
    try:
        with pytest.raises(UsageError, match=r"'cat' and 'cat\.' have the same tokens"):
            TextEncoder(clip).prepare(words, "none")
    finally:
        clip.tokenizer = own


def test_a_negative_word_with_the_tokens_of_a_class_does_not_compete(clip: Clip) -> None:
    encoder = TextEncoder(clip)
    vocabulary = encoder.prepare(Vocabulary.parse("fish & chips, cat"), ["fish &amp; chips", "sky", WIDE_CAT])
    assert vocabulary.negatives == ("sky",)
    assert encoder.prepare(vocabulary) == vocabulary  # FiftyOne's model asks again


def test_a_text_encoder_that_knows_no_plural_keeps_its_class_free(clip: Clip) -> None:
    def encode(phrases: object) -> np.ndarray:
        same = np.array([[1.0, 0.0]], np.float32)
        return np.concatenate([same if "cat" in word else same[:, ::-1] for word in phrases])  # type: ignore[attr-defined]

    assert add_negatives(Vocabulary.parse("cat"), encode, "bobcat, sky").negatives == ("sky",)


def test_negatives_as_a_text_are_no_letters(clip: Clip) -> None:
    vocabulary = TextEncoder(clip).prepare(Vocabulary.parse("cat"), "sky, grass")
    assert vocabulary.negatives == ("sky", "grass")


# --- phrases that are too long ---


def test_a_phrase_that_would_be_cut_is_refused(clip: Clip) -> None:
    encoder = TextEncoder(clip)
    fits, long = " ".join(["cat"] * 70), " ".join(["cat"] * 71)  # and a photo of a ., start and end
    assert token_lengths(clip.tokenizer, [f"a photo of a {fits}."]) == [77]
    assert encoder.encode([fits]).shape == (1, 32)
    for wrong in (
        lambda: encoder.prepare(Vocabulary.from_words(["dog", long])),
        lambda: encoder.prepare(Vocabulary.from_words(["dog"], [long])),
        lambda: encoder.encode(["dog", long]),
    ):
        with pytest.raises(UsageError) as error:
            wrong()
        assert "has 78 tokens in the prompt" in str(error.value)
        assert "more than the 77 that this text encoder reads" in str(error.value)
        assert len(str(error.value)) < 300


def test_the_longest_template_counts(clip: Clip) -> None:
    phrase = " ".join(["cat"] * 69)
    TextEncoder(clip, ["a {}", "{}"]).prepare(Vocabulary.from_words([phrase]), "none")
    with pytest.raises(UsageError, match="more than the 77"):
        TextEncoder(clip, ["{}", "a photo of a hard to see {}."]).prepare(
            Vocabulary.from_words([phrase]), "none"
        )


@pytest.mark.parametrize("build", [byte_level, wordpiece])
def test_tokenizers_of_transformers_say_how_long_a_text_is(tmp_path: Path, build: Callable) -> None:
    tokenizer = build(tmp_path)
    assert token_lengths(tokenizer, ["cat " * 40, "cat"]) == [40, 1]
    assert tokenizer(["cat " * 40]).shape == (1, 16)
    assert token_lengths(tokenizer, []) == []


# --- words that it cannot know ---


def test_clips_tokenizer_knows_the_words_of_latin_alphabets() -> None:
    known = [
        "cat",
        "büro",
        "café",
        "Škoda",
        "Kraków",
        "straße",
        "Ångström",
        "køleskab",
        "R2-D2",
        "🐱 cat",
        "naïve",
        "é",
    ]
    assert unknown_words(SimpleTokenizer(), known) == []


def test_clips_tokenizer_has_only_bytes_for_other_scripts() -> None:
    foreign = [CAT, CAR, DOG_RU, DOG_KO, "γάτα", "قطة", "कुत्ता", "แมว"]
    assert unknown_words(SimpleTokenizer(), [*foreign, "cat"]) == foreign
    assert unknown_words(SimpleTokenizer(), [f"red {CAT}", f"blue {CAT}"]) == [CAT]


def test_byte_level_tokenizers_of_transformers(tmp_path: Path) -> None:
    assert unknown_words(byte_level(tmp_path), ["cat", CAT, DOG_RU, "é"]) == [CAT, DOG_RU]


def test_multilingual_tokenizers_know_what_they_have_letters_for(tmp_path: Path) -> None:
    pieces = ["[PAD]", "<unk>", "▁", "▁cat", CAT, DOG_RU[:2], DOG_RU[2:4], DOG_RU[4:], *DOG_KO, "▁é"]
    assert unknown_words(sentencepiece(tmp_path, pieces), ["cat", CAT, DOG_RU, DOG_KO, "é"]) == []


def test_english_sentencepiece_says_unknown(tmp_path: Path) -> None:
    english = sentencepiece(tmp_path, ["[PAD]", "<unk>", "▁", "▁cat"])
    assert unknown_words(english, ["cat", CAT, DOG_RU]) == [CAT, DOG_RU]


def test_sentencepiece_that_falls_back_to_bytes(tmp_path: Path) -> None:
    pieces = ["[PAD]", "<unk>", "▁", "▁cat", *(f"<0x{byte:02X}>" for byte in range(256))]
    assert unknown_words(sentencepiece(tmp_path, pieces, byte_fallback=True), ["cat", CAT]) == [CAT]


def test_wordpiece(tmp_path: Path) -> None:
    assert unknown_words(wordpiece(tmp_path), ["cat", "quagga", CAT, CAR, DOG_RU]) == ["quagga", CAR, DOG_RU]


def test_nothing_is_said_about_a_function_of_which_nothing_is_known(clip: Clip) -> None:
    def tokenize(prompts: list[str]):
        return SimpleTokenizer()(prompts)

    assert unknown_words(tokenize, [CAT]) == []
    assert token_lengths(tokenize, ["cat"]) is None


# --- texts in place of lists ---


def test_a_text_is_no_list_of_letters(clip: Clip) -> None:
    encoder = TextEncoder(clip, "a photo of a {}.")
    assert encoder.templates == ("a photo of a {}.",)
    np.testing.assert_array_equal(encoder.encode("cat, dog"), encoder.encode(["cat", "dog"]))
    assert encoder.unknown_words(f"cat, {CAT}") == [CAT]
