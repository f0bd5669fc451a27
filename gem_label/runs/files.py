"""Files that survive a kill: JSON, one-writer locks, and the layout of a run directory.

RUN/manifest.json             settings, weights, vocabulary, versions, counts
RUN/images.jsonl              the photos of the run: number (from 1), image (absolute path), image_id
RUN/masks/shard-000000.parquet   one row a mask, whole photos
RUN/masks/pending/7.parquet   photo number 7, finished but not yet in a shard
RUN/failures.jsonl            image, image_id, stage, error
RUN/index/part-000000.parquet    what the footers of many shards list, see `gem_label.runs.index`
RUN/learned.json              what the labels rest on besides the words (the manifest has its sha256)
RUN/patches/7.npy             float16 (h, w, d) patch features, when they were asked for
RUN/relabel.ready/            a finished relabel that is being put in the place of masks/
RUN/damaged/                  files that `gem-label repair` has set aside
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from gem_label.atomic import sync_directory, write_atomic
from gem_label.errors import GemLabelError
from gem_label.runs.checksums import CRC, ChecksumError, sealed_json, unsealed_json

MANIFEST, IMAGES, FAILURES, MASKS, PENDING, PATCHES, LEARNED, INDEX = (
    "manifest.json", "images.jsonl", "failures.jsonl", "masks", "pending", "patches", "learned.json", "index",
)  # fmt: skip
FORMAT = 3
"""Of runs that are written. Format 2 has surrounds in place of differences and top_scores in float32; format 1 has
float16 embeddings, no surrounds and no overlaps. All are read."""
FORMATS = (1, 2, FORMAT)
RELABEL_READY, REPLACED, DAMAGED, GENERATIONS = "relabel.ready", "masks.replaced", "damaged", "generations"
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_SHARD = re.compile(r"shard-[0-9]{6,}\.parquet")


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file atomically."""
    write_atomic(path, lambda file: file.write(encode_json(data)))


def encode_json(data: Any) -> bytes:
    """The content of a JSON file that people may read."""
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def encode_manifest(manifest: Mapping[str, Any]) -> bytes:
    """The content of manifest.json, with its checksum."""
    return encode_json(sealed_json(manifest))


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write manifest.json atomically."""
    write_atomic(folder / MANIFEST, lambda file: file.write(encode_manifest(manifest)))


def read_manifest(path: Path) -> dict[str, Any]:
    """RUN/manifest.json, without its checksum.

    Raises:
        GemLabelError: there is none, or it cannot be read.
    """
    file = current(path, MANIFEST)
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise GemLabelError(
            f"{path} is not a run: no {MANIFEST} there; make one with `gem-label label`"
        ) from None
    except OSError as error:
        raise GemLabelError(f"cannot read {file}: {error.strerror}") from error
    return parse_manifest(content, str(file))


def parse_manifest(content: bytes, place: str) -> dict[str, Any]:
    """The content of manifest.json, without its checksum.

    Args:
        content: of the file.
        place: where it was read, for messages.

    Raises:
        GemLabelError: it cannot be used.
    """
    try:
        manifest = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise damaged_manifest(place, f"is damaged ({error})" if content else "is empty") from error
    if not isinstance(manifest, dict) or manifest.get("format") not in FORMATS:
        versions = manifest.get("versions") if isinstance(manifest, dict) else None
        version = versions.get("gem-label") if isinstance(versions, dict) else None
        of = f"gem-label {version[:40]}" if isinstance(version, str) else "another version of gem-label"
        raise GemLabelError(f"{place} is of {of}, whose format this version cannot read: use that one")
    for names, kind in _MANIFEST_FIELDS.items():
        value: Any = manifest
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise damaged_manifest(place, f"has no {'.'.join(names)} that can be read")
    if "words_per_image" not in manifest["labeling"]:
        raise damaged_manifest(place, "has no labeling.words_per_image")
    try:
        return unsealed_json(manifest)
    except (ChecksumError, RecursionError) as error:
        by_hand = f"delete its field {CRC} if you changed it yourself"
        raise damaged_manifest(place, f"is damaged ({error}; {by_hand})") from error


_MANIFEST_FIELDS: Mapping[tuple[str, ...], type | tuple[type, ...]] = MappingProxyType(
    {
        ("settings",): dict,
        ("weights",): dict,
        ("versions",): dict,
        ("vocabulary", "classes"): list,
        ("vocabulary", "phrasings"): list,
        ("vocabulary", "background"): list,
        ("labeling", "settings"): dict,
        ("labeling", "logit_scale"): (int, float),
        ("embedding_dim",): int,
        ("counts", "kept_by_class"): dict,
        **{("counts", name): int for name in ("photos", "failed", "masks", "kept")},
    }
)


def damaged_manifest(place: object, content: str) -> GemLabelError:
    """The error for a manifest that cannot be used.

    Args:
        place: the path of the manifest.
        content: what is wrong with it, such as "is empty".
    """
    return GemLabelError(f"{place} {content}: restore it from a copy, or label the photos into another --out")


def current(run: Path, name: str) -> Path:
    """Where a file or folder of a run is; that of a relabel counts as soon as the relabel is finished.

    Args:
        run: the run directory.
        name: MANIFEST, LEARNED or MASKS.
    """
    ready = run / RELABEL_READY / name
    return ready if ready.exists() else run / name


def run_of_shard(path: Path) -> Path:
    """The run directory of a shard or a pending photo."""
    masks = path.parent.parent if path.parent.name == PENDING else path.parent
    if masks.parent.parent.name == GENERATIONS:
        return masks.parent.parent.parent
    return masks.parent.parent if masks.parent.name == RELABEL_READY else masks.parent


def stray_files(masks: Path) -> list[Path]:
    """What lies among the shards and pending photos and is neither, such as "shard-000001 copy.parquet".

    Hidden files are left out: systems make them.
    """
    known = {*shard_paths(masks), *pending_paths(masks), masks / PENDING}
    found = [*masks.glob("*"), *(masks / PENDING).glob("*")]
    return sorted(path for path in found if path not in known and not path.name.startswith("."))


def pending_number(path: Path) -> int:
    """The photo's number in the name of a pending file."""
    return int(path.stem)


