"""Pictures of labeled masks: what a run found, drawn over the photo so that a person can read it.

supervision's annotators would do, but that package requires the opencv build that needs a display's libraries, which
a fresh server does not have.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gem_label.masks import MaskSet
from gem_label.show.colors import Color, class_color, class_colors, text_color
from gem_label.show.label_boxes import DrawnMask, place_labels

__all__ = ["class_color", "class_colors", "contact_sheet", "draw_overlay"]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Pictures are for looking at: larger photos shrink to the one, words on smaller ones need the other.
LONG_SIDE, LEAST_LONG_SIDE = 1280, 1024
FILL = 0.27  # of the class color; the rest is the photo
REACH = 0.2  # longest leader line as a share of the long side; beyond it a number is easier to follow
DARK = (16, 16, 16)


def font_size(long_side: int, labels: int) -> int:
    """Pixels of the words on a picture: smaller where there are many, within [11, 32]."""
    crowd = min(1.0, max(0.0, (labels - 10) / 50))
    return int(np.clip(round(long_side / (36 + 28 * crowd)), 11, 32))


def draw_overlay(
    image: NDArray[np.uint8], masks: MaskSet, names: Sequence[str], scores: Sequence[float]
) -> NDArray[np.uint8]:
    """The photo with each mask tinted, outlined and named.

    Words stand where they hide least, in their mask or close by, else at the end of a short line. Where there is no
    room for a word, the mask gets a number, and a strip below the photo says what the numbers mean.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: N masks of that photo; small ones are drawn over large ones.
        names: N labels.
        scores: N scores in [0, 1].

    Returns:
        (h, w, 3) uint8; the photo scaled so that its long side is within [1024, 1280] pixels, and perhaps the strip.
    """
    long_side = max(image.shape[:2])
    scale = np.clip(long_side, LEAST_LONG_SIDE, LONG_SIDE) / long_side
    width, height = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    how = cv2.INTER_AREA if scale <= 1 else cv2.INTER_CUBIC
    canvas = np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)
    order = [int(i) for i in np.argsort(-masks.areas, kind="stable")]
    drawn = {i: DrawnMask.scaled(masks.decode(i), width, height) for i in order}
    colors = class_colors(names)
    owner = np.full((height, width), -1, np.int32)
    for i in order:
        owner[drawn[i].window][drawn[i].pixels > 0] = i
    _tint(canvas, owner, [colors[name] for name in names])
    _outline(canvas, [drawn[i] for i in order], [colors[names[i]] for i in order])
    pixels = np.bincount(owner[owner >= 0], minlength=len(masks))
    hidden = np.append(1 / np.maximum(pixels, 1), 0)[owner]
    small_first = order[::-1]
    words = [f"{names[i]} {scores[i]:.2f}" for i in small_first]
    return _write(
        canvas, [drawn[i] for i in small_first], words, [colors[names[i]] for i in small_first], hidden
    )


def _tint(canvas: NDArray[np.uint8], owner: NDArray[np.int32], colors: Sequence[Color]) -> None:
    """Mix each pixel with the color of the smallest mask there; owner -1 leaves it as it is."""
    table = np.array([*colors, (0, 0, 0)], np.float32)
    inside = owner >= 0
    canvas[inside] = ((1 - FILL) * canvas[inside] + FILL * table[owner[inside]]).round().astype(np.uint8)


def _outline(canvas: NDArray[np.uint8], drawn: Sequence[DrawnMask], colors: Sequence[Color]) -> None:
    """A line in the class color between two dark ones: visible on any photo."""
    line = max(1, round(max(canvas.shape[:2]) / 600))
    for mask, color in zip(drawn, colors, strict=True):
        padded = np.pad(mask.pixels, 1)
        offset = mask.corner[0] - 1, mask.corner[1] - 1
        contours, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=offset)
        long = [contour for contour in contours if len(contour) >= 24 * line] or contours  # no specks
        cv2.drawContours(canvas, long, -1, DARK, line + 2, cv2.LINE_AA)
        cv2.drawContours(canvas, long, -1, color, line, cv2.LINE_AA)


def _write(
    canvas: NDArray[np.uint8],
    drawn: Sequence[DrawnMask],
    words: Sequence[str],
    colors: Sequence[Color],
    hidden: NDArray[np.floating],
) -> NDArray[np.uint8]:
    """Place and write the words, in this order; returns the picture with the strip of numbered words, if any."""
    bounds = canvas.shape[1], canvas.shape[0]
    font = ImageFont.load_default(font_size(max(bounds), len(words)))
    poles = [mask.poles[0] for mask in drawn]
    sizes = [_box_size(word, font) for word in words]
    anchors = [mask.anchors(size) for mask, size in zip(drawn, sizes, strict=True)]
    reach = REACH * max(bounds)
    boxes = place_labels(sizes, anchors, bounds, targets=poles, hidden=hidden, reach=reach)
    texts, legend = list(words), []
    lost = np.flatnonzero(boxes[:, 0] < 0).tolist()
    if lost:
        for number, i in enumerate(lost, 1):
            texts[i] = str(number)
            legend.append((f"{number}  {words[i]}", colors[i]))
        boxes[lost] = place_labels(
            [_box_size(texts[i], font) for i in lost],
            [drawn[i].anchors(_box_size(texts[i], font)) for i in lost],
            bounds,
            targets=[poles[i] for i in lost],
            hidden=hidden,
            taken=boxes[boxes[:, 0] >= 0],
        )
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    placed = [i for i in range(len(texts)) if boxes[i, 0] >= 0]
    for i in placed:
        if not drawn[i].touches(boxes[i].tolist()):
            _leader(draw, boxes[i], poles[i], colors[i])
    for i in placed:
        _box(draw, boxes[i], texts[i], colors[i], font)
    if legend:
        picture = _with_legend(picture, legend, font)
    return np.asarray(picture)


def _box_size(text: str, font: Font) -> tuple[int, int]:
    _, top, _, bottom = font.getbbox("Ág")
    high = int(bottom - top)
    return int(np.ceil(font.getlength(text))) + 2 * (high // 4), high + 2 * (high // 6)


def _leader(draw: ImageDraw.ImageDraw, box: NDArray[np.int64], pole: tuple[int, int], color: Color) -> None:
    """A line from a box to its mask."""
    x0, y0, x1, y1 = box.tolist()
    start = min(max(pole[0], x0), x1 - 1), min(max(pole[1], y0), y1 - 1)
    for fill, width in ((DARK, 5), (color, 2)):
        draw.line((*start, *pole), fill=fill, width=width)
        dot = width + 1
        draw.ellipse((pole[0] - dot, pole[1] - dot, pole[0] + dot, pole[1] + dot), fill=fill)


def _box(
    draw: ImageDraw.ImageDraw,
    box: NDArray[np.int64],
    text: str,
    color: Color,
    font: Font,
) -> None:
    """A filled box with its text."""
    x0, y0, x1, y1 = box.tolist()
    draw.rounded_rectangle((x0, y0, x1 - 1, y1 - 1), radius=(y1 - y0) // 6, fill=color, outline=DARK)
    draw.text(((x0 + x1) / 2, (y0 + y1) / 2), text, font=font, anchor="mm", fill=text_color(color))


def _with_legend(picture: Image.Image, legend: Sequence[tuple[str, Color]], font: Font) -> Image.Image:
    """The picture with a strip below it that lists the numbered words, in columns."""
    sizes = np.array([_box_size(text, font) for text, _ in legend])
    gap = int(sizes[0, 1]) // 4
    across = int(min(sizes[:, 0].max(), picture.width - 2 * gap))
    columns = max(1, (picture.width - gap) // (across + gap))
    step = int(sizes[0, 1]) + gap
    rows = -(-len(legend) // columns)
    taller = Image.new("RGB", (picture.width, picture.height + rows * step + gap), DARK)
    taller.paste(picture)
    draw = ImageDraw.Draw(taller)
    for i, (text, color) in enumerate(legend):
        x, y = gap + i // rows * (across + gap), picture.height + gap + i % rows * step
        box = np.array([x, y, x + min(across, int(sizes[i, 0])), y + int(sizes[i, 1])])
        _box(draw, box, _fitted(text, across, font), color, font)
    return taller


def _fitted(text: str, across: int, font: Font) -> str:
    """The text, cut where its box would be wider than `across` pixels."""
    if _box_size(text, font)[0] <= across:
        return text
    while text and _box_size(f"{text}…", font)[0] > across:
        text = text[:-1]
    return f"{text}…"


def contact_sheet(
    pictures: Sequence[NDArray[np.uint8]],
    columns: int = 4,
    width: int = 420,
    captions: Sequence[str] | None = None,
) -> Image.Image:
    """Pictures side by side on white.

    Args:
        pictures: N pictures of any shape.
        columns: most pictures in a row.
        width: pixels of a cell; pictures shrink to fit into it, and a row is as high as its highest picture.
        captions: N lines to write below them; None for none.

    Returns:
        The sheet; one white pixel for no pictures.
    """
    gap, columns = 8, max(1, min(columns, len(pictures)))
    font = ImageFont.load_default(14)
    line = _box_size("", font)[1] if captions is not None else 0
    cells = []
    for pixels in pictures:
        picture = Image.fromarray(pixels)
        picture.thumbnail((width, width), Image.Resampling.LANCZOS)
        cells.append(picture)
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) + line + gap for row in rows]
    size = (columns * (width + gap) + gap, sum(heights) + gap) if rows else (1, 1)
    sheet = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for i, cell in enumerate(cells):
        row, column = divmod(i, columns)
        x, y = gap + column * (width + gap), gap + sum(heights[:row])
        high = heights[row] - line - gap
        sheet.paste(cell, (x + (width - cell.width) // 2, y + (high - cell.height) // 2))
        if captions is not None:
            text = _fitted(captions[i], width, font)
            draw.text((x + width / 2, y + high + line / 2), text, font=font, anchor="mm", fill=DARK)
    return sheet
