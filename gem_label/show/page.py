"""A run as one page of HTML that works from disk: no server, nothing from the network."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gem_label.atomic import replacing
from gem_label.errors import ImageError
from gem_label.labeling import MaskLabels
from gem_label.masks import MaskSet
from gem_label.photos.buckets import Buckets
from gem_label.photos.reading import read_image
from gem_label.progress import Progress
from gem_label.runs.reader import Run
from gem_label.runs.schema import PhotoRecord
from gem_label.runs.summary import RunSummary, summarize_run
from gem_label.show.choosing import Choice, choose_images
from gem_label.show.colors import class_colors
from gem_label.show.overlay import contact_sheet, draw_overlay

LONG_SIDE = 1280  # of the images that the page shows
LEAST_SHOWN = 0.05  # score of masks below the threshold that the page can show
_PAGE, _SHEET = "index.html", "contact-sheet.jpg"
_IMAGES, _OVERLAYS = "images", "overlays"
_CELL = 420  # pixels of a picture on the contact sheet


@dataclass(frozen=True, slots=True)
class ShowReport:
    """What was written.

    Attributes:
        page: index.html.
        sheet: contact-sheet.jpg.
        choice: the images that were chosen.
        unreadable: how many of them could not be read.
        summary: of the whole run.
    """

    page: Path
    sheet: Path
    choice: Choice
    unreadable: int
    summary: RunSummary


def write_page(run: Run, folder: Path, images: int = 48) -> Generator[Progress, None, ShowReport]:
    """Write a page, a contact sheet, and a picture of each chosen image with its masks.

    Args:
        run: the run.
        folder: gets index.html, contact-sheet.jpg, images/ and overlays/; files of the same names are replaced.
        images: how many images are drawn, see `choose_images`.

    Yields:
        Progress; the generator returns the report.

    Raises:
        GemLabelError: the run is damaged, or the folder cannot be written.
    """
    yield Progress(0, images, "counting the labels of the run")
    summary = summarize_run(run)
    choice = choose_images(run, images)
    for name in (_IMAGES, _OVERLAYS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = run.vocabulary.classes
    entries: list[dict[str, Any]] = []
    thumbnails: list[NDArray[np.uint8]] = []
    unreadable = 0
    buckets = Buckets()
    for photo, masks, labels in run.photo_masks(embeddings=False, only=choice.reasons):
        yield Progress(len(entries), len(choice.reasons), f"drawing {photo.image_id}")
        pixels = _read_labeled(photo, buckets)
        if pixels is None:
            unreadable += 1
            pixels = np.full((photo.height, photo.width, 3), 200, np.uint8)
        file = f"{photo.number:07d}.jpg"
        kept = labels[labels.kept]
        overlay = draw_overlay(pixels, masks[labels.kept], [str(n) for n in kept.names], kept.score.tolist())
        _save(Image.fromarray(overlay), folder / _OVERLAYS / file)
        small = Image.fromarray(overlay)
        small.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
        thumbnails.append(np.asarray(small))
        picture = Image.fromarray(pixels)
        picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
        _save(picture, folder / _IMAGES / file)
        entries.append(image_entry(photo, masks, labels, f"{_IMAGES}/{file}", choice.reasons[photo.number]))
    _save(contact_sheet(thumbnails, width=_CELL), folder / _SHEET)
    page = folder / _PAGE
    with replacing(page, "w") as out:
        out.write(render_page(run.place, summary, choice, entries, names))
    return ShowReport(page, folder / _SHEET, choice, unreadable, summary)


def _read_labeled(photo: PhotoRecord, buckets: Buckets) -> NDArray[np.uint8] | None:
    """The pixels that were labeled; None where they cannot be read, or another photo is there by now."""
    try:
        pixels = read_image(photo.image, buckets=buckets)
    except ImageError:
        return None
    return pixels if pixels.shape[:2] == (photo.height, photo.width) else None


def image_entry(
    photo: PhotoRecord, masks: MaskSet, labels: MaskLabels, file: str, reason: str
) -> dict[str, Any]:
    """An image and its masks as the page reads them: kept masks, and selected ones below the threshold."""
    shown = np.flatnonzero(labels.kept | (labels.selected & (labels.score >= LEAST_SHOWN)))
    tolerance = max(0.75, max(photo.height, photo.width) / LONG_SIDE)
    entries = []
    for index in shown.tolist():
        mask = masks.decode(index)
        runner_up = labels.top_classes[index, 1] if labels.top_classes.shape[1] > 1 else -1
        x, y, width, height = masks.boxes[index].tolist()
        entries.append(
            {
                "class": int(labels.label_index[index]),
                "score": round(float(labels.score[index]), 3),
                "margin": round(float(labels.margin[index]), 3),
                "next": int(runner_up),
                "kept": bool(labels.kept[index]),
                "box": [x, y, width, height],
                "path": svg_path(mask, tolerance),
            }
        )
    return {
        "file": file,
        "name": photo.image_id,
        "width": photo.width,
        "height": photo.height,
        "reason": reason,
        "masks": entries,
    }


def render_page(
    place: str,
    summary: RunSummary,
    choice: Choice,
    images: list[dict[str, Any]],
    names: tuple[str, ...],
) -> str:
    """The page's HTML.

    Args:
        place: of the run, for the heading.
        summary: of the whole run.
        choice: which images are shown.
        images: of `image_entry`.
        names: the classes that the entries' indices mean.
    """
    counts = {each.name: each for each in summary.classes}
    colors = class_colors(names)
    data = {
        "place": place,
        "chosen": str(choice),
        "counts": {
            "images": summary.images,
            "failed": summary.failed,
            "masks": summary.masks,
            "kept": summary.kept,
        },
        "classes": [
            {
                "name": name,
                "masks": counts[name].masks,
                "images": counts[name].images,
                "median": round(counts[name].median, 2),
                "color": "#{:02x}{:02x}{:02x}".format(*colors[name]),
            }
            for name in names
        ],
        "images": images,
    }
    template = resources.files("gem_label.show") / "page.html"
    # "<" cannot end the script element; names are put into the page as text, never as HTML
    content = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return template.read_text(encoding="utf-8").replace("/*DATA*/", content)


def svg_path(mask: NDArray[np.bool_], tolerance: float) -> str:
    """The outlines of a mask and of its holes, for a path with the fill rule "evenodd".

    Args:
        mask: (height, width).
        tolerance: pixels that the path may lie beside the border.
    """
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    inside = np.ascontiguousarray(mask[y : y + height, x : x + width], np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
    paths = []
    for contour in contours:
        points = cv2.approxPolyDP(contour, tolerance, True)[:, 0] + 0.5  # the middle of a pixel
        paths.append("M" + " ".join(f"{px:g},{py:g}" for px, py in points.tolist()) + "Z")
    return "".join(paths)


def _save(picture: Image.Image, path: Path) -> None:
    with replacing(path) as file:
        picture.save(file, "JPEG", quality=88)
