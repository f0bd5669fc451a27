"""Comparators: small random models in transformers' own layout, judged by the library's own forward passes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    BertTokenizer,
    CLIPImageProcessor,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroupViTConfig,
    GroupViTModel,
    ViTImageProcessor,
)
from transformers.models.groupvit.modeling_groupvit import get_grouping_from_attentions

from gem_label.cli import run as command
from gem_label.comparators import load_comparator
from gem_label.comparators.clipseg import ClipSeg
from gem_label.comparators.grounding_sam import GroundingSam
from gem_label.comparators.groupvit import GroupVit
from gem_label.demo import demo_folder, scene_paths
from gem_label.errors import GemLabelError, UsageError
from gem_label.evaluation.predictors import similarity_of
from gem_label.photos.reading import read_image
from gem_label.predictors import MaskModel
from gem_label.sam.boxes import mask_boxes
from gem_label.sam.models import Sam, load_sam
from gem_label.weights import file_sha256, pull_weights

TEXTS = ["cat", "red car", "tree"]
PHOTO = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
ENCODER = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3}


def save_clip_tokenizer(folder: Path) -> dict[str, int]:
    """CLIP's tokenizer with the letters alone; returns the special tokens' ids as a text config wants them."""
    letters = "abcdefghijklmnopqrstuvwxyz."
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters), "ab"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    CLIPTokenizer(vocab=vocabulary, merges=[("a", "b")], model_max_length=77).save_pretrained(folder)
    return {"vocab_size": len(vocabulary), "bos_token_id": 0, "eos_token_id": 1}


@pytest.fixture(scope="module")
def groupvit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("groupvit")
    text = ENCODER | save_clip_tokenizer(folder)
    vision = ENCODER | {
        "depths": [1, 1, 1],
        "num_group_tokens": [4, 3, 0],
        "num_output_groups": [4, 3, 0],
        "image_size": 64,
        "patch_size": 16,
    }
    config = GroupViTConfig(
        text_config=text, vision_config=vision, projection_dim=16, projection_intermediate_dim=24
    )
    torch.manual_seed(0)
    GroupViTModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clipseg")
    text = ENCODER | save_clip_tokenizer(folder)
    config = CLIPSegConfig(
        text_config=text,
        vision_config=ENCODER | {"image_size": 64, "patch_size": 16},
        projection_dim=16,
        extract_layers=[0, 1, 2],
        reduce_dim=16,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
        conditional_layer=0,
    )
    torch.manual_seed(0)
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 352, "width": 352}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def grounding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grounding")
    words = [f"[unused{i}]" for i in range(1100)]
    for i, word in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 1012: ".", 1029: "?"}.items():
        words[i] = word  # where the model looks for the ends of phrases
    for i, word in enumerate(["cat", "red", "car", "tree", "##s"]):
        words[1040 + i] = word
    vocabulary = {word: i for i, word in enumerate(words)}
    BertTokenizer(vocab=vocabulary, model_max_length=64).save_pretrained(folder)
    config = GroundingDinoConfig(
        backbone_config={
            "model_type": "swin",
            "embed_dim": 16,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 2, 2, 2],
            "window_size": 2,
            "image_size": 64,
            "out_indices": [2, 3, 4],
        },
        text_config={"model_type": "bert", "vocab_size": len(vocabulary), **ENCODER},
        num_queries=8,
        encoder_layers=1,
        decoder_layers=2,
        d_model=32,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_text_len=64,
    )
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 128}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def mobile_sam() -> Sam:
    pull_weights("mobile_sam", progress=False)
    return load_sam("mobile_sam")


def test_groupvit_is_the_cosine_of_a_places_groups(groupvit: Path) -> None:
    """Written out: each group's cosine with the text, weighted by the place's share in the group."""
    model = load_comparator("groupvit", str(groupvit))
    assert isinstance(model, GroupVit)
    images = torch.stack([model.preprocess(PHOTO), model.preprocess(PHOTO[::-1].copy())])
    assert images.shape == (2, 3, 64, 64)
    found = model.similarity(images, TEXTS)
    tokens = model.tokenizer(
        [f"a photo of a {text}." for text in TEXTS], padding="max_length", return_tensors="pt"
    )
    with torch.no_grad():
        text = model.model.get_text_features(**tokens).pooler_output
        seen = model.model.vision_model(images, output_attentions=True)
        shares = get_grouping_from_attentions(seen.attentions, (64, 64))
        for i in range(2):
            groups = model.model.visual_projection(seen.last_hidden_state[i])
            cosines = torch.nn.functional.cosine_similarity(text[:, None], groups[None], dim=-1)
            expected = sum(cosines[:, g, None, None] * shares[i, g] for g in range(shares.shape[1]))
            torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=1e-4)
    assert model.describe()["weights_sha256"] == file_sha256(groupvit / "model.safetensors")


def test_clipseg_is_the_library_one_text_at_a_time(clipseg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gem_label.comparators.clipseg.TEXTS_AT_A_TIME", 2)
    model = load_comparator("clipseg", str(clipseg))
    assert isinstance(model, ClipSeg)
    images = torch.stack([model.preprocess(PHOTO), model.preprocess(PHOTO[::-1].copy())])
    found = model.similarity(images, TEXTS)
    assert found.shape == (2, 3, 352, 352)
    for i, image in enumerate(images):
        for c, text in enumerate(TEXTS):
            tokens = model.tokenizer([f"a photo of a {text}."], padding="max_length", return_tensors="pt")
            with torch.no_grad():
                expected = model.model(pixel_values=image[None], **tokens).logits.reshape(352, 352)
            torch.testing.assert_close(found[i, c], expected, atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(similarity_of(model, PHOTO, TEXTS), found[0].numpy(), atol=1e-4)


def test_photos_are_squeezed_not_cropped(groupvit: Path) -> None:
    """A photo that is red at its left end still is when the model sees it."""
    model = GroupVit(str(groupvit))
    photo = np.zeros((30, 300, 3), np.uint8)
    photo[:, :30, 0] = 255
    seen = model.preprocess(photo)
    assert seen[0, :, :5].min() > seen[0, :, 20:].max()
    mean, std = model.processor.image_mean[0], model.processor.image_std[0]
    assert seen[0, 5, 1].item() == pytest.approx((1 - mean) / std, abs=0.05)


def test_grounding_dino_scores_a_phrase_as_its_best_token(grounding: Path, mobile_sam: Sam) -> None:
    model = GroundingSam(str(grounding), mobile_sam)
    assert isinstance(model, MaskModel)
    boxes, scores = model.detect(PHOTO, TEXTS)
    tokens = model.tokenizer("cat. red car. tree.", return_tensors="pt")
    pieces = model.tokenizer.convert_ids_to_tokens(tokens["input_ids"][0])
    assert pieces == ["[CLS]", "cat", ".", "red", "car", ".", "tree", ".", "[SEP]"]
    pixels = model.processor(images=PHOTO, return_tensors="pt")
    with torch.no_grad():
        out = model.model(**pixels, **tokens)
    probabilities = out.logits[0].sigmoid().tolist()
    expected = []
    for query, (x, y, w, h) in zip(probabilities, out.pred_boxes[0].tolist(), strict=True):
        by_phrase = [query[1], max(query[3], query[4]), query[6]]
        if max(by_phrase) > 0.25:
            corners = [(x - w / 2) * 90, (y - h / 2) * 60, (x + w / 2) * 90, (y + h / 2) * 60]
            expected.append((corners, by_phrase))
    assert expected
    np.testing.assert_allclose(boxes, [box for box, _ in expected], atol=1e-3)
    np.testing.assert_allclose(scores, [row for _, row in expected], atol=1e-4)


def test_phrases_that_do_not_fit_are_asked_in_several_passes(grounding: Path, mobile_sam: Sam) -> None:
    model = GroundingSam(str(grounding), mobile_sam)
    model.model.config.max_text_len = 7  # the two ends and five tokens: "cat. red car." has five
    assert [*model._chunks(TEXTS)] == [[0, 1], [2]]
    boxes, scores = model.detect(PHOTO, TEXTS)
    assert len(boxes) == len(scores)
    apart = [model.detect(PHOTO, part) for part in (TEXTS[:2], TEXTS[2:])]
    np.testing.assert_allclose(boxes, np.concatenate([b for b, _ in apart]), atol=1e-3)
    first = len(apart[0][0])
    np.testing.assert_allclose(scores[:first, :2], apart[0][1], atol=1e-5)
    assert (scores[:first, 2] == 0).all()
    np.testing.assert_allclose(scores[first:, 2:], apart[1][1], atol=1e-5)


@pytest.mark.slow
def test_sam_draws_the_thing_in_the_box(
    grounding: Path, mobile_sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real MobileSAM, given the boxes of a packaged scene's things, finds their masks."""
    from pycocotools import mask as coco_mask

    data = json.loads((demo_folder() / "instances.json").read_text())
    scene = scene_paths()[0]
    number = next(image["id"] for image in data["images"] if image["file_name"] == scene.name)
    things = [a for a in data["annotations"] if a["image_id"] == number]
    x, y, w, h = np.array([a["bbox"] for a in things], np.float32).T
    boxes, scores = np.stack([x, y, x + w, y + h], axis=1), np.eye(len(things), dtype=np.float32)
    model = GroundingSam(str(grounding), mobile_sam)
    monkeypatch.setattr(model, "detect", lambda image, texts: (boxes, scores))
    found = model.label(read_image(scene), [f"thing {i}" for i in range(len(things))])
    ious = coco_mask.iou(found.masks.rles, [a["segmentation"] for a in things], [0] * len(things))
    assert np.median(np.diagonal(ious)) > 0.7
    assert (found.belongs == np.eye(len(things), dtype=bool)).all()
    assert len(mask_boxes(model.sam, PHOTO, np.zeros((0, 4), np.float32))) == 0


def test_every_evaluation_runs_on_them(
    groupvit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = tmp_path / "points.csv"
    rows = [
        "ImageId,X,Y,Label,EstimatedYesNo,TextLabel",
        "scene_001,0.5,0.5,/m/1,yes,cat",
        "scene_001,0.1,0.1,/m/1,no,cat",
    ]
    points.write_text("\n".join(rows) + "\n")
    arguments = [
        "--points",
        str(points),
        "--method",
        "groupvit",
        "--weights",
        str(groupvit),
        "--device",
        "cpu",
    ]
    assert command(["eval", "points", str(demo_folder() / "data"), *arguments]) == 0
    assert "groupvit" in capsys.readouterr().out
    assert command(["eval", "points", str(demo_folder()), *arguments, "--short-side", "224"]) == 2
    assert "its own input size" in capsys.readouterr().err


def test_what_cannot_be_loaded_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one of groupvit"):
        load_comparator("segnet")
    with pytest.raises(GemLabelError, match="cannot be read as CLIPSeg") as error:
        load_comparator("clipseg", str(tmp_path))
    assert "\n" not in str(error.value)
    with pytest.raises(GemLabelError, match="no answer from the model hub for nobody/nothing"):
        load_comparator("groupvit", "nobody/nothing")
