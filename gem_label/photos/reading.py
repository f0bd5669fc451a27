"""Reading photos: whatever PIL, pillow-heif or OpenCV can open, as upright 8-bit RGB."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from gem_label.errors import ImageError
from gem_label.photos import png
from gem_label.photos.bit_depth import has_deep_colors, read_deep_colors, stated_maximum
from gem_label.photos.buckets import Buckets
from gem_label.photos.rgb import colors_to_rgb, is_deep_gray, orientation, stored_bytes, to_rgb

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_HEIF_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
_BYTES_BESIDES = {"WEBP": 9, "HEIF": 4, "AVIF": 4}
"""Bytes a pixel that decoders take besides the pixels that they give, measured by tests/decoding_worker.py."""
# Formats that PIL only recognizes (their pixels need another program): folders do not list them.
_STUB_FORMATS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})


def image_suffixes() -> frozenset[str]:
    """The lower-case suffixes (with dot) of the formats whose pixels can be read."""
    known = Image.registered_extensions()
    readable = {*Image.OPEN, "MPO"} - _STUB_FORMATS  # PIL opens MPO as a kind of JPEG
    return _HEIF_SUFFIXES | {suffix for suffix, name in known.items() if name in readable}


def open_image(path: str | os.PathLike[str]) -> ImageFile:
    """Open a photo as `PIL.Image.open` does, HEIC, HEIF and PNG with any text too; its pixels are not decoded yet.

    Nothing is registered with PIL, so that other code in the process sees no difference.

    Raises:
        OSError: there is no such file, it may not be read, or it is no image (`PIL.UnidentifiedImageError`).
        PIL.Image.DecompressionBombError: more than twice `PIL.Image.MAX_IMAGE_PIXELS`.
        Exception: whatever else the decoders of broken files raise.
    """
    with open(path, "rb") as file:
        header = file.read(64)
    if header[4:8] == b"ftyp":  # its length, "ftyp", the major brand, a version, other brands
        end = min(int.from_bytes(header[:4], "big"), len(header))
        brands = {header[start : start + 4] for start in (8, *range(16, end, 4))}
        if brands & _HEIF_BRANDS and not brands & _AVIF_BRANDS:
            from pillow_heif import HeifImageFile

            image = HeifImageFile(path)
            if image.width * image.height > 2 * (Image.MAX_IMAGE_PIXELS or image.width * image.height):
                image.close()
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            return image
    try:
        opened = Image.open(path)
    except (ValueError, UnidentifiedImageError):
        smaller = _without_text(path)  # PIL refuses a PNG with much text, or with damaged text
        if smaller is None:
            raise
        return Image.open(io.BytesIO(smaller))
    if opened.format == "TIFF":
        # without a name PIL does not map the file into memory, which scrambles photos that are stored on their side
        opened.filename = ""
    return opened


def upright_size(image: ImageFile) -> tuple[int, int]:
    """Width and height in pixels of an open photo as `read_image` gives it, from its header."""
    width, height = image.size
    if isinstance(image, TiffImageFile):  # whose size PIL turns in some versions
        width, height = image.tag_v2[ExifTags.Base.ImageWidth], image.tag_v2[ExifTags.Base.ImageLength]
    return (height, width) if orientation(image) in (5, 6, 7, 8) else (width, height)


def decoding_bytes(image: ImageFile) -> int:
    """The most memory that decoding takes, of an image whose header has been read.

    That is PIL's pixels and the result, and what decoders need besides: libwebp two copies, libheif one, a
    progressive JPEG its coefficients, a TIFF that PIL turns another copy. Gray values of more than 8 bits are copied
    to find their range; 16 bits a color channel go through OpenCV.
    """
    if has_deep_colors(image):
        return 19 * image.width * image.height
    stored, besides = stored_bytes(image.mode), _BYTES_BESIDES.get(image.format or "", 0)
    if is_deep_gray(image.mode):
        besides = 2 * stored + 1
    if image.info.get("progressive") or (image.format == "TIFF" and orientation(image) != 1):
        besides = 4
    return (stored + 3 + besides) * image.width * image.height


def check_header(path: str | os.PathLike[str]) -> None:
    """Make sure that a file begins as a photo does, without decoding it.

    Raises:
        ImageError: it does not; the message is the reason.
    """
    with _reasons():
        _check_file(path)
        open_image(path).close()


def read_image(
    path: str | os.PathLike[str],
    admit: Callable[[int], None] | None = None,
    buckets: Buckets | None = None,
    take_tag: Callable[[str], None] | None = None,
) -> NDArray[np.uint8]:
    """Read a photo as people see it: upright, its first frame, 8-bit RGB.

    EXIF rotation is applied, transparency goes over white, 16-bit and float pixels are scaled by their range
    (`gem_label.photos.bit_depth`).

    Args:
        path: the file, or its address in an object store.
        admit: called once with `decoding_bytes` when the header has been read, before anything is decoded; may
            wait (this is how decoding ahead keeps its memory bounded).
        buckets: the object stores that are open already.
        take_tag: gets the tag of the content, see `Photo`, before it is read.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ImageError: vanished, empty, broken or enormous (more than twice `PIL.Image.MAX_IMAGE_PIXELS`, 179
            million pixels, PIL's guard against decompression bombs); the message is the reason.
    """
    with _reasons(), (buckets or Buckets()).as_file(path, take_tag) as file:
        return _read_file(file, admit)


def _read_file(path: str | os.PathLike[str], admit: Callable[[int], None] | None) -> NDArray[np.uint8]:
    admitted = False

    def admit_once(image: ImageFile) -> None:
        nonlocal admitted
        if admit is not None and not admitted:
            admitted = True
            admit(decoding_bytes(image))

    _check_file(path)
    try:
        with open_image(path) as image:
            admit_once(image)
            deep, maximum = has_deep_colors(image), stated_maximum(image, path)
            if deep and (maximum is not None or "transparency" in image.info):
                return _deep_colors_to_rgb(image, path, maximum)
            return to_rgb(image, maximum)
    except (ValueError, UnidentifiedImageError):
        smaller = _without_text(path)  # behind the pixels
        if smaller is None:
            raise
    with Image.open(io.BytesIO(smaller)) as image:
        admit_once(image)
        return to_rgb(image, stated_maximum(image, path))


def _check_file(path: str | os.PathLike[str]) -> None:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not a file")
    if status.st_size == 0:
        raise ImageError("empty: the file has no bytes")


def _without_text(path: str | os.PathLike[str]) -> bytes | None:
    """See `png.without_text`."""
    with open(path, "rb") as file:
        return png.without_text(file)


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever happens to a file into an `ImageError`."""
    try:
        yield
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
    except Exception as error:  # decoders of broken files raise almost anything: struct.error, EOFError
        raise ImageError(f"broken: {type(error).__name__}: {error}") from error


def _deep_colors_to_rgb(
    image: Image.Image, path: str | os.PathLike[str], maximum: int | None
) -> NDArray[np.uint8]:
    """A photo of 16 bits a color channel of which 8 are not enough: (H, W, 3) uint8."""
    deep = read_deep_colors(path, maximum)
    if deep is None:
        return to_rgb(image)
    return colors_to_rgb(deep, 1 if image.format == "TIFF" else orientation(image))
