"""Every backbone's ordinary path, put together from our view of its blocks, is its own library's output."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from accelerator import accelerator, on_accelerator
from color_guide import COLOR_GUIDE
from open_clip.timm_model import TimmModel
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    PreTrainedTokenizerFast,
)

from gem_label.clip.adapters import make_tower
from gem_label.clip.adapters.blip import BlipClip
from gem_label.clip.dense import DenseEncoder
from gem_label.clip.methods import METHODS
from gem_label.clip.models import Clip, as_clip, load_clip
from gem_label.clip.text import TextEncoder
from gem_label.errors import GemLabelError, UsageError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "cat", "red", "dog", "."]


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


@torch.no_grad()
def randomize(model: nn.Module) -> nn.Module:
    """Weights that let every layer matter: biases, layer scales and latents too."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim < 2:
            parameter.add_(0.2 * noise)
        else:
            parameter.copy_(1.2 * noise / parameter[0].numel() ** 0.5)
    return model.eval()


def write_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def assert_ordinary_path(clip: Clip, images: Tensor, expected: Tensor) -> None:
    """Our blocks, from pixels to embedding, every method beside them, and GEM on a GPU too."""
    x = clip.tower.tokens(images)
    for block in clip.tower.blocks:
        x = block(x)
    torch.testing.assert_close(clip.tower.pool(x), expected, atol=1e-5, rtol=1e-4)
    rows, columns = clip.tower.grid(images)
    for method in METHODS:
        if method == "corrclip" and not clip.tower.embeds_class_token:
            with pytest.raises(UsageError, match="corrclip_regions has none"):
                DenseEncoder(clip, method, guide=COLOR_GUIDE)
            continue
        patches, embedding = DenseEncoder(clip, method, guide=COLOR_GUIDE).encode_with_class_token(images)
        torch.testing.assert_close(embedding, F.normalize(expected, dim=-1), atol=1e-5, rtol=0)
        assert patches.shape == (len(images), rows, columns, clip.embedding_dim)
        norms = patches.norm(dim=-1)
        torch.testing.assert_close(norms, torch.ones_like(norms))
    with torch.no_grad():
        gem = DenseEncoder(as_clip(clip.model)).encode(images)
    with accelerator():
        on_gpu = DenseEncoder(as_clip(on_accelerator(clip.model))).encode(images).cpu()
    torch.testing.assert_close(on_gpu, gem, atol=1e-5, rtol=1e-4)


# open_clip's own ViT


OPEN_CLIP = {"ViT-B-32": (32, 224), "ViT-B-16": (16, 224), "ViT-L-14": (14, 224), "ViT-L-14-336": (14, 336)}
OPEN_CLIP |= {"ViT-H-14": (14, 224), "ViT-B-16-quickgelu": (16, 224)}


@pytest.mark.parametrize("arch", OPEN_CLIP)
def test_open_clips_architectures(arch: str) -> None:
    config = open_clip.get_model_config(arch)
    patch_size, native_size = OPEN_CLIP[arch]
    # thinner and shallower, else as released
    head_width = config["vision_cfg"].get("head_width", 64)
    config["vision_cfg"] |= {"width": 2 * head_width, "layers": 2}
    config["text_cfg"] |= {"width": 16, "heads": 2, "layers": 1}
    config["embed_dim"] = 24
    clip = as_clip(randomize(open_clip.CLIP(**config)))
    assert (clip.patch_size, clip.native_size, clip.embedding_dim) == (patch_size, native_size, 24)
    images = random_images(1, 3, native_size, native_size)
    with torch.no_grad():
        assert_ordinary_path(clip, images, clip.model.encode_image(images))
    patches = DenseEncoder(clip).encode(random_images(1, 3, 2 * patch_size, 5 * patch_size))
    assert patches.shape == (1, 2, 5, 24)


