"""Push a run into a persistent FiftyOne dataset, and again after every relabel.

Samples and fields are made through FiftyOne. Detections are written as MongoDB documents in the form that FiftyOne
gives them, because going through its label objects takes many times as long.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tqdm import tqdm

from gem_label.errors import UsageError
from gem_label.labeling import Thresholds
from gem_label.review.database import database_errors, load_fiftyone
from gem_label.review.pushing.batches import DATABASE_LIMIT, Push
from gem_label.review.pushing.merge import MaskStorage
from gem_label.review.pushing.proposals import PhotoProposals, run_proposals
from gem_label.review.pushing.report import PushReport
from gem_label.review.storage.decision_log import add_class, new_labels
from gem_label.review.storage.fields import (
    declare_mask_field,
    is_less_likely,
    less_likely_field,
    main_field,
    push_record,
)
from gem_label.review.storage.internals import database, dataset_id
from gem_label.review.storage.less_likely import HIDDEN_FLOOR
from gem_label.review.storage.locking import schema_lock
from gem_label.runs import Run
from gem_label.stores import is_address

__all__ = ["PushReport", "push_run"]

_BATCHES_AT_ONCE = 2  # one is encoded while the database writes the other


@database_errors()
def push_run(
    run: Run,
    dataset_name: str,
    field: str = "gem_label",
    mask_storage: MaskStorage = "auto",
    overwrite: bool = False,
    database_limit: int = DATABASE_LIMIT,
    progress: bool = False,
    add_missing: bool = True,
    min_score: float | str | Mapping[str, float] | Thresholds | None = None,
    hidden_from: float | None = HIDDEN_FLOOR,
) -> PushReport:
    """Make or update a persistent dataset with the photos and kept masks of a run.

    Samples are matched by file path; photos without masks and photos whose file is gone get one too, samples of
    other origin are left alone. A detection carries `label`, `confidence` (score), `margin`, `runner_up` (the
    second-best class), `mask_id`, `proposed_label` (what the run said, to tell a reviewer's change) and its mask.
    Pushing twice changes nothing; pushing after a relabel updates labels and keeps what reviewers did (see
    `merge_detections`). Push different runs over the same photos into different fields: mask ids repeat from run
    to run.

    Labels below the threshold that repeat no better one go into the field `<field>_less_likely`, which the App does
    not draw at first; `gem_label.review.storage.less_likely` says how a mask gets from one field into the other.

    Args:
        run: an open run.
        dataset_name: the dataset; made when there is none.
        field: the sample field, a `Detections`; made when there is none.
        mask_storage: "database"; "disk" (PNG files in RUN/fiftyone_masks, `mask_path`); "auto": the database, but
            disk for photos with more than `database_limit` of masks.
        overwrite: give decided detections the run's label too.
        database_limit: bytes of masks that one photo may have in the database with "auto".
        progress: show a bar on stderr.
        add_missing: make samples for photos of the run that the dataset does not have.
        min_score: the threshold, see `Thresholds.of`; None: what the run keeps.
        hidden_from: the lowest score in [0, 1] of less likely labels; None: none come into the dataset, and
            undecided ones that are there go.

    Raises:
        UsageError: unknown storage, or dataset or field are of another kind.
        GemLabelError: FiftyOne or its database is missing, or fails.
    """
    if mask_storage not in ("auto", "database", "disk"):
        raise UsageError(f"mask_storage is 'auto', 'database' or 'disk', not {mask_storage!r}")
    if hidden_from is not None and not 0.0 <= hidden_from <= 1.0:
        raise UsageError(f"hidden_from: a score is between 0 and 1, not {hidden_from}")
    thresholds = None if min_score is None else Thresholds.of(min_score)
    if thresholds is not None:
        thresholds.by_class(run.vocabulary.classes)  # before anything changes
    photo = next(run.listing(), None)
    if photo is not None and is_address(photo.path):
        raise UsageError(
            f"{photo.path} is in an object store, and FiftyOne shows files: label copies of the photos"
        )
    if is_address(run.place):
        if mask_storage == "disk":
            raise UsageError(f"{run.place} is in an object store: its masks go into the database")
        mask_storage = "database"
    start = time.monotonic()
    load_fiftyone()
    with schema_lock(dataset_name):
        dataset = _open_dataset(dataset_name, field, run.vocabulary.classes)
    push = Push(run, dataset, field, mask_storage, database_limit, overwrite, add_missing)
    report = PushReport(dataset_name, field)
    with (
        tqdm(total=run.manifest["counts"]["photos"], unit="photo", desc="push", disable=not progress) as bar,
        ThreadPoolExecutor(_BATCHES_AT_ONCE) as threads,
        _older_objects_kept(),
    ):
        for part in _in_order(threads, push.batch, run_proposals(run, thresholds, hidden_from)):
            report.add(part)
            bar.update(part.photos)
    pushed = push_record(run, datetime.now(UTC).isoformat(timespec="seconds"), thresholds, hidden_from)
    _record_push(dataset, field, pushed)
    dataset.reload()  # samples that this process holds show the new detections
    report.seconds = time.monotonic() - start
    return report


def _record_push(dataset: Any, field: str, pushed: dict[str, Any]) -> None:
    """Store what `pushed_fields` tells, whatever another push writes about another field at the same time."""
    change = {"$set": {f"info.gem_label.{field}": pushed}, "$currentDate": {"last_modified_at": True}}
    database().datasets.update_one({"_id": dataset_id(dataset)}, change)


@contextmanager
def _older_objects_kept() -> Iterator[None]:
    """Spare the garbage collector what is there already.

    That is a million objects with FiftyOne loaded, and new documents would have it go through them again and again.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _in_order(
    threads: Executor,
    work: Callable[[list[PhotoProposals]], PushReport],
    batches: Iterable[list[PhotoProposals]],
) -> Iterator[PushReport]:
    """Results in order; only as many batches wait as are worked on."""
    waiting: deque[Future[PushReport]] = deque()
    for batch in batches:
        waiting.append(threads.submit(work, batch))
        if len(waiting) > _BATCHES_AT_ONCE:
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()


def _open_dataset(name: str, field: str, classes: Iterable[str]) -> Any:
    """The persistent dataset with its field and the field's attributes declared."""
    fo = load_fiftyone()
    try:
        dataset = fo.load_dataset(name) if fo.dataset_exists(name) else fo.Dataset(name, persistent=True)
        dataset.reload()  # another process may have changed it
        if dataset.media_type not in (None, "image"):
            raise UsageError(
                f"dataset {name!r} holds {dataset.media_type}s: masks go into a dataset of images"
            )
        for name in (field, less_likely_field(field)):
            present = dataset.get_field(name)
            if present is not None and getattr(present, "document_type", None) is not fo.Detections:
                raise UsageError(
                    f"field {name!r} of dataset {dataset.name!r} is not a Detections: give another --field"
                )
        if is_less_likely(dataset, field):
            raise UsageError(
                f"field {field!r} holds less likely labels: push into {main_field(dataset, field)!r}"
            )
        declare_mask_field(dataset, field)
        if (
            dataset.media_type is None
        ):  # FiftyOne would set it with the first sample, and refuse the second process
            dataset.media_type = "image"
    except ValueError as error:
        raise UsageError(f"cannot use dataset {name!r}, field {field!r}: {error}") from error
    dataset.persistent = True
    if dataset.app_config.color_scheme is None:  # a color per class, and what is below a mask can be seen
        dataset.app_config.color_scheme = fo.ColorScheme(color_by="value", opacity=0.4)
    fields = (field, less_likely_field(field))
    known = dict.fromkeys([*classes, *new_labels(dataset, fields)])
    for name in fields:
        if dataset.has_field(name):
            dataset.classes[name] = list(known)
    dataset.save()
    for (
        name
    ) in fields:  # a name that a reviewer gives at this moment is in the log before it is in the classes
        for label in new_labels(dataset, fields):
            add_class(dataset, name, label)
    return dataset
