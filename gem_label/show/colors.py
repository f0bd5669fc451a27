"""Colors of classes: stable by name, distinct on one picture, and what text can be read on them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

import numpy as np

Color = tuple[int, int, int]

# At least 30 apart in CIELAB, neither dark, white nor gray, in the order of their hues.
PALETTE: Final = (
    *(0xFF0078, 0xFF8796, 0xC31E2D, 0xFF0000, 0xFF8700, 0x965A0F, 0xFFD278, 0xFFE10F),
    *(0x788700, 0xB4F000, 0xB4F096, 0x009600, 0x28E628, 0x00783C, 0x00FFA5, 0x00E1D2),
    *(0x00B4FF, 0x0078FF, 0xC3A5FF, 0x782DFF, 0x964BD2, 0xFF00FF, 0xA53C87),
)
SHADES = 3
HUE_STEP = 7  # to a color that looks different
WHITE_CONTRAST = (
    3.6  # WCAG's formula asks for black on bright red and blue, where people read white with more ease
)


def class_color(name: str) -> Color:
    """A bright RGB color that depends on the name alone, so that a class looks the same on every photo."""
    return _color(_hash(name))


def class_colors(names: Iterable[str]) -> dict[str, Color]:
    """Colors of the classes on one picture, distinct for up to 69 classes.

    A class has its `class_color`, unless a class before it in the alphabet has that: it then gets the next one in an
    order of its own that is free. Beyond 23 classes colors are paler, then darker.
    """
    colors: dict[str, Color] = {}
    used: set[Color] = set()
    for name in sorted(set(names)):
        steps = range(len(PALETTE) * SHADES)
        own = (_color(_hash(name) + HUE_STEP * step, step // len(PALETTE)) for step in steps)
        colors[name] = next((color for color in own if color not in used), class_color(name))
        used.add(colors[name])
    return colors


def text_color(background: Color) -> Color:
    """White or black, what can be read on a color: its contrast (WCAG 2, 1 to 21) is at least 3.6."""
    channels = np.array(background) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return (255, 255, 255) if 1.05 / (luminance + 0.05) >= WHITE_CONTRAST else (0, 0, 0)


def _hash(name: str) -> int:
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) % len(PALETTE)


def _color(index: int, shade: int = 0) -> Color:
    value = PALETTE[index % len(PALETTE)]
    red, green, blue = (
        (channel, (channel + 255) // 2, channel * 9 // 16)[shade] for channel in value.to_bytes(3)
    )
    return red, green, blue
