"""Heat maps: their scaling, their colors, and the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gem_label.cli import run as command
from gem_label.demo import demo_folder
from gem_label.show.heatmap import draw_heatmap, scale_maps


def test_maps_are_stretched_by_word_or_all_alike() -> None:
    maps = np.array([[[0.1, 0.3]], [[0.2, 0.2]]], np.float32)
    assert scale_maps(maps).tolist() == [[[0, 1]], [[0, 0]]]
    assert scale_maps(maps, "photo") == pytest.approx(np.array([[[0, 1]], [[0.5, 0.5]]]), abs=1e-6)


def test_low_is_blue_and_high_is_red_over_the_photo() -> None:
    photo = np.full((20, 40, 3), 128, np.uint8)
    drawn = draw_heatmap(photo, np.array([[0, 1]], np.float32)).astype(int)
    assert drawn.shape == photo.shape
    cold, hot = drawn[10, 2], drawn[10, -3]
    assert cold[2] > cold[0]
    assert hot[0] > hot[2]
    assert (draw_heatmap(photo, np.zeros((1, 2), np.float32), 0) == photo).all()


def test_the_command_draws_each_word_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(demo_folder() / "data" / "scene_010.jpg")
    out = tmp_path / "maps.png"
    assert (
        command(["heatmap", photo, "--classes", "parrot, hourglass", "--clip", "demo", "--out", str(out)])
        == 0
    )
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [row[2] for row in rows[:2]] == ["parrot", "hourglass"]
    x, y = map(int, rows[0][1].split(","))
    assert 40 < x < 160  # the parrot is at the left of this scene
    assert 120 < y < 300
    assert Image.open(out).width > 3 * 400
    assert command(["heatmap", photo, "--classes", "cat", "--clip", "demo", "--out", "maps.gif"]) == 2
    assert command(["heatmap", str(tmp_path / "gone.jpg"), "--classes", "cat", "--clip", "demo"]) == 1
