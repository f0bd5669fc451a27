"""`check_run` and `repair_run` of a run in an object store."""

from __future__ import annotations

from contextlib import closing
from itertools import count
from pathlib import Path

from gem_label.errors import GemLabelError
from gem_label.runs.files import DAMAGED, FAILURES, INDEX, MASKS, PATCHES, shard_name
from gem_label.runs.generations import replace_manifest
from gem_label.runs.jsonl import json_line, parse_line
from gem_label.runs.listing import FAILURE_FIELDS
from gem_label.runs.repair import (
    Fault,
    Mend,
    RunCheck,
    check_words,
    counted_manifest,
    end_check,
    take_shard,
)
from gem_label.runs.seen_photos import SeenPhotos
from gem_label.runs.shards import ShardError, repair_advice
from gem_label.runs.shared import SharedRun
from gem_label.runs.stored import StoredRun
from gem_label.stores import Store, put


def check_stored_run(store: Store) -> RunCheck:
    """Read every file of a run and verify it; nothing is changed. See `check_run`."""
    run, shared, place = StoredRun(store), SharedRun.open(store), Path(store.address)
    check = RunCheck(files=1)  # the manifest
    try:
        check.listed = {photo.number: photo for photo in run.listing()}
    except GemLabelError as error:
        check.faults.append(Fault(place / "listing", str(error), Mend.NOTHING))
    shards = shared.committed()
    known = {f"{shared.folder}{MASKS}/{shard_name(number)}" for number in shards}
    strays = sorted(name for name in store.names(f"{shared.folder}{MASKS}/") if name not in known)
    check.notes += [f"{store.address}/{name} is no file of the run and is left out" for name in strays]
    seen, finished = SeenPhotos(None), set[int]()
    for number in shards:
        check.files += 1
        path = place / shared.folder / MASKS / shard_name(number)
        try:
            with closing(shared.open_shard(number)) as file:
                finished |= take_shard(file, check, seen)
        except ShardError as error:
            problem = str(error).removesuffix(f": {repair_advice(path)}")
            check.faults.append(Fault(path, problem, Mend.SET_ASIDE))
        except FileNotFoundError:
            raise GemLabelError(f"{store.address} was changed while it was checked: try again") from None
    _check_failures(store, place, check)
    check_words(run, place, check)
    for name in sorted(store.names(f"{PATCHES}/")):
        check.files += 1
        try:
            run.patches(int(Path(name).stem))
        except (GemLabelError, ValueError) as error:
            check.faults.append(Fault(place / name, str(error), Mend.SET_ASIDE))
    end_check(check, finished)
    return check


def _check_failures(store: Store, place: Path, check: RunCheck) -> None:
    """Take in failures.jsonl, as far as it is whole."""
    try:
        lines = store.read(FAILURES).splitlines()
    except FileNotFoundError:
        return
    check.files += 1
    rows = [parse_line(line, FAILURE_FIELDS) for line in lines]
    if None in rows:
        problem = f"{store.address}/{FAILURES}: line {rows.index(None) + 1} is damaged"
        check.faults.append(Fault(place / FAILURES, problem, Mend.DROP_LINES))
    check.failed |= {row["image"] for row in rows if row is not None}


def repair_stored_run(store: Store) -> RunCheck:
    """Set damaged shards and patch features aside, and drop damaged lines. See `repair_run`."""
    check, shared = check_stored_run(store), SharedRun.open(store)
    mended = [fault for fault in check.faults if fault.mend is not Mend.NOTHING]
    for fault in mended:
        name = fault.path.relative_to(Path(store.address)).as_posix()
        if fault.mend is Mend.SET_ASIDE:
            _set_aside(store, name)
        else:
            rows = (parse_line(line, FAILURE_FIELDS) for line in store.read(name).splitlines())
            put(store, name, b"".join(json_line(row) for row in rows if row is not None))
    if mended:
        # the next shard may have the same name and size
        store.delete(*store.names(f"{shared.folder}{INDEX}/"))
        replace_manifest(store, shared.manifest, counted_manifest(shared.manifest, check))
    return check


def _set_aside(store: Store, name: str) -> None:
    """Move a file into the folder of damaged ones, under a name that is free."""
    content, path = store.read(name), Path(name)
    names = (path.name if i == 0 else f"{path.stem}-{i}{path.suffix}" for i in count())
    next(each for each in names if store.create(f"{DAMAGED}/{each}", content))
    store.delete(name)
