"""SAM and timm's vision transformers as guides of dense methods; runs made with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from small_clip import write_small_clip

from gem_label.clip.timm_proxy import TimmProxy
from gem_label.engines.local import LocalEngine
from gem_label.errors import GemLabelError, UsageError
from gem_label.evaluation.models import encoder_of_run, load_model
from gem_label.evaluation.predictors import EncoderModel
from gem_label.labeler import load_labeler
from gem_label.photos.listing import list_images
from gem_label.runs import open_run
from gem_label.sam.encoding import encode_image
from gem_label.sam.models import Sam, load_sam
from gem_label.sam.proposals import ProposalSettings
from gem_label.sam.proxy import SamProxy
from gem_label.vocabulary import Vocabulary
from gem_label.weights import pull_weights

QUICK = ProposalSettings(points_per_side=2, pred_iou_thresh=0.6, stability_score_thresh=0.6)
TINY = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def sam() -> Sam:
    pull_weights("mobile_sam", progress=False)
    return load_sam("mobile_sam")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_small_clip(tmp_path_factory.mktemp("clip"), short_side=64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: dict[str, NDArray[np.uint8]]) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(photos["coffee"]).resize((96, 64)).save(folder / "coffee.png")
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A vision transformer with random weights, in a file as on the hub."""
    torch.manual_seed(0)
    model = timm.create_model(TINY, pretrained=False)
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file(model.state_dict(), path)
    return f"{TINY}/{path}"


def test_sams_proxy_is_what_its_decoder_gets_without_the_padding(
    sam: Sam, photos: dict[str, NDArray[np.uint8]]
) -> None:
    pixels = photos["coffee"][:300, :400]
    images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    found = SamProxy(sam)(images, (48, 64))  # a photo of 4 to 3 has 64 x 48 of SAM's 64 x 64 tokens
    expected = encode_image(sam, pixels).features[:, :, :48]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert SamProxy(sam).describe() == {"name": "sam/mobile_sam", "sha256": sam.weights_sha256}


def test_a_model_of_timm_gives_a_feature_for_each_place(tiny: str) -> None:
    proxy = TimmProxy(tiny)
    image = torch.rand(2, 3, 50, 70, generator=torch.Generator().manual_seed(0))
    found = proxy(image, (3, 5))
    assert found.shape == (2, 192, 3, 5)
    model = timm.create_model(TINY, pretrained=False, dynamic_img_size=True).eval()
    model.load_state_dict(timm.models.load_state_dict(tiny.partition("/")[2]))
    resized = torch.nn.functional.interpolate(image, (48, 80), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        tokens = model.forward_features((resized - 0.5) / 0.5)[:, 1:]
    torch.testing.assert_close(found, tokens.mT.unflatten(2, (3, 5)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "says"),
    [("dino", "a model of timm"), ("resnet18", "is a ResNet"), (f"{TINY}/nowhere.safetensors", "nowhere")],
)
def test_proxies_that_do_not_exist_are_refused(name: str, says: str) -> None:
    with pytest.raises(GemLabelError, match=says):
        TimmProxy(name)


def test_a_proxy_goes_with_methods_that_look_at_one(clip: str) -> None:
    for load in (load_labeler, load_model):
        settings = {"clip": clip, "sam": "mobile_sam", "method": "naclip", "proxy": TINY}
        with pytest.raises(UsageError, match="naclip looks at CLIP alone"):
            load(**settings)


def test_weights_of_another_model_are_refused(tiny: str) -> None:
    with pytest.raises(GemLabelError, match="do not fit vit_small_patch16_224"):
        TimmProxy(f"vit_small_patch16_224/{tiny.partition('/')[2]}")


@pytest.mark.slow
def test_a_run_says_what_guided_it(folder: Path, clip: str, sam: Sam, tmp_path: Path) -> None:
    del sam  # its weights are there
    labeler = load_labeler(clip=clip, sam="mobile_sam", proposals=QUICK, method="corrclip")
    job = labeler.job(Vocabulary.parse("cup, spoon"), negatives="none")
    with labeler.start_run(tmp_path / "run", job) as writer:
        LocalEngine(progress=False).run(writer.register(list_images([folder])), labeler, job, writer)
    run = open_run(tmp_path / "run")
    (photo, masks, _), *_ = run.photo_masks()
    assert len(masks)
    found = encoder_of_run(run)
    assert found.dense.settings == labeler.dense.settings == run.manifest["settings"]["dense"]
    pixels = np.asarray(Image.open(photo.image))
    direct = labeler.photo_features(pixels, masks).patches
    np.testing.assert_allclose(found.patches(pixels), direct, atol=2e-3)
    run.manifest["settings"]["dense"]["proxy"]["sha256"] = "0" * 64
    with pytest.raises(UsageError, match="other weights of"):
        encoder_of_run(run)


def test_evaluations_take_guided_methods(clip: str, sam: Sam, photos: dict[str, NDArray[np.uint8]]) -> None:
    del sam  # its weights are there
    model = load_model("proxyclip", clip, feature_surgery=True, short_side=32)
    assert isinstance(model, EncoderModel)
    small = np.asarray(Image.fromarray(photos["coffee"]).resize((60, 40)))
    similarity = model.similarity(model.preprocess(small)[None], ["cup", "spoon"])
    assert similarity.shape == (1, 2, 2, 3)
    assert model.describe()["feature_surgery"]
    assert model.describe()["dense"]["proxy"]["name"] == "sam/mobile_sam"
