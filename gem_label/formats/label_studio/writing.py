"""Label Studio's list of tasks: what it imports, with the labeling configuration that the project needs."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from gem_label.atomic import replacing
from gem_label.errors import UsageError
from gem_label.formats.annotations import AnnotatedPhoto, Annotations, WriteReport, is_text
from gem_label.formats.cvat.writing import xml_text
from gem_label.formats.drawing import DrawnMask, WriteSettings, draw_masks
from gem_label.formats.label_studio.brush import decode_brush, encode_brush, encode_brush_crop
from gem_label.formats.label_studio.reading import is_label_studio, read_label_studio
from gem_label.formats.label_studio.regions import MAX_BRUSH, mask_id_of, region_id

__all__ = ["decode_brush", "encode_brush", "is_label_studio", "read_label_studio", "write_label_studio"]

IMAGE_PREFIX = "/data/local-files/?d="
"""Where Label Studio serves files of its own machine, below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT."""

CONFIG_SUFFIX = ".config.xml"
"""Of the labeling configuration, which is beside the tasks."""

_CONTROL, _IMAGE = "label", "image"


def write_label_studio(
    annotations: Annotations, out: Path, settings: WriteSettings | None = None
) -> Generator[int, None, WriteReport]:
    """Write tasks that Label Studio imports, and beside them the labeling configuration of their project.

    Each photo is a task. Masks that a reviewer accepted or renamed are its annotation. Where some are undecided, all
    of them are its prediction, with a score each. Rejected ones are left out. Masks are brush masks, exact, or one
    polygon each, in which bridges of no width join parts and lead to holes. A region's id keeps the mask id (see
    `label_studio_regions`), its `meta` the margin and whether the mask was renamed. The configuration is an XML file,
    which has no control characters: labels have U+FFFD in their place in both files.

    Args:
        annotations: what to write.
        out: the JSON file; the configuration is beside it, under its name with `.config.xml` in place of the suffix.
            Both appear when they are whole.
        settings: brush masks ("rle") or polygons, exact ones along pixel borders without a tolerance; `image_prefix`
            is put before the path of a photo, None: `IMAGE_PREFIX`. None: the same with brush masks.

    Yields:
        How many masks are written, after each photo; the generator returns the report.

    Raises:
        GemLabelError: a mask cannot be drawn.
        OSError: a file cannot be written.
    """
    settings = settings or WriteSettings()
    report = WriteReport(classes=len(annotations.classes))
    with replacing(out) as file, replacing(out.with_suffix(CONFIG_SUFFIX)) as config:
        config.write(_labeling_config(annotations.classes, settings))
        file.write(b"[")
        for photo in annotations.photos:
            task = _task(photo, settings, report)
            file.write((b",\n" if report.photos else b"\n") + json.dumps(task).encode("ascii"))
            report.photos += 1
            yield report.masks
        file.write(b"\n]\n")
    return report


def _labeling_config(classes: Sequence[str], settings: WriteSettings) -> bytes:
    """The XML with which a project shows the tasks."""
    view = Element("View")
    SubElement(view, "Image", {"name": _IMAGE, "value": f"${_IMAGE}", "zoom": "true", "zoomControl": "true"})
    tag = "PolygonLabels" if settings.segmentation == "polygon" else "BrushLabels"
    labels = SubElement(view, tag, {"name": _CONTROL, "toName": _IMAGE})
    for name in dict.fromkeys(map(xml_text, classes)):
        SubElement(labels, "Label", {"value": name})
    indent(view)
    return tostring(view, encoding="utf-8") + b"\n"


def _task(photo: AnnotatedPhoto, settings: WriteSettings, report: WriteReport) -> dict[str, Any]:
    regions: list[dict[str, Any]] = []
    decided: list[dict[str, Any]] = []
    taken: set[str] = set()
    for drawn in draw_masks(photo, report):
        if drawn.mask.state == "rejected":
            report.left_out["rejected"] += 1
            continue
        report.masks += 1
        region = _region(drawn, settings, report)
        region["id"] = _own_id(drawn, report.masks, taken)
        regions.append(region)
        if drawn.mask.state in ("accepted", "renamed"):
            decided.append(region)
    task: dict[str, Any] = {"data": {_IMAGE: _address(photo.name, settings.image_prefix)}}
    if decided:
        # without a word, Label Studio takes what it imports for ground truth
        task["annotations"] = [{"ground_truth": False, "result": decided}]
    if len(regions) > len(decided):
        # with those that are decided: people begin with all of it, and the latest annotation counts
        prediction: dict[str, Any] = {"model_version": f"gem-label {version('gem-label')}", "result": regions}
        own = {region["id"] for region in decided}
        scores = [each["score"] for each in regions if "score" in each and each["id"] not in own]
        if scores:
            prediction["score"] = round(sum(scores) / len(scores), 6)
        task["predictions"] = [prediction]
    return task


def _own_id(drawn: DrawnMask, number: int, taken: set[str]) -> str:
    """An id that no other region of the photo has: Label Studio takes regions with one id for one region."""
    mask_id, own = drawn.mask.mask_id, drawn.mask.id
    if mask_id:
        first = region_id(mask_id)
    elif isinstance(own, str) and is_text(own) and "#" not in own and mask_id_of(own) is None:
        first = own
    else:
        first = f"region-{number}"
    name, copies = first, 1
    while name in taken:
        copies += 1
        name = f"{first}+{copies}"
    taken.add(name)
    return name


def _region(drawn: DrawnMask, settings: WriteSettings, report: WriteReport) -> dict[str, Any]:
    mask, (height, width) = drawn.mask, drawn.rle["size"]
    label = xml_text(mask.label)
    if label != mask.label:
        report.altered["labels with characters that XML cannot hold"] += 1
    if settings.segmentation == "polygon":
        kind, value = "polygonlabels", _polygon(drawn, settings.tolerance, report)
    else:
        if height * width > MAX_BRUSH:
            raise UsageError(f"photos of {height} x {width} pixels have no brush masks: write polygons")
        rle = encode_brush_crop(drawn.crop, drawn.box, height, width)
        kind, value = "brushlabels", {"format": "rle", "rle": rle}
    region: dict[str, Any] = {
        "type": kind,
        "from_name": _CONTROL,
        "to_name": _IMAGE,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value | {kind: [label]},
    }
    if mask.score is not None:
        region["score"] = round(float(mask.score), 6)
    meta: dict[str, Any] = {"margin": round(float(mask.margin), 6)} if mask.margin is not None else {}
    meta |= {"crowd": True} if mask.crowd else {}
    meta |= {"state": "renamed"} if mask.state == "renamed" else {}
    return region | {"meta": meta} if meta else region


def _polygon(drawn: DrawnMask, tolerance: float | None, report: WriteReport) -> dict[str, Any]:
    """A mask as one polygon, in percent of the photo."""
    # OpenCV only where polygons are asked for
    from gem_label.formats.outlines.polygons import single_outline

    found = single_outline(drawn.crop, tolerance or 0.0)
    if tolerance is not None:
        report.add_outline(found.iou)
    elif found.iou < 1:
        report.altered["masks of which one polygon cannot hold all parts"] += 1
    height, width = drawn.rle["size"]
    points = (found.polygons[0] + np.array(drawn.box[:2])) * 100 / np.array([width, height])
    return {"points": points.tolist(), "closed": True}


def _address(name: str, prefix: str | None) -> str:
    """The address of a photo; addresses of storages, such as s3://, are not percent-encoded."""
    prefix = IMAGE_PREFIX if prefix is None else prefix
    if prefix.startswith(("/", "http://", "https://")):
        name = quote(name, errors="surrogateescape")
    return prefix + name
