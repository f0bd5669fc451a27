"""How long the review panel takes on a million masks: opening it, queues, details, decisions.

Inserts the masks straight into a MongoDB of its own, which is gone afterwards, writes a run to go with them (once: it
is kept in --folder), and calls the panel's methods through FiftyOne's executor, as the App does.

    python benchmarks/review_scale.py --masks 1000000

Printed for every request: seconds by the clock and of processor time (this process and the database together), and
the samples that the database read for it; then the memory of this process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from review import Clock, own_database

from gem_label.review.storage.internals import database, dataset_id, samples_of, serialize_array

CLASSES, DIMENSION, MASKS_PER_PHOTO, SIZE = 50, 512, 10, (480, 640)
FIELD, PANEL = "gem_label", "@gem-label/gem-label/review_masks"
PHOTOS_PER_SHARD = 1000
SHOWN = 20  # masks whose details the panel asks for at once


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masks", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "gem-label-scale")
    parser.add_argument("--json", type=Path, help="write the numbers into this file too")
    arguments = parser.parse_args()
    photos = arguments.masks // MASKS_PER_PHOTO
    with own_database() as server:
        started = time.perf_counter()
        run = make_run(arguments.folder / f"run-{photos}", photos)
        dataset = insert_masks(run, photos)
        seconds = time.perf_counter() - started
        print(f"{photos * MASKS_PER_PHOTO} masks on {photos} photos, made in {seconds:.0f} s")
        print(f"{'request':34}{'seconds':>9}{'processor':>11}{'samples read':>14}")
        numbers = {}
        for name, seconds, processor, read in requests(dataset, Clock(server)):
            numbers[name] = {"seconds": seconds, "processor_seconds": processor, "samples_read": read}
            print(f"{name:34}{seconds:9.2f}{processor:11.2f}{read:14}", flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory of this process: {memory:.0f} MB")
    if arguments.json:
        arguments.json.write_text(json.dumps({"requests": numbers, "megabytes": memory}, indent=2) + "\n")
    return 0


def make_run(folder: Path, photos: int) -> Any:
    """A run whose shards repeat the same masks under other names: a review reads classes, not embeddings."""
    import pyarrow as pa

    from gem_label.labeling import LabelSettings, MaskLabels, Thresholds
    from gem_label.masks import MaskSet, Overlaps, encode_mask
    from gem_label.photos.photo import Photo
    from gem_label.runs import PhotoRecord, RunWriter, open_run
    from gem_label.runs.files import MASKS
    from gem_label.runs.jsonl import write_jsonl
    from gem_label.runs.schema import photo_table
    from gem_label.runs.shard_writer import ShardWriter
    from gem_label.vocabulary import Vocabulary

    if (folder / "manifest.json").exists() and open_run(folder).manifest["finished"]:
        return open_run(folder)
    rng, n = np.random.default_rng(0), MASKS_PER_PHOTO
    names = class_names()

    def writer() -> RunWriter:
        return RunWriter.create_or_resume(
            folder, settings={"clip": "random"}, vocabulary=Vocabulary.from_words(names), embedding_dim=DIMENSION,
            logit_scale=30.0, label_settings=LabelSettings(min_score=Thresholds(0.0), overlaps=True),
        )  # fmt: skip

    writer().close(finished=False)
    run_id = open_run(folder).manifest["id"]
    listing = [Photo(f"/photos/{i:06}.jpg", f"{i:06}", i) for i in range(1, photos + 1)]
    rows = ({"number": p.number, "image": p.path, "image_id": p.image_id} for p in listing)
    write_jsonl(folder / "images.jsonl", rows)
    mask = np.zeros(SIZE, bool)
    mask[100:200, 100:250] = True
    tables = []
    for _ in range(PHOTOS_PER_SHARD):
        masks = MaskSet(
            *SIZE, (encode_mask(mask),) * n, rng.random(n, np.float32), rng.random(n, np.float32),
            np.zeros((n, 2), np.float32), rng.normal(size=(n, DIMENSION)).astype(np.float32), overlaps=Overlaps(),
        )  # fmt: skip
        top = -np.sort(-rng.random((n, 4), np.float32), axis=1)
        labels = MaskLabels(
            classes=names,
            top_classes=np.stack([rng.permutation(CLASSES)[:4] for _ in range(n)]).astype(np.int32),
            top_scores=top,
            background=np.zeros(n, bool),
            margin=top[:, 0] - top[:, 1],
            kept=np.ones(n, bool),
            selected=np.ones(n, bool),
        )
        record = PhotoRecord(1, "", "", SIZE[1], SIZE[0], n)
        tables.append(photo_table(record, masks, labels, DIMENSION))
    embedding = np.zeros(DIMENSION, np.float16)
    for start in range(0, photos, PHOTOS_PER_SHARD):
        path = folder / MASKS / f"shard-{start // PHOTOS_PER_SHARD:06}.parquet"
        with path.open("wb") as file, ShardWriter(file, DIMENSION, run_id=run_id) as shard:
            for photo, table in zip(listing[start : start + PHOTOS_PER_SHARD], tables, strict=False):
                record = PhotoRecord(photo.number, photo.path, photo.image_id, SIZE[1], SIZE[0], n, embedding)
                columns = {
                    "image": pa.repeat(photo.path, n),
                    "image_id": pa.repeat(photo.image_id, n),
                    "image_number": pa.array(np.full(n, photo.number)),
                    "mask_id": pa.array([f"{photo.image_id}#{i}" for i in range(n)]),
                }
                whole = dict(zip(table.column_names, table.columns, strict=True)) | columns
                shard.add([record], pa.table(whole, schema=table.schema))
    with writer():
        pass  # counts what is there
    return open_run(folder)


def class_names() -> tuple[str, ...]:
    """The classes of the run."""
    return tuple(f"class {i:02}" for i in range(CLASSES))


def insert_masks(run: Any, photos: int) -> Any:
    """A dataset as a push of the run leaves it."""
    import fiftyone as fo
    from bson import ObjectId

    from gem_label.review.storage.decision_log import declare_attributes, now
    from gem_label.review.storage.fields import declare_mask_field, push_record

    dataset = fo.Dataset("scale")
    dataset.persistent = True
    declare_mask_field(dataset, FIELD)
    declare_attributes(dataset, FIELD)
    dataset.classes[FIELD] = list(class_names())
    dataset.info["gem_label"] = {FIELD: push_record(run, "2026-01-01T00:00:00+00:00", None, None)}
    dataset.save()
    metadata = fo.ImageMetadata(width=SIZE[1], height=SIZE[0])
    dataset.add_sample(fo.Sample(filepath="/photos/template.jpg", metadata=metadata))
    collection = samples_of(dataset)
    template = collection.find_one()
    detection = fo.Detection(label="", tags=[]).to_mongo().to_dict()
    collection.delete_one({"_id": template["_id"]})
    rng, names, an_hour_ago = np.random.default_rng(1), class_names(), now() - timedelta(hours=1)
    rows, columns = np.mgrid[-1:1:120j, -1:1:160j]
    crops = [
        serialize_array((rows / a) ** 2 + (columns / b) ** 2 < 1) for a, b in rng.uniform(0.5, 1, (200, 2))
    ]
    for start in range(0, photos, 1000):
        count = min(1000, photos - start)
        of_photos = rng.integers(0, CLASSES, (count, MASKS_PER_PHOTO, 2))
        numbers = rng.random((count, MASKS_PER_PHOTO, 4))
        documents = []
        for i in range(count):
            image_id = f"{start + i + 1:06}"
            masks = [
                {
                    **detection,
                    "_id": ObjectId(),
                    "label": names[of_photos[i, j, 0]],
                    "proposed_label": names[of_photos[i, j, 0]],
                    "runner_up": names[of_photos[i, j, 1]],
                    "confidence": float(numbers[i, j, 0]),
                    "margin": float(numbers[i, j, 0] * numbers[i, j, 1]),
                    "mask_id": f"{image_id}#{j}",
                    "bounding_box": [
                        float(0.7 * numbers[i, j, 2]),
                        float(0.7 * numbers[i, j, 3]),
                        0.25,
                        0.25,
                    ],
                    "mask": crops[int(1e6 * numbers[i, j, 1]) % len(crops)],
                }
                for j in range(MASKS_PER_PHOTO)
            ]
            stamps = {"_id": ObjectId(), "created_at": an_hour_ago, "last_modified_at": an_hour_ago}
            path = {"filepath": f"/photos/{image_id}.jpg"}
            documents.append(
                {**template, **stamps, **path, FIELD: {"_cls": "Detections", "detections": masks}}
            )
        collection.insert_many(documents, ordered=False)
    dataset.reload()
    return dataset


Row = tuple[str, float, float, int]


def requests(dataset: Any, clock: Clock) -> Iterator[Row]:
    """Do what a reviewer does; yields what it was, its seconds in both, and the samples that the database read."""
    import fiftyone.operators.executor as executor

    collection, db = samples_of(dataset), database()
    db.command("profile", 2)

    def call(method: str, **params: Any) -> Any:
        context = {
            "dataset_name": dataset.name,
            "dataset_id": str(dataset_id(dataset)),
            "view": [],
            "params": {"panel_id": "review", "__method__": method, **params},
        }
        result = asyncio.run(executor.execute_or_delegate_operator(PANEL, context))
        result.raise_exceptions()
        if result.result.get("error"):
            raise RuntimeError(result.result["error"])
        return result.result

    def measure(name: str, method: str, **params: Any) -> tuple[Row, Any]:
        answers: list[Any] = []
        seconds, processor = clock.time(lambda: answers.append(call(method, **params)))
        entries = db["system.profile"].find({"ns": collection.full_name}, ["docsExamined"])
        read = sum(entry.get("docsExamined", 0) for entry in entries)
        db.command("profile", 0)
        db["system.profile"].drop()
        db.command("profile", 2)
        return (name, seconds, processor, read), answers[0]

    question = {"field": FIELD, "scope": "dataset", "label": None, "runner_up": None, "seed": 0}
    row, described = measure("open: describe the field", "describe_field", field=None)
    yield row
    row, queue = measure("open: least certain masks", "make_queue", **question, order="uncertain")
    yield row
    names = [each["name"] for each in described["classes"]]

    def details(name: str, start: int) -> Row:
        masks = queue["masks"][start : start + SHOWN]
        row, answer = measure(name, "get_details", field=FIELD, masks=masks, classes=names)
        assert len(answer["details"]) == SHOWN
        return row

    yield details("open: first details", 0)
    yield details("next details", SHOWN)
    for place, label in enumerate((queue_label(dataset, queue["masks"][0]), None)):
        decision = {"mask": queue["masks"][place], "label": label, "seen": None}
        row, _ = measure(
            "accept" if label else "reject", "decide", field=FIELD, decisions=[decision], request=uuid4().hex,
            author="Ada",
        )  # fmt: skip
        yield row
    yield measure("describe after decisions", "describe_field", field=FIELD)[0]
    yield measure("least certain after decisions", "make_queue", **question, order="uncertain")[0]
    yield measure("random sample", "make_queue", **question, order="random")[0]
    yield measure("photo by photo", "make_queue", **question, order="photo")[0]
    yield measure("first page", "make_pages", **question, current=None, finished=[], size=60)[0]
    yield measure("first photos", "make_photo_queue", **question)[0]
    yield measure("likely duplicates", "make_queue", **question, order="duplicates")[0]
    yield measure("how it goes", "get_progress", field=FIELD)[0]
    one = question | {"label": names[0]}
    yield measure("one class", "make_queue", **one, order="uncertain")[0]
    pair = described["pairs"][0]
    two = question | {"label": pair["label"], "runner_up": pair["runner_up"]}
    yield measure("a confused pair", "make_queue", **two, order="uncertain")[0]


def queue_label(dataset: Any, mask: list[str]) -> str:
    """The label of a mask of a queue."""
    from bson import ObjectId

    document = samples_of(dataset).find_one({"_id": ObjectId(mask[0])}, [FIELD])
    masks = {str(each["_id"]): each["label"] for each in document[FIELD]["detections"]}
    return masks[mask[1]]


if __name__ == "__main__":
    sys.exit(main())