RELEASED = {
    "ViT-B-32": (32, 224, 12, 512),
    "ViT-B-16": (16, 224, 12, 512),
    "ViT-L-14": (14, 224, 24, 768),
    "ViT-L-14-336": (14, 336, 24, 768),
    "ViT-H-14": (14, 224, 32, 1024),
    "ViT-B-16-SigLIP": (16, 224, 12, 768),
    "ViT-L-16-SigLIP-384": (16, 384, 24, 1024),
    "ViT-SO400M-14-SigLIP": (14, 224, 27, 1152),
    "ViT-B-32-SigLIP2-256": (32, 256, 12, 768),
    "ViT-B-16-SigLIP2-512": (16, 512, 12, 768),
    "ViT-SO400M-16-SigLIP2-384": (16, 384, 27, 1152),
}


@pytest.mark.parametrize("arch", RELEASED)
def test_released_architectures_can_be_read(arch: str) -> None:
    config = open_clip.get_model_config(arch)
    vision = config["vision_cfg"]
    if "timm_model_name" in vision:
        with torch.device("meta"):
            trunk = timm.create_model(vision["timm_model_name"], num_classes=0, global_pool="map")
        visual = TimmModel("test_vit", config["embed_dim"], pool="token", proj="none")
        visual.trunk, visual.head = trunk, nn.Sequential()
    else:
        with torch.device("meta"):
            visual = open_clip.CLIP(**config).visual
    tower = make_tower(visual)
    released = (tower.patch_size, tower.native_size, tower.num_blocks, tower.output_dim)
    assert released == RELEASED[arch]


# SigLIP: timm's ViT without class token, pooled by attention


def siglip(image_size: int | tuple[int, int] = 64, **trunk: object) -> open_clip.CustomTextCLIP:
    """SigLIP's layout at width 48: its own timm architecture, shrunk."""
    model = open_clip.CustomTextCLIP(
        embed_dim=48,
        vision_cfg={
            "timm_model_name": "test_vit",
            "timm_pool": "token",
            "timm_proj": "none",
            "image_size": 160,
        },
        text_cfg={"context_length": 8, "vocab_size": len(WORDS), "width": 32, "heads": 2, "layers": 2}
        | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}},
        init_logit_bias=-10,
        init_logit_scale=np.log(10),
    )
    small = {"embed_dim": 48, "depth": 3, "num_heads": 4, "num_classes": 0, "img_size": image_size, **trunk}
    model.visual.trunk = timm.create_model("vit_base_patch16_siglip_224", **small)
    model.visual.head = nn.Sequential()
    return randomize(model)


@pytest.mark.parametrize(
    "trunk",
    [{}, {"image_size": (48, 80)}, {"init_values": 0.3}, {"qk_norm": True}, {"pre_norm": True}],
    ids=str,
)
def test_siglips_ordinary_path_is_open_clips(trunk: dict) -> None:
    model = siglip(**trunk)
    clip = as_clip(model)
    assert clip.tower.class_tokens == 0
    images = random_images(2, 3, *model.visual.trunk.patch_embed.img_size)
    with torch.no_grad():
        assert_ordinary_path(clip, images, model.encode_image(images))


def test_a_siglip_patch_is_the_pooling_heads_value_path() -> None:
    model = siglip()
    images = random_images(2, 3, 64, 64)
    trunk, head = model.visual.trunk, model.visual.trunk.attn_pool
    with torch.no_grad():
        tokens = trunk.forward_features(images)
        values = F.linear(tokens, head.kv.weight[48:], head.kv.bias[48:])
        projected = head.proj(values)
        expected = F.normalize(projected + head.mlp(head.norm(projected)), dim=-1).unflatten(1, (4, 4))
    torch.testing.assert_close(DenseEncoder(model, "clip").encode(images), expected, atol=1e-5, rtol=0)


def test_one_patch_alone_is_siglips_image_embedding() -> None:
    patches, embedding = DenseEncoder(siglip(), "clip").encode_with_class_token(random_images(3, 3, 16, 16))
    torch.testing.assert_close(patches[:, 0, 0], embedding, atol=1e-5, rtol=0)


def test_siglip_sees_other_grids_as_timm_does() -> None:
    model = siglip()
    images = random_images(1, 3, 48, 96)
    ours = DenseEncoder(model).encode_with_class_token(images)[1]
    model.visual.trunk.set_input_size((48, 96))
    with torch.no_grad():
        expected = model.encode_image(images, normalize=True)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("proj", ["none", "linear", "mlp", ""])
