"""How long each stage takes on the user's own photos, how many masks come out, and how much memory it needs."""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import nn
from tqdm import tqdm

from gem_label.engines.local import LocalEngine
from gem_label.engines.stream import workers_for
from gem_label.errors import GemLabelError, UsageError
from gem_label.evaluation.label_files import draw_all, read_truth
from gem_label.labeled_photo import LabeledPhoto, LabelJob, label_embedded, pool_photo
from gem_label.labeler import Labeler
from gem_label.masks import MaskSet
from gem_label.metrics.coverage import Coverage, PhotoOverlap, coverage_by_size, overlap
from gem_label.photos.photo import Photo
from gem_label.photos.reading import read_image

STAGES = ("decode", "SAM encoder", "prompts", "GEM", "pooling", "labeling", "writing")


@dataclass(frozen=True)
class BenchResult:
    """What labeling some photos took, after one that does not count.

    Attributes:
        proposals: settings of the proposals.
        photos: how many photos.
        masks: proposals per photo.
        stages: seconds per photo of each of `STAGES`, one after the other.
        label_seconds: seconds per photo as `label` does it, with several photos at a time.
        workers: how many.
        memory_mib: peak resident memory of the process.
        gpu_memory_mib: peak memory that torch allocated on the GPU; None without one.
        coverage: recall of annotated instances by their size; None without annotations.
    """

    proposals: dict[str, Any]
    photos: int
    masks: float
    stages: dict[str, float]
    label_seconds: float
    workers: int
    memory_mib: float
    gpu_memory_mib: float | None
    coverage: dict[str, Coverage] | None

    @property
    def seconds(self) -> float:
        """Seconds per photo, one stage after the other."""
        return sum(self.stages.values())

    @property
    def photos_per_hour(self) -> float:
        """How many photos `label` does in an hour."""
        return 3600 / self.label_seconds

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        return asdict(self) | {"seconds": self.seconds, "photos_per_hour": self.photos_per_hour}


@dataclass(frozen=True)
class Annotations:
    """Annotated instances by their photo's file name.

    Attributes:
        by_name: file name -> run-length masks and annotated areas; crowd regions are left out.
    """

    by_name: Mapping[str, tuple[list[dict], list[float]]]

    @classmethod
    def read(cls, path: Path) -> Annotations:
        """Read an annotation file. Areas are those that a COCO file gives, else those of the masks.

        Raises:
            UsageError: it cannot be read, is no such file, does not say the size of a photo, or holds what cannot be
                drawn.
        """
        by_name: dict[str, tuple[list[dict], list[float]]] = {}
        for photo in read_truth(path).photos:
            if photo.size is None:
                raise UsageError(f"{path} does not say the size of {photo.name}")
            instances = [mask for mask in photo.masks if not mask.crowd]
            drawn = draw_all(path, photo, instances, photo.size)
            masks, areas = by_name.setdefault(photo.name, ([], []))
            masks += drawn
            areas += [
                float(coco_mask.area(rle)) if mask.area is None else mask.area
                for mask, rle in zip(instances, drawn, strict=True)
            ]
        return cls(by_name)

    def instances(self, photo: str) -> tuple[list[dict], list[float]]:
        """Run-length masks and annotated areas of a photo's instances.

        Args:
            photo: a path that ends with the file name.

        Raises:
            UsageError: no photo of that name is annotated.
        """
        parts = PurePosixPath(photo).parts
        for start in range(len(parts)):
            found = self.by_name.get(str(PurePosixPath(*parts[start:])))
            if found is not None:
                return found
        raise UsageError(f"the annotations have no photo {photo}: bench annotated photos alone")


