"""How long new words for a finished run take, against the bare matrix product of the same size.

    python benchmarks/relabel.py --masks 1000000 --words 1000
    python benchmarks/relabel.py --masks 1000000 --words 10 --negatives 256

Makes a run of random masks, embeddings and surrounds (100 masks a photo), then alternates `relabel_run` with two
floors, and prints the ratios of their CPU times: the product embeddings @ text.T over the same number of rows, in
batches that fit the caches, for the classes alone; and reading every row of the run and writing it again. Two
products (inside and surround), softmax, top-k, selection, reading and writing are all in the first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gem_label.labeling import LabelSettings, Vocabulary, label_maskset
from gem_label.masks import MaskSet, encode_mask
from gem_label.overlaps import find_overlaps
from gem_label.photos.photo import Photo
from gem_label.quantization import round_differences, round_to_codes
from gem_label.runs import Run, RunWriter, open_run, relabel_run
from gem_label.runs.shard_writer import ShardWriter

HEIGHT, WIDTH, MASKS_PER_PHOTO, LOGIT_SCALE = 480, 640, 100, 100.0


def unit_rows(rng: np.random.Generator, rows: int, dimension: int) -> NDArray[np.float32]:
    """(rows, dimension) float32 of unit length."""
    values = rng.standard_normal((rows, dimension), np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def ellipses(rng: np.random.Generator, count: int) -> list[bytes]:
    """Run lengths of ellipses of all sizes."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    found = []
    for _ in range(count):
        radii = np.exp(rng.uniform(np.log(6), np.log(200), 2))
        center = rng.uniform(0, (HEIGHT, WIDTH))
        found.append(encode_mask(((y - center[0]) / radii[0]) ** 2 + ((x - center[1]) / radii[1]) ** 2 < 1))
    return found


def make_run(path: Path, masks: int, dimension: int) -> Run:
    """A finished run of that many masks, labeled with three words."""
    rng = np.random.default_rng(0)
    pool = [counts for counts in ellipses(rng, 2000) if counts]
    vocabulary = Vocabulary.from_words(("cat", "dog", "cup"))
    text, settings = unit_rows(rng, 3, dimension), LabelSettings()
    writer = RunWriter.create_or_resume(
        path,
        settings={"made_by": "benchmarks/relabel.py"},
        vocabulary=vocabulary,
        embedding_dim=dimension,
        logit_scale=LOGIT_SCALE,
        label_settings=settings,
    )
    with writer:
        listing = [Photo(f"/photos/{i:07d}.jpg", f"{i:07d}") for i in range(masks // MASKS_PER_PHOTO)]
        for photo in tqdm(writer.register(listing), desc="making a run"):
            embeddings = round_to_codes(unit_rows(rng, MASKS_PER_PHOTO, dimension))
            chosen = MaskSet(
                HEIGHT,
                WIDTH,
                tuple(pool[i] for i in rng.integers(0, len(pool), MASKS_PER_PHOTO)),
                rng.random(MASKS_PER_PHOTO, np.float32),
                rng.random(MASKS_PER_PHOTO, np.float32),
                np.zeros((MASKS_PER_PHOTO, 2), np.float32),
                embeddings,
                round_differences(unit_rows(rng, MASKS_PER_PHOTO, dimension), embeddings),
                grid=(28, 37),
            )
            chosen = replace(chosen, overlaps=find_overlaps(chosen))
            labels = label_maskset(chosen, text, vocabulary, LOGIT_SCALE, settings)
            writer.write(photo, chosen, labels, image_embedding=np.zeros(dimension, np.float16))
    return open_run(path)


def matrix_product(masks: int, text: NDArray[np.float32], batch: int = 4096) -> None:
    """The floor: as many rows times the same text embeddings, nothing else."""
    rows = unit_rows(np.random.default_rng(1), batch, text.shape[1])
    logits = np.empty((batch, len(text)), np.float32)
    for _ in range(masks // batch):
        np.matmul(rows, text.T, out=logits)


def read_and_write(run: Run, folder: Path) -> None:
    """The other floor: every row into new files, as it is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with run.shards() as shards:
        for number, shard in enumerate(shards):
            with (
                open(folder / f"{number}.parquet", "wb") as file,
                ShardWriter(file, run.embedding_dim) as writer,
            ):
                for photos, table in shard.groups():
                    writer.add(photos, table)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of this process and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masks", type=int, default=1_000_000)
    parser.add_argument("--words", type=int, default=1000)
    parser.add_argument("--negatives", type=int, default=0, help="words that compete and are never a label")
    parser.add_argument("--dimension", type=int, default=512, help="of the embeddings (512: ViT-B/16)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", type=Path, help="keep the made run here, or use the one that is here")
    args = parser.parse_args()
    words = Vocabulary.from_words(tuple(f"word {i}" for i in range(args.words)))
    words = words.with_negatives(f"negative {i}" for i in range(args.negatives))
    text = unit_rows(np.random.default_rng(2), args.words + args.negatives, args.dimension)
    with tempfile.TemporaryDirectory() as folder:
        path = args.run or Path(folder) / "run"
        run = open_run(path) if path.exists() else make_run(path, args.masks, args.dimension)
        ratios, table_ratios = [], []
        for _ in range(args.repeats):
            floor, _ = seconds(lambda: matrix_product(args.masks, text[: args.words]))
            table, _ = seconds(lambda: read_and_write(run, Path(folder) / "copy"))
            cost, wall = seconds(lambda: relabel_run(run, words, text))
            ratios.append(cost / floor)
            table_ratios.append(cost / table)
            print(
                f"relabel {cost:.2f} s of CPU ({wall:.2f} s by the clock); product {floor:.2f} s, ratio "
                f"{ratios[-1]:.2f}; reading and writing {table:.2f} s, ratio {table_ratios[-1]:.2f}",
                flush=True,
            )
    print(
        json.dumps(
            {
                "masks": args.masks,
                "words": args.words,
                "negatives": args.negatives,
                "dimension": args.dimension,
                "ratio_median": round(statistics.median(ratios), 2),
                "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
                "ratio_to_table_median": round(statistics.median(table_ratios), 2),
                "ratio_to_table_range": [round(min(table_ratios), 2), round(max(table_ratios), 2)],
                "bytes_per_mask": round(
                    sum(f.stat().st_size for f in (path / "masks").glob("*.parquet")) / args.masks
                ),
            }
        )
    )


if __name__ == "__main__":
    main()
