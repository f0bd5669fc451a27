"""All dense methods side by side on held-out rendered scenes: mIoU, p-mIoU, photos per second; the paper's figures.

    python pipelines/compare_methods.py                                      # the table of docs/reproduce.md
    python pipelines/compare_methods.py --plots docs/images --json FILE      # and the figures, redrawn

Scenes have 3 to 7 things of the demo vocabulary and exact masks; none was ever trained on. mIoU names each pixel of a
thing (background is not asked, as in VOC20), once among all words and once among the scene's own; p-mIoU asks for the
scene's own words at points, as on Open Images V7. Methods take turns on every scene, so that a busy machine slows all
of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from gem_label.clip.dense import DenseEncoder
from gem_label.clip.guides import Guide
from gem_label.clip.last_block import LastBlockMethod
from gem_label.clip.methods import FIGURE_4_MULTIPLES, FRAME_METHODS, METHODS, AnyMethod, needs_guide
from gem_label.clip.models import Clip, load_clip
from gem_label.clip.text import TextEncoder
from gem_label.demo.scenes import Scene
from gem_label.demo.sprites import load_sprites
from gem_label.demo.truth import held_out_scenes, scene_points
from gem_label.errors import UsageError
from gem_label.evaluation.localization import layer_properties
from gem_label.evaluation.predictors import EncoderModel
from gem_label.evaluation.results import percent, text_table, write_result
from gem_label.evaluation.segmentation import ConfusionMatrix, predict_labels
from gem_label.guides import load_guide
from gem_label.metrics.points import PointTotals, point_counts, similarity_prediction
from gem_label.sam.models import load_sam

EVERY = 2  # every second row and column of the label maps is asked: a quarter of the time, the same mIoU
# the paper's order: GEM above CLIP Surgery above MaskCLIP above CLIP (tables 2 and 3)
PAPER_ORDER = ("gem", "clip_surgery", "maskclip_clearclip", "clip")
GEM = FRAME_METHODS["gem"]
ABLATIONS = {
    "temperature": {
        f"{label} x{multiple:g}": replace(GEM, temperature_multiple=multiple, normalize=normalize)
        for label, normalize in (("normalized", True), ("not normalized", False))
        for multiple in FIGURE_4_MULTIPLES
    },
    "iterations": {"CLIP Surgery": FRAME_METHODS["clip_surgery"]}
    | {str(count): replace(GEM, iterations=count) for count in range(4)},
}
UNGUIDED = [name for name, method in METHODS.items() if not needs_guide(method)]
LEAST_SPAN = 10.0  # points of percent that an axis of a figure shows at least
X_LABELS = {
    "temperature": "multiple of the adaptive temperature",
    "iterations": "iterations of GEM",
    "depth": "depth (blocks)",
}
PROPERTIES = {"CLIP": FRAME_METHODS["clip"], "CLIP Surgery": FRAME_METHODS["clip_surgery"]} | {
    f"GEM, {count} iter.": replace(GEM, iterations=count) for count in (1, 2, 3)
}


@dataclass(frozen=True)
class Measured:
    """One method: mIoU among all words and among the scene's own, p-mIoU over pairs, photos per second."""

    miou: float
    miou_own_words: float
    p_miou: float
    photos_per_second: float


