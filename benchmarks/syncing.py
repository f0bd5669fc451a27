"""What it costs that a finished photo survives a power cut, on the disk of a folder.

    python benchmarks/syncing.py --folder /data

Writes files of the size of a photo's masks as a run does, with and without waiting for the disk, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from gem_label.atomic import replacing


def write(path: Path, content: bytes, sync: bool) -> float:
    """The milliseconds of one file."""
    started = time.perf_counter()
    with replacing(path, sync=sync) as file:
        file.write(content)
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk that is measured")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--kilobytes", type=int, default=100, help="of a photo's masks and embeddings")
    args = parser.parse_args()
    content = np.random.default_rng(0).bytes(args.kilobytes << 10)
    taken: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for number in range(args.photos):
            for sync, times in taken.items():
                times.append(write(Path(folder) / f"{number}-{sync}", content, sync))
    for sync, name in ((False, "written"), (True, "written and synced")):
        low, middle, high = statistics.quantiles(taken[sync], n=4)
        print(f"{name}: {middle:.2f} ms a photo ({low:.2f} to {high:.2f} for half of them)")


if __name__ == "__main__":
    main()
