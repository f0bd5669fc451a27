"""`gem-label demo`: label the scenes that come with the package, and show where everything is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from gem_label.cli import options, output
from gem_label.cli.options import Device, DeviceOption


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("demo-out"),
    dataset: Annotated[str, typer.Option(metavar="NAME", help="The FiftyOne dataset.")] = "gem-label-demo",
    max_prompts: Annotated[
        int, typer.Option(help="The most prompts for a scene; more find more.", min=1)
    ] = 128,
    device: DeviceOption = Device.auto,
) -> None:
    """Label a dozen scenes that come with the package, each with the words that are in it.

    Writes a run, COCO annotations and overlay pictures, and loads a FiftyOne dataset. Needs no model hub; labeled
    scenes are not labeled again.

    \b
    Example: gem-label demo --out demo-out
    """
    from gem_label.demo import demo_folder, demo_words, scene_paths
    from gem_label.engines.local import LocalEngine
    from gem_label.engines.stream import workers_for
    from gem_label.labeler import load_labeler
    from gem_label.labeling import LabelSettings
    from gem_label.photos.listing import list_images
    from gem_label.runs import open_run
    from gem_label.runs.export import export_run
    from gem_label.sam import FastSettings
    from gem_label.show.page import write_page
    from gem_label.vocabulary import Vocabulary
    from gem_label.words import WordsPerImage

    where = options.resolve_device(device)
    proposals = FastSettings.with_at_most(max_prompts)
    labeler = load_labeler(where, clip="demo", sam="mobile_sam", proposals=proposals)
    words = WordsPerImage.from_csv(demo_folder() / "words.csv")
    job = labeler.job(Vocabulary.from_words(demo_words()), LabelSettings(), words)
    folder, coco = out / "run", out / "annotations.json"
    with labeler.start_run(folder, job) as writer:
        LocalEngine(workers_for(where)).run(writer.register(list_images(scene_paths())), labeler, job, writer)
    run = open_run(folder)
    export_run(run, coco)
    shown = output.with_bar(write_page(run, out, len(scene_paths())), "show")
    counts = run.manifest["counts"]
    print(f"labeled      {counts['photos']} scenes: {counts['masks']} masks, {counts['kept']} kept")
    print(f"run          {folder}")
    print(f"COCO         {coco}")
    print(f"page         {shown.page}")
    print(f"overlays     {out / 'overlays'}")
    print(f"all in one   {shown.sheet}")
    if importlib.util.find_spec("fiftyone"):
        from gem_label.review import push_run

        print(f"FiftyOne     {push_run(run, dataset)}")
        print(f"\nOpen the App:       gem-label review {dataset}")
    else:
        print("FiftyOne     not installed: pip install 'gem-label[fiftyone]'")
    found = sorted(counts["kept_by_class"], key=counts["kept_by_class"].__getitem__, reverse=True)
    examples = ", ".join(found[:3])
    print(f"Give other words:   gem-label relabel {folder} --classes '{examples}' --out {out / 'relabeled'}")
    print(f"Search by text:     gem-label search {folder} '{found[0]}' --top 5")
    print("Label your photos:  gem-label label PHOTOS --classes 'cat, dog' --out RUN")