def measure(
    clip: Clip,
    methods: Mapping[str, AnyMethod],
    scenes: Sequence[Scene],
    words: Sequence[str],
    guide: Guide | None = None,
) -> dict[str, Measured]:
    """Evaluate methods on scenes.

    Args:
        clip: the model.
        methods: by the name to show.
        scenes: with their truth.
        words: the whole vocabulary.
        guide: for methods that look at more than CLIP; its work counts as theirs. None: there are none.
    """
    text = TextEncoder(clip)
    text.encode(words)  # once, ahead of the clock
    models = {
        name: EncoderModel(DenseEncoder(clip, method, text=text, guide=guide))
        for name, method in methods.items()
    }
    confusion = {name: (ConfusionMatrix(len(words)), ConfusionMatrix(len(words))) for name in models}
    totals = {name: PointTotals() for name in models}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for number, scene in enumerate(tqdm(scenes, unit="scene")):
        # the last entry stands for owner -1, the background, which is not asked
        classes = np.array([*(words.index(thing.noun) for thing in scene.things), 255], np.uint8)
        truth = classes[scene.owners][::EVERY, ::EVERY]
        points = scene_points(scene, np.random.default_rng(number))
        present = [words.index(noun) for noun in scene.nouns]
        for name, model in models.items():
            started = time.perf_counter()
            similarity = model.similarity(model.preprocess(scene.image)[None], words)[0]
            if clip.device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
            size = (truth.shape[0], truth.shape[1])
            of_all, of_own = confusion[name]
            of_all.add(truth, predict_labels(similarity, size))
            of_own.add(truth, np.array(present)[predict_labels(similarity[present], size)])
            hit = similarity_prediction(similarity[present].cpu().numpy(), points, scene.image.shape[:2])
            totals[name].add(scene.nouns, point_counts(hit, points, len(present)))
    return {
        name: Measured(
            miou=of_all.miou(),
            miou_own_words=of_own.miou(),
            p_miou=totals[name].averages().pairs,
            photos_per_second=1 / median(seconds[name]),
        )
        for name, (of_all, of_own) in confusion.items()
    }


def fits(clip: Clip, method: AnyMethod) -> bool:
    """Whether a method runs on a model; what it lacks is said on stderr."""
    try:
        if isinstance(method, LastBlockMethod):
            method.check(clip.tower, clip.name)
    except UsageError as error:
        print(f"without {method.name}: {error}", file=sys.stderr)
        return False
    return True


def print_table(measured: Mapping[str, Measured]) -> None:
    """The table, in percent, and whether the paper's order holds."""
    rows = [
        [name, *map(percent, (m.miou, m.miou_own_words, m.p_miou)), f"{m.photos_per_second:.1f}"]
        for name, m in measured.items()
    ]
    print(text_table(["method", "mIoU", "mIoU, own words", "p-mIoU", "photos/s"], rows))
    for figure in ("miou", "miou_own_words", "p_miou"):
        values = [getattr(measured[name], figure) for name in PAPER_ORDER if name in measured]
        if len(values) == len(PAPER_ORDER):
            holds = "holds" if values == sorted(values, reverse=True) else "does not hold"
            print(f"{figure}: the paper's order {' > '.join(PAPER_ORDER)} {holds}")


def draw_ablation(name: str, measured: Mapping[str, Measured], folder: Path) -> None:
    """mIoU and p-mIoU of one ablation as lines; labels "line xNUMBER" make several lines."""
    import matplotlib.pyplot as plt

    lines: dict[str, list[tuple[str, Measured]]] = {}
    for label, values in measured.items():
        line, _, place = label.rpartition(" x")
        lines.setdefault(line, []).append((place if line else label, values))
    columns = {"miou": "mIoU", "miou_own_words": "mIoU, own words", "p_miou": "p-mIoU"}
    figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
    for axis, (attribute, title) in zip(axes, columns.items(), strict=True):
        for line, marks in lines.items():
            shares = [100 * getattr(values, attribute) for _, values in marks]
            axis.plot([place for place, _ in marks], shares, marker="o", label=line)
        axis.set(xlabel=X_LABELS[name], ylabel=f"{title} (%)")
        low, high = axis.get_ylim()
        missing = max(0.0, LEAST_SPAN - (high - low))  # so that noise does not look like a finding
        axis.set_ylim(low - missing / 2, high + missing / 2)
    if len(lines) > 1:
        axes[0].legend()
    figure.savefig(folder / f"methods-{name}.png", dpi=80)
    plt.close(figure)


