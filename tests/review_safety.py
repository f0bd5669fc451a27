"""A dataset of two photos under review, and what other programs do to its documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from run_factory import make_run, mask_labels, mask_set, rectangles

from gem_label.review import push_run
from gem_label.review.storage.selection import Selection
from gem_label.runs import Run

FIELD = "gem_label"
HIDDEN = "gem_label_less_likely"


def two_photos(path: Path) -> Run:
    """A run of two photos with 3 and 2 masks, the last of the first photo a less likely one."""
    labels = mask_labels(["cat", "dog", "cup"], [0.9, 0.8, 0.2], kept=[True, True, False])
    return make_run(
        path,
        {
            "a.png": (mask_set(rectangles(3)), labels),
            "b.png": (mask_set(rectangles(2, seed=1)), mask_labels(["cup", "dog"], [0.5, 0.6])),
        },
    )


def sample_key(name: str = "a") -> dict[str, Any]:
    return {"filepath": {"$regex": f"{name}.png$"}}


def detections(dataset: Any, field: str = FIELD, name: str = "a") -> list[dict[str, Any]]:
    """A sample's detections as the database has them."""
    return (dataset._sample_collection.find_one(sample_key(name)).get(field) or {}).get("detections") or []


def set_detections(dataset: Any, masks: list[dict[str, Any]], field: str = FIELD) -> None:
    """Write detections as another program does."""
    change = [{"$set": {f"{field}.detections": {"$literal": masks}, "last_modified_at": "$$NOW"}}]
    assert dataset._sample_collection.update_one(sample_key(), change).matched_count == 1


def copy_of(mask: dict[str, Any], **changes: Any) -> dict[str, Any]:
    from bson import ObjectId

    return {**mask, "_id": ObjectId(), **changes}


LEFT, RIGHT = [0.0, 0.0, 0.25, 0.5], [0.25, 0.0, 0.25, 0.5]


def ids_of(*masks: dict[str, Any]) -> Selection:
    return Selection(ids=[str(mask["_id"]) for mask in masks])


def write_photos(run: Run, **options: Any) -> None:
    for photo in run.photos():
        Path(photo.image).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(photo.image, **options)


def drop_metadata(dataset: Any, metadata: Any = None) -> None:
    dataset._sample_collection.update_many({}, {"$set": {"metadata": metadata}})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return two_photos(tmp_path / "run")


@pytest.fixture
def dataset(run: Run, fiftyone_db: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    import fiftyone as fo

    name = f"safety {request.node.name}"
    push_run(run, name)
    yield fo.load_dataset(name)
    fo.delete_dataset(name)