class Stopwatch:
    """Adds up seconds by stage; work that a GPU still has to do is waited for.

    Args:
        device: where the models run.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device

    def now(self) -> float:
        """Seconds of a clock that only goes forward, after the device is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block's time for a stage."""
        started = self.now()
        yield
        self.seconds[name] += self.now() - started

    @contextmanager
    def forward_of(self, module: nn.Module, name: str) -> Iterator[None]:
        """Within the block, count the module's own forward passes for a stage."""
        starts: list[float] = []
        hooks = [
            module.register_forward_pre_hook(lambda *_: starts.append(self.now())),
            module.register_forward_hook(partial(self._ended, starts, name)),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _ended(self, starts: list[float], name: str, *_: object) -> None:
        self.seconds[name] += self.now() - starts.pop()


def bench(
    labeler: Labeler, job: LabelJob, photos: Sequence[Photo], annotations: Annotations | None = None
) -> BenchResult:
    """Label photos stage by stage and measure, then as `label` does it. The first photo warms up before.

    Args:
        labeler: models and settings.
        job: the words.
        photos: at least one; the runs they are labeled into are thrown away.
        annotations: to measure recall; None measures none.

    Raises:
        ImageError: a photo that cannot be read.
        UsageError: a photo without annotations.
        GemLabelError: photos fail where several are labeled at a time.
    """
    if annotations is not None:
        for photo in photos:
            annotations.instances(photo.path)  # a photo that is missing there is told before the work
    device = labeler.sam.device
    watch = Stopwatch(device)
    counts: list[int] = []
    overlaps: list[PhotoOverlap] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        writer = stack.enter_context(labeler.start_run(folder / "run", job))
        registered = writer.register(photos)
        _label(labeler, job, registered[0], Stopwatch(device))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        for photo in tqdm(registered, unit="photo", file=sys.stderr):
            result = _label(labeler, job, photo, watch)
            with watch.stage("writing"):
                writer.write(photo, result.masks, result.labels, result.image_embedding, None)
            counts.append(len(result.masks))
            if annotations is not None:
                overlaps.append(_overlap(photo, result.masks, annotations))
        with watch.stage("writing"):
            stack.close()
    workers = workers_for(device)
    return BenchResult(
        proposals=labeler.settings["proposals"],
        photos=len(photos),
        masks=float(np.mean(counts)),
        stages={name: watch.seconds[name] / len(photos) for name in STAGES},
        label_seconds=_seconds_of_label(labeler, job, photos, workers),
        workers=workers,
        memory_mib=peak_memory_mib(),
        gpu_memory_mib=torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None,
        coverage=None if annotations is None else coverage_by_size(overlaps),
    )


def _seconds_of_label(labeler: Labeler, job: LabelJob, photos: Sequence[Photo], workers: int) -> float:
    """Seconds per photo of the engine that `label` uses."""
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        with labeler.start_run(Path(folder) / "run", job) as writer:
            report = LocalEngine(workers).run(writer.register(photos), labeler, job, writer)
        seconds = time.perf_counter() - started
    if report.failed:
        raise GemLabelError(f"{report.failed} of {len(photos)} photos failed with {workers} at a time")
    return seconds / len(photos)


def _label(labeler: Labeler, job: LabelJob, photo: Photo, watch: Stopwatch) -> LabeledPhoto:
    with watch.stage("decode"):
        image: NDArray[np.uint8] = read_image(photo.path)
    encoding = watch.seconds["SAM encoder"]
    with watch.stage("prompts"), watch.forward_of(labeler.sam.model.image_encoder, "SAM encoder"):
        masks = labeler.propose_masks(image)
    watch.seconds["prompts"] -= watch.seconds["SAM encoder"] - encoding
    with watch.stage("GEM"):
        features = labeler.photo_features(image, masks)
    with watch.stage("pooling"):
        embedded = pool_photo(masks, features.patches, features.embedding, features.mask_tokens)
    with watch.stage("labeling"):
        return label_embedded(embedded, job)


def _overlap(photo: Photo, masks: MaskSet, annotations: Annotations) -> PhotoOverlap:
    instances, areas = annotations.instances(photo.path)
    if instances and list(instances[0]["size"]) != [masks.height, masks.width]:
        raise GemLabelError(
            f"{photo.path} has {masks.width} x {masks.height} pixels, its annotations are for "
            f"{instances[0]['size'][1]} x {instances[0]['size'][0]}: bench the photos that were annotated"
        )
    return overlap(masks.rles, masks.predicted_iou, instances, areas)


def peak_memory_mib() -> float:
    """Peak resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
