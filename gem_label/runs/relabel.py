"""New words for an old run: no image, no vision model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gem_label.atomic import copy_file, delete_leftovers, replacing_folder, write_atomic
from gem_label.checks import Numbers, check_number
from gem_label.errors import GemLabelError, UsageError
from gem_label.labeling import Evidence, LabelSettings, MaskLabels, Rescore, Vocabulary, label_evidence
from gem_label.learning.learned import Learned, apply_learned
from gem_label.photos.photo import Photo
from gem_label.runs.files import (
    FAILURES,
    IMAGES,
    LEARNED,
    MASKS,
    RELABEL_READY,
    RunLock,
    commit_relabel,
    encode_json,
    shard_name,
    shard_number,
    shard_sizes,
    write_manifest,
)
from gem_label.runs.generations import NewGeneration
from gem_label.runs.index import update_index
from gem_label.runs.jsonl import write_jsonl
from gem_label.runs.learned_file import write_learned
from gem_label.runs.listing import create_part
from gem_label.runs.manifest import new_run_id, now
from gem_label.runs.opening import open_run
from gem_label.runs.reader import Run
from gem_label.runs.schema import PhotoRecord, relabeled, table_evidence
from gem_label.runs.shard_writer import ShardWriter
from gem_label.runs.shards import ShardFile
from gem_label.runs.shared import SharedRun
from gem_label.runs.stored import StoredRun
from gem_label.stores.local import LocalStore
from gem_label.words import WordsPerImage


@dataclass(frozen=True)
class _Relabeling:
    """Everything that decides over the new labels."""

    vocabulary: Vocabulary
    text: NDArray[np.float32]
    logit_scale: float
    settings: LabelSettings
    words: WordsPerImage | None
    learned: Learned | None
    rescore: Rescore | None

    def __call__(self, evidence: Evidence, photos: Sequence[PhotoRecord]) -> MaskLabels:
        """The labels of some photos' masks."""
        words = self.words
        return label_evidence(
            evidence,
            self.text,
            self.vocabulary,
            self.logit_scale,
            self.settings,
            [
                None if words is None else words.allowed(self.vocabulary, photo.image, photo.image_id)
                for photo in photos
            ],
            self.rescore,
        )


def relabel_run(
    run: Run,
    vocabulary: Vocabulary,
    text_embeddings: NDArray[np.floating],
    logit_scale: float | None = None,
    label_settings: LabelSettings | None = None,
    words: WordsPerImage | None = None,
    out: str | Path | None = None,
    learned: Learned | Literal["none"] | None = None,
) -> Run:
    """Give a run the labels that `label` would have given with these words.

    The new masks are written whole beside the old ones and then put in their place: a kill at any moment leaves
    the old labels or the new ones. Memory holds a few thousand rows, and in an object store a shard.

    Args:
        run: the run; its masks and embeddings stay as they are.
        vocabulary: the new words.
        text_embeddings: (P, d) unit-length embeddings of `vocabulary.phrases`, by the CLIP of the run.
        logit_scale: that model's scale; None: the run's.
        label_settings: thresholds; None: the run's.
        words: words per photo; None: every photo may have every class.
        out: a new run directory; None: in place.
        learned: what the labels rest on besides the words; None: what the run rests on now; "none": words alone.

    Returns:
        The relabeled run; after a relabel in place, the one that was given can no longer be read.

    Raises:
        UsageError: `out` exists, the text embeddings are of another model, the words name several photos by one name,
            or something was learned with another CLIP model.
        GemLabelError: another process is writing the run, or its learned.json cannot be used.
    """
    text = np.asarray(text_embeddings, np.float32)
    if text.shape != (len(vocabulary.phrases), run.embedding_dim):
        raise UsageError(
            f"text embeddings of shape {text.shape} for {len(vocabulary.phrases)} phrases, mask embeddings "
            f"of length {run.embedding_dim}: use the CLIP model that labeled the run"
        )
    if not np.isfinite(text).all():
        raise UsageError("text embeddings must be finite numbers")
    scale = run.logit_scale if logit_scale is None else float(logit_scale)
    check_number("logit_scale", scale, Numbers(0, above=True))
    using = None if learned == "none" else learned or run.learned
    if using is not None:
        using.check_model(run.clip_sha256, run.embedding_dim)
    text, rescore = apply_learned(using, text, vocabulary, scale)
    job = _Relabeling(vocabulary, text, scale, label_settings or run.label_settings, words, using, rescore)
    if words is not None:
        words.check(vocabulary)
        words.check_names(Photo(photo.image, photo.image_id, photo.number) for photo in run.photos())
    if out is None:
        if isinstance(run, StoredRun):
            return _relabel_stored(run, job)
        _check_finished(run)
        with RunLock(run.path):
            commit_relabel(run.path)
            delete_leftovers(run.path, of=[RELABEL_READY, "relabel"])
            with replacing_folder(run.path / RELABEL_READY) as building:
                _write_relabeled(Run(run.path), building, job)
            commit_relabel(run.path)
        return open_run(run.path)
    out = Path(os.path.abspath(out))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already: give a new folder with --out")
    delete_leftovers(out.parent, of=[out.name])
    with replacing_folder(out) as building:
        _write_relabeled(run, building, job)
        _copy_rest(run, building)
    return open_run(out)


