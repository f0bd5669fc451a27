"""The memory that decoding takes: `python decoding_worker.py FILE...` prints name, estimate and peak bytes of each.

A process of its own, without the freed memory that a test process has and would use again.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from gem_label.photos.reading import read_image


def status(name: str) -> int:
    """A size in /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def measure(path: str) -> None:
    """Print what decoding a file takes."""
    estimates: list[int] = []
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = status("VmRSS")
    read_image(path, estimates.append)
    row = {"name": Path(path).name, "estimate": estimates[0], "peak": status("VmHWM") - before}
    print(json.dumps(row), flush=True)


def main() -> None:
    """Measure each file in a fork, after all decoders are loaded."""
    warm, *paths = sys.argv[1:]
    for path in warm.split(","):
        read_image(path)
    for path in paths:
        child = os.fork()
        if child == 0:
            measure(path)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
