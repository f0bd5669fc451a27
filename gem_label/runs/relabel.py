"""New words for an old run, and search by text: no image, no vision model."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gem_label.atomic import copy_file, delete_leftovers, replacing_folder, write_atomic
from gem_label.checks import COUNT, Numbers, check_number
from gem_label.errors import UsageError
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
    shard_name,
    shard_number,
    write_manifest,
)
from gem_label.runs.jsonl import write_jsonl
from gem_label.runs.learned_file import write_learned
from gem_label.runs.listing import create_part
from gem_label.runs.manifest import new_run_id, now
from gem_label.runs.opening import open_run
from gem_label.runs.reader import Run
from gem_label.runs.schema import PhotoRecord, relabelled, table_evidence, table_vectors
from gem_label.runs.shard_writer import ShardWriter
from gem_label.runs.shards import ShardFile
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

    The new masks/ is written whole beside the old one and then put in its place: a kill at any moment leaves
    the old labels or the new ones. Memory holds a few thousand rows.

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
        The relabelled run; after a relabel in place, the one that was given can no longer be read.

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
        if "shared" in run.manifest and not run.manifest["finished"]:
            raise UsageError(f"{run.place} is still being labeled: wait for all shards, or give --out")
        with RunLock(run.path):
            commit_relabel(run.path)
            delete_leftovers(run.path, of=[RELABEL_READY, "relabel"])
            with replacing_folder(run.path / RELABEL_READY) as building:
                _write_relabelled(Run(run.path), building, job)
            commit_relabel(run.path)
        return open_run(run.path)
    out = Path(os.path.abspath(out))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already: give a new folder with --out")
    delete_leftovers(out.parent, of=[out.name])
    with replacing_folder(out) as building:
        _write_relabelled(run, building, job)
        _copy_rest(run, building)
    return open_run(out)


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


def _write_relabelled(run: Run, folder: Path, job: _Relabeling) -> None:
    """Write masks/ and manifest.json of the relabelled run into an empty folder."""
    (folder / MASKS).mkdir()
    kept: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    run_id, following = new_run_id(), shard_name(0)

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
                yield photos, relabelled(table, labels, evidence.overlaps, evidence.masks.tolist())

    def write(file: BinaryIO, files: Iterator[ShardFile]) -> None:
        with ShardWriter(file, run.embedding_dim, run.has_surrounds, run_id) as writer:
            for photos, table in rows(files, writer):
                writer.add(photos, table)

    with run.shards() as files:
        for name, group in groupby(files, new_name):
            write_atomic(folder / MASKS / name, partial(write, files=group))
    if job.learned is not None:
        write_learned(folder / LEARNED, job.learned)
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
    write_manifest(folder, manifest)


SURROUND = 0.7
"""How much of the surround a search takes off a mask (docs/label-quality.md)."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A mask that a search found.

    Attributes:
        mask_id: "<image_id>#<index>".
        image: absolute path of its photo.
        image_id: the photo's id.
        similarity: (e_m - SURROUND * s_m) . t, how much more the mask is like the query than what is around it;
            e_m . t, in [-1, 1], for a mask without a surround.
        bbox: x, y, width, height in pixels.
        area: pixels.
        label: the mask's label in the run, or None.
        score: that label's probability.
    """

    mask_id: str
    image: str
    image_id: str
    similarity: float
    bbox: tuple[float, float, float, float]
    area: int
    label: str | None
    score: float


def search_run(run: Run, embedding: NDArray[np.floating], top: int = 50) -> list[SearchHit]:
    """The masks most similar to a text, all proposals, kept or not; reads the run once, holding `top` rows.

    Wholes rank before their parts: a part is surrounded by patches that are as similar to the text.

    Args:
        run: the run.
        embedding: (d,) or (P, d) unit-length text embeddings of the CLIP that labeled the run; of several,
            each mask counts with its best.
        top: how many masks.

    Returns:
        At most `top` hits, the most similar first.

    Raises:
        UsageError: an embedding that is empty, not finite or of another model; `top` below 1.
    """
    check_number("top", top, COUNT)
    query = np.atleast_2d(np.asarray(embedding, np.float32))
    if not query.size or not np.isfinite(query).all() or not query.any(axis=1).all():
        raise UsageError(
            "a search needs the embedding of a word or phrase, of finite numbers that are not all 0"
        )
    if query.shape[1] != run.embedding_dim:
        raise UsageError(
            f"a text embedding of length {query.shape[1]} in a run of length {run.embedding_dim}: "
            "use the CLIP model that labeled the run"
        )
    vectors = ["embedding"]
    if run.has_surrounds:
        vectors += ["embedding_scale", "surround", "surround_scale"]
    columns = ["mask_id", "image", "image_id", "bbox", "area", "label", "score", *vectors]
    best: list[
        tuple[float, int, dict[str, Any]]
    ] = []  # a heap, the worst first; the second entry breaks ties
    seen = 0
    for table in run.tables(columns):
        masks = table_vectors(table, "embedding")
        if run.has_surrounds:
            masks -= np.float32(SURROUND) * table_vectors(table, "surround")
        similarity = (masks @ query.T).max(axis=1)
        rest = table.drop_columns(vectors)
        for i in np.argsort(-similarity, kind="stable")[:top]:
            if len(best) == top and similarity[i] <= best[0][0]:
                break
            entry = (float(similarity[i]), -(seen + int(i)), rest.slice(int(i), 1).to_pylist()[0])
            (heapq.heappushpop if len(best) == top else heapq.heappush)(best, entry)
        seen += len(table)
    ranked = sorted(best, key=lambda hit: (-hit[0], -hit[1]))
    return [SearchHit(**row | {"similarity": s, "bbox": tuple(row["bbox"])}) for s, _, row in ranked]
