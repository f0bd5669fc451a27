"""`gem-label doctor`: what gem-label needs on this machine, and how to mend what is missing.

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

from gem_label.defaults import DEFAULT_SAM
from gem_label.memory import total_bytes

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
_LOW_MEMORY_GIB = 4


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
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        free, total = torch.cuda.mem_get_info()
        return Check(
            "device", State.OK, f"cuda: {names}; {free / 1024**3:.0f} of {total / 1024**3:.0f} GiB free"
        )
    if shutil.which("nvidia-smi"):
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        detail = (
            f"nvidia-smi is there, but torch ({built}) finds no CUDA device: see pytorch.org for the build"
        )
        return Check("device", State.NOTE, f"{detail} that fits your driver; --device auto takes the CPU")
    return Check("device", State.OK, f"cpu: {torch.get_num_threads()} threads (torch finds no CUDA device)")


def check_sam(wanted: str = DEFAULT_SAM) -> Iterator[Check]:
    """The SAM weights on this machine, and those that are wanted.

    Args:
        wanted: as `label --sam` takes it; mobile_sam is the default.
    """
    from gem_label.weights import WEIGHTS, list_weights

    for weights in list_weights():
        if weights.present:
            yield Check(f"sam {weights.name}", State.OK, str(weights.path))
        elif weights.name == wanted:
            yield Check(f"sam {wanted}", State.MISSING, f"gem-label models pull {wanted}")
    if wanted not in WEIGHTS:
        there = Path(wanted).expanduser().is_file()
        yield Check(f"sam {wanted}", State.OK if there else State.MISSING, "" if there else "no such file")


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
    detail = f"{clip.embedding_dim} dimensions, patches of {clip.patch_size} pixels; for the demo alone"
    return Check("clip demo", State.OK, detail)


def check_clip(name: str) -> Check:
    """Whether the CLIP that `label` will load is on this machine, or can be fetched from the hub.

    Args:
        name: as `label --clip` takes it.
    """
    from gem_label.clip.blip import BLIP_PREFIX
    from gem_label.clip.sources import ask_hub, bring_by_hand, find_cached, find_source
    from gem_label.errors import GemLabelError

    title = f"clip {name}"
    if name.startswith(BLIP_PREFIX):
        return Check(title, State.NOTE, "not checked: BLIP is fetched by transformers when it is used")
    try:
        source = find_source(name)
    except GemLabelError as error:
        return Check(title, State.MISSING, str(error))
    cached = find_cached(source)
    if cached is not None:
        return Check(title, State.OK, str(cached))
    try:
        ask_hub(source)
    except Exception:  # the hub's client raises anything from OSError to its own types
        detail = f"not here, and the model hub does not answer: {bring_by_hand(source)} (docs/offline.md)"
        return Check(title, State.MISSING, detail)
    return Check(title, State.OK, "not here yet; the model hub answers, the first `label` fetches it")


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


def check_memory() -> Check:
    """The machine's memory: one photo at a time takes 2 GiB or less with the default models."""
    total = total_bytes() / 1024**3
    low = "; label with --workers 1" if total < _LOW_MEMORY_GIB else ""
    return Check("memory", State.NOTE if low else State.OK, f"{total:.0f} GiB{low}")


def check_libraries() -> Iterator[Check]:
    """Every library that labeling needs."""
    for module, distribution in _LIBRARIES.items():
        yield check_library(module, distribution)


def check_all(clip: str, sam: str) -> Iterator[Check]:
    """Every check, in the order of the report; what cannot be looked at without torch is left out.

    Args:
        clip: the CLIP that is going to be used.
        sam: the SAM that is going to be used.
    """
    from gem_label.weights import cache_folder

    yield check_python()
    torch_works = True
    for check in check_libraries():
        torch_works &= check.state is State.OK
        yield check
    if torch_works:
        yield check_device()
        yield check_memory()
        yield check_demo_clip()
        if clip != "demo":
            yield check_clip(clip)
    yield from check_sam(sam)
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
            show(f"{check.state:8}{check.name:20} {check.detail}")
    return missing


if __name__ == "__main__":  # `--imports`
    sys.exit(1 if report(check_libraries(), only_missing=True) else 0)
