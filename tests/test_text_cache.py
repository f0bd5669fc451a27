"""Text embeddings: the cache on disk, and prompts cut to the tokens that count."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray

import gem_label.clip.text as text_module
from gem_label.clip.models import Clip, as_clip, load_clip
from gem_label.clip.text import TextEncoder, text_encoder_of_length, token_counts
from gem_label.clip.text_cache import FOLDER, LOCK, MOST_PHRASES, TextCache
from gem_label.demo import demo_words

TEMPLATES = ("a photo of a {}.", "the {}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for gem-label's cache."""
    monkeypatch.setenv("GEM_LABEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip("demo")


@pytest.fixture
def words() -> list[str]:
    return list(demo_words())[:60]


def files(cache: Path) -> list[Path]:
    """What is in the cache's folder but the lock."""
    folder = cache / FOLDER
    return sorted(path for path in folder.iterdir() if path.name != LOCK) if folder.exists() else []


def without_cache(clip: Clip, templates: tuple[str, ...], words: list[str]) -> NDArray[np.float32]:
    return TextEncoder(replace(clip, weights_sha256=None), templates).encode(words)


class Counting:
    """A tokenizer that counts its prompts, but not the probe's."""

    def __init__(self, clip: Clip) -> None:
        self.prompts = 0
        self._tokenizer = clip.tokenizer

    def __call__(self, prompts: list[str]) -> torch.Tensor:
        self.prompts += sum(text_module.PROBE not in prompt.replace("a photo of", "") for prompt in prompts)
        return self._tokenizer(prompts)


# the cache


def test_a_hit_is_what_a_miss_is(cache: Path, clip: Clip, words: list[str]) -> None:
    plain = without_cache(clip, TEMPLATES, words)
    assert files(cache) == []
    missed = TextEncoder(clip, TEMPLATES).encode(words)
    assert len(files(cache)) == 1
    counted = replace(clip, tokenizer=Counting(clip))
    hit = TextEncoder(counted, TEMPLATES).encode(words)
    assert counted.tokenizer.prompts == 0  # type: ignore[attr-defined]
    assert missed.tobytes() == plain.tobytes() == hit.tobytes()
    assert hit.dtype == np.float32


def test_half_of_the_words_known(cache: Path, clip: Clip, words: list[str]) -> None:
    TextEncoder(clip).encode(words[10:50])
    counted = replace(clip, tokenizer=Counting(clip))
    encoder = TextEncoder(counted)
    order = words[::-1]
    assert encoder.encode(order).tobytes() == without_cache(clip, encoder.templates, order).tobytes()
    assert counted.tokenizer.prompts == 20  # type: ignore[attr-defined]
    encoder = TextEncoder(replace(clip, tokenizer=(again := Counting(clip))))
    encoder.encode(words)
    assert again.prompts == 0


def test_few_words_leave_the_disk_alone(cache: Path, clip: Clip, words: list[str]) -> None:
    TextEncoder(clip).encode(words[:31])
    assert files(cache) == []
    encoder = TextEncoder(clip)
    encoder.encode(words[:20])
    encoder.encode(words[:40])  # 20 of them are new
    assert files(cache) == []


def test_others_do_not_hit(cache: Path, clip: Clip, words: list[str]) -> None:
    TextEncoder(clip).encode(words)
    counting = Counting(clip)
    other_weights = replace(clip, weights_sha256="0" * 64, tokenizer=counting)
    TextEncoder(other_weights).encode(words)
    assert counting.prompts == 60
    TextEncoder(replace(clip, tokenizer=counting), TEMPLATES).encode(words)
    assert counting.prompts == 180
    assert len(files(cache)) == 3


def test_a_model_that_rounds_differently_does_not_hit(cache: Path, words: list[str]) -> None:
    clip = load_clip("demo")
    TextEncoder(clip).encode(words)
    with torch.no_grad():  # the same checksum, as with another activation for the same weights
        clip.model.text_projection.mul_(1 + torch.linspace(0, 1e-3, clip.embedding_dim))  # type: ignore[union-attr,operator]
    assert (
        TextEncoder(clip).encode(words).tobytes()
        == without_cache(clip, TextEncoder(clip).templates, words).tobytes()
    )
    assert len(files(cache)) == 2


def test_devices_do_not_share() -> None:
    probe = np.ones(4, np.float32)
    names = {TextCache("0" * 64, TEMPLATES, device, probe).name for device in ("cpu", "cuda", "mps")}
    assert len(names) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "pickle", "text", "folder"])
