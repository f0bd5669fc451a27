"""What it costs to verify a run whenever it is read, in processor time.

    python benchmarks/run_checks.py --masks 100000

Reads the rows of a run of random masks by pyarrow alone and as gem-label reads them: with checksums, and, as versions
before them wrote it, with all rows checked. The difference is set against what uses of a run take.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from relabel import make_run, unit_rows

from gem_label.runs import Run, open_run, search_run
from gem_label.runs.files import MASKS, shard_paths, write_manifest
from gem_label.runs.search import search_columns


def seconds(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median of the processor seconds that each work takes; the works take turns."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            started = time.process_time()
            work()
            taken[name].append(time.process_time() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def read_bare(run: Run, columns: list[str] | None = None) -> None:
    """Every row, by pyarrow alone; None: all columns."""
    for path in shard_paths(run.path / MASKS):
        with open(path, "rb") as source:
            file = pq.ParquetFile(source)
            for group in range(file.num_row_groups):
                file.read_row_group(group, columns=columns)


def read_all(run: Run, columns: list[str] | None = None) -> None:
    """Every row, verified; None: all columns."""
    for _ in run.tables(columns):
        pass


def read_masks(run: Run) -> None:
    """Every mask and label, as arrays."""
    for _ in run.photo_masks():
        pass


def without_checksums(run: Run, path: Path) -> Run:
    """The same run as versions before checksums wrote it."""
    shutil.copytree(run.path, path)
    for shard in shard_paths(path / MASKS):
        file = pq.ParquetFile(shard)
        metadata = {key: file.metadata.metadata[key] for key in (b"photos", b"photo_embeddings")}
        table = file.read().replace_schema_metadata(metadata)
        pq.write_table(table, shard, compression="zstd", row_group_size=4100)
    write_manifest(path, {key: value for key, value in run.manifest.items() if key != "id"})
    return open_run(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masks", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512, help="of the embeddings (512: ViT-B/16)")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run", args.masks, args.dimension)
        earlier = without_checksums(run, Path(folder) / "earlier")
        columns = search_columns(run)
        query = unit_rows(np.random.default_rng(0), 1, args.dimension)
        works: dict[str, Callable[[], object]] = {
            "bare": lambda: read_bare(run),
            "photos": lambda: list(run.photos()),
            "verified": lambda: read_all(run),
            "checked": lambda: read_all(earlier),
            "masks and labels as arrays": lambda: read_masks(run),
            "search": lambda: search_run(run, query),
            "bare for a search": lambda: read_bare(run, columns),
            "verified for a search": lambda: read_all(run, columns),
        }
        times = seconds(works, args.repeats)
    bare = times["bare"] + times["photos"]  # the lists of photos are part of every read
    print(
        f"rows without checks {bare:.3f} s, with checksums {times['verified']:.3f} s, without checksums and with all "
        f"rows checked {times['checked']:.3f} s"
    )
    of_search = times["verified for a search"] - times["bare for a search"] - times["photos"]
    for name, added in (("masks and labels as arrays", times["verified"] - bare), ("search", of_search)):
        print(f"{name}: {times[name]:.3f} s, {added / (times[name] - added):.1%} more than without checks")


if __name__ == "__main__":
    main()
