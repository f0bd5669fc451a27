"""CLIP towers against open_clip's own forward, loading from files, preprocessing and text."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from fixtures.make_gem_torch import build_model, model_config
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from gem_label.clip import templates
from gem_label.clip.adapters import make_tower
from gem_label.clip.dense import DenseEncoder
from gem_label.clip.models import Clip, as_clip, load_clip
from gem_label.clip.sources import spread_token_table
from gem_label.clip.text import TextEncoder
from gem_label.errors import GemLabelError, UsageError

VARIANTS = [
    {},
    {"pool_type": "avg"},
    {"pool_type": "avg", "final_ln_after_pool": True},
    {"final_ln_after_pool": True},
    {"ls_init_value": 0.3},
    {"no_ln_pre": True},
    {"quick_gelu": True},
    {"image_size": (48, 80)},
]


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


@pytest.fixture(scope="module")
def model() -> open_clip.CLIP:
    return build_model()


@pytest.fixture(scope="module")
def clip(model: open_clip.CLIP) -> Clip:
    return as_clip(model)


def write_directory(folder: Path, state: dict[str, Tensor], **config: object) -> Path:
    """A model folder in open_clip's hub layout."""
    folder.mkdir(exist_ok=True)
    settings = {"model_cfg": model_config(layers=2), **config}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    save_file(
        {key: value.contiguous() for key, value in state.items()}, folder / "open_clip_model.safetensors"
    )
    return folder


