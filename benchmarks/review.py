"""How quick a review is: the review desk's actions on 100 000 masks, and the push against a loop with sample.save().

Makes a run of random masks (once: it is kept in --folder), pushes it, and asks FiftyOne's own executor for every
action of the panel, as the App does. Starts its own MongoDB, which is gone afterwards.

    python benchmarks/review.py --samples 10000

Printed: samples per second of both pushes and their ratio, then per action the seconds until its answer is there,
by the clock and of processor time (this process and the database together; what counts on a busy machine), the worst
of --repeats. Exit code 1 when an action takes 2 s or more of processor time, or the ratio is below 10.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from gem_label.review.storage.internals import dataset_id

CLASSES, DIMENSION, MASKS_PER_PHOTO, SIZE = 50, 512, 10, (480, 640)
FIELD, PANEL = "gem_label", "@gem-label/gem-label/review_desk"
LIMIT, RATIO = 2.0, 10.0


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--samples", type=int, default=10_000, help=f"photos, with {MASKS_PER_PHOTO} masks each"
    )
    parser.add_argument("--loop-samples", type=int, default=10_000, help="of them go through the loop, too")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "gem-label-benchmark")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers into this file too")
    arguments = parser.parse_args()
    with own_database() as database:
        numbers = measure(arguments, database)
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n")
    slow = [name for name, row in numbers["actions"].items() if row["processor_seconds"] >= LIMIT]
    if slow or numbers["push"]["ratio"] < RATIO:
        print(f"too slow: {', '.join(slow) or 'the push'}")
        return 1
    return 0


@contextmanager
def own_database() -> Iterator[int]:
    """A MongoDB of our own for FiftyOne in this process; gives its process id."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(
        FIFTYONE_DATABASE_URI=f"mongodb://127.0.0.1:{port}",
        FIFTYONE_DATABASE_NAME="gem-label-benchmark",
        FIFTYONE_DO_NOT_TRACK="true",
        FIFTYONE_SHOW_PROGRESS_BARS="false",
        FIFTYONE_PLUGINS_DIR=str(Path(__file__).parents[1] / "plugins"),
    )
    from fiftyone.core.service import DatabaseService

    with tempfile.TemporaryDirectory(prefix="gem-label-mongod-") as folder:
        command = [DatabaseService.find_mongod(), "--dbpath", folder, "--port", str(port), "--nounixsocket"]
        server = subprocess.Popen([*command, "--bind_ip", "127.0.0.1"], stdout=subprocess.DEVNULL)
        try:
            for _ in range(600):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
                    break
                time.sleep(0.1)
            yield server.pid
        finally:
            import fiftyone as fo

            fo.delete_datasets("*")
            server.terminate()
            server.wait()