def draw_properties(measured: Mapping[str, list[dict[str, Any]]], folder: Path) -> None:
    """Figure 5: the last layer's three measures; figures 8 and 9: the contrasts after every layer."""
    import matplotlib.pyplot as plt

    titles = ["patch-patch similarity", "object-background contrast", "text-object-background contrast"]
    keys = [title.replace("-", "_").replace(" ", "_") for title in titles]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axis, key, title in zip(axes, keys, titles, strict=True):
        axis.bar(list(measured), [rows[-1][key] for rows in measured.values()])
        axis.set_title(title)
        axis.tick_params(axis="x", labelrotation=45)
    figure.savefig(folder / "methods-properties.png", dpi=80)
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for axis, key, title in zip(axes, keys[1:], titles[1:], strict=True):
        for name in ("CLIP", "CLIP Surgery", "GEM, 1 iter."):
            rows = measured[name]
            axis.plot([row["layer"] for row in rows], [row[key] for row in rows], marker="o", label=name)
        axis.set(xlabel="layer", ylabel=title)
    axes[0].legend()
    figure.savefig(folder / "methods-layers.png", dpi=80)
    plt.close("all")


def properties(clip: Clip, scenes: Sequence[Scene]) -> dict[str, list[dict[str, Any]]]:
    """The localization properties of `PROPERTIES` per layer, on the scenes' own masks."""
    photos = [
        (s.image, np.stack([s.mask(i) for i in range(len(s.things))]), [t.noun for t in s.things])
        for s in scenes
    ]
    found = {}
    for name, method in PROPERTIES.items():
        rows, _ = layer_properties(EncoderModel(DenseEncoder(clip, method)), photos, len(photos))
        found[name] = [asdict(row) for row in rows]
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", default="demo", help="name or folder, as `gem-label label --clip` takes it")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument(
        "--methods",
        nargs="+",
        default=UNGUIDED,
        choices=list(METHODS),
        metavar="NAME",
        help="default: all that look at CLIP alone",
    )
    parser.add_argument(
        "--sam", default="mobile_sam", help="for methods that look at SAM's features and masks"
    )
    parser.add_argument("--proxy", default="sam", help="whose features those methods look at")
    parser.add_argument("--plots", type=Path, help="folder for the figures, which take several times as long")
    parser.add_argument("--plot-scenes", type=int, default=40, help="scenes for each point of a figure")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    clip, book = load_clip(args.clip, args.device), load_sprites()
    words = list(book.nouns)
    scenes = held_out_scenes(book, args.scenes)
    chosen = {name: METHODS[name] for name in args.methods if fits(clip, METHODS[name])}
    guided = any(map(needs_guide, chosen.values()))
    guide = load_guide(load_sam(args.sam, args.device), proxy=args.proxy) if guided else None
    table = measure(clip, chosen, scenes, words, guide)
    print(f"{len(scenes)} held-out scenes, {len(words)} words, {clip.name} on {args.device}\n")
    print_table(table)
    result: dict[str, Any] = {
        "evaluation": "compare_methods",
        "settings": {"clip": clip.name, "weights_sha256": clip.weights_sha256, "scenes": len(scenes)},
        "methods": {name: asdict(values) for name, values in table.items()},
    }
    if args.plots:
        args.plots.mkdir(parents=True, exist_ok=True)
        some = scenes[: args.plot_scenes]
        depths = {
            f"{label} x{depth}": replace(GEM, depth=depth, mlp=mlp)
            for label, mlp in (("without MLP", False), ("with MLP", True))
            for depth in range(1, clip.tower.num_blocks + 1)
        }
        for name, methods in (ABLATIONS | {"depth": depths}).items():
            measured = measure(clip, methods, some, words)
            print(f"\n{name}, {len(some)} scenes")
            print_table(measured)
            draw_ablation(name, measured, args.plots)
            result[name] = {label: asdict(values) for label, values in measured.items()}
        result["properties"] = properties(clip, some)
        draw_properties(result["properties"], args.plots)
        rows = [
            [name, *(f"{value:.3f}" for key, value in layers[-1].items() if key != "layer")]
            for name, layers in result["properties"].items()
        ]
        header = ["last layer", "patch-patch", "object-background", "text-object-background"]
        print(f"\n{text_table(header, rows)}")
    if args.json:
        write_result(args.json, result)


if __name__ == "__main__":
    main()
