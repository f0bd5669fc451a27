"""Files that are no checkpoints: one line says what they are, for SAM, CLIP and the comparators alike."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small_clip import write_small_clip

from gem_label.checkpoints import describe_file, read_tensors
from gem_label.clip.models import load_clip
from gem_label.comparators.hub import load_pretrained, load_processors
from gem_label.errors import GemLabelError, UsageError
from gem_label.sam.models import load_sam


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def torch_file(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photo.jpg", b"x" * 100)
    return buffer.getvalue()


def tar_file() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"hello"))
    return buffer.getvalue()


def torchscript() -> bytes:
    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    module = Module()
    module.register_buffer("weight", torch.ones(2))
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, torch.zeros(1)), buffer)
    return buffer.getvalue()


OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg": (lambda: picture("JPEG"), "it is a picture or video"),
    "png": (lambda: picture("PNG"), "it is a picture or video"),
    "webp": (lambda: picture("WEBP"), "it is a picture or video"),
    "bmp": (lambda: picture("BMP"), "it is a picture or video"),
    "tiff": (lambda: picture("TIFF"), "it is a picture or video"),
    "heic": (lambda: b"\0\0\0\x18ftypheic" + bytes(100), "it is a picture or video"),
    "empty": (lambda: b"", "it is empty"),
    "zeros": (lambda: bytes(5000), "it is zeros: a download that was cut"),
    "git-lfs": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "a Git LFS pointer: run",
    ),
    "html": (lambda: b"\n<!DOCTYPE html><html><body>404</body></html>", "it is a web page"),
    "html, long": (lambda: b"<html>" + "ü".encode() * 5000, "it is a web page"),
    "json": (lambda: json.dumps({"error": "ünknown"}).encode(), "it is a text file"),
    "text, long": (lambda: b"a" + "ü".encode() * 5000, "it is a text file"),
    "zip": (zip_file, "it is a zip archive of other files"),
    "cut zip": (lambda: torch_file({"a": torch.ones(99)})[:-30], "zip archive that is cut or damaged"),
    "tar": (tar_file, "it is a tar archive"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(50), "it is a gzip archive"),
    "noise": (
        lambda: np.random.default_rng(0).bytes(5000),
        "it is cut, no PyTorch checkpoint, or holds more",
    ),
    "pickle": (lambda: pickle.dumps({"a": [1, 2]}), "it is cut, no PyTorch checkpoint, or holds more"),
    "numpy pickle": (lambda: pickle.dumps(np.ones(3)), "it is cut, no PyTorch checkpoint, or holds more"),
    "one byte": (lambda: b"\x80", "it is cut, no PyTorch checkpoint, or holds more"),
    "list": (lambda: torch_file([1, 2]), "holds no weights but a list"),
    "tensor": (lambda: torch_file(torch.ones(2)), "holds no weights but a Tensor"),
    "numbers": (lambda: torch_file({"epoch": 3, 4: 5}), "holds no weights but the entries epoch, 4"),
    "nothing": (lambda: torch_file({}), "holds no weights but nothing"),
    "torchscript": (torchscript, "TorchScript archive, which holds code"),
    "another model": (lambda: torch_file({"layer.weight": torch.ones(2)}), "another model|do not fit"),
}


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", OTHERS)
def test_files_that_are_no_checkpoints_say_what_they_are(tmp_path: Path, name: str) -> None:
    make, complaint = OTHERS[name]
    clip = write_small_clip(tmp_path / "clip")
    (clip / "open_clip_model.safetensors").unlink()
    path = clip / "open_clip_pytorch_model.bin"
    path.write_bytes(make())
    for load in (load_sam, lambda path: load_clip(str(path.parent))):
        with pytest.raises(GemLabelError, match=complaint) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_is_loaded_only_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(torchscript())
    with pytest.raises(GemLabelError, match=f"ask for it by name as torchscript:ViT-B-32/{path}"):
        load_clip(f"ViT-B-32/{path}")
    assert read_tensors(path, torchscript=True)["weight"].tolist() == [1, 1]


def test_checkpoints_are_read_whatever_their_name(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2), "b" * 19_700: torch.zeros(1)}
    save_file(tensors, tmp_path / "a.pt")
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "b.safetensors")
    torch.save(tensors, tmp_path / "c", _use_new_zipfile_serialization=False)
    for name in ("a.pt", "b.safetensors", "c"):
        assert describe_file(tmp_path / name) is None
        assert {key: value.tolist() for key, value in read_tensors(tmp_path / name).items()} == {
            "a": [1, 1],
            "b" * 19_700: [0],
        }


def test_a_safetensors_header_whose_length_spells_another_format(tmp_path: Path) -> None:
    """0x4d42 bytes of header: the file begins with "BM", as bitmaps do."""
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].ljust(0x4D42)
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    assert (tmp_path / "a.safetensors").read_bytes().startswith(b"BM")
    assert read_tensors(tmp_path / "a.safetensors")["a"].tolist() == [1, 1]


def test_folders_and_missing_rights_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder: give the checkpoint file in it"):
        load_sam(tmp_path)
    with pytest.raises(UsageError, match="is a folder: give the weight file in it"):
        load_clip(f"ViT-B-32/{tmp_path}")
    with pytest.raises(GemLabelError, match="it is a folder"):
        read_tensors(tmp_path)
    with pytest.raises(GemLabelError, match=f"cannot read .*: {os.strerror(2)}"):
        read_tensors(tmp_path / "gone.pt")


@pytest.mark.parametrize(
    "model_cfg",
    [1, {}, {"embed_dim": 8, "vision_cfg": {}}, {"embed_dim": 8, "text_cfg": {}, "vision_cfg": {"a": 1}}],
)
def test_a_configuration_of_no_model_is_one_line(tmp_path: Path, model_cfg: object) -> None:
    clip = write_small_clip(tmp_path / "clip")
    (clip / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg}))
    with pytest.raises(GemLabelError, match="configuration") as caught:
        load_clip(str(clip))
    assert "\n" not in str(caught.value)


def test_comparators_say_what_a_folder_holds(tmp_path: Path) -> None:
    from transformers import CLIPSegForImageSegmentation, GroupViTConfig, GroupViTModel

    small = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    vision = small | {
        "depths": [1, 1],
        "num_group_tokens": [4, 0],
        "num_output_groups": [4, 2],
        "image_size": 32,
    }
    text = small | {"num_hidden_layers": 1, "vocab_size": 99}
    config = GroupViTConfig(
        vision_config=vision, text_config=text, projection_dim=16, projection_intermediate_dim=16
    )
    GroupViTModel(config).save_pretrained(tmp_path)
    load_pretrained(GroupViTModel, str(tmp_path))
    with pytest.raises(GemLabelError, match=r"is of another model than CLIPSeg|cannot be read as CLIPSeg"):
        load_pretrained(CLIPSegForImageSegmentation, str(tmp_path))
    with pytest.raises(GemLabelError, match="lacks an image processor or tokenizer"):
        load_processors(str(tmp_path))
    for content, complaint in (
        (picture("JPEG"), "it is a picture"),
        (b"<html>", "it is a web page"),
        (b"", "empty"),
    ):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(GemLabelError, match=complaint):
            load_pretrained(GroupViTModel, str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"\x08" + bytes(7) + b"{nonsens" + bytes(90))
    with pytest.raises(GemLabelError, match="cannot be read as GroupViTModel") as caught:
        load_pretrained(GroupViTModel, str(tmp_path))
    assert "\n" not in str(caught.value)
