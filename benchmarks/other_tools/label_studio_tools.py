"""Tools that read Label Studio's tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import numpy as np

from other_tools.coco_tools import read_pycocotools
from other_tools.source import Found, Source, draw, encode


def read_label_studio_in_fiftyone(source: Source) -> Iterator[Found]:
    """Yield the masks of regions as FiftyOne takes them."""
    import fiftyone as fo
    from fiftyone.utils.labelstudio import import_label_studio_annotation

    for photo, result in _label_studio_results(source):
        _, label = import_label_studio_annotation(result)
        height, width = result["original_height"], result["original_width"]
        if isinstance(label, fo.Polyline):
            points = [(np.array(part) * (width, height)).ravel().tolist() for part in label.points]
            yield photo, label.label, result["id"], draw(points, height, width)
        else:
            yield photo, label.label, result["id"], encode(label.mask)


def _label_studio_results(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    for task in json.loads(source.file.read_text()):
        photo = unquote(task["data"]["image"]).rpartition("/")[2].rpartition("=")[2]
        for entry in (*task.get("annotations", ()), *task.get("predictions", ())):
            for result in entry["result"]:
                yield photo, result


def read_label_studio_sdk(source: Source) -> Iterator[Found]:
    """Yield the masks of Label Studio's converter: brush masks decoded, polygons as COCO."""
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.converter.brush import decode_from_annotation

    tasks = json.loads(source.file.read_text())
    numbered = [task | {"id": number} for number, task in enumerate(tasks, 1)]  # the import numbers them
    exported = source.scratch / "tasks.json"
    exported.write_text(json.dumps(numbered))
    config = source.file.with_suffix(".config.xml").read_text()
    converter = Converter(config, str(source.scratch), download_resources=False)
    if "PolygonLabels" in config:
        out = source.scratch / "coco"
        converter.convert_to_coco(str(exported), str(out), is_dir=False)
        converted = Source("coco", out / "result.json", source.photos, source.scratch)
        for photo, label, _, rle in read_pycocotools(converted):
            yield unquote(photo).rpartition("=")[2], label, None, rle
        return
    for item in converter.iter_from_json_file(str(exported)):
        for results in item["output"].values():
            for result in results:
                (mask,) = decode_from_annotation("label", [result]).values()
                photo = unquote(item["input"]["image"]).rpartition("=")[2]
                yield photo, result["brushlabels"][0], result.get("id"), encode(mask > 127)