def pending_paths(masks: Path) -> list[Path]:
    """The files of finished photos that are in no shard yet, in the order of the photos' numbers."""
    paths = (masks / PENDING).glob("[0-9]*.parquet")
    # not "7 (copy).parquet", and no digits of other scripts
    return sorted((p for p in paths if p.stem.isascii() and p.stem.isdecimal()), key=pending_number)


def shard_paths(masks: Path) -> list[Path]:
    """The shards in order."""
    return sorted((p for p in masks.glob("shard-*.parquet") if _SHARD.fullmatch(p.name)), key=shard_number)


def shard_sizes(masks: Path) -> dict[int, int]:
    """The numbers of the shards, in order, and how many bytes each has."""
    sizes = {}
    for path in shard_paths(masks):
        with suppress(FileNotFoundError):  # relabeled meanwhile
            sizes[shard_number(path)] = path.stat().st_size
    return sizes


def shard_name(number: int) -> str:
    """The name of a shard."""
    return f"shard-{number:06d}.parquet"


def shard_number(path: Path) -> int:
    """The number in a shard's name."""
    return int(path.stem.removeprefix("shard-"))


@contextmanager
def explain_removal(run: Path) -> Iterator[None]:
    """Raise an error that says so when a file is not found because the run was removed while it was written.

    Raises:
        GemLabelError: in place of FileNotFoundError, when there is no run directory any more.
    """
    try:
        yield
    except FileNotFoundError as error:
        if (run / MANIFEST).exists():
            raise
        raise GemLabelError(f"{run} was removed while it was written: start again") from error


class RunLock:
    """Held by the one process that writes a run; given back by the system when that process dies.

    Raises:
        GemLabelError: another process holds it.
    """

    def __init__(self, run: Path) -> None:
        self._file = open(run / ".lock", "a+")  # noqa: SIM115 - held until close()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            who = f" (process {holder})" if holder else ""
            raise GemLabelError(
                f"{run} is being written by another gem-label{who}: wait for it or stop it"
            ) from None
        except OSError as error:
            self._file.close()
            raise GemLabelError(
                f"cannot lock {run} ({error.strerror}): put --out on another file system"
            ) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def close(self) -> None:
        """Give the lock back."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def commit_relabel(run: Path) -> None:
    """Put RUN/relabel.ready (new shards and manifest) in the place of the old; finish what a kill cut short.

    Every step can be repeated: relabel.ready exists exactly while something is left to do, and as long as it
    exists its shards and manifest are what counts. The caller holds the lock.
    """
    ready, masks, replaced = run / RELABEL_READY, run / MASKS, run / REPLACED
    if ready.exists():
        new = ready / MASKS
        if new.exists():  # not swapped yet
            if masks.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                os.rename(masks, replaced)
            os.rename(new, masks)
            sync_directory(run)
        if (ready / INDEX).exists():  # that of the old shards is of no use in any case
            shutil.rmtree(run / INDEX, ignore_errors=True)
            os.rename(ready / INDEX, run / INDEX)
        for name in (LEARNED, MANIFEST):  # the manifest last: it names the other by its sum
            if (ready / name).exists():
                os.replace(ready / name, run / name)
                sync_directory(run)
        shutil.rmtree(ready)
    shutil.rmtree(replaced, ignore_errors=True)


def recover(run: Path) -> None:
    """Finish a relabel that was killed half-way through its swap, which readers do first.

    Where the run cannot be written, nothing happens: `current` says where its files are.
    """
    if (run / RELABEL_READY).exists():
        try:
            with RunLock(run):
                commit_relabel(run)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
