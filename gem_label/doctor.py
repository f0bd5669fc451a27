"""`gem-label doctor`: is everything here that gem-label needs, and if not, what to do about it.

`python -m gem_label.doctor --imports` looks at the libraries alone; the Makefile asks it after an installation.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

# module -> distribution, of what labeling cannot do without
_LIBRARIES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "open_clip": "open_clip_torch",
    "segment_anything": "segment-anything",
    "timm": "timm",
    "safetensors": "safetensors",
    "pyarrow": "pyarrow",
    "pycocotools": "pycocotools",
    "cv2": "opencv-python-headless",
}
# shared libraries that wheels expect of the system -> Debian's and Ubuntu's package
_SYSTEM_PACKAGES = {
    "libGL.so.1": "libgl1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgomp.so.1": "libgomp1",
    "libstdc++.so.6": "libstdc++6",
}
_LOW_DISK_BYTES = 2 * 1024**3


class State(StrEnum):
    """Outcome of a check; only `MISSING` makes `gem-label doctor` fail."""

    OK = "ok"
    NOTE = "note"
    MISSING = "missing"


@dataclass(frozen=True)
class Check:
    """One line of the report: what was looked at, how it stands, and details or what to do."""

    name: str
    state: State
    detail: str


def check_python() -> Check:
    """The Python that runs this, 3.11 or newer."""
    state = State.OK if sys.version_info >= (3, 11) else State.MISSING
    return Check("python", state, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def check_library(module: str, distribution: str) -> Check:
    """Whether a library can be imported; a missing system library is named with its Debian package."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken installation raises anything: ImportError, OSError, RuntimeError
        return Check(module, State.MISSING, explain_import_error(error, distribution))
    return Check(module, State.OK, importlib.metadata.version(distribution))


def explain_import_error(error: Exception, distribution: str) -> str:
    """What to install, in one line, after `import` of something in `distribution` failed with `error`."""
    reason = " ".join(str(error).split())
    shared = re.search(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object file", reason)
    if shared and shared[1] in _SYSTEM_PACKAGES:
        package = _SYSTEM_PACKAGES[shared[1]]
        return f"the system library {shared[1]} is missing: sudo apt-get install {package}"
    if isinstance(error, ModuleNotFoundError):
        return f"not installed: {sys.executable} -m pip install '{distribution}'"
    return f"cannot be imported ({reason})"


def check_device() -> Check:
    """Where `--device auto` would run."""
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 1024**3
        return Check("device", State.OK, f"cuda: {torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    return Check("device", State.OK, f"cpu: {torch.get_num_threads()} threads (torch finds no CUDA device)")


def check_sam() -> Iterator[Check]:
    """The SAM weights on this machine; mobile_sam is the default of `label`."""
    from gem_label.weights import list_weights

    for weights in list_weights():
        if weights.present:
            yield Check(f"sam {weights.name}", State.OK, str(weights.path))
        elif weights.name == "mobile_sam":
            yield Check("sam mobile_sam", State.MISSING, "gem-label models pull mobile_sam")


def check_demo_clip() -> Check:
    """The CLIP that comes with the package loads and encodes a word."""
    from gem_label.clip.models import load_clip
    from gem_label.clip.text import TextEncoder
    from gem_label.errors import GemLabelError

    try:
        clip = load_clip("demo")
        TextEncoder(clip).encode(["cat"])
    except GemLabelError as error:
        return Check("clip demo", State.MISSING, f"{error}: install gem-label again")
    detail = f"{clip.embedding_dim} dimensions, patches of {clip.patch_size} pixels"
    return Check("clip demo", State.OK, detail)


def check_fiftyone() -> Iterator[Check]:
    """FiftyOne and its database; only `push` and `review` need them."""
    if importlib.util.find_spec("fiftyone") is None:
        detail = "not installed, push and review need it: pip install 'gem-label[fiftyone]'"
        yield Check("fiftyone", State.NOTE, detail)
        return
    from gem_label.review.database import mongod_problem

    problem = mongod_problem()
    yield Check("fiftyone", State.OK, importlib.metadata.version("fiftyone"))
    yield Check("mongod", State.NOTE if problem else State.OK, problem or "starts")
    if not problem:
        yield check_plugin()


def check_plugin(folder: Path | None = None) -> Check:
    """The plugin is where FiftyOne looks for plugins, and of this version; None: FiftyOne's own folder."""
    from gem_label.plugin.installing import plugin_problem

    problem = plugin_problem(folder)
    return Check("plugin", State.NOTE if problem else State.OK, problem or "installed, of this version")


def check_disk(folder: Path, name: str) -> Check:
    """Free space where `folder` is, or will be made."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    low = "" if free >= _LOW_DISK_BYTES else "; a run, or weights, may need more"
    return Check(name, State.NOTE if low else State.OK, f"{free / 1024**3:.1f} GiB free at {folder}{low}")


def check_libraries() -> Iterator[Check]:
    """Every library that labeling needs."""
    for module, distribution in _LIBRARIES.items():
        yield check_library(module, distribution)


def check_all() -> Iterator[Check]:
    """Every check, in the order of the report; what cannot be looked at without torch is left out."""
    from gem_label.weights import cache_folder

    yield check_python()
    torch_works = True
    for check in check_libraries():
        torch_works &= check.state is State.OK
        yield check
    if torch_works:
        yield check_device()
        yield check_demo_clip()
    yield from check_sam()
    yield from check_fiftyone()
    yield check_disk(Path.cwd(), "disk, here")
    yield check_disk(cache_folder(), "disk, weights")


def report(checks: Iterator[Check], show: Callable[[str], None] = print, only_missing: bool = False) -> int:
    """Print a line per check as it is done.

    Args:
        checks: what to look at.
        show: prints a line.
        only_missing: say nothing about what is in order.

    Returns:
        How many needed things are missing.
    """
    missing = 0
    for check in checks:
        missing += check.state is State.MISSING
        if check.state is State.MISSING or not only_missing:
            show(f"{check.state:8}{check.name:20}{check.detail}")
    return missing


if __name__ == "__main__":
    chosen = check_libraries() if "--imports" in sys.argv[1:] else check_all()
    sys.exit(1 if report(chosen, only_missing="--imports" in sys.argv[1:]) else 0)
