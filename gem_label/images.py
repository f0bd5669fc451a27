"""Photos on disk: listing folders, and reading whatever PIL can open as upright 8-bit RGB."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from gem_label.errors import GemLabelError, ImageError, UsageError

# Formats that PIL only recognises (their pixels need another program): folders do not list them.
_STUB_FORMATS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo to label.

    Attributes:
        path: absolute path.
        image_id: path relative to the folder it was listed from, with "/", without suffix; unique in a run.
    """

    path: str
    image_id: str


def image_suffixes() -> frozenset[str]:
    """The lower-case suffixes (with dot) of the formats whose pixels PIL can read."""
    known = Image.registered_extensions()
    return frozenset(
        suffix for suffix, name in known.items() if name in Image.OPEN and name not in _STUB_FORMATS
    )


def unique_image_id(path: str, relative: str, taken: set[str]) -> str:
    """An image_id that is not taken yet: without suffix; on a collision with it; then numbered ("a.jpg~2").

    Args:
        path: absolute path of the photo.
        relative: its path relative to the listed folder.
        taken: ids in use; the new one is added.
    """
    whole = PurePath(relative or path).as_posix()
    image_id, number = PurePath(whole).with_suffix("").as_posix(), 2
    if image_id in taken:
        image_id = whole
    while image_id in taken:
        image_id, number = f"{whole}~{number}", number + 1
    taken.add(image_id)
    return image_id


def list_images(paths: Iterable[str | os.PathLike[str]]) -> list[Photo]:
    """The photos among files and folders (searched to the bottom), each once, in the order of their names.

    A file named explicitly is always taken; of a folder's files those whose suffix PIL can read. Hidden files
    and folders are left out.

    Raises:
        UsageError: a path does not exist, or there is no photo at all.
    """
    photos: list[Photo] = []
    seen: set[str] = set()
    taken: set[str] = set()
    roots = [os.fspath(path) for path in paths]
    for root in roots:
        if not os.path.exists(root):
            raise UsageError(f"no such file or folder: {root}")
        absolute = os.path.abspath(root)
        folder = os.path.isdir(absolute)
        for path in _files_below(absolute) if folder else [absolute]:
            if path not in seen:
                seen.add(path)
                relative = os.path.relpath(path, absolute) if folder else os.path.basename(path)
                photos.append(Photo(path, unique_image_id(path, relative, taken)))
    if not photos:
        raise UsageError(
            f"no photos in {', '.join(roots) or 'nothing'}: expected files such as .jpg, .png, .webp or .tif"
        )
    return photos


def _files_below(root: str) -> Iterator[str]:
    """Absolute paths of the photos under a folder, sorted in each; links to folders are followed once."""
    suffixes = image_suffixes()
    visited: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise GemLabelError(f"cannot list {error.filename}: {error.strerror}") from error

    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=refuse):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:  # a link back to where we have been
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:
                yield os.path.join(folder, name)


def read_image(path: str | os.PathLike[str], admit: Callable[[int], None] | None = None) -> NDArray[np.uint8]:
    """Read a photo as people see it: upright, its first frame, 8-bit RGB.

    EXIF rotation is applied, transparency goes over white, 16-bit and float pixels are scaled by their range.

    Args:
        path: the file.
        admit: called with the number of pixels when the header has been read, before anything is decoded; may
            wait (this is how decoding ahead keeps its memory bounded).

    Returns:
        (H, W, 3) uint8.

    Raises:
        ImageError: vanished, empty, broken or enormous (more than twice `PIL.Image.MAX_IMAGE_PIXELS`, 179
            million pixels, PIL's guard against decompression bombs); the message is the reason.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a file")
        if status.st_size == 0:
            raise ImageError("empty: the file has no bytes")
        with Image.open(path) as image:
            if admit is not None:
                admit(image.width * image.height)
            return to_rgb(image)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("vanished: the file is not there any more") from None
    except PermissionError:
        raise ImageError("no permission to read the file") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"enormous: {error}") from error
    except UnidentifiedImageError:
        raise ImageError("broken: not an image that PIL can read") from None
    except MemoryError:
        raise ImageError("enormous: not enough memory to decode it") from None
    except (
        Exception
    ) as error:  # decoders of broken files raise almost anything: struct.error, SyntaxError, EOFError
        raise ImageError(f"broken: {type(error).__name__}: {error}") from error


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """An open image as people see it: (H, W, 3) uint8 RGB (see `read_image`)."""
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(
            _scale_to_bytes(np.asarray(image))
        )  # loses EXIF, which such files hardly have
    else:
        image = _upright(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        image = image if converted is None else converted
    pixels = np.array(image.convert("RGB"), dtype=np.uint8)
    if pixels.size == 0:
        raise ImageError("empty: the image has no pixels")
    return pixels


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a photo with unreadable EXIF stays as it is."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF must not cost the photo
        return image


def _scale_to_bytes(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits to (H, W) uint8 by their range, never clipped.

    16-bit: 0..65535 becomes 0..255. 32-bit integers within that range count as 16-bit; other integers, and
    floats outside [0, 1], are stretched from their smallest to their largest value.
    """
    numbers = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(numbers.min()), float(numbers.max())
    if np.issubdtype(values.dtype, np.floating):
        span = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    else:
        span = (0.0, 65535.0) if low >= 0 and high <= 65535 else (low, high)
    return np.rint((numbers - span[0]) * (255.0 / max(span[1] - span[0], 1e-12))).astype(np.uint8)