@pytest.fixture(scope="module")
def half_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float16 model with our own key for dense features."""
    state = {key: value.half() for key, value in build_model(layers=2).state_dict().items()}
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "size": 64}
    return write_directory(
        tmp_path_factory.mktemp("clip") / "half",
        state,
        preprocess_cfg=preprocess,
        dense_cfg={"short_side": 96, "depth": 1},
    )


# towers


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_our_ordinary_path_is_open_clips(variant: dict) -> None:
    model = build_model(layers=3, **variant)
    images = random_images(2, 3, *model.visual.image_size)
    expected = model.encode_image(images)

    tower = make_tower(model.visual)
    x = tower.tokens(images)
    for index in range(tower.num_blocks):
        x = tower.blocks[index](x)
    torch.testing.assert_close(tower.pool(x), expected, atol=1e-5, rtol=1e-5)

    for method in ("gem", "clip"):
        embedding = DenseEncoder(model, method=method).encode_with_class_token(images)[1]
        torch.testing.assert_close(embedding, F.normalize(expected, dim=-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", [{}, {"pool_type": "avg"}, {"quick_gelu": True}], ids=str)
def test_plain_clip_patches_are_open_clips_output_tokens(variant: dict) -> None:
    model = build_model(layers=3, **variant)
    images = random_images(2, 3, 64, 64)
    patches = DenseEncoder(model, method="clip").encode(images)
    model.visual.output_tokens = True
    _, tokens = model.visual(images)
    expected = F.normalize(tokens @ model.visual.proj, dim=-1).unflatten(1, (4, 4))
    torch.testing.assert_close(patches, expected, atol=1e-5, rtol=0)


def test_a_block_taken_apart_is_the_block(model: open_clip.CLIP) -> None:
    block, resblock = make_tower(model.visual).blocks[-1], model.visual.transformer.resblocks[-1]
    x = random_images(2, 9, 64)
    q, k, v = block.qkv(block.ln_1(x))
    assert q.shape == (2, 4, 9, 16)
    after_attention = x + block.out_proj(F.scaled_dot_product_attention(q, k, v))
    out = after_attention + resblock.mlp(resblock.ln_2(after_attention))
    torch.testing.assert_close(out, block(x), atol=1e-5, rtol=1e-5)


def test_tokens_of_another_grid_have_resized_positions(model: open_clip.CLIP) -> None:
    tower = make_tower(model.visual)
    positions = model.visual.positional_embedding
    patches = positions[1:].T.reshape(1, 64, 4, 4)
    resized = F.interpolate(patches, (3, 6), mode="bicubic", antialias=True)[0].flatten(1).T
    images = torch.zeros(1, 3, 48, 96)  # no bias in the patch embedding: tokens are the positions
    expected = torch.cat([positions[:1] + model.visual.class_embedding, resized])
    torch.testing.assert_close(tower.tokens(images)[0], model.visual.ln_pre(expected), atol=1e-5, rtol=1e-5)


def test_a_grid_as_large_as_the_native_one_but_of_another_shape_is_resized(model: open_clip.CLIP) -> None:
    tower = make_tower(model.visual)
    tall, square = tower.tokens(torch.zeros(1, 3, 128, 32)), tower.tokens(torch.zeros(1, 3, 64, 64))
    assert tall.shape == square.shape
    assert not torch.allclose(tall, square, atol=1e-2)


def test_towers_that_are_no_plain_vit_are_refused() -> None:
    small = {"width": 16, "heads": 2, "layers": 1}
    resnet = open_clip.CLIP(32, {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}, small)
    with pytest.raises(UsageError, match="ModifiedResNet"):
        as_clip(resnet)
    pooling = build_model(layers=1, attentional_pool=True, attn_pooler_heads=4)
    with pytest.raises(UsageError, match="pools by attention"):
        as_clip(pooling)


# loading


def test_directory_with_half_precision_weights(half_directory: Path) -> None:
    clip = load_clip(str(half_directory))
    weights = half_directory / "open_clip_model.safetensors"
    assert clip.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert not clip.model.training
    assert {parameter.dtype for parameter in clip.model.parameters()} == {torch.float32}
    assert (clip.native_size, clip.patch_size, clip.embedding_dim) == (64, 16, 32)
    assert (clip.short_side, clip.dense_depth, DenseEncoder(clip).depth) == (96, 1, 1)
    assert clip.mean == (0.5, 0.4, 0.3)
    assert clip.std == (0.2, 0.25, 0.3)
    assert clip.logit_scale == pytest.approx(1 / 0.07, rel=1e-3)

    images, rounded = random_images(1, 3, 64, 64), build_model(layers=2).half().float()
    torch.testing.assert_close(clip.model.encode_image(images), rounded.encode_image(images))


def test_directory_with_some_token_rows(tmp_path: Path) -> None:
    model = build_model(layers=2)
    seen = open_clip.SimpleTokenizer()(["a photo of a red cat."]).unique()
    state = model.state_dict()
    state["token_ids"] = seen.int()
    state["token_embedding.weight"] = state["token_embedding.weight"][seen].half()
    clip = load_clip(str(write_directory(tmp_path / "sparse", state)))

    phrases = ["cat", "red cat", "dog"]
    ours, whole = TextEncoder(clip).encode(phrases), TextEncoder(as_clip(model)).encode(phrases)
    np.testing.assert_allclose(ours[:2], whole[:2], atol=2e-3)
    assert np.abs(ours[2] - whole[2]).max() > 0.05
    assert clip.unknown_phrases(["red photo", "dog", "cat", "cat dog"]) == ["dog", "cat dog"]
    assert as_clip(model).unknown_phrases(phrases) == []


def test_spread_token_table() -> None:
    table = spread_token_table(
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([4, 1], dtype=torch.int32), 6
    )
    assert table.tolist() == [[0, 0], [3, 4], [0, 0], [0, 0], [1, 2], [0, 0]]


@pytest.fixture(scope="module")
def vit_b_32() -> dict[str, Tensor]:
    """Zeros in the layout of ViT-B-32, but for the logit scale: a file of a built-in architecture."""
    with torch.device("meta"):
        model = open_clip.CLIP(**open_clip.get_model_config("ViT-B-32"))
    zeros = {
        key: torch.zeros((), dtype=torch.half).expand(value.shape)
        for key, value in model.state_dict().items()
    }
    return {**zeros, "logit_scale": torch.tensor([2.0])}


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["plain", "training checkpoint"])
def test_weight_file_of_a_named_architecture(
    tmp_path: Path, vit_b_32: dict[str, Tensor], layout: str
) -> None:
    path = tmp_path / "weights.pt"
    whole = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in vit_b_32.items()}}
    torch.save(vit_b_32 if layout == "plain" else whole, path)
    clip = load_clip(f"ViT-B-32/{path}")
    assert clip.name == f"ViT-B-32/{path}"
    assert clip.logit_scale == pytest.approx(np.exp(2.0))
    assert (clip.short_side, clip.dense_depth, clip.native_size, clip.patch_size) == (448, 6, 224, 32)
    assert clip.model.visual.conv1.weight.abs().max() == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_openais_own_archive_gets_quickgelu(tmp_path: Path, vit_b_32: dict[str, Tensor]) -> None:
    class Archive(torch.nn.Module):
        """A TorchScript module with CLIP's parameter names, as OpenAI's files are."""

        def forward(self, x: Tensor) -> Tensor:
            return x

    archive = Archive()
    for key, value in {**vit_b_32, "input_resolution": torch.tensor(224)}.items():
        owner = archive
        *parents, leaf = key.split(".")
        for parent in parents:
            if parent not in owner._modules:
                owner.add_module(parent, Archive())
            owner = owner._modules[parent]
        owner.register_buffer(leaf, value)
    torch.jit.script(archive).save(tmp_path / "ViT-B-32.pt")
    name = f"ViT-B-32/{tmp_path / 'ViT-B-32.pt'}"
    with pytest.raises(
        GemLabelError, match=f"TorchScript archive, .* ask for it by name as torchscript:{name}"
    ):
        load_clip(name)
    clip = load_clip(f"torchscript:{name}")
    assert clip.name == f"torchscript:{name}"
    assert type(clip.model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"


def one_line(error: GemLabelError) -> str:
    message = str(error)
    assert "\n" not in message
    return message


def test_offline_hub_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(GemLabelError, match="no answer from the model hub") as caught:
        load_clip("ViT-B-16/openai")
    message = one_line(caught.value)
    # older versions of open_clip name a file in place of the hub repository
    assert "vit_base_patch16_clip_224.openai" in message or "ViT-B-16.pt" in message
    assert (
        "ViT-B-16-quickgelu/FILE" in message
    )  # the plain architecture would load it with another activation
    assert "--clip demo" in message
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nonsense", "ARCH/PRETRAINED"),
        ("hf-hub:org/name", "ARCH/PRETRAINED"),
        ("ViT-B-16", "ARCH/PRETRAINED"),
        ("ViT-B-16/no_such_weights", "laion400m_e32"),
        ("ViT-B-16/no/such/file.pt", "no file"),
        ("RN50/openai", "ModifiedResNet"),
        ("coca_ViT-B-32/laion2b_s13b_b90k", "CoCa"),
    ],
)
def test_wrong_names_are_usage_errors(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        load_clip(name)
    one_line(caught.value)


def test_broken_directories_say_what_is_wrong(tmp_path: Path, half_directory: Path) -> None:
    with pytest.raises(GemLabelError, match=r"must hold open_clip_config\.json"):
        load_clip(str(tmp_path))

    state = build_model(layers=2).state_dict()
    folder = write_directory(tmp_path / "broken", {**state, "ln_final.weight": torch.ones(5)})
    with pytest.raises(GemLabelError, match=r"do not fit .* ln_final\.weight") as caught:
        load_clip(str(folder))
    one_line(caught.value)

    (folder / "open_clip_model.safetensors").write_bytes(b"half a download")
    with pytest.raises(GemLabelError, match="is no checkpoint: it is a text file") as caught:
        load_clip(str(folder))
    one_line(caught.value)

    (folder / "open_clip_config.json").write_text('{"model": 1}')
    with pytest.raises(GemLabelError, match="no open_clip configuration"):
        load_clip(str(folder))


def test_as_clip_takes_models_and_clips(model: open_clip.CLIP) -> None:
    clip = as_clip(model)
    assert as_clip(clip) is clip
    assert clip.model is model
    assert clip.weights_sha256 is None
    assert clip.mean == open_clip.OPENAI_DATASET_MEAN
    assert clip.to("cpu") is clip
    assert clip.device == torch.device("cpu")


# preprocessing


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((512, 512), 448, (448, 448)),
        ((400, 600), 448, (448, 672)),
        ((600, 400), 448, (672, 448)),
        ((427, 640), 448, (448, 672)),
        ((10, 14), 64, (64, 96)),
        ((3, 4000), 64, (64, 1024)),
        ((64, 64), 7, (16, 16)),
    ],
)
def test_input_size_keeps_the_aspect_ratio_in_whole_patches(
    clip: Clip, size: tuple[int, int], short_side: int, expected: tuple[int, int]
) -> None:
    assert clip.input_size(*size, short_side=short_side) == expected


def test_preprocess_is_open_clips_at_native_size(clip: Clip, photos: dict[str, np.ndarray]) -> None:
    photo = photos["astronaut"]
    expected = open_clip.image_transform(64, is_train=False)(Image.fromarray(photo))
    torch.testing.assert_close(clip.preprocess(photo, short_side=64), expected)
    torch.testing.assert_close(clip.preprocess(Image.fromarray(photo), short_side=64), expected)


def test_preprocess_takes_the_whole_photo(clip: Clip, photos: dict[str, np.ndarray]) -> None:
    pixels = clip.preprocess(photos["coffee"])
    assert pixels.shape == (3, 448, 672)
    assert pixels.dtype == torch.float32
    assert DenseEncoder(clip, depth=1).encode(pixels[None]).shape == (1, 28, 42, 32)
    gray = clip.preprocess(Image.new("L", (30, 30), 255), short_side=32)
    white = (1 - np.array(clip.mean)) / np.array(clip.std)
    np.testing.assert_allclose(gray[:, 5, 7], white, rtol=1e-5)


# text


def test_text_embedding_is_the_mean_over_templates(model: open_clip.CLIP, clip: Clip) -> None:
    prompts = ("a photo of a {}.", "the {} in {{braces}}")
    encoder = TextEncoder(clip, prompts)
    embeddings = encoder.encode(["cat", "fire {engine}"])
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)

    tokens = open_clip.SimpleTokenizer()(["a photo of a fire {engine}.", "the fire {engine} in {{braces}}"])
    with torch.no_grad():
        mean = model.encode_text(tokens, normalize=True).mean(dim=0)
    np.testing.assert_allclose(embeddings[1], mean / mean.norm(), atol=1e-5)


def test_text_is_computed_once_and_does_not_depend_on_its_batch(clip: Clip) -> None:
    calls: list[list[str]] = []

    def counting(prompts: list[str]) -> Tensor:
        calls.append(prompts)
        return clip.tokenizer(prompts)

    counted = as_clip(clip.model, tokenizer=counting)
    encoder = TextEncoder(counted)
    first = encoder.encode(["cat", "dog", "cat"])
    assert calls == [["a photo of a cat.", "a photo of a dog."]]
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(encoder.encode(["dog", "cat"]), first[[1, 0]])
    assert len(calls) == 1
    words = [f"word {number}" for number in range(300)]
    many = encoder.encode(words)
    assert [len(prompts) for prompts in calls[1:]] == [256, 44]
    np.testing.assert_allclose(many[299], TextEncoder(clip).encode(["word 299"])[0], atol=1e-5)


def test_no_phrases_no_embeddings(clip: Clip) -> None:
    assert TextEncoder(clip).encode([]).shape == (0, 32)


@pytest.mark.parametrize("wrong", [(), ("a photo",), ("a photo of {}.", "{} and {}")])
def test_templates_without_a_place_for_the_phrase_are_refused(clip: Clip, wrong: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="template"):
        TextEncoder(clip, wrong)


def test_imagenet_templates_are_open_clips() -> None:
    expected = [template("dog") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert [template.replace("{}", "dog") for template in templates.IMAGENET_TEMPLATES] == expected
