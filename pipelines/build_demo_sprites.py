"""Draw the demo's sprite atlases from open-license emoji sets on npm.

    mkdir emoji && cd emoji
    npm pack @svgmoji/noto@3.2.0 @twemoji/svg@15.0.0 @lobehub/fluent-emoji-3d@1.1.0 \
        @lobehub/fluent-emoji-flat@1.1.0 openmoji@17.0.0
    for f in *.tgz; do mkdir -p "${f%.tgz}" && tar xzf "$f" -C "${f%.tgz}"; done
    pip install resvg-py pillow
    python pipelines/build_demo_sprites.py --packages emoji --nouns NOUNS.json

NOUNS.json lists [noun, code points]; nouns that some set does not draw are dropped. Writes one WebP atlas a style
and sprites.json into gem_label/demo/sprites. Licenses and attributions: gem_label/demo/sprites/ATTRIBUTION.md.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import resvg_py
from PIL import Image

from gem_label.atomic import replacing

TILE = 128
COLUMNS = 16
OUT = Path(__file__).parents[1] / "gem_label" / "demo" / "sprites"


def draw_svg(svg: str) -> Image.Image:
    """An SVG document as a TILE x TILE RGBA picture."""
    png = resvg_py.svg_to_bytes(svg_string=svg, width=TILE, height=TILE)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def first_file(folder: Path, names: list[str]) -> Path | None:
    """The first of the files that exists; emoji sets differ in upper case and in the FE0F variation selector."""
    return next((folder / n for n in names if (folder / n).is_file()), None)


def spellings(code: str, suffix: str) -> list[str]:
    """File names under which a set may keep one emoji."""
    short = code.replace("-fe0f", "")
    padded = code if "fe0f" in code else f"{code}-fe0f"
    return [form + suffix for c in (code, short, padded) for form in (c.lower(), c.upper())]


def svg_folder(folder: Path) -> Callable[[str], Image.Image | None]:
    """Reader of a set that keeps one SVG file an emoji."""

    def read(code: str) -> Image.Image | None:
        path = first_file(folder, spellings(code, ".svg"))
        return draw_svg(path.read_text()) if path else None

    return read


def webp_folder(folder: Path) -> Callable[[str], Image.Image | None]:
    """Reader of a set that keeps one WebP file an emoji."""

    def read(code: str) -> Image.Image | None:
        path = first_file(folder, spellings(code, ".webp"))
        return (
            Image.open(path).convert("RGBA").resize((TILE, TILE), Image.Resampling.LANCZOS) if path else None
        )

    return read


def svg_sheet(path: Path) -> Callable[[str], Image.Image | None]:
    """Reader of a set that keeps all emoji as children of one SVG document."""
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    sheet = {child.get("id", "").lower(): child for child in ElementTree.parse(path).getroot()}  # noqa: S314 - of a package

    def read(code: str) -> Image.Image | None:
        child = next((sheet[s] for s in spellings(code, "") if s in sheet), None)
        return draw_svg(ElementTree.tostring(child, encoding="unicode")) if child is not None else None

    return read


def main() -> None:
    """Draw the atlases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--nouns", type=Path, required=True)
    args = parser.parse_args()

    def package(start: str) -> Path:
        return (
            next(p for p in sorted(args.packages.iterdir()) if p.is_dir() and re.match(start, p.name))
            / "package"
        )

    styles = {
        "noto": svg_sheet(package("svgmoji-noto") / "sprites" / "all.svg"),
        "twemoji": svg_folder(package("twemoji-svg")),
        "fluent3d": webp_folder(package("lobehub-fluent-emoji-3d") / "assets"),
        "fluentflat": svg_folder(package("lobehub-fluent-emoji-flat") / "assets"),
        "openmoji": svg_folder(package("openmoji") / "color" / "svg"),
    }
    drawings = {}
    for noun, code in json.loads(args.nouns.read_text()):
        found = {style: read(code) for style, read in styles.items()}
        tiles = {style: tile for style, tile in found.items() if tile is not None}
        missing = [style for style in styles if style not in tiles]
        if missing:
            print(f"dropped {noun}: not drawn by {', '.join(missing)}")
        else:
            drawings[noun] = (code, tiles)
    nouns = sorted(drawings)
    rows = -(-len(nouns) // COLUMNS)
    OUT.mkdir(parents=True, exist_ok=True)
    for style in styles:
        atlas = Image.new("RGBA", (COLUMNS * TILE, rows * TILE))
        for i, noun in enumerate(nouns):
            atlas.paste(drawings[noun][1][style], (i % COLUMNS * TILE, i // COLUMNS * TILE))
        with replacing(OUT / f"{style}.webp") as file:
            atlas.save(file, "WEBP", quality=85, method=6)
    about = {
        "tile": TILE,
        "columns": COLUMNS,
        "styles": list(styles),
        "nouns": {n: drawings[n][0] for n in nouns},
    }
    with replacing(OUT / "sprites.json", "w") as file:
        file.write(json.dumps(about, indent=1) + "\n")
    print(f"{len(nouns)} nouns in {len(styles)} styles -> {OUT}")


if __name__ == "__main__":
    main()
