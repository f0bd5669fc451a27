"""COCO files of masks that have no ids, or ids that others have too: every reader finds each photo and mask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_factory import encode
from pycocotools.coco import COCO

from gem_label.formats.annotations import AnnotatedMask, AnnotatedPhoto, Annotations
from gem_label.formats.coco import write_coco
from gem_label.formats.numbering import with_numbers
from gem_label.formats.reading import read_annotations
from gem_label.progress import finish


def photos(ids: list[Any], mask_ids: list[list[Any]]) -> list[AnnotatedPhoto]:
    draw = encode(np.eye(4, dtype=bool))
    return [
        AnnotatedPhoto(f"{i}.png", (4, 4), [AnnotatedMask("cat", draw, id=own) for own in masks], id)
        for i, (id, masks) in enumerate(zip(ids, mask_ids, strict=True))
    ]


def numbers(found: Iterator[AnnotatedPhoto]) -> list[Any]:
    return [(photo.id, [mask.id for mask in photo.masks]) for photo in found]


@pytest.mark.parametrize(
    ("ids", "mask_ids", "expected"),
    [
        ([None, None], [[None], [None, None]], [(1, [1]), (2, [2, 3])]),
        ([7, 3], [[5], [9, 1]], [(7, [5]), (3, [9, 1])]),
        ([None, 1], [[None], [1, 2]], [(2, [3]), (1, [1, 2])]),
        ([1, 1], [[1, 1], [1]], [(1, [1, 2]), (2, [3])]),
        (["a", "1"], [["x", 2], ["2", True]], [(1, [1, 2]), (2, [3, 4])]),
    ],
)
def test_each_has_a_number_of_its_own(ids: list[Any], mask_ids: list[list[Any]], expected: list[Any]) -> None:
    assert numbers(with_numbers(photos(ids, mask_ids))) == expected


def test_a_stream_has_whole_numbers_or_none() -> None:
    for ids, expected in (([4, 2], [(4, [6]), (2, [5])]), ([None, "b"], [(1, [1]), (2, [2])])):
        masks = [[6], [5]] if ids == [4, 2] else [[None], ["c"]]
        assert numbers(with_numbers(iter(photos(ids, masks)))) == expected


def test_pycocotools_finds_all_masks_of_a_table_that_people_added_to(tmp_path: Path) -> None:
    rle = encode(np.eye(4, dtype=bool)).value["counts"]
    rows = [f"{photo}.png,4,4,cat,{own},{rle}" for photo, own in ((1, ""), (1, 1), (2, 1), (2, ""), (2, 2))]
    (tmp_path / "masks.csv").write_text("\n".join(["photo,width,height,label,id,rle_counts", *rows]))
    report = finish(write_coco(read_annotations(tmp_path / "masks.csv"), tmp_path / "out.json"))
    coco = COCO(tmp_path / "out.json")
    assert len(coco.anns) == report.masks == 5
    assert [len(coco.getAnnIds(imgIds=[image])) for image in coco.imgs] == [2, 3]


def test_ids_as_floats_are_whole_numbers(tmp_path: Path) -> None:
    image = {"id": 7.0, "coco_url": "http://host/val/1.png?x=1", "width": 4, "height": 4}
    whole = {"size": [4.0, 4.0], "counts": [0.0, 16.0]}
    annotation = {"id": 3.0, "image_id": 7, "category_id": "2", "segmentation": whole}
    content = {"images": [image], "annotations": [annotation], "categories": [{"id": 2.0, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    read = read_annotations(tmp_path / "a.json")
    (photo,) = read.photos
    assert (photo.id, photo.name, read.category_ids) == (7, "http://host/val/1.png?x=1", (2,))
    (mask,) = photo.masks
    assert (mask.id, mask.size) == (3, (4, 4))
    assert mask.draw(4, 4).rle == {
        "size": [4, 4],
        "counts": encode(np.ones((4, 4), bool)).value["counts"].encode(),
    }
    out = tmp_path / "out.json"
    finish(write_coco(Annotations([photo], ("cat",)), out))
    assert [list(COCO(out).imgs), list(COCO(out).anns)] == [[7], [3]]
