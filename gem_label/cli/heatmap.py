"""`gem-label heatmap`: where a photo is like words."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gem_label.cli import options, output
from gem_label.cli.options import Device, DeviceOption
from gem_label.defaults import DEFAULT_CLIP
from gem_label.errors import UsageError


class Scaling(StrEnum):
    """What the colors of heat maps are stretched to."""

    word = "word"
    photo = "photo"


def heatmap(
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="The photo to draw on.")],
    classes: Annotated[str, typer.Option(help="Words, separated by commas.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The picture to write; default: PHOTO's name with -heatmap.png."),
    ] = None,
    scaling: Annotated[
        Scaling,
        typer.Option(
            help="word: stretch each map to its own range, as in the paper; photo: stretch all maps by one range."
        ),
    ] = Scaling.word,
    clip: options.ClipOption = DEFAULT_CLIP,
    method: options.MethodOption = "gem",
    short_side: options.ShortSide = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Draw where in a photo each word is: the similarity of GEM's patches with its text.

    Prints each word with its greatest cosine and where that is, x and y in pixels.

    \b
    Example: gem-label heatmap photo.jpg --classes "cat, sofa" --out cat.png
    """

    from gem_label.atomic import replacing
    from gem_label.clip.dense import DenseEncoder
    from gem_label.clip.models import load_clip
    from gem_label.evaluation.predictors import EncoderModel, similarity_of
    from gem_label.photos.reading import read_image
    from gem_label.show.heatmap import draw_heatmaps
    from gem_label.show.overlay import contact_sheet

    words = options.read_vocabulary(classes, None, "").phrases
    target = out or Path(f"{Path(photo).stem}-heatmap.png")
    if target.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{target}: name a .png or .jpg file")
    image = read_image(photo)
    model = EncoderModel(DenseEncoder(load_clip(clip, options.resolve_device(device)), method), short_side)
    output.note_unknown_words(model.dense.text, words)
    output.note_demo_clip(model.dense.text, words)
    similarity = similarity_of(model, image, words)
    pictures, captions = zip(*draw_heatmaps(image, similarity, words, scaling.value), strict=True)
    sheet = contact_sheet(pictures, columns=3, width=min(640, max(image.shape[:2])), captions=captions)
    with replacing(target) as file:
        sheet.save(file, "PNG" if target.suffix.lower() == ".png" else "JPEG")
    rows, columns = similarity.shape[1:]
    height, width = image.shape[:2]
    for word, cosines in zip(words, similarity, strict=True):
        row, column = divmod(int(cosines.argmax()), columns)
        x, y = round((column + 0.5) * width / columns), round((row + 0.5) * height / rows)
        print(f"{cosines.max():.4f}  {x},{y}  {word}")
    print(target)
