"""Tools that read datasets of many formats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np

from other_tools.label_studio_tools import read_label_studio_in_fiftyone
from other_tools.source import Found, Source, draw, encode


def read_datumaro(source: Source) -> Iterator[Found]:
    """Yield the masks of datumaro, which CVAT imports and exports with; polygons of one group are one mask."""
    from datumaro import Dataset
    from datumaro.components.annotation import Mask, Polygon

    # the layouts in which datumaro looks for these formats
    folder, format = source.scratch, source.format
    if format == "cvat":
        shutil.copy(source.file, folder / "annotations.xml")
        shutil.copytree(source.photos, folder / "images")
    elif format == "yolo":
        folder = source.file
    else:
        format = "coco_instances"
        (folder / "annotations").mkdir()
        shutil.copy(source.file, folder / "annotations/instances_train.json")
        shutil.copytree(source.photos, folder / "images/train")
    dataset = Dataset.import_from(str(folder), format)
    names = dataset.categories()[next(iter(dataset.categories()))]
    shapes = 0
    for item in dataset:
        height, width = item.media.size
        polygons: dict[tuple[int, int], list[Any]] = {}
        for each in item.annotations:
            shapes += isinstance(each, Polygon)
            if isinstance(each, Mask):
                own = each.attributes.get("mask_id") or each.id
                yield item.id, names[each.label].name, str(own), encode(each.image)
            elif isinstance(each, Polygon):
                polygons.setdefault((each.group or -shapes, each.label), []).append(each)
        for (_, label), parts in polygons.items():
            own = parts[0].attributes.get("mask_id") or parts[0].id
            yield item.id, names[label].name, str(own), draw([p.points for p in parts], height, width)
    if shapes:
        source.remarks.append(f"{shapes} polygons")


def read_fiftyone(source: Source) -> Iterator[Found]:
    """Yield the masks of a FiftyOne dataset."""
    import fiftyone as fo

    if source.format == "label-studio":
        yield from read_label_studio_in_fiftyone(source)
        return
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "cvat": (fo.types.CVATImageDataset, {}),
        "yolo": (fo.types.YOLOv5Dataset, {"split": "train", "label_type": "instances"}),
    }
    coco = {"label_types": ["segmentations"], "include_id": True}
    kind, options = kinds.get(source.format, (fo.types.COCODetectionDataset, coco))
    if source.format == "yolo":
        options |= {"dataset_dir": str(source.file), "yaml_path": "data.yaml"}
    else:
        options |= {"data_path": str(source.photos), "labels_path": str(source.file)}
    dataset = fo.Dataset.from_dir(dataset_type=kind, **options)
    dataset.compute_metadata()
    fields = dataset.get_field_schema(embedded_doc_type=fo.Detections)
    for sample in dataset:
        size = sample.metadata.height, sample.metadata.width
        for name in fields:
            for each in sample[name].detections if sample[name] else ():
                if each.mask is not None:
                    own = each.get_attribute_value("mask_id", None)
                    yield sample.filepath, each.label, own, encode(_placed(each, *size))


def _placed(detection: Any, height: int, width: int) -> Any:
    """The mask of a detection over its photo, where its box is; `to_segmentation` rounds boxes down."""
    x, y = round(detection.bounding_box[0] * width), round(detection.bounding_box[1] * height)
    mask = np.zeros((height, width), bool)
    part = detection.get_mask()[: height - y, : width - x]
    mask[y : y + part.shape[0], x : x + part.shape[1]] = part
    return mask


def read_ultralytics(source: Source) -> Iterator[Found]:
    """Yield the masks of ultralytics' dataset for training, at full size; COCO goes through its converter first."""
    from ultralytics.data import YOLODataset
    from ultralytics.data.converter import convert_coco
    from ultralytics.data.utils import check_det_dataset, polygon2mask

    folder = source.file
    if source.format != "yolo":
        (source.scratch / "in").mkdir()
        shutil.copy(source.file, source.scratch / "in/train.json")
        folder = source.scratch / "out"
        convert_coco(str(source.scratch / "in"), str(folder), use_segments=True, cls91to80=False)
        shutil.copytree(source.photos, folder / "images/train")
        categories = json.loads(source.file.read_text())["categories"]
        names = {i: f"none {i}" for i in range(max(each["id"] for each in categories))}
        names |= {each["id"] - 1: each["name"] for each in categories}
        about = {"train": "images/train", "val": "images/train", "names": names}
        (folder / "data.yaml").write_text(json.dumps(about))
    data = check_det_dataset(str(folder / "data.yaml"), autodownload=False)
    dataset = YOLODataset(img_path=data["train"], data=data, task="segment", augment=False)
    for row in dataset.labels:
        height, width = row["shape"]
        instances = dataset.update_labels_info(dict(row))["instances"]
        instances.denormalize(width, height)
        for label, segment in zip(row["cls"].ravel(), instances.segments, strict=True):
            mask = polygon2mask((height, width), [segment])
            yield row["im_file"], data["names"][int(label)], None, encode(mask)