def test_a_damaged_file_is_replaced(cache: Path, clip: Clip, words: list[str], damage: str) -> None:
    expected = TextEncoder(clip).encode(words)
    [path] = files(cache)
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.touch()
    elif damage == "flipped":
        path.write_bytes(content[:9000] + bytes([content[9000] ^ 64]) + content[9001:])
    elif damage == "pickle":
        with path.open("wb") as file:
            np.savez(file, text=np.array([{}]), offsets=np.array([{}]), vectors=np.array([{}]))
    elif damage == "text":
        path.write_text("no archive")
    else:
        path.mkdir()
    assert TextEncoder(clip).encode(words).tobytes() == expected.tobytes()
    if damage != "folder":  # which is in the way for good
        assert path.read_bytes() == content
    assert files(cache) == [path]


def test_no_flipped_bit_gets_through(cache: Path) -> None:
    store = TextCache("0" * 64, TEMPLATES, "cpu", np.ones(3, np.float32))
    stored = {f"word {i}": np.full(3, i, np.float32) for i in range(5)}
    store.add(stored)
    [path] = files(cache)
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        read = store.read()
        assert not read or all((read[word] == stored[word]).all() for word in stored), at


def test_a_folder_that_cannot_be_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    clip: Clip,
    words: list[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GEM_LABEL_CACHE", str(tmp_path / "file" / "cache"))
    assert TextEncoder(clip, TEMPLATES).encode(words).shape == (60, clip.embedding_dim)
    monkeypatch.delenv("GEM_LABEL_CACHE")
    monkeypatch.setattr(Path, "expanduser", lambda self: (_ for _ in ()).throw(RuntimeError("no home")))
    assert TextEncoder(clip, TEMPLATES).encode(words).shape == (60, clip.embedding_dim)
    assert capfd.readouterr() == ("", "")


def test_two_writers(cache: Path) -> None:
    """Whoever reads while others write sees a whole file; at the end the phrases of both are there."""
    probe = np.ones(8, np.float32)

    def vector(i: int) -> NDArray[np.float32]:
        return np.full(8, i, np.float32)

    def write(who: int) -> None:
        store = TextCache("0" * 64, TEMPLATES, "cpu", probe)
        for i in range(20):
            store.add({f"{who} {i} {j}": vector(i) for j in range(10)})

    threads = [threading.Thread(target=write, args=(who,)) for who in range(2)]
    for thread in threads:
        thread.start()
    store = TextCache("0" * 64, TEMPLATES, "cpu", probe)
    sizes = []
    while any(thread.is_alive() for thread in threads):
        read = store.read()
        sizes.append(len(read))
        assert all((vector(int(phrase.split()[1])) == value).all() for phrase, value in read.items())
    for thread in threads:
        thread.join()
    final = store.read()
    assert len(final) == 400
    assert len(files(cache)) == 1


def test_a_killed_writer_leaves_the_file_whole(cache: Path) -> None:
    script = (
        "import numpy as np\nfrom gem_label.clip.text_cache import TextCache\n"
        "store = TextCache('0' * 64, ['{}'], 'cpu', np.ones(64, np.float32))\ni = 0\n"
        "while True:\n    store.add({f'{i} {j}': np.full(64, i, np.float32) for j in range(500)})\n"
        "    i += 1\n    print(i, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    read = TextCache("0" * 64, ["{}"], "cpu", np.ones(64, np.float32)).read()
    assert len(read) >= 1500
    assert all((value == int(phrase.split()[0])).all() for phrase, value in read.items())


def test_what_killed_writers_left_is_deleted_in_time(cache: Path) -> None:
    (cache / FOLDER).mkdir(parents=True)
    old, young = cache / FOLDER / ".old.npz.0.tmp", cache / FOLDER / ".young.npz.0.tmp"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 1e6,) * 2)
    TextCache("0" * 64, TEMPLATES, "cpu", np.ones(2, np.float32)).add({"a": np.ones(2, np.float32)})
    assert not old.exists()
    assert young.exists()


