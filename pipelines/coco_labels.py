"""COCO val2017, labeled with COCO's 80 words and measured against COCO's annotations.

    python pipelines/coco_labels.py --data coco                      # val2017/, annotations/instances_val2017.json
    python pipelines/coco_labels.py pipelines/coco_labels.yaml --limit 100

What `gem-label label`, `export` and `eval labels` do, laid open. Without a local copy FiftyOne's zoo fetches photos
and annotations. An interrupted recipe resumes, and a higher limit adds photos. The annotations give
the words and the measures, and nothing to the labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
import yaml

from gem_label.cli.eval_labels import print_report
from gem_label.clip.models import load_clip
from gem_label.engines.local import LocalEngine
from gem_label.engines.stream import workers_for
from gem_label.errors import UsageError
from gem_label.evaluation.label_files import read_truth
from gem_label.evaluation.label_plots import write_plots
from gem_label.evaluation.label_sources import open_labels
from gem_label.evaluation.results import write_result
from gem_label.labeler import Labeler
from gem_label.labeling import LabelSettings
from gem_label.metrics.labels import LabelReport, evaluate_labels
from gem_label.photos.listing import list_images
from gem_label.runs import open_run
from gem_label.runs.export import export_run
from gem_label.sam.fast import FastSettings
from gem_label.sam.models import load_sam
from gem_label.vocabulary import Vocabulary
from gem_label.weights import file_sha256


def find_data(folder: str | None, limit: int | None) -> tuple[Path, Path]:
    """The folder of photos, and the file of annotations.

    Args:
        folder: a local copy with val2017/ and annotations/instances_val2017.json; None: FiftyOne's zoo.
        limit: only so many photos are fetched; None: all 5000.

    Raises:
        UsageError: the local copy lacks either.
    """
    if folder is None:
        from fiftyone import zoo

        # what zoo.load_zoo_dataset fetches; without its database, which nothing here needs
        asked = {"split": "validation", "label_types": ["segmentations"], "max_samples": limit}
        _, zoo_folder = zoo.download_zoo_dataset("coco-2017", **asked)
        split = Path(zoo_folder) / "validation"
        return split / "data", split / "labels.json"
    photos, annotations = Path(folder) / "val2017", Path(folder) / "annotations" / "instances_val2017.json"
    if not photos.is_dir() or not annotations.is_file():
        raise UsageError(f"{folder} has no val2017/ or no annotations/instances_val2017.json")
    return photos, annotations


def main(settings: dict[str, Any]) -> LabelReport:
    """Run the recipe.

    Args:
        settings: as in coco_labels.yaml.

    Returns:
        All figures.
    """
    out = Path(settings["out"])
    device = settings["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    photos, annotations = find_data(settings["data"], settings["limit"])

    # the words are the names of the annotations' categories, as they are
    vocabulary = Vocabulary.from_words(read_truth(annotations).classes)

    # the models, and how masks are proposed
    clip = load_clip(settings["clip"], device, settings["precision"])
    sam = load_sam(settings["sam"], device, settings["precision"])
    labeler = Labeler(clip, sam, FastSettings(**settings["proposals"]))

    # photo by photo: SAM's masks, GEM's features pooled under them and around them, words and scores
    job = labeler.job(vocabulary, LabelSettings(**settings["labels"]), negatives=settings["negatives"])
    print(f"{len(job.vocabulary.classes)} classes, {len(job.vocabulary.negatives)} negative words")
    with labeler.start_run(out / "run", job) as writer:
        todo = writer.register(list_images([photos])[: settings["limit"]])
        done = LocalEngine(workers_for(labeler.device)).run(todo, labeler, job, writer)
    print(f"{done.photos} photos, {done.masks} masks, {done.kept} kept, {done.failed} failed")

    # from the run on, no photo is read and no vision model runs
    written = export_run(open_run(out / "run"), out / "labels.json")
    print(f"{out / 'labels.json'}: {written.masks} annotations in {written.photos} images\n")

    # labels against annotations, joined by the photos' names; photos beyond the limit are left out
    source = open_labels(out / "run", annotations)
    report = evaluate_labels(source.photos, source.classes, source.threshold, settings["wanted_precision"])
    print_report(report)
    measured = {
        "evaluation": "labels",
        "labels": str(out / "run"),
        "annotations": str(annotations),
        "settings": {"annotations_sha256": file_sha256(annotations)} | source.settings,
        "notes": list(source.notes),
    }
    write_result(out / "evaluation.json", measured | report.to_dict())
    if settings["plots"]:
        write_plots(report, out / "plots")
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", type=Path, nargs="?", default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--data", help="local copy, in place of the settings' own")
    parser.add_argument("--limit", type=int, help="only so many photos, in place of the settings' own")
    arguments = parser.parse_args()
    chosen = yaml.safe_load(arguments.settings.read_text(encoding="utf-8"))
    given = {"data": arguments.data, "limit": arguments.limit}
    main(chosen | {name: value for name, value in given.items() if value is not None})