class Clock:
    """Seconds by the clock, and of processor time of this process and the database."""

    def __init__(self, database: int) -> None:
        self.database = database

    def time(self, work: Callable[[], Any]) -> tuple[float, float]:
        """Do some work; how long it took in both."""
        start, before = time.perf_counter(), self._processor()
        work()
        return time.perf_counter() - start, self._processor() - before

    def _processor(self) -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        parts = Path(f"/proc/{self.database}/stat").read_text().rpartition(")")[2].split()
        database = (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
        return used.ru_utime + used.ru_stime + database


def measure(arguments: argparse.Namespace, database: int) -> dict[str, Any]:
    """Both figures."""
    import fiftyone as fo

    from gem_label.review import push_run

    clock = Clock(database)
    run = make_run(arguments.folder / f"run-{arguments.samples}", arguments.samples)
    print(f"{arguments.samples} samples, {run.manifest['counts']['kept']} masks")
    dataset = fo.Dataset("pushed")
    add_photos(dataset, run)
    ours = clock.time(lambda: push_run(run, dataset.name, field=FIELD))
    loop = min(arguments.loop_samples, arguments.samples)
    plain = fo.Dataset("loop")
    add_photos(plain, run)
    theirs = clock.time(lambda: save_each(plain, run, loop))
    rates = [arguments.samples / seconds for seconds in ours], [loop / seconds for seconds in theirs]
    push = {
        "samples_per_second": rates[0][0],
        "loop_samples_per_second": rates[1][0],
        "ratio_by_clock": rates[0][0] / rates[1][0],
        "ratio": rates[0][1] / rates[1][1],
    }
    print(
        f"push          {push['samples_per_second']:8.0f} samples/s\n"
        f"sample.save() {push['loop_samples_per_second']:8.0f} samples/s ({loop} samples)\n"
        f"ratio         {push['ratio']:8.1f} of processor time, {push['ratio_by_clock']:.1f} by the clock"
    )
    fo.delete_dataset("loop")
    print(f"{'action of the desk':34}{'seconds':>9}{'processor':>11}")
    actions = {}
    for name, before, work in desk_actions(dataset):
        times = []
        for _ in range(arguments.repeats):
            before()
            times.append(clock.time(work))
        wall, processor = (max(column) for column in zip(*times, strict=True))
        actions[name] = {"seconds": wall, "processor_seconds": processor}
        print(f"{name:34}{wall:9.2f}{processor:11.2f}", flush=True)
    return {"samples": arguments.samples, "push": push, "actions": actions}


def make_run(folder: Path, photos: int) -> Any:
    """A run of ellipses whose embeddings lie near one of the classes, some nearer than others."""
    from gem_label.labeling import LabelSettings, Thresholds, label_maskset
    from gem_label.masks import MaskSet, encode_mask
    from gem_label.photos.photo import Photo
    from gem_label.runs import PhotoRecord, RunWriter, open_run
    from gem_label.runs.files import MASKS
    from gem_label.runs.jsonl import write_jsonl
    from gem_label.runs.schema import photo_table
    from gem_label.runs.shard_writer import ShardWriter
    from gem_label.vocabulary import Vocabulary

    if (folder / "manifest.json").exists() and open_run(folder).manifest["finished"]:
        return open_run(folder)
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary.from_words([f"class {i:02}" for i in range(CLASSES)], ["sky"])
    text = rng.normal(size=(CLASSES + 1, DIMENSION)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    settings = LabelSettings(min_score=Thresholds(0.0), overlaps=True)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]

    def ellipse() -> bytes:
        x, y, a, b = (rng.uniform(*sides) for sides in ((60, 580), (60, 420), (15, 90), (15, 90)))
        return encode_mask(((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 < 1)

    shapes = [ellipse() for _ in range(500)]
    writer = RunWriter.create_or_resume(
        folder, settings={"clip": "random"}, vocabulary=vocabulary, embedding_dim=DIMENSION, logit_scale=30.0,
        label_settings=settings,
    )  # fmt: skip
    writer.close(finished=False)
    run_id = writer.manifest["id"]
    listing = [Photo(f"/photos/{i:06}.jpg", f"{i:06}", i) for i in range(1, photos + 1)]
    write_jsonl(
        folder / "images.jsonl",
        ({"number": p.number, "image": p.path, "image_id": p.image_id} for p in listing),
    )
    n = MASKS_PER_PHOTO
    # whole shards at once: the writer itself makes every single photo safe on disk first
    for start in range(0, photos, 1000):
        with (
            (folder / MASKS / f"shard-{start // 1000:06}.parquet").open("wb") as file,
            ShardWriter(file, DIMENSION, run_id=run_id) as shard,
        ):
            for photo in listing[start : start + 1000]:
                near = text[rng.integers(0, CLASSES, n)] * rng.uniform(0.05, 0.3, (n, 1))
                embeddings = near + rng.normal(size=(n, DIMENSION)) * 0.02
                masks = MaskSet(
                    *SIZE, tuple(shapes[i] for i in rng.choice(len(shapes), n, replace=False)),
                    rng.random(n, np.float32), rng.random(n, np.float32), np.zeros((n, 2), np.float32),
                    embeddings.astype(np.float16).astype(np.float32),
                )  # fmt: skip
                labels = label_maskset(masks, text, vocabulary, 30.0, settings)
                record = PhotoRecord(
                    photo.number,
                    photo.path,
                    photo.image_id,
                    SIZE[1],
                    SIZE[0],
                    n,
                    np.zeros(DIMENSION, np.float16),
                )
                shard.add([record], photo_table(record, masks, labels, DIMENSION))
    with RunWriter.create_or_resume(
        folder, settings={"clip": "random"}, vocabulary=vocabulary, embedding_dim=DIMENSION, logit_scale=30.0,
        label_settings=settings,
    ):  # fmt: skip
        pass  # counts what is there
    return open_run(folder)


def add_photos(dataset: Any, run: Any) -> None:
    """Samples without masks: both pushes begin from the same."""
    import fiftyone as fo

    dataset.add_samples([fo.Sample(filepath=photo.image) for photo in run.photos()], validate=False)


def save_each(dataset: Any, run: Any, limit: int) -> None:
    """The plain way: pycocotools' masks, a label object for each, and `sample.save()` per sample."""
    import fiftyone as fo

    from gem_label.review.pushing.merge import photo_proposals

    def box_of(mask: Any, box: tuple[int, int, int, int]) -> Any:
        x, y, width, height = box
        return np.ascontiguousarray(mask[y : y + height, x : x + width])

    samples = dataset.iter_samples()
    for number, (photo, masks, labels) in enumerate(run.photo_masks(embeddings=False)):
        if number == limit:
            return
        sample = next(samples)
        sample["metadata"] = fo.ImageMetadata(width=photo.width, height=photo.height)
        sample[FIELD] = fo.Detections(
            detections=[
                fo.Detection(
                    label=proposal.label, confidence=proposal.score, bounding_box=list(proposal.bounding_box),
                    mask=box_of(masks.decode(proposal.index), proposal.box),
                    mask_id=proposal.mask_id, margin=proposal.margin, proposed_label=proposal.label,
                    runner_up=proposal.runner_up,
                )
                for proposal in photo_proposals(photo.image_id, masks, labels)
            ]
        )  # fmt: skip
        sample.save()


def desk_actions(dataset: Any) -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Every action of the panel, each as one request of the App: name, what comes before it, and the action."""
    import fiftyone.operators.executor as executor

    from gem_label.review.storage.decision_log import list_decisions

    state: dict[str, Any] = {}

    def request(method: str, view: Any = None, selected: Any = (), **params: Any) -> None:
        context = {
            "dataset_name": dataset.name,
            "dataset_id": str(dataset_id(dataset)),
            "view": [] if view is None else view._serialize(),
            "selected": list(selected),
            "params": {"panel_id": "desk", "panel_state": dict(state), "__method__": method, **params},
        }
        result = asyncio.run(executor.execute_or_delegate_operator(PANEL, context))
        result.raise_exceptions()
        for message in result.executor._requests:
            if message.operator_uri == "patch_panel_state":
                state.update(message.params["state"])

    def action(name: str, method: str, before: Callable[[], Any] = lambda: None, **params: Any) -> Any:
        return name, before, lambda: request(method, **params)

    def change() -> None:
        """Another user's edit: what was counted before does not hold any more."""
        sample = dataset.first()
        sample.tags = [] if sample.tags else ["seen"]
        sample.save()

    def reject_unless_done() -> None:
        if not list_decisions(dataset, FIELD):
            request("reject_below")

    def undo_all() -> None:
        while list_decisions(dataset, FIELD):
            request("undo_last")

    request("on_load")
    yield action("open the desk", "on_load", change)
    yield action("classes", "change_tab", change, value="classes")
    yield action("scores of a class", "change_label", change, value="class 07")
    yield action("click on a class", "click_class", y="class 07", trace="undecided")
    yield action("click on a score", "click_score", x=0.475)
    yield action("thresholds", "change_tab", change, value="thresholds")
    yield action("next page of thresholds", "turn_page", step=1)
    for place in range(6):
        yield action(f"slider {place + 1}", "move_threshold", path=f"threshold{place}", value=0.4)
    yield action("slider after another's change", "move_threshold", change, path="threshold0", value=0.5)
    yield action("show what goes", "show_changes")
    yield action("confused words", "change_tab", change, value="words")
    yield action("click on a pair", "click_pair", y="class 07", x="class 08")
    yield action("run", "change_tab", value="run")
    yield action("queue", "change_tab", change, value="queue")
    yield action("open the queue", "open_queue")
    patches = dataset.limit(5).to_patches(FIELD)
    chosen = patches.limit(20).values("id")
    yield action(
        "accept 20 selected, queue moves on", "accept_selected", undo_all, view=patches, selected=chosen
    )
    state["queue"] = None
    yield action("reject what goes, 6 classes", "reject_below", undo_all)
    yield action("undo it", "undo_last", reject_unless_done)
    yield action("accept what stays, 6 classes", "accept_above", undo_all)


if __name__ == "__main__":
    sys.exit(main())
