"""Pictures of labelled masks: what a run found, drawn over the photo.

supervision's annotators would do, but that package requires the opencv build that needs a display's libraries, which
a fresh server does not have.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gem_label.masks import MaskSet

LONG_SIDE = 1280  # pictures are for looking at; larger photos are shrunk before anything is drawn


def class_colour(name: str) -> tuple[int, int, int]:
    """A bright RGB colour that depends on the name alone, so that a class looks the same on every photo."""
    # the golden ratio spreads neighbouring sums far apart on the colour wheel
    hue = sum(ord(c) * (i + 1) for i, c in enumerate(name)) * 0.618033988749895 % 1.0
    r, g, b = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return int(r * 255), int(g * 255), int(b * 255)


def draw_overlay(
    image: NDArray[np.uint8], masks: MaskSet, names: Sequence[str], scores: Sequence[float]
) -> NDArray[np.uint8]:
    """The photo with each mask tinted, outlined and named.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: N masks of that photo; large ones are drawn first.
        names: N labels.
        scores: N scores in [0, 1].

    Returns:
        (h, w, 3) uint8; the photo's size, or smaller so that its long side is at most 1280 pixels.
    """
    scale = min(1.0, LONG_SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    tags: list[tuple[int, int, str, tuple[int, int, int]]] = []
    for i in np.argsort(-masks.areas, kind="stable"):
        mask = cv2.resize(masks.decode(i).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        colour = class_colour(names[i])
        inside = mask.astype(bool)
        canvas[inside] = (0.55 * canvas[inside] + 0.45 * np.array(colour)).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, colour, 2)
        distance = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        row, column = divmod(int(distance.argmax()), distance.shape[1])
        tags.append((column, row, f"{names[i]} {scores[i]:.2f}", colour))
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(12, round(max(size) / 40)))
    for x, y, text, colour in tags:
        left, top, right, bottom = draw.textbbox((x, y), text, font=font, anchor="mm")
        dx = max(2 - left, 0) - max(right + 2 - size[0], 0)  # keep the tag inside the picture
        dy = max(2 - top, 0) - max(bottom + 2 - size[1], 0)
        draw.rectangle((left + dx - 3, top + dy - 2, right + dx + 3, bottom + dy + 2), fill=(20, 20, 20))
        draw.text((x + dx, y + dy), text, font=font, anchor="mm", fill=colour)
    return np.asarray(picture)


def contact_sheet(pictures: Sequence[NDArray[np.uint8]], columns: int = 4, width: int = 320) -> Image.Image:
    """Pictures of any shapes side by side, each fitted into a square cell of `width` pixels."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * width), (255, 255, 255))
    for i, pixels in enumerate(pictures):
        picture = Image.fromarray(pixels)
        picture.thumbnail((width - 6, width - 6), Image.Resampling.LANCZOS)
        x = i % columns * width + (width - picture.width) // 2
        y = i // columns * width + (width - picture.height) // 2
        sheet.paste(picture, (x, y))
    return sheet
