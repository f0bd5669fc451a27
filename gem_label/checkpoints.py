"""Checkpoint files: their tensors, or one line that says what a file is when it is no checkpoint."""

from __future__ import annotations

import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from gem_label.errors import GemLabelError

TORCHSCRIPT = "torchscript:"
"""Before a model's name: its file is a TorchScript archive, and may be loaded. Such archives hold code."""

_PHOTO = "a picture or video"
_KINDS = (
    (b"\xff\xd8\xff", _PHOTO), (b"\x89PNG", _PHOTO), (b"GIF8", _PHOTO), (b"RIFF", _PHOTO), (b"BM", _PHOTO),
    (b"II*\0", _PHOTO), (b"MM\0*", _PHOTO), (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull` where it comes from"),
    (b"\x1f\x8b", "a gzip archive"), (b"BZh", "a bzip2 archive"), (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7z archive"), (b"Rar!", "a RAR archive"), (b"\x7fELF", "a program"), (b"MZ", "a program"),
    (b"\x89HDF", "an HDF5 file"), (b"\x93NUMPY", "a NumPy array"), (b"PAR1", "a parquet file"),
    (b"GGUF", "a GGUF file"), (b"SQLite", "a database"),
)  # fmt: skip
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml")


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which holds code beside tensors."""
    return any(name.endswith("/constants.pkl") for name in _members(path))


def describe_file(path: Path) -> str | None:
    """What a file is that is no checkpoint, such as "a web page"; None for one that may be a checkpoint."""
    if path.is_dir():
        return "a folder"
    with open(path, "rb") as file:
        start = file.read(1024)
        if not start:
            return "empty"
        if start.count(0) == len(start) and not any(file.read(1 << 16)):
            return "zeros: a download that was cut"
    if _is_safetensors(path, start):  # its first bytes are a number, and may look like anything
        return None
    if start[4:8] == b"ftyp":
        return _PHOTO
    for beginning, kind in _KINDS:
        if start.startswith(beginning):
            return kind
    if start.lstrip().lower().startswith(_PAGES):
        return "a web page: the download answered with an error or a login"
    if start.startswith(b"PK"):
        return _describe_zip(path)
    if start[257:262] == b"ustar":
        return "a tar archive"
    try:
        text = start.decode("utf-8", "strict" if len(start) < 1024 else "ignore")
    except UnicodeDecodeError:
        return None
    return "a text file" if all(c.isprintable() or c.isspace() for c in text) else None


def read_tensors(path: Path, torchscript: bool = False) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names, on the CPU: safetensors, PyTorch's own files, TorchScript archives.

    A checkpoint is data: no code in it runs, unless a TorchScript archive is asked for. Whole training checkpoints
    give their `state_dict`.

    Args:
        path: the file.
        torchscript: load a TorchScript archive.

    Raises:
        GemLabelError: the file cannot be read, or holds no tensors; the message says what it is.
    """
    try:
        kind = describe_file(path)
    except OSError as error:
        raise GemLabelError(f"cannot read {path}: {error.strerror}") from error
    if kind is not None:
        raise GemLabelError(f"{path} is no checkpoint: it is {kind}")
    archive = is_torchscript(path)
    with open(path, "rb") as file:
        safetensors = _is_safetensors(path, file.read(9))
    if archive and not torchscript:
        raise GemLabelError(
            f"{path} is a TorchScript archive, which holds code and is not loaded: take a file of tensors alone"
        )
    try:
        if archive:
            content: Any = torch.jit.load(path, map_location="cpu").state_dict()
        elif safetensors:
            content = load_file(path)
        else:
            with open(path, "rb") as file, warnings.catch_warnings():  # by name, it would go by the suffix
                warnings.simplefilter(
                    "ignore", UserWarning
                )  # about pickles of others, which fail right after
                content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader raises its own, from IndexError to RuntimeError
        # PyTorch's own text would advise to load the file with weights_only=False
        raise GemLabelError(
            f"cannot read {path}: it is cut, no PyTorch checkpoint, or holds more than tensors (never loaded)"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise GemLabelError(f"{path} holds no weights but a {type(content).__name__}")
    tensors = {
        name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not tensors:
        names = ", ".join(map(str, list(content)[:3]))
        raise GemLabelError(f"{path} holds no weights but {f'the entries {names}' if names else 'nothing'}")
    return tensors


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def _describe_zip(path: Path) -> str | None:
    """What a zip archive is, which PyTorch's files are too."""
    names = _members(path)
    if not names:
        return "a PyTorch file or other zip archive that is cut or damaged"
    return None if any(name.endswith("data.pkl") for name in names) else "a zip archive of other files"


def _is_safetensors(path: Path, start: bytes) -> bool:
    """Whether a file is in the safetensors format, by its first bytes: the length of a header, and JSON."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < os.path.getsize(path)
