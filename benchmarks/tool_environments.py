"""Other tools and the virtual environments in which they run."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 600
"""Seconds for a tool to read a file, or to be installed."""


@dataclass(frozen=True)
class Tool:
    """Another tool.

    Attributes:
        package: its name on the package index.
        formats: that it reads.
        needs: what pip installs for it; nothing where gem-label depends on it.
        environment: where; default: its own.
    """

    package: str
    formats: tuple[str, ...]
    needs: tuple[str, ...] = ()
    environment: str = ""


TOOLS = (
    Tool("pycocotools", ("coco", "lvis")),
    Tool("lvis", ("lvis",), ("lvis", "numpy<1.24")),  # it takes np.float
    Tool("torchvision", ("coco",)),
    Tool("supervision", ("coco", "yolo"), ("supervision",)),
    Tool("sahi", ("coco",), ("sahi",)),
    Tool("datumaro", ("coco", "lvis", "cvat", "yolo"), ("datumaro",)),
    Tool("fiftyone", ("coco", "lvis", "cvat", "yolo")),
    Tool("ultralytics", ("coco", "yolo"), ("ultralytics", "faster-coco-eval")),
    Tool("label-studio-sdk", ("label-studio",), ("label-studio-sdk",)),
    Tool("fiftyone", ("label-studio",), ("label-studio-sdk",), "label-studio-sdk"),
    Tool("pandas", ("csv", "parquet")),
    Tool("polars", ("csv", "parquet"), ("polars",)),
    Tool("duckdb", ("csv", "parquet"), ("duckdb",)),
)


class ToolError(Exception):
    """A tool cannot be installed, or does not read a file; the message is one line."""


def python_of(tool: Tool, env: Path) -> str:
    """The Python that a tool is installed for; installs it the first time."""
    if not tool.needs:
        return sys.executable
    folder = env / (tool.environment or tool.package)
    python, done = str(folder / "bin/python"), folder / "installed"
    if not done.is_file():
        run([sys.executable, "-m", "venv", "--clear", str(folder)])
        purelib = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
        # behind the environment's own packages on the path, as those of the system are in other environments
        Path(purelib, "zz-packages-of-gem-label.pth").write_text(sysconfig.get_path("purelib") + "\n")
        run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *tool.needs])
        done.touch()
    return python


def version_of(python: str, package: str) -> str:
    """The version of a package that a Python has."""
    return run([python, "-c", f"from importlib.metadata import version; print(version({package!r}))"]).strip()


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What a command prints.

    Raises:
        ToolError: it fails; the message is the error that it prints.
    """
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise ToolError(f"not done after {TIMEOUT} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b|ERROR:", line)]
        raise ToolError((errors or lines)[-1][:200])
    return done.stdout
