"""Measure the demo CLIP on held-out scenes, with real MobileSAM masks: the figures of docs/demo-clip.md.

python pipelines/evaluate_demo_clip.py --scenes 200 --sam-scenes 20
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from gem_label.atomic import replacing
from gem_label.clip.models import load_clip
from gem_label.demo.sprites import load_sprites
from gem_label.demo.truth import held_out_scenes
from gem_label.evaluation.demo_clip import report
from gem_label.precision import Precision
from gem_label.sam.models import load_sam


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", default="demo", help="name or folder, as `gem-label label --clip` takes it")
    parser.add_argument("--scenes", type=int, default=200, help="scenes for the figures without proposals")
    parser.add_argument("--sam-scenes", type=int, default=20, help="of which with MobileSAM's masks")
    parser.add_argument("--precision", type=Precision, choices=list(Precision), default=Precision.float32)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    clip, book = load_clip(args.clip, precision=args.precision), load_sprites()
    words = list(book.nouns)
    figures = {}
    for name, unseen in (("seen styles", False), ("unseen styles", True)):
        scenes = held_out_scenes(book, args.scenes, unseen=unseen)
        figures[name] = report(clip, words, scenes)
        print(f"-- {len(scenes)} held-out scenes, {name}, {len(words)} words\n{figures[name]}", flush=True)
    if args.sam_scenes:
        scenes = held_out_scenes(book, args.sam_scenes)
        figures["with MobileSAM"] = report(
            clip, words, scenes, load_sam("mobile_sam", precision=args.precision)
        )
        print(f"-- {len(scenes)} held-out scenes with MobileSAM\n{figures['with MobileSAM']}", flush=True)
    if args.json:
        with replacing(args.json, "w") as file:
            file.write(json.dumps({k: asdict(v) for k, v in figures.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
