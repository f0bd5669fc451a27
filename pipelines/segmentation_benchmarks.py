"""mIoU of all methods on all segmentation datasets: table 2 of the GEM paper and of ClearCLIP's supplement.

    python pipelines/segmentation_benchmarks.py pipelines/segmentation_benchmarks.yaml

Datasets whose folder is not given are left out. Each result is kept in a JSON file, and is not computed again as long
as settings and weights are the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import yaml

from gem_label.clip.templates import GEM_TEMPLATES, IMAGENET_TEMPLATES
from gem_label.clip.windows import Window
from gem_label.comparators import COMPARATORS
from gem_label.evaluation.datasets import SegmentationDataset, open_dataset
from gem_label.evaluation.models import load_model
from gem_label.evaluation.results import percent, text_table, write_result
from gem_label.evaluation.segmentation import SegmentationSettings, evaluate_segmentation
from gem_label.predictors import DenseModel, MaskModel

CLEARCLIP_SETS = ("voc20", "context59", "cocostuff", "cityscapes", "ade20k")
# GEM paper, table 2, and ClearCLIP supplement, table 2 (no background), both ViT-B/16, in percent
PAPER: dict[str, dict[str, dict[str, float]]] = {
    "gem": {
        "table2/clip": {"voc21": 10.4, "context59": 7.7, "ade20k": 1.7},
        "table2/maskclip": {"voc21": 28.6, "context59": 23.8, "ade20k": 10.2},
        "table2/clip_surgery": {"voc21": 41.2, "context59": 30.5, "ade20k": 12.9},
        "table2/gem": {"voc21": 46.2, "context59": 32.6, "ade20k": 15.7},
        "groupvit": {"voc21": 52.3, "context59": 22.4, "ade20k": 9.2},
    },
    "clearclip": {
        method: dict(zip(CLEARCLIP_SETS, values, strict=True))
        for method, values in {
            "clip": (41.8, 9.2, 4.4, 5.5, 2.1),
            "clearclip": (80.9, 35.9, 23.9, 30.0, 16.7),
            "maskclip": (74.9, 26.4, 16.4, 12.6, 9.8),
            "maskclip_clearclip": (61.4, 28.3, 18.4, 24.7, 13.6),
            "sclip": (78.2, 33.0, 21.1, 29.1, 14.6),
            "sclip_clearclip": (77.9, 35.6, 23.6, 31.0, 17.0),
            "gem": (79.9, 35.9, 23.7, 30.8, 15.7),
            "gem_clearclip": (80.2, 36.5, 24.4, 30.5, 17.4),
        }.items()
    },
}


def evaluate(
    dataset: SegmentationDataset,
    model: DenseModel | MaskModel,
    settings: SegmentationSettings,
    path: Path,
    limit: int,
) -> dict[str, Any]:
    """One cell of the table, from its file when that has the same settings."""
    asked = {"model": model.describe(), "phrasings": settings.phrasings}
    images = min(len(dataset), limit or len(dataset))
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["images"] == images and asked.items() <= kept["settings"].items():
            return kept
    result = evaluate_segmentation(dataset, model, settings, limit)
    write_result(path, result)
    return result


def main(settings: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Run the recipe.

    Args:
        settings: as in segmentation_benchmarks.yaml.

    Returns:
        mIoU in [0, 1] by method and dataset.
    """
    out, paper = Path(settings["out"]), PAPER[settings["paper"]]
    device = settings["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    roots = {name: root for name, root in settings["datasets"].items() if root}
    datasets = {name: open_dataset(name, Path(root)) for name, root in roots.items()}
    window = Window(**settings["window"]) if settings["window"] else None
    templates = IMAGENET_TEMPLATES if settings["templates"] == "imagenet" else GEM_TEMPLATES
    chosen = SegmentationSettings(phrasings=settings["phrasings"])
    table: dict[str, dict[str, float]] = {}
    for method in settings["methods"]:
        # comparators have their own input size and prompts
        ours = (settings["short_side"], device, window, templates)
        theirs = (None, device)
        model = load_model(method, settings["clip"], None, *(theirs if method in COMPARATORS else ours))
        for name, dataset in datasets.items():
            path = out / f"{method.replace('/', '-')}-{name}.json"
            result = evaluate(dataset, model, chosen, path, settings["max_images"])
            table.setdefault(method, {})[name] = result["miou"]
            print(f"{method} on {name}: mIoU {percent(result['miou'])}", flush=True)
    rows = []
    for method, values in table.items():
        cells = [(paper.get(method, {}).get(name), values[name]) for name in datasets]
        rows.append(
            [method, *(f"{'-' if theirs is None else theirs} / {percent(ours)}" for theirs, ours in cells)]
        )
    print(f"\n{text_table(['mIoU, paper / ours', *datasets], rows)}")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", type=Path, nargs="?", default=Path(__file__).with_suffix(".yaml"))
    main(yaml.safe_load(parser.parse_args().settings.read_text(encoding="utf-8")))
