"""GEM's patch features: ours against the authors' package, on the same weights and images.

The authors' package needs an older open_clip, in a folder of its own (torch is shared):

    pip install --no-deps --target /tmp/gem_torch gem_torch==1.0.1 'open_clip_torch<=2.23' einops
    OMP_NUM_THREADS=1 python benchmarks/gem.py --peer /tmp/gem_torch

Each side runs in a process of its own and both take turns, image by image. What counts on the CPU is the CPU time of
the process (other processes do not disturb it much), on a GPU the seconds until the features are there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}
SIDES = ("peer", "ours")


def main() -> None:
    """Compare both sides and print a table, and with --json a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="folder with gem_torch and its open_clip")
    parser.add_argument("--arch", default="ViT-B-16", help="an open_clip architecture; weights are random")
    parser.add_argument("--size", type=int, nargs=2, default=(448, 448), metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--depth", type=int, default=6, help="GEM blocks (gem_depth is one more)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # a child process
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        serve(args)
        return
    results = {}
    for setting, extra in (("as installed", {}), ("malloc tuned", MALLOC)):
        results[setting] = compare(args, extra)
        print_row(setting, results[setting], args.repeats)
    if args.json:
        settings = {name: str(value) for name, value in vars(args).items() if name not in ("side", "folder")}
        args.json.write_text(json.dumps({"settings": settings, "results": results}, indent=1))


def compare(args: argparse.Namespace, environment: dict[str, str]) -> dict:
    """Both sides in turns: seconds of every repeat, their ratio, peak memory and the largest difference."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        write_inputs(args, Path(folder))
        children = {side: start(side, folder, environment, args.peer) for side in SIDES}
        for child in children.values():
            ask(child)  # loads the model and runs once: caches and buffers are warm
        answers: dict[str, list[dict]] = {side: [] for side in SIDES}
        for _ in range(args.repeats):
            for side, child in children.items():
                answers[side].append(ask(child))
        for child in children.values():
            child.communicate("end\n", timeout=60)
        features = [np.load(Path(folder) / f"{side}.npy") for side in SIDES]
    seconds = {side: [answer["seconds"] for answer in answers[side]] for side in SIDES}
    ratios = [peer / ours for peer, ours in zip(*(seconds[side] for side in SIDES), strict=True)]
    return {
        "seconds": seconds,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "peak_mb": {side: answers[side][-1]["peak_mb"] for side in SIDES},
        "max_difference": float(np.abs(features[0] - features[1]).max()),
    }


def print_row(setting: str, result: dict, repeats: int) -> None:
    """One line of the table."""
    seconds = {side: statistics.median(result["seconds"][side]) for side in SIDES}
    low, high = min(result["ratios"]), max(result["ratios"])
    print(
        f"{setting}: gem_torch {seconds['peer']:.3f} s, ours {seconds['ours']:.3f} s, "
        f"ratio {result['ratio']:.2f} ({low:.2f} to {high:.2f} in {repeats} turns), "
        f"peak {result['peak_mb']['peer']:.0f} and {result['peak_mb']['ours']:.0f} MB, "
        f"features differ by {result['max_difference']:.1e} at most"
    )


def write_inputs(args: argparse.Namespace, folder: Path) -> None:
    """Random weights and images, and the settings, for both sides."""
    import open_clip
    import torch

    torch.manual_seed(0)
    model = open_clip.create_model(args.arch)
    with torch.no_grad():  # ln_1 sets GEM's temperature: as in trained models, attention is uneven
        for block in model.visual.transformer.resblocks:
            block.ln_1.weight.mul_(3)
            block.attn.out_proj.weight.mul_(3)
    torch.save(model.state_dict(), folder / "weights.pt")
    torch.save(torch.randn(args.batch, 3, *args.size), folder / "images.pt")
    settings = {"arch": args.arch, "depth": args.depth, "device": args.device}
    (folder / "settings.json").write_text(json.dumps(settings))


def start(side: str, folder: str, environment: dict[str, str], peer: Path) -> subprocess.Popen[str]:
    """The child process of one side."""
    # the authors' package is called gem, like this file: its folder must not be searched
    environment = {**os.environ, **environment, "PYTHONSAFEPATH": "1"}
    if side == "peer":
        environment["PYTHONPATH"] = str(peer.resolve())
    command = [sys.executable, __file__, "--peer", str(peer), "--side", side, "--folder", folder]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def ask(child: subprocess.Popen[str]) -> dict:
    """One forward pass in the child."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("run\n")
    child.stdin.flush()
    return json.loads(child.stdout.readline())


def serve(args: argparse.Namespace) -> None:
    """In the child: a forward pass for each line of stdin, its seconds as JSON on stdout."""
    import resource

    import numpy as np
    import open_clip
    import torch

    settings = json.loads((args.folder / "settings.json").read_text())
    device = settings["device"]
    model = open_clip.create_model(settings["arch"])
    model.load_state_dict(torch.load(args.folder / "weights.pt", weights_only=True))
    model = model.eval().to(device)
    images = torch.load(args.folder / "images.pt", weights_only=True).to(device)
    build = peer_features if args.side == "peer" else our_features
    encode = build(model, settings["depth"])
    clock = time.process_time if device == "cpu" else time.perf_counter
    features = None
    for _line in iter(sys.stdin.readline, "end\n"):
        begin = clock()
        with torch.no_grad():
            features = encode(images)
        if device != "cpu":
            torch.cuda.synchronize()
        seconds = clock() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if device != "cpu":
            peak = torch.cuda.max_memory_allocated() / 2**20
        print(json.dumps({"seconds": seconds, "peak_mb": peak}), flush=True)
    assert features is not None
    np.save(args.folder / f"{args.side}.npy", features.cpu().numpy())


def peer_features(model, depth):
    """The authors' GEM."""
    import torch
    from gem.gem_wrapper import GEMWrapper

    gem = GEMWrapper(model, None, depth + 1).to(next(model.parameters()).device)

    def encode(images: torch.Tensor) -> torch.Tensor:
        features, _ = gem.model.visual(images)
        return torch.nn.functional.normalize(features[:, 1:], dim=-1)

    return encode


def our_features(model, depth):
    """Ours."""
    from gem_label import DenseEncoder

    encoder = DenseEncoder(model, depth=depth)
    return lambda images: encoder.encode(images).flatten(1, 2)


if __name__ == "__main__":
    main()