def _check_finished(run: Run) -> None:
    """Make sure that no process labels a chunk of a shared run.

    Raises:
        UsageError: chunks have no shard yet.
    """
    if "shared" in run.manifest:
        store = run.store if isinstance(run, StoredRun) else LocalStore(run.path)
        if not run.manifest["finished"] or SharedRun(store, run.manifest).progress().missing:
            raise UsageError(f"{run.place} is still being labeled: wait for all shards, or give --out")


def _copy_rest(run: Run, folder: Path) -> None:
    """Copy what no word changes: listing, failures, patch features."""
    if "shared" in run.manifest:
        for number, part in enumerate(run.listing_parts()):
            create_part(LocalStore(folder), number, part)
        write_jsonl(folder / FAILURES, map(asdict, run.failures()))
    else:
        for name in (IMAGES, FAILURES):
            if (run.path / name).exists():
                copy_file(run.path / name, folder / name)
    run.copy_patches(folder)


def _relabel_stored(run: StoredRun, job: _Relabeling) -> Run:
    """Relabel a run in an object store in its place."""
    store, run_id = run.store, new_run_id()
    generation = NewGeneration(store, run.manifest, run_id)
    _check_finished(run)
    try:
        manifest = _relabel_shards(run, job, run_id, generation.write_shard)
        new = SharedRun(store, {**manifest, "generation": run_id})
        update_index(store, generation.folder, run_id, new.committed(), new.open_shard)
        if job.learned is not None:
            store.create(generation.folder + LEARNED, encode_json(job.learned.to_dict()))
    except BaseException:
        with suppress(GemLabelError):
            generation.discard()
        raise
    generation.commit(manifest)
    return open_run(store.address)


def _write_relabeled(run: Run, folder: Path, job: _Relabeling) -> None:
    """Write masks/, index/, learned.json and manifest.json of the relabeled run into an empty folder."""
    (folder / MASKS).mkdir()
    run_id = new_run_id()
    manifest = _relabel_shards(
        run, job, run_id, lambda name, write: write_atomic(folder / MASKS / name, write)
    )
    sizes = shard_sizes(folder / MASKS)
    update_index(
        LocalStore(folder), "", run_id, sizes, lambda number: ShardFile(folder / MASKS / shard_name(number))
    )
    if job.learned is not None:
        write_learned(folder / LEARNED, job.learned)
    write_manifest(folder, manifest)


def _relabel_shards(
    run: Run,
    job: _Relabeling,
    run_id: str,
    write_shard: Callable[[str, Callable[[BinaryIO], None]], None],
) -> dict[str, Any]:
    """Write the shards of the relabeled run.

    Args:
        run: the run.
        job: the new words, and what else decides.
        run_id: of the relabeled run.
        write_shard: takes the name of a shard and a function that writes it into a file.

    Returns:
        The manifest of the relabeled run.
    """
    kept: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    following = shard_name(0)

    def new_name(file: ShardFile) -> str:
        """The name of its shard; photos that are in no shard yet come last, one file each, and go into one."""
        nonlocal following
        if file.path.parent.name == MASKS:
            following = shard_name(shard_number(file.path) + 1)
            return file.path.name
        return following

    def rows(files: Iterator[ShardFile], writer: ShardWriter) -> Iterator[tuple[list[PhotoRecord], pa.Table]]:
        for file in files:
            writer.add_failures(file.failures)
            for photos, table in file.groups():
                totals.update(photos=len(photos), masks=len(table))
                if not len(table):
                    yield photos, table
                    continue
                evidence = table_evidence(table, photos)
                labels = job(evidence, photos)
                names, counts = np.unique(labels.label_index[labels.kept], return_counts=True)
                kept.update({labels.classes[i]: n for i, n in zip(names, counts.tolist(), strict=True)})
                yield photos, relabeled(table, labels, evidence.overlaps, evidence.masks.tolist())

    def write(file: BinaryIO, files: Iterator[ShardFile]) -> None:
        with ShardWriter(file, run.embedding_dim, run.format, run_id, run.has_mask_tokens) as writer:
            for photos, table in rows(files, writer):
                writer.add(photos, table)

    with run.shards() as files:
        for name, group in groupby(files, new_name):
            write_shard(name, partial(write, files=group))
    manifest = run.manifest | {
        "id": run_id,  # shards with other labels are of another run
        "vocabulary": job.vocabulary.to_dict(),
        "labeling": {
            "settings": job.settings.to_dict(),
            "logit_scale": job.logit_scale,
            "words_per_image": None if job.words is None else job.words.digest,
            **({} if job.learned is None else {"learned": job.learned.digest}),
        },
        "updated": now(),
    }
    manifest["counts"] = manifest["counts"] | {
        "photos": totals["photos"],
        "masks": totals["masks"],
        "kept": kept.total(),
        "kept_by_class": {name: kept[name] for name in job.vocabulary.classes},
    }
    manifest.pop("generation", None)
    return manifest
