"""From a folder of photos to COCO annotations and a FiftyOne dataset, one step after the other.

    python pipelines/label_folder.py pipelines/label_folder.yaml

What `gem-label label`, `export` and `push` do, laid open: copy it and change a step. An interrupted recipe resumes
where it stopped. Settings are YAML, read by PyYAML, which timm brings along.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from gem_label import Labeler, Vocabulary, load_clip, load_sam, open_run
from gem_label.engines.local import LocalEngine
from gem_label.engines.stream import workers_for
from gem_label.labeling import LabelSettings
from gem_label.photos.listing import list_images
from gem_label.runs.export import export_run
from gem_label.sam.fast import FastSettings


def label_folder(settings: dict[str, Any]) -> Path:
    """Run the recipe.

    Args:
        settings: as in label_folder.yaml.

    Returns:
        Path of the COCO file.
    """
    out = Path(settings["out"])

    # the words, the models, and how masks are proposed
    vocabulary = Vocabulary.parse(settings["classes"], settings["background"])
    clip = load_clip(settings["clip"], settings["device"], settings["precision"])
    sam = load_sam(settings["sam"], settings["device"], settings["precision"])
    labeler = Labeler(clip, sam, FastSettings(**settings["proposals"]))

    # photo by photo: SAM's masks, GEM's features pooled under them, the words that match best
    job = labeler.job(vocabulary, LabelSettings(**settings["labels"]), negatives=settings["negatives"])
    with labeler.start_run(out / "run", job) as writer:
        engine = LocalEngine(workers_for(labeler.device))
        report = engine.run(writer.register(list_images([settings["photos"]])), labeler, job, writer)
    print(f"{report.photos} photos, {report.masks} masks, {report.kept} kept, {report.failed} failed")

    # from the run on, no photo is read and no vision model runs
    run = open_run(out / "run")
    written = export_run(run, out / "annotations.json")
    print(f"{out / 'annotations.json'}: {written.masks} annotations in {written.photos} images")

    if settings["dataset"]:
        from gem_label.review import push_run

        print(push_run(run, settings["dataset"]))
    return out / "annotations.json"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", type=Path, nargs="?", default=Path(__file__).with_suffix(".yaml"))
    label_folder(yaml.safe_load(parser.parse_args().settings.read_text(encoding="utf-8")))
