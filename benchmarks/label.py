"""Labeling a folder of photos: `gem-label label` and `export` against the peers' chain, one step after the other.

    pip install --no-deps --target /tmp/gem_torch gem_torch==1.0.1 'open_clip_torch<=2.23' einops
    python benchmarks/label.py --peer /tmp/gem_torch --data shared/data/coco16/data --photos 2
    python benchmarks/label.py --peer /tmp/gem_torch --data PHOTOS --device cuda --also-encode vit_h

The chain is what one writes with the published packages, photo by photo: open it, ask `SamAutomaticMaskGenerator`
with its defaults, take GEM's features from gem_torch, resize the similarity with every word to the photo, average it
under every mask, softmax, and at the end write COCO annotations. Both sides have the same weights, MobileSAM and a
CLIP of random ones: words come out wrong, as fast as right ones. --also-encode runs the image encoder of a larger
SAM, with random weights, beside MobileSAM's and drops what it says, so that masks stay those of a trained model.

Each side and repeat is a process of its own, in turns; with --groups, repeats take different photos. The clock starts
when the models are loaded and have seen one photo, and stops when the annotations are written.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gem_label.precision import Precision

SIDES = ("peers", "ours")
WORDS = (
    "person",
    "bottle",
    "cup",
    "bowl",
    "oven",
    "cow",
    "bus",
    "dog",
    "cat",
    "horse",
    "chair",
    "table",
    "tree",
    "car",
)
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}
Chain = Callable[[list[Path], Path], int]


def main() -> None:
    """Parse the command line; measure in processes of their own, or be one of these."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, required=True, help="folder with gem_torch and its open_clip")
    parser.add_argument("--data", type=Path, required=True, help="folder of photos")
    parser.add_argument("--photos", type=int, help="only the first so many")
    parser.add_argument("--arch", default="ViT-B-16", help="an open_clip architecture; weights are random")
    parser.add_argument("--also-encode", choices=("vit_b", "vit_l", "vit_h"), help="a larger SAM's encoder")
    parser.add_argument("--proposals", choices=("fast", "exact"), default="fast", help="ours")
    parser.add_argument("--precision", type=Precision, choices=list(Precision), default=Precision.float32)
    parser.add_argument("--workers", type=int, help="ours; default: as many as the device and memory allow")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--malloc", choices=("tuned", "installed"), default="tuned")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--groups", type=int, default=1, help="each repeat takes another part of the photos")
    parser.add_argument("--json", type=Path, help="write the numbers into this file too")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--group", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments)))
        return
    found = compare(arguments)
    print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def compare(arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """What every repeat of each side took, in turns."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        write_clip(arguments.arch, Path(folder))
        for repeat in range(arguments.repeats):
            for side in SIDES if repeat % 2 else reversed(SIDES):
                # gem_torch's package is called gem, like a file beside this one: that folder must not be searched
                environment = {**os.environ, "PYTHONSAFEPATH": "1"}
                if arguments.malloc == "tuned":
                    environment |= MALLOC
                if side == "peers":
                    environment["PYTHONPATH"] = str(arguments.peer.resolve())
                command = [sys.executable, *sys.argv, "--side", side, "--folder", folder]
                command += ["--group", str(repeat % arguments.groups)]
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                found[side].append(json.loads(done.stdout.splitlines()[-1]))
                print(f"repeat {repeat + 1}, {side}: {found[side][-1]}", file=sys.stderr)
    return found


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """A line per side, and the ratio."""
    lines = []
    for side in SIDES:
        middle = {name: statistics.median(repeat[name] for repeat in found[side]) for name in found[side][0]}
        lines.append(
            f"{side}: {middle['photos']:.0f} photos, {middle['seconds']:.3f} s a photo "
            f"(CPU {middle['cpu_seconds']:.3f} s), {middle['annotations']:.0f} annotations, "
            f"peak {middle['peak_mib']:.0f} MiB"
        )
    for name, what in (("seconds", "time"), ("cpu_seconds", "processor time")):
        ratios = [a[name] / b[name] for a, b in zip(found["peers"], found["ours"], strict=True)]
        lines.append(
            f"ratio of {what}: {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        )
    return "\n".join(lines)


def write_clip(arch: str, folder: Path) -> None:
    """A CLIP of random weights, in open_clip's hub layout and as a state dict for older versions."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model(arch)
    config = {"model_cfg": open_clip.get_model_config(arch), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """In the child: seconds a photo, and what came out."""
    import torch

    photos = sorted(arguments.data.iterdir())[: arguments.photos][arguments.group :: arguments.groups]
    chain = (peers_chain if arguments.side == "peers" else our_chain)(arguments)
    with tempfile.TemporaryDirectory() as folder:
        chain(photos[:1], Path(folder) / "warm")
        started, cpu_started = time.perf_counter(), time.process_time()
        annotations = chain(photos, Path(folder) / "timed")
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if arguments.device != "cpu":
        peak = torch.cuda.max_memory_allocated() / 2**20
    return {
        "photos": len(photos),
        "seconds": seconds / len(photos),
        "cpu_seconds": cpu_seconds / len(photos),
        "annotations": annotations,
        "peak_mib": peak,
    }


def load_models(arguments: argparse.Namespace, precision: Precision) -> Any:
    """MobileSAM, with the encoder of a larger SAM beside its own where that is asked for."""
    from torch import Tensor, nn

    from gem_label.sam.models import load_sam

    sam = load_sam("mobile_sam", arguments.device, precision)
    if arguments.also_encode is None:
        return sam
    from segment_anything import sam_model_registry

    larger = sam_model_registry[arguments.also_encode]().image_encoder.eval().to(arguments.device)

    class Both(nn.Module):
        def __init__(self, own: nn.Module) -> None:
            super().__init__()
            self.own, self.larger, self.img_size = own, larger, own.img_size

        def forward(self, x: Tensor) -> Tensor:
            self.larger(x)
            return self.own(x)

    sam.model.image_encoder = Both(sam.model.image_encoder)
    return sam


def peers_chain(arguments: argparse.Namespace) -> Chain:
    """segment-anything's generator, then gem_torch, then scores, photo by photo."""
    import numpy as np
    import open_clip
    import torch
    from gem.gem_wrapper import GEMWrapper
    from PIL import Image
    from pycocotools import mask as coco_mask
    from safetensors.torch import load_file
    from segment_anything import SamAutomaticMaskGenerator
    from torch.nn import functional
    from torchvision import transforms

    device = arguments.device
    generator = SamAutomaticMaskGenerator(load_models(arguments, Precision.float32).model)
    clip = open_clip.create_model(arguments.arch)
    clip.load_state_dict(load_file(arguments.folder / "open_clip_model.safetensors"))
    clip = clip.eval().to(device)
    prompts = [f"a photo of a {word}." for word in WORDS]
    with torch.no_grad():
        text = functional.normalize(
            clip.encode_text(open_clip.get_tokenizer(arguments.arch)(prompts).to(device)), dim=-1
        )
    gem = GEMWrapper(clip, None, 7).to(device)
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD

    def patches_of(side: int) -> int:
        return max(1, round(side / 16)) * 16

    @torch.no_grad()
    def chain(photos: list[Path], out: Path) -> int:
        annotations = []
        for number, path in enumerate(photos):
            photo = Image.open(path).convert("RGB")
            records = generator.generate(np.asarray(photo))
            scale = 448 / min(photo.size)
            size = (patches_of(int(photo.height * scale)), patches_of(int(photo.width * scale)))
            resized = transforms.functional.resize(photo, size, transforms.InterpolationMode.BICUBIC)
            image = transforms.functional.normalize(transforms.functional.to_tensor(resized), mean, std)
            features, _ = gem.model.visual(image[None].to(device))
            features = functional.normalize(features[0, 1:], dim=-1)
            maps = (features @ text.T).T.unflatten(1, (size[0] // 16, size[1] // 16))
            maps = functional.interpolate(maps[None], (photo.height, photo.width), mode="bilinear")[0]
            for record in records:
                mask = torch.as_tensor(record["segmentation"], device=device)
                scores = (100 * maps[:, mask].mean(dim=1)).softmax(dim=0)
                segmentation = coco_mask.encode(np.asfortranarray(record["segmentation"], dtype=np.uint8))
                annotations.append(
                    {
                        "image_id": number,
                        "category_id": int(scores.argmax()),
                        "score": float(scores.max()),
                        "bbox": record["bbox"],
                        "segmentation": segmentation | {"counts": segmentation["counts"].decode()},
                    }
                )
        out.with_suffix(".json").write_text(json.dumps(annotations))
        return len(annotations)

    return chain


def our_chain(arguments: argparse.Namespace) -> Chain:
    """A run directory, and its masks as COCO annotations."""
    from gem_label.clip.models import load_clip
    from gem_label.engines.local import LocalEngine
    from gem_label.engines.stream import workers_for
    from gem_label.labeler import Labeler
    from gem_label.labeling import LabelSettings, Thresholds
    from gem_label.photos.listing import list_images
    from gem_label.runs import open_run
    from gem_label.runs.export import export_run
    from gem_label.sam import FastSettings, ProposalSettings
    from gem_label.vocabulary import Vocabulary

    clip = load_clip(str(arguments.folder), arguments.device, arguments.precision)
    sam = load_models(arguments, arguments.precision)
    labeler = Labeler(clip, sam, FastSettings() if arguments.proposals == "fast" else ProposalSettings())
    # all masks come out, as in the peers' chain: random weights would leave none above a threshold
    settings = LabelSettings(Thresholds.of(0.0))
    job = labeler.job(Vocabulary.from_words(WORDS), settings, negatives="none")
    engine = LocalEngine(arguments.workers or workers_for(arguments.device), progress=False)

    def chain(photos: list[Path], out: Path) -> int:
        with labeler.start_run(out, job) as writer:
            engine.run(writer.register(list_images(photos)), labeler, job, writer)
        return export_run(open_run(out), out.with_suffix(".json")).masks

    return chain


if __name__ == "__main__":
    main()
