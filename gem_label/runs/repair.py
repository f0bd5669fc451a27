"""`check_run` reads everything in a run and names what is damaged; `repair_run` makes the run usable again."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from gem_label.atomic import delete_leftovers, sync_directory
from gem_label.errors import GemLabelError
from gem_label.photos.photo import Photo
from gem_label.runs.changed_photos import ChangedPhotos
from gem_label.runs.checking import check_rows
from gem_label.runs.files import (
    DAMAGED,
    FAILURES,
    IMAGES,
    INDEX,
    LEARNED,
    MANIFEST,
    MASKS,
    PATCHES,
    RELABEL_READY,
    RunLock,
    commit_relabel,
    current,
    pending_number,
    pending_paths,
    read_manifest,
    recover,
    shard_paths,
    stray_files,
    write_manifest,
)
from gem_label.runs.jsonl import damaged_lines, repair_jsonl, write_jsonl
from gem_label.runs.listing import FAILURE_FIELDS, LISTING_FIELDS, listed_photo
from gem_label.runs.manifest import now
from gem_label.runs.reader import Run
from gem_label.runs.seen_photos import SeenPhotos
from gem_label.runs.shards import ShardError, ShardFile, damaged_shard, repair_advice
from gem_label.stores import is_address, open_store


class Mend(Enum):
    """What `repair_run` does about a fault."""

    SET_ASIDE = "moved to the folder damaged"
    DROP_LINES = "damaged lines dropped"
    COMPLETE = "completed from the shards"
    NOTHING = "not repaired"


@dataclass(frozen=True, slots=True)
class Fault:
    """A file of a run that is damaged.

    Attributes:
        path: of the file.
        problem: what is wrong with it, one line that names the file.
        mend: what `repair_run` does about it.
    """

    path: Path
    problem: str
    mend: Mend


@dataclass
class RunCheck:
    """What a check of a run found.

    Attributes:
        files: how many files were read.
        photos: finished photos in files that are whole.
        masks: their masks.
        missing: photos that are listed and neither finished nor recorded as failed.
        faults: what is damaged.
        notes: what is odd and does no harm, a line each.
        kept: how many masks are kept of each class.
        listed: the photos of the listing by number, those that only shards name too.
        failed: the paths of photos that could not be labeled.
        changed: photos that were replaced after they were labeled; `notes` says so.
    """

    files: int = 0
    photos: int = 0
    masks: int = 0
    missing: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    listed: dict[int, Photo] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    changed: ChangedPhotos = field(default_factory=ChangedPhotos)


def check_run(path: str | Path) -> RunCheck:
    """Read every file of a run and verify it; nothing is changed.

    Args:
        path: the run directory, or its address in an object store.

    Raises:
        GemLabelError: there is no run, or its manifest is damaged: nothing else can be checked then.
    """
    if is_address(path):
        from gem_label.runs.repair_stored import check_stored_run

        return check_stored_run(open_store(path))
    run = Run(Path(path))
    check = RunCheck()
    masks = current(run.path, MASKS)
    check.notes += [f"{stray} is no file of the run and is left out" for stray in stray_files(masks)]
    check.files += 1  # the manifest
    if "shared" in run.manifest:
        try:
            check.listed = {photo.number: photo for photo in run.listing()}
        except GemLabelError as error:
            check.faults.append(Fault(run.path / "listing", str(error), Mend.NOTHING))
    else:
        _check_listing(run.path / IMAGES, check)
    finished = _check_shards(run, masks, check)
    _check_failures(run, check)
    check_words(run, run.path, check)
    for number in _patch_numbers(run.path / PATCHES):
        check.files += 1
        try:
            run.patches(number)
        except GemLabelError as error:
            check.faults.append(Fault(run.path / PATCHES / f"{number}.npy", str(error), Mend.SET_ASIDE))
    end_check(check, finished)
    return check


def check_words(run: Run, place: Path, check: RunCheck) -> None:
    """Make sure that the words of a run, its thresholds and what it learned can be read.

    Args:
        run: the run.
        place: where it is.
        check: takes what is damaged.
    """
    for read in (lambda: run.vocabulary, lambda: run.label_settings, lambda: run.learned):
        try:
            read()
        except GemLabelError as error:
            name = LEARNED if LEARNED in str(error) else MANIFEST
            check.faults.append(Fault(place / name, str(error), Mend.NOTHING))


def end_check(check: RunCheck, finished: set[int]) -> None:
    """Count the photos that are listed and neither finished nor failed, and note those that were replaced.

    Args:
        check: of everything in the run.
        finished: the numbers of the photos that have masks.
    """
    done = {photo.path for number, photo in check.listed.items() if number in finished} | check.failed
    check.missing = sum(photo.path not in done for photo in check.listed.values())
    if note := check.changed.note():
        check.notes.append(note)


def _check_listing(path: Path, check: RunCheck) -> None:
    """Take in images.jsonl, as far as it is whole."""
    check.files += 1
    rows, damaged = damaged_lines(path, LISTING_FIELDS)
    photos = [photo for photo in map(listed_photo, rows) if photo is not None]
    for photo in photos:
        check.listed.setdefault(photo.number, photo)
    ordered = [row["number"] for row in rows] == sorted(check.listed)
    if not path.exists() or damaged or not ordered:
        lines = (
            f"line {damaged[0]} is damaged" if damaged else "its photos are not in order, or have odd paths"
        )
        problem = f"{path}: {lines if path.exists() else 'it is missing'}"
        check.faults.append(Fault(path, problem, Mend.COMPLETE))


def _check_failures(run: Run, check: RunCheck) -> None:
    """Take in failures.jsonl, as far as it is whole."""
    path = run.path / FAILURES
    if not path.exists():
        return
    check.files += 1
    rows, damaged = damaged_lines(path, FAILURE_FIELDS)
    if damaged:
        check.faults.append(Fault(path, f"{path}: line {damaged[0]} is damaged", Mend.DROP_LINES))
    check.failed |= {row["image"] for row in rows}


def _check_shards(run: Run, masks: Path, check: RunCheck) -> set[int]:
    """Verify shards and pending photos and return the numbers of finished photos."""
    seen, finished = SeenPhotos(None), set[int]()
    for path in (*shard_paths(masks), *pending_paths(masks)):
        if path.parent != masks and pending_number(path) in finished:
            continue  # in a shard, too, after a kill: the next `label` deletes it
        check.files += 1
        try:
            with closing(ShardFile(path, run.expected)) as file:
                finished |= take_shard(file, check, seen)
                _complete(run, file, check)
        except ShardError as error:
            problem = str(error).removesuffix(f": {repair_advice(path)}")
            check.faults.append(Fault(path, problem, Mend.SET_ASIDE))
        except FileNotFoundError:
            raise GemLabelError(f"{run.path} was changed while it was checked: try again") from None
    return finished


def take_shard(file: ShardFile, check: RunCheck, seen: SeenPhotos) -> set[int]:
    """Verify a shard, count what it holds, and return the numbers of its photos.

    Raises:
        ShardError: it is damaged, or holds a photo that was seen.
    """
    totals = _check_shard(file, check.listed)
    seen.add(file)
    check.photos += len(file.photos)
    check.masks += sum(photo.masks for photo in file.photos)
    check.kept += totals
    check.failed |= {row["image"] for row in file.failures}
    check.changed.add(file.photos)
    return {photo.number for photo in file.photos}


def _check_shard(file: ShardFile, listed: dict[int, Photo]) -> Counter[str]:
    """Verify the rows of a shard and return how many masks are kept of each class."""
    kept: Counter[str] = Counter()
    for photo in file.photos:
        known = listed.get(photo.number)
        if known is not None and known.path != photo.image:
            raise damaged_shard(file.path, f"its photo {photo.number} is {photo.image}, not {known.path}")
    for photos, table in file.groups():
        try:
            check_rows(table, photos)
        except ValueError as error:
            raise damaged_shard(file.path, error) from error
        kept.update(pc.filter(table["label"], table["kept"]).to_pylist())
    return kept


def _complete(run: Run, file: ShardFile, check: RunCheck) -> None:
    """Add the photos of a whole shard to the listing, which may have lost lines."""
    lost = [photo for photo in file.photos if photo.number not in check.listed]
    check.listed |= {each.number: Photo(each.image, each.image_id, each.number) for each in lost}
    path = run.path / IMAGES
    if lost and "shared" not in run.manifest and not any(fault.path == path for fault in check.faults):
        problem = f"{path}: it lacks photo {lost[0].number}, which {file.path.name} holds"
        check.faults.append(Fault(path, problem, Mend.COMPLETE))


def _patch_numbers(folder: Path) -> Iterator[int]:
    return (int(path.stem) for path in sorted(folder.glob("*.npy")) if path.stem.isdecimal())


def repair_run(path: str | Path) -> RunCheck:
    """Set damaged shards, pending photos and patch features aside, and mend text files.

    The same `gem-label label` then labels the photos of damaged shards again.

    Args:
        path: the run directory, or its address in an object store.

    Returns:
        What was found; `faults` whose `mend` is NOTHING are still there.

    Raises:
        GemLabelError: another process is writing the run, there is no run, or its manifest is damaged.
    """
    if is_address(path):
        from gem_label.runs.repair_stored import repair_stored_run

        return repair_stored_run(open_store(path))
    path = Path(path)
    recover(path)
    read_manifest(path)  # else the lock would make a file in a folder that is no run
    with RunLock(path):
        commit_relabel(path)
        delete_leftovers(path, of=[MANIFEST, IMAGES, FAILURES, LEARNED, RELABEL_READY, "relabel"])
        check = check_run(path)
        for fault in check.faults:
            if fault.mend is Mend.SET_ASIDE:
                _set_aside(fault.path, path / DAMAGED)
                shutil.rmtree(
                    path / INDEX, ignore_errors=True
                )  # the next shard may have the same name and size
            elif fault.mend is Mend.DROP_LINES:
                repair_jsonl(fault.path, FAILURE_FIELDS)
            elif fault.mend is Mend.COMPLETE:
                photos = (check.listed[number] for number in sorted(check.listed))
                rows = ({"number": p.number, "image": p.path, "image_id": p.image_id} for p in photos)
                write_jsonl(fault.path, rows)
        if any(fault.mend is not Mend.NOTHING for fault in check.faults):
            _write_counts(Run(path), check)
    return check


def _set_aside(path: Path, folder: Path) -> None:
    """Move a file into a folder, under a name that is free."""
    folder.mkdir(exist_ok=True)
    names = (path.name if i == 0 else f"{path.stem}-{i}{path.suffix}" for i in count())
    os.rename(path, next(folder / name for name in names if not (folder / name).exists()))
    sync_directory(folder)
    sync_directory(path.parent)


def _write_counts(run: Run, check: RunCheck) -> None:
    write_manifest(run.path, counted_manifest(run.manifest, check))


def counted_manifest(manifest: Mapping[str, Any], check: RunCheck) -> dict[str, Any]:
    """The manifest of a run with the counts of a check."""
    counts = manifest["counts"] | {
        "listed": len(check.listed),
        "photos": check.photos,
        "masks": check.masks,
        "kept": check.kept.total(),
        "kept_by_class": {name: check.kept[name] for name in manifest["vocabulary"]["classes"]},
    }
    finished = manifest.get("finished", False) and not check.missing
    return {**manifest, "counts": counts, "updated": now(), "finished": finished}
