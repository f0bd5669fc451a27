"""Time of `gem-label label` beside processes that keep processors busy, by how PyTorch's threads wait.

    python benchmarks/busy_machine.py PHOTOS --busy 0 2 8 --repeat 2

For each number of busy processes it runs `label` with two workers of one thread and with one worker of two threads,
whose threads wait actively or passively (`OMP_WAIT_POLICY`; passive is what `gem-label` sets, unset is OpenMP's own).
Loading the models is part of it.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

BUSY = "while True: pass"
SETTINGS: Mapping[str, tuple[list[str], dict[str, str]]] = {
    "2 workers, 1 thread": (["--workers", "2"], {}),
    "1 worker, 2 threads, active": (["--workers", "1"], {"OMP_WAIT_POLICY": "ACTIVE"}),
    # what libgomp cannot read counts as unset, and `gem-label` leaves alone what there is
    "1 worker, 2 threads, unset": (["--workers", "1"], {"OMP_WAIT_POLICY": ""}),
    "1 worker, 2 threads, passive": (["--workers", "1"], {"OMP_WAIT_POLICY": "PASSIVE"}),
}


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Processes that do nothing as fast as they can."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def run_label(photos: Path, options: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and processor seconds of one run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "gem_label.cli",
            "label",
            str(photos),
            "--classes",
            "cat, dog, person",
        ]
        command += ["--clip", "demo", "--out", f"{folder}/run", *options]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, env=os.environ | environment, check=True, capture_output=True)
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, help="a folder of few photos")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--repeat", type=int, default=2)
    arguments = parser.parse_args()
    print(f"{'':32}" + "".join(f"{f'beside {count}':>20}" for count in arguments.busy))
    times: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(arguments.repeat):  # in turn, so that a slow minute of the machine hits all of them
        for count in arguments.busy:
            for name, (options, environment) in SETTINGS.items():
                with busy_processes(count):
                    found = run_label(arguments.photos, options, environment)
                times.setdefault((name, count), []).append(found)
    for name in SETTINGS:
        cells = []
        for count in arguments.busy:
            wall, processor = (statistics.median(each) for each in zip(*times[name, count], strict=True))
            cells.append(f"{wall:8.1f} s {processor:7.1f} s")
        print(f"{name:32}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
