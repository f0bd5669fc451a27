"""The XML of "CVAT for images 1.1", written: masks with their mask ids."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from numpy.typing import NDArray

from gem_label.atomic import replacing
from gem_label.formats.annotations import Annotations, WriteReport
from gem_label.formats.drawing import WriteSettings, draw_masks

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_cvat(
    annotations: Annotations, out: Path, settings: WriteSettings | None = None
) -> Generator[int, None, WriteReport]:
    """Write the XML that CVAT takes as annotations of a task or job.

    Labels are declared with the attribute `mask_id`, as CVAT's task needs it. XML has no control characters: labels
    and names have U+FFFD in their place. Masks are run lengths, exact; scores and states are not kept.

    Args:
        annotations: what to write.
        out: the .xml file; appears when it is whole.
        settings: none of them concern this format.

    Yields:
        How many masks are written, after each photo; the generator returns the report.

    Raises:
        GemLabelError: a mask cannot be drawn.
        OSError: the file cannot be written.
    """
    report = WriteReport(classes=len(annotations.classes))
    with replacing(out, "w") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write(tostring(_meta(annotations, out.stem), encoding="unicode") + "\n")
        for photo in annotations.photos:
            height, width = photo.size or (0, 0)
            about = {"id": str(report.photos), "name": xml_text(photo.name)}
            image = Element("image", about | {"width": str(width), "height": str(height)})
            report.photos += 1
            for drawn in draw_masks(photo, report):
                report.masks += 1
                if xml_text(drawn.mask.label) != drawn.mask.label:
                    report.altered["labels with characters that XML cannot hold"] += 1
                about = {
                    "label": xml_text(drawn.mask.label),
                    "source": "auto",
                    "occluded": "0",
                    "z_order": "0",
                }
                place = dict(zip(("left", "top", "width", "height"), map(str, drawn.box), strict=True))
                lengths = ", ".join(map(str, run_lengths(drawn.crop)))
                shape = SubElement(image, "mask", about | place | {"rle": lengths})
                SubElement(shape, "attribute", {"name": "mask_id"}).text = xml_text(drawn.mask.mask_id or "")
            file.write(tostring(image, encoding="unicode") + "\n")
            yield report.masks
        file.write("</annotations>\n")
    return report


def _meta(annotations: Annotations, name: str) -> Element:
    """The file's header: the name of the task and its labels."""
    meta = Element("meta")
    task = SubElement(meta, "task")
    SubElement(task, "name").text = xml_text(name)
    declared = SubElement(task, "labels")
    for label in dict.fromkeys(map(xml_text, annotations.classes)):
        entry = SubElement(declared, "label")
        SubElement(entry, "name").text = label
        attribute = SubElement(SubElement(entry, "attributes"), "attribute")
        parts = {
            "name": "mask_id",
            "mutable": "False",
            "input_type": "text",
            "default_value": "",
            "values": "",
        }
        for tag, text in parts.items():
            SubElement(attribute, tag).text = text
    return meta


def xml_text(text: str) -> str:
    """The same text with U+FFFD for what XML 1.0 cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", text)


def run_lengths(crop: NDArray[np.bool_]) -> list[int]:
    """Alternating lengths of zeros and ones, row by row, zeros first: CVAT's `rle`.

    Example:
        >>> run_lengths(np.array([[True, True, False], [False, True, True]]))
        [0, 2, 2, 2]
    """
    flat = np.r_[False, crop.ravel()]
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.r_[0, edges, crop.size]).tolist()
