"""gem_label.resizing: PIL's bytes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gem_label import resizing
from gem_label.resizing import resize_rgb


@pytest.mark.parametrize("size", [(7, 5), (300, 40), (64, 900), (33, 33), (1, 1), (33, 10), (10, 40)])
@pytest.mark.parametrize("resampling", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_rows_at_a_time_give_the_bytes_of_pil(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], resampling: Image.Resampling
) -> None:
    monkeypatch.setattr(resizing, "_PIXELS_AT_ONCE", 200)
    pixels = np.random.default_rng(0).integers(0, 256, (33, 40, 3), np.uint8)
    height, width = size
    expected = np.asarray(Image.fromarray(pixels).resize((width, height), resampling))
    assert np.array_equal(resize_rgb(pixels, height, width, resampling), expected)
