"""Masks of a run as PNG files, for detections whose masks are not in the database.

Datasets and fields of one run share the folder, and a run that is made again finds it there. So the name of a file
says what is in it, and a file that is there is never overwritten: no push changes what another dataset shows.
"""

from __future__ import annotations

import hashlib
import io
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gem_label.atomic import replacing
from gem_label.errors import GemLabelError

MASK_FOLDER = "fiftyone_masks"
"""In the run directory."""


def write_mask_file(run: Path, photo: int, index: int, mask: NDArray[np.bool_]) -> str:
    """Store a mask as a gray PNG, 255 where the mask is, unless it is there.

    Args:
        run: the run directory.
        photo: the photo's number in the run.
        index: the mask's place among the photo's masks.
        mask: (height, width) booleans, of its box.

    Returns:
        The file's absolute path, RUN/fiftyone_masks/PHOTO/INDEX-DIGEST.png.

    Raises:
        GemLabelError: it cannot be written.
    """
    pixels = mask.astype(np.uint8) * 255
    digest = hashlib.sha256(f"{mask.shape}".encode() + np.packbits(mask).tobytes()).hexdigest()[:16]
    folder = run.resolve() / MASK_FOLDER / str(photo)
    path = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(1):  # a file of this name with another mask was changed by hand: it stays
            path = folder / (f"{index}-{digest}.png" if number == 1 else f"{index}-{digest}-{number}.png")
            if not path.exists():
                content = io.BytesIO()
                Image.fromarray(pixels).save(content, format="PNG")
                with replacing(path, sync=False) as file:
                    file.write(content.getvalue())
                return str(path)
            if _shows(path, pixels):
                return str(path)
    except OSError as error:
        raise GemLabelError(f"cannot write the mask {path}: {error.strerror}") from error
    raise AssertionError("numbers do not end")


def _shows(path: Path, pixels: NDArray[np.uint8]) -> bool:
    """Whether a file has these pixels."""
    try:
        with Image.open(path) as image:
            return np.array_equal(np.asarray(image.convert("L")), pixels)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
