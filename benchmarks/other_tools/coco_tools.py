"""Tools that read COCO files."""

from __future__ import annotations

from collections.abc import Iterator

from other_tools.source import Found, Source, encode


def read_pycocotools(source: Source) -> Iterator[Found]:
    """Yield the masks of COCO's own API."""
    from pycocotools.coco import COCO

    coco = COCO(str(source.file))
    for row in coco.anns.values():
        photo, label = coco.imgs[row["image_id"]]["file_name"], coco.cats[row["category_id"]]["name"]
        yield photo, label, str(row["id"]), encode(coco.annToMask(row))


def read_torchvision(source: Source) -> Iterator[Found]:
    """Yield the masks of CocoDetection as its v2 transforms get them."""
    from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2

    plain = CocoDetection(str(source.photos), str(source.file))
    dataset = wrap_dataset_for_transforms_v2(plain, target_keys=("masks", "labels"))
    for number, key in enumerate(plain.ids):
        target = dataset[number][1]
        for label, mask in zip(target.get("labels", ()), target.get("masks", ()), strict=True):
            photo, name = plain.coco.imgs[key]["file_name"], plain.coco.cats[int(label)]["name"]
            yield photo, name, None, encode(mask.numpy())


def read_supervision(source: Source) -> Iterator[Found]:
    """Yield the masks of a DetectionDataset."""
    from supervision import DetectionDataset

    if source.format == "yolo":
        folders = (str(source.file / part / "train") for part in ("images", "labels"))
        dataset = DetectionDataset.from_yolo(*folders, str(source.file / "data.yaml"), force_masks=True)
    else:
        dataset = DetectionDataset.from_coco(str(source.photos), str(source.file), force_masks=True)
    for path, _, detections in dataset:
        for number, label in enumerate(detections.class_id):
            yield path, dataset.classes[label], None, encode(detections.mask[number])


def read_sahi(source: Source) -> Iterator[Found]:
    """Yield the masks of SAHI's Coco, drawn by SAHI."""
    from sahi.annotation import Mask
    from sahi.utils.coco import Coco

    boxes = 0
    for image in Coco.from_coco_dict_or_path(str(source.file)).images:
        for each in image.annotations:
            if not each.segmentation:
                boxes += 1
                continue
            mask = Mask(each.segmentation, [image.height, image.width])
            yield image.file_name, each.category_name, None, encode(mask.bool_mask)
    if boxes:
        source.remarks.append(f"{boxes} boxes without a mask")


def read_lvis(source: Source) -> Iterator[Found]:
    """Yield the masks of LVIS's API; LVISEval measures them against the file that they come from."""
    from lvis import LVIS, LVISEval, LVISResults

    lvis = LVIS(str(source.file))
    for row in lvis.anns.values():
        photo = lvis.load_imgs([row["image_id"]])[0]["file_name"]
        label = lvis.load_cats([row["category_id"]])[0]["name"]
        yield photo, label, str(row["id"]), encode(lvis.ann_to_mask(row))
    keys = ("image_id", "category_id", "segmentation", "score")
    results = [{key: row[key] for key in keys} for row in lvis.anns.values()]
    evaluation = LVISEval(lvis, LVISResults(lvis, results), "segm")
    evaluation.run()
    source.remarks.append(f"LVISEval of its masks against themselves: AP {evaluation.results['AP']:.3f}")
