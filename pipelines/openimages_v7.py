"""From Open Images V7 to the rows of table 3 of the GEM paper: p-mIoU on point labels, and photos per second.

    python pipelines/openimages_v7.py pipelines/openimages_v7.yaml

Every row keeps its finished photos on disk: an interrupted recipe resumes where it stopped.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from gem_label.clip.dense import DenseEncoder
from gem_label.clip.models import load_clip
from gem_label.engines.local import LocalEngine
from gem_label.engines.stream import workers_for
from gem_label.errors import UsageError
from gem_label.evaluation.models import encoder_of_run, load_model
from gem_label.evaluation.openimages import PointTable, class_names, image_name, read_points
from gem_label.evaluation.point_evaluation import (
    PointEvaluation,
    photo_predictions,
    run_predictions,
)
from gem_label.evaluation.results import percent, text_table, write_result
from gem_label.labeler import Labeler
from gem_label.photos.listing import list_images
from gem_label.photos.photo import Photo
from gem_label.runs import open_run
from gem_label.sam.models import load_sam
from gem_label.sam.proposals import ProposalSettings
from gem_label.vocabulary import Vocabulary
from gem_label.weights import file_sha256
from gem_label.words import WordsPerImage

# GEM paper, table 3: p-mIoU in percent and photos per second on an A6000
PAPER = {
    "CLIP": (27.6, 42.10),
    "MaskCLIP": (42.0, 42.43),
    "CLIP Surgery": (47.8, 38.47),
    "GEM": (50.9, 37.24),
    "GroupViT": (36.5, 24.61),
    "GroundingSAM": (53.3, 0.59),
    "GEM-SAM threshold": (53.4, 0.45),
    "GEM-SAM argmax": (53.4, 0.45),  # the paper has one row and does not say by which rule
}


def find_data(root: Path, download: bool, max_images: int | None) -> Path:
    """The folder with data/, labels/points.csv and metadata/, as FiftyOne's zoo lays it out."""
    part = root / "validation"
    if download:
        from fiftyone import zoo

        zoo.download_zoo_dataset(
            "open-images-v7",
            split="validation",
            label_types=["points"],
            max_samples=max_images,
            dataset_dir=str(root),
        )
    folder = part if part.is_dir() else root
    if not (folder / "labels" / "points.csv").is_file():
        raise UsageError(f"no labels/points.csv in {folder}: set download to true, or root to a local copy")
    return folder


@dataclass(frozen=True)
class Data:
    """Answered points, their classes' names, and the photos that have points."""

    points_sha256: str
    table: PointTable
    names: dict[str, str]
    photos: list[Photo]


def read_data(settings: dict[str, Any]) -> Data:
    """Everything that the rows of the table have in common."""
    folder = find_data(Path(settings["root"]), settings["download"], settings["max_images"])
    points = folder / "labels" / "points.csv"
    table = read_points(points)
    photos = [photo for photo in list_images([folder / "data"]) if image_name(photo.path) in table.index]
    return Data(file_sha256(points), table, class_names(table, points), photos[: settings["max_images"]])


def evaluate_method(
    row: str, method: str, data: Data, settings: dict[str, Any], device: str
) -> dict[str, Any]:
    """p-mIoU of a dense method or a comparator, from photos."""
    model = load_model(method, settings["clip"], settings["weights"].get(method), device=device)
    asked = {"points_sha256": data.points_sha256, "model": model.describe()}
    partial = Path(settings["out"]) / f"{row.lower().replace(' ', '-')}.partial.jsonl"
    evaluation = PointEvaluation(data.table, asked, partial)
    evaluation.run(photo_predictions(data.photos, data.table, data.names, model, evaluation.done))
    return evaluation.report(data.names)


def evaluate_gem_sam(data: Data, settings: dict[str, Any], device: str) -> dict[str, Any]:
    """p-mIoU of GEM-SAM by both rules. Seconds per photo are those of proposing and labeling."""
    # SAM's masks once, each photo with its own words
    present = {}
    for photo in data.photos:
        labels, _ = data.table.image(data.table.index[image_name(photo.path)])
        present[photo.path] = [data.names[label] for label in labels]
    vocabulary = Vocabulary.from_words(sorted({word for words in present.values() for word in words}))
    dense = DenseEncoder(load_clip(settings["clip"], device), settings["methods"]["GEM"])
    proposals = ProposalSettings(**settings["proposals"])
    labeler = Labeler(dense.clip, load_sam(settings["sam"], device), proposals, dense)
    job = labeler.job(vocabulary, words=WordsPerImage(present), keep_patches=True)
    out = Path(settings["out"])
    started = time.monotonic()
    with labeler.start_run(out / "run", job) as writer:
        labeled = LocalEngine(workers_for(device)).run(writer.register(data.photos), labeler, job, writer)

    labeling_seconds = time.monotonic() - started
    # from the run on, no photo is opened
    run = open_run(out / "run")
    asked = {
        "points_sha256": data.points_sha256,
        "run": run.manifest["settings"],
        "weights": run.manifest["weights"],
    }
    evaluation = PointEvaluation(data.table, asked, out / "gem-sam.partial.jsonl")
    model = encoder_of_run(run, device)
    evaluation.run(run_predictions(run, data.table, data.names, model, done=evaluation.done))
    seconds = labeling_seconds / labeled.photos if labeled.photos else None  # nothing was left to label
    return evaluation.report(data.names) | {"seconds_per_image": seconds}


def row_of(row: str, result: dict[str, Any], predictor: str) -> dict[str, Any]:
    """One line of the table: the paper's figures and ours."""
    paper, fps = PAPER.get(row, (None, None))
    ours = result["p_miou"][predictor]
    return {"row": row, "paper": paper, "paper_fps": fps} | ours | {"seconds": result["seconds_per_image"]}


def main(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the recipe.

    Args:
        settings: as in openimages_v7.yaml.

    Returns:
        A row for each method: row, paper, paper_fps, pairs, images, classes (p-mIoU in [0, 1]), seconds a photo.
    """
    out = Path(settings["out"])
    out.mkdir(parents=True, exist_ok=True)
    device = settings["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    data = read_data(settings)
    print(
        f"{len(data.photos)} photos, {len(data.names)} classes, {len(data.table.x)} points on present classes"
    )

    rows = []
    for row, method in (settings["methods"] | settings["comparators"]).items():
        result = evaluate_method(row, method, data, settings, device)
        rows.append(row_of(row, result, next(iter(result["p_miou"]))))
    if settings["sam"]:
        result = evaluate_gem_sam(data, settings, device)
        rows += [
            row_of(f"GEM-SAM {predictor.rpartition('_')[2]}", result, predictor)
            for predictor in result["p_miou"]
            if "_sam_" in predictor
        ]

    header = ["p-mIoU", "paper", "ours", "by pairs", "by classes", "s/photo, paper", "s/photo, ours"]
    cells = []
    for row in rows:
        shares = [percent(row[name]) for name in ("images", "pairs", "classes")]
        speed = [f"{1 / row['paper_fps']:.2f}" if row["paper_fps"] else "-"]
        speed.append("-" if row["seconds"] is None else f"{row['seconds']:.2f}")
        cells.append([row["row"], "-" if row["paper"] is None else f"{row['paper']:.1f}", *shares, *speed])
    print(f"\n{text_table(header, cells)}")
    write_result(out / "table3.json", {"evaluation": "openimages_v7", "settings": settings, "rows": rows})
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", type=Path, nargs="?", default=Path(__file__).with_suffix(".yaml"))
    main(yaml.safe_load(parser.parse_args().settings.read_text(encoding="utf-8")))