def test_timms_vit_with_a_class_token(proj: str) -> None:
    visual = TimmModel("test_vit", embed_dim=24, image_size=160, pool="token", proj=proj)
    tower = make_tower(randomize(visual))
    images = random_images(2, 3, 160, 160)
    with torch.no_grad():
        x = tower.tokens(images)
        for block in tower.blocks:
            x = block(x)
        expected = visual(images)
        torch.testing.assert_close(tower.pool(x), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(tower.project(x)[:, 0], expected, atol=1e-5, rtol=1e-4)
    assert tower.output_dim == expected.shape[1]
    assert tower.patches(x, tower.grid(images)).shape == (2, 10, 10, 64)


@pytest.mark.parametrize(
    ("name", "pool", "says"),
    [
        ("test_vit3", "map", "register tokens"),
        ("test_vit", "avg", "pools by 'avg' over 1 class tokens"),
        ("test_convnext", "avg", "ConvNeXt"),
        ("test_efficientnet", "avg", "EfficientNet"),
        ("test_mambaout", "avg", "MambaOut"),
    ],
)
def test_timms_other_towers_are_refused_with_the_reason(name: str, pool: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make_tower(TimmModel(name, embed_dim=24, image_size=160, pool=pool, proj="linear"))


def test_towers_of_other_libraries_are_refused() -> None:
    with pytest.raises(UsageError, match="image tower is a Conv2d"):
        make_tower(nn.Conv2d(3, 8, 4))


def test_a_vocabulary_that_is_not_clips_needs_its_tokenizer() -> None:
    encoder = DenseEncoder(siglip())
    assert encoder.encode(random_images(1, 3, 32, 32)).shape == (1, 2, 2, 48)
    with pytest.raises(UsageError, match="pass its tokenizer to as_clip"):
        encoder.text.encode(["cat"])


@pytest.fixture(scope="module")
def siglip_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sigmoid-trained model with timm's tower and a tokenizer of transformers, in open_clip's hub layout."""
    folder = tmp_path_factory.mktemp("siglip")
    write_tokenizer(folder)
    config = {
        "embed_dim": 24,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {
            "timm_model_name": "test_vit",
            "timm_pool": "token",
            "timm_proj": "linear",
            "image_size": 160,
        },
        "text_cfg": {"context_length": 8, "vocab_size": len(WORDS), "width": 32, "heads": 2, "layers": 2}
        | {"hf_tokenizer_name": "nobody/nothing", "tokenizer_kwargs": {"clean": "canonicalize"}},
    }
    model = randomize(open_clip.CustomTextCLIP(**{k: v for k, v in config.items() if k != "custom_text"}))
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    # released files hold one element where the model has a scalar
    state |= {"logit_scale": torch.tensor([3.0]), "logit_bias": torch.tensor([-16.5])}
    save_file(state, folder / "open_clip_model.safetensors")
    half = [0.5, 0.5, 0.5]
    preprocess = {"mean": half, "std": half}
    settings = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    return folder


def test_a_sigmoid_trained_model_loads_with_bias_and_tokenizer(siglip_directory: Path) -> None:
    clip = load_clip(str(siglip_directory))
    assert clip.mean == (0.5, 0.5, 0.5)
    assert clip.logit_scale == pytest.approx(np.exp(3.0))
    assert clip.model.logit_bias.item() == -16.5
    tokens = clip.tokenizer(["a red cat"])
    assert tokens[0, :3].tolist() == [WORDS.index(word) for word in ("a", "red", "cat")]
    with torch.no_grad():
        expected = clip.model.encode_text(clip.tokenizer(["a photo of a cat."]), normalize=True)
    np.testing.assert_allclose(TextEncoder(clip).encode(["cat"]), expected, atol=1e-6)


def test_a_missing_tokenizer_is_one_clear_line(siglip_directory: Path, tmp_path: Path) -> None:
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (tmp_path / name).symlink_to(siglip_directory / name)
    with pytest.raises(GemLabelError, match=r"no tokenizer for .* repository nobody/nothing") as caught:
        load_clip(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_siglips_name_offline_says_what_to_bring() -> None:
    with pytest.raises(GemLabelError, match="repository timm/ViT-B-16-SigLIP from the model hub") as caught:
        load_clip("ViT-B-16-SigLIP/webli")
    assert "\n" not in str(caught.value)


# BLIP


@dataclass(frozen=True)
class SavedBlip:
    """A small retrieval BLIP and the directory that transformers saved it to."""

    model: BlipForImageTextRetrieval
    tokenizer: PreTrainedTokenizerFast
    folder: Path


def blip_config() -> BlipConfig:
    layers = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}
    tokens = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 2, "sep_token_id": 3}
    return BlipConfig(
        text_config={**layers, **tokens, "max_position_embeddings": 16},
        vision_config={**layers, "image_size": 64, "patch_size": 16},
        image_text_hidden_size=24,
    )


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> SavedBlip:
    folder = tmp_path_factory.mktemp("blip")
    model = randomize(BlipForImageTextRetrieval(blip_config()))
    model.save_pretrained(folder)
    pixels = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    return SavedBlip(model, write_tokenizer(folder), folder)


def test_blips_similarities_are_transformers(blip: SavedBlip) -> None:
    clip = load_clip(str(blip.folder))
    assert (clip.mean, clip.std) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    assert (clip.patch_size, clip.native_size, clip.embedding_dim) == (16, 64, 24)
    assert clip.logit_scale == pytest.approx(np.exp(2.6592))
    assert clip.weights_sha256 is not None
    images, phrases = random_images(2, 3, 64, 64), ["cat", "red dog"]
    inputs = blip.tokenizer(
        [f"a photo of a {phrase}." for phrase in phrases], padding=True, return_tensors="pt"
    )
    assert inputs.attention_mask.min() == 0  # the shorter prompt is padded
    with torch.no_grad():
        expected = blip.model(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            pixel_values=images,
            use_itm_head=False,
        ).itm_score
    embedding = DenseEncoder(clip).encode_with_class_token(images)[1]
    ours = embedding.numpy() @ TextEncoder(clip).encode(phrases).T
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_blips_ordinary_path_is_transformers(blip: SavedBlip) -> None:
    clip, images = as_clip(BlipClip(blip.model)), random_images(2, 3, 64, 64)
    with torch.no_grad():
        states = blip.model.vision_model(images).last_hidden_state
        assert_ordinary_path(clip, images, blip.model.vision_proj(states[:, 0]))
        expected = F.normalize(blip.model.vision_proj(states[:, 1:]), dim=-1).unflatten(1, (4, 4))
    torch.testing.assert_close(DenseEncoder(clip, "clip").encode(images), expected, atol=1e-5, rtol=0)
    assert DenseEncoder(clip).encode(random_images(1, 3, 32, 80)).shape == (1, 2, 5, 24)


def test_a_blip_without_a_shared_space_is_refused(tmp_path: Path, blip: SavedBlip) -> None:
    BlipForConditionalGeneration(blip_config()).save_pretrained(tmp_path)
    blip.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="was not trained for retrieval") as caught:
        load_clip(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_blip_offline_and_broken_says_what_to_do(tmp_path: Path, blip: SavedBlip) -> None:
    with pytest.raises(
        GemLabelError, match="no answer from the model hub for blip/Salesforce/blip-itm"
    ) as caught:
        load_clip("blip/Salesforce/blip-itm-base-coco")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="blip/ORGANIZATION/NAME"):
        load_clip("blip/base")

    (tmp_path / "config.json").write_text((blip.folder / "config.json").read_text())
    with pytest.raises(GemLabelError, match=r"must hold config\.json of a BLIP and model\.safetensors"):
        load_clip(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"half a download")
    with pytest.raises(GemLabelError, match="cannot be read as a BLIP model") as caught:
        load_clip(str(tmp_path))
    assert "\n" not in str(caught.value)
