"""Render held-out demo scenes as a dataset: photos, COCO instances, captions, Open Images V7 points.

python pipelines/render_scenes.py --out gem_label/demo/scenes            # the packaged dozen
python pipelines/render_scenes.py --out /tmp/scenes --count 200 --unseen  # in the style never trained on
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gem_label.demo.dataset import write_dataset
from gem_label.demo.sprites import load_sprites
from gem_label.demo.truth import held_out_scenes


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--unseen", action="store_true", help="draw in the style that training never saw")
    parser.add_argument("--first", type=int, default=0, help="number of the first scene's seed")
    args = parser.parse_args()
    book = load_sprites()
    scenes = held_out_scenes(book, args.count, unseen=args.unseen, first=args.first)
    write_dataset(scenes, list(book.nouns), args.out)
    print(f"{len(scenes)} scenes -> {args.out}")


if __name__ == "__main__":
    main()
