"""Background words of segmentation benchmarks, as open-vocabulary papers use them.

VOC21 and COCO-Object have a class for everything else. Since SCLIP (Wang et al., ECCV 2024) papers give that class
the words of things that photos have besides; Context60's gets the plain word. ProxyCLIP and CorrCLIP shorten the list
of COCO-Object; CorrCLIP's, which is here, has no word that is one of COCO's classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gem_label.errors import UsageError
from gem_label.phrases import as_words

_THINGS_AROUND = (
    "sky, wall, tree, wood, grass, road, sea, river, mountain, sands, desk, bed, building, cloud, lamp, door, "
    "window, wardrobe, ceiling, shelf, curtain, stair, floor, hill, rail, fence"
)
BACKGROUND_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "voc21": as_words(_THINGS_AROUND),
        "context60": ("background",),
        "coco-object": as_words(
            "sky, wall, tree, wood, grass, road, sea, river, mountain, sands, desk, building, cloud, floor, hill, "
            "rail"
        ),
    }
)


def background_words(name: str) -> tuple[str, ...]:
    """The background words of a benchmark.

    Raises:
        UsageError: an unknown name.
    """
    if name not in BACKGROUND_WORDS:
        raise UsageError(f"unknown background words {name!r}: choose one of {', '.join(BACKGROUND_WORDS)}")
    return BACKGROUND_WORDS[name]