def test_any_phrase_comes_back(cache: Path) -> None:
    store = TextCache("0" * 64, TEMPLATES, "cpu", np.ones(2, np.float32))
    phrases = ["", "é", "猫 \n", "\udc80", "a\0b"]
    store.add({phrase: np.full(2, i, np.float32) for i, phrase in enumerate(phrases)})
    assert {phrase: value[0] for phrase, value in store.read().items()} == {
        p: i for i, p in enumerate(phrases)
    }


def test_the_oldest_phrases_make_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_PHRASES > 10_000
    monkeypatch.setattr("gem_label.clip.text_cache.MOST_PHRASES", 3)
    store = TextCache("0" * 64, TEMPLATES, "cpu", np.ones(2, np.float32))
    for i in range(5):
        store.add({str(i): np.full(2, i, np.float32)})
    assert list(store.read()) == ["2", "3", "4"]


def test_an_interrupted_start_keeps_its_words(
    cache: Path, clip: Clip, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_module, "PROMPTS_PER_BATCH", 20)
    counting = Counting(clip)

    def interrupted(prompts: list[str]) -> torch.Tensor:
        if counting.prompts >= 40:
            raise KeyboardInterrupt
        return counting(prompts)

    with pytest.raises(KeyboardInterrupt):
        TextEncoder(replace(clip, tokenizer=interrupted)).encode(words)
    again = Counting(clip)
    TextEncoder(replace(clip, tokenizer=again)).encode(words)
    assert again.prompts == 20


def test_a_long_list_shows_its_progress(
    cache: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    many = [f"a {first} {second}" for first in demo_words()[:30] for second in demo_words()[:40]]
    TextEncoder(clip).encode(many)
    out, err = capfd.readouterr()
    assert out == ""
    assert "encoding 1,200 words, once for this model" in err
    TextEncoder(clip).encode(many)
    assert capfd.readouterr().err == ""


# prompts cut to the tokens that count

CAUSAL = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 32, "patch_size": 16}
PROMPTS = ["a photo of a cat.", "an electric scooter", " ".join(["word"] * 100), ""]


@pytest.mark.parametrize("custom", [False, True])
def test_cut_prompts_have_the_same_embeddings(custom: bool) -> None:
    torch.manual_seed(0)
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    model = kind(embed_dim=16, vision_cfg=dict(VISION), text_cfg=dict(CAUSAL)).eval()
    tokens = open_clip.SimpleTokenizer()(PROMPTS)
    counts = token_counts(model, tokens)
    assert counts.tolist() == [8, 6, 77, 2]
    with torch.no_grad():
        whole = model.encode_text(tokens)
        for row, count in enumerate(counts.tolist()):
            cut = text_encoder_of_length(model, count)(tokens[row : row + 1, :count])
            np.testing.assert_allclose(cut[0], whole[row], atol=1e-5)
        assert torch.equal(model.encode_text(tokens), whole)  # the model itself is as it was


@pytest.mark.parametrize(
    "text_cfg", [{"no_causal_mask": True}, {"pool_type": "last"}, {"embed_cls": True, "pool_type": "last"}]
)
def test_prompts_are_whole_where_all_tokens_count(text_cfg: dict[str, object]) -> None:
    model = open_clip.CustomTextCLIP(embed_dim=16, vision_cfg=dict(VISION), text_cfg={**CAUSAL, **text_cfg})
    tokens = open_clip.SimpleTokenizer()(PROMPTS)
    assert token_counts(model, tokens).tolist() == [77] * 4
    with torch.no_grad():
        assert torch.equal(text_encoder_of_length(model, 77)(tokens), model.encode_text(tokens))


def test_an_embedding_does_not_depend_on_its_neighbors() -> None:
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=64, vision_cfg=dict(VISION), text_cfg={**CAUSAL, "width": 128})
    clip = as_clip(model)
    words = [f"{size} {word}" for size in ("tiny", "very large") for word in demo_words()[:20]]
    for templates in (("a photo of a {}.",), TEMPLATES, tuple(f"{'very ' * i}nice {{}}" for i in range(17))):
        together = TextEncoder(clip, templates).encode(words)
        alone = np.concatenate([TextEncoder(clip, templates).encode([word]) for word in words])
        assert together.tobytes() == alone.tobytes()
