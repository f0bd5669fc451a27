"""gem_label.images: what is listed, and that every kind of photo is read as people see it."""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gem_label.errors import ImageError, UsageError
from gem_label.images import read_image
from gem_label.listing import list_images


def ramp(height: int = 24, width: int = 40) -> NDArray[np.uint8]:
    """Smooth colours, dark red at the top left, so that turns and inversions show."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([60 + 150 * x / width, 255 * y / height, 128 + 0 * x], axis=-1).astype(np.uint8)


def close(actual: NDArray[np.uint8], expected: NDArray[np.uint8], tolerance: float) -> bool:
    same = actual.shape == expected.shape and actual.dtype == np.uint8
    return same and float(np.abs(actual.astype(int) - expected.astype(int)).mean()) <= tolerance


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp", "ppm"])
def test_ordinary_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(ramp()).save(path)
    assert close(read_image(path), ramp(), 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path: Path, orientation: int) -> None:
    upright = ramp()
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright.transpose(1, 0, 2), 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert close(read_image(tmp_path / "a.jpg"), upright, 4)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_unreadable_exif_does_not_cost_the_photo(tmp_path: Path) -> None:
    Image.fromarray(ramp()).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f", quality=95)
    assert close(read_image(tmp_path / "a.jpg"), ramp(), 4)


def test_cmyk(tmp_path: Path) -> None:
    cmyk = Image.fromarray(ramp()).convert("CMYK")
    cmyk.save(tmp_path / "a.tif")
    cmyk.save(tmp_path / "a.jpg", quality=95)
    assert close(read_image(tmp_path / "a.tif"), ramp(), 1)
    assert close(read_image(tmp_path / "a.jpg"), ramp(), 5)


def test_palette_and_transparency_go_over_white(tmp_path: Path) -> None:
    Image.fromarray(ramp()).quantize(255).save(tmp_path / "p.png")
    assert close(read_image(tmp_path / "p.png"), ramp(), 8)
    rgba = np.dstack([ramp(), np.full(ramp().shape[:2], 255, np.uint8)])
    rgba[:, :10, 3] = 0
    rgba[:, 10:20, 3] = 128
    expected = ramp().astype(float)
    expected[:, :10] = 255
    expected[:, 10:20] = (expected[:, 10:20] + 255) / 2
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert close(read_image(tmp_path / "a.png"), expected.astype(np.uint8), 1)
    Image.fromarray(np.dstack([ramp()[..., 0], rgba[..., 3]]), "LA").save(tmp_path / "la.png")
    assert (read_image(tmp_path / "la.png")[:, :10] == 255).all()
    clear = Image.new("P", (4, 4), 0)
    clear.putpalette([255, 0, 0, 0, 0, 255])
    clear.putpixel((1, 0), 1)
    clear.save(tmp_path / "t.png", transparency=0)
    assert read_image(tmp_path / "t.png")[0, :2].tolist() == [[255, 255, 255], [0, 0, 255]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    grey = np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
    expected = np.repeat((grey / 257)[..., None], 3, axis=2).round().astype(np.uint8)
    assert close(read_image(tmp_path / f"a.{suffix}"), expected, 0)


def test_float_and_32_bit_pixels_are_scaled_by_their_range(tmp_path: Path) -> None:
    unit = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(unit).save(tmp_path / "unit.tif")
    Image.fromarray(unit * 5000 - 100).save(tmp_path / "any.tif")
    Image.fromarray((unit * 1e6).astype(np.int32)).save(tmp_path / "int.tif")
    for name in ("unit", "any", "int"):
        assert close(
            read_image(tmp_path / f"{name}.tif")[..., 0], np.arange(256, dtype=np.uint8).reshape(16, 16), 1
        )


def test_grey_and_bilevel(tmp_path: Path) -> None:
    grey = ramp()[..., 1]
    Image.fromarray(grey).save(tmp_path / "l.png")
    Image.fromarray(grey > 100).save(tmp_path / "1.png")
    assert close(read_image(tmp_path / "l.png"), np.repeat(grey[..., None], 3, axis=2), 0)
    assert np.array_equal(read_image(tmp_path / "1.png")[..., 0] == 255, grey > 100)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_an_animation_the_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    assert close(read_image(tmp_path / f"a.{suffix}"), np.full((8, 8, 3), (255, 0, 0), np.uint8), 2)


def test_broken_files_give_their_reason(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(whole)
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:9000])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a photo")
    (tmp_path / "folder.jpg").mkdir()
    for name, reason in {
        "cut.jpg": "truncated",
        "empty.jpg": "empty",
        "text.jpg": "not an image",
        "folder.jpg": "not a file",
        "gone.jpg": "vanished",
    }.items():
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "bmp"])
def test_a_file_cut_or_scrambled_anywhere_is_an_image_error_or_an_image(tmp_path: Path, suffix: str) -> None:
    path, rng = tmp_path / f"a.{suffix}", np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(path)
    data = path.read_bytes()
    for _ in range(40):
        broken = bytearray(data[: rng.integers(1, len(data) + 1)])
        for i in rng.integers(0, len(broken), 3):
            broken[i] = rng.integers(0, 256)
        path.write_bytes(broken)
        with contextlib.suppress(ImageError):  # and nothing else
            read_image(path)


def test_an_enormous_file_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (1, 1)).save(tmp_path / "bomb.png")
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    data[16:24] = (20_000).to_bytes(4, "big") * 2  # width and height in the header
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(ImageError, match="enormous"):
        read_image(tmp_path / "bomb.png")


def test_admit_sees_the_size_before_decoding(tmp_path: Path) -> None:
    Image.fromarray(ramp()).save(tmp_path / "a.png")
    sizes: list[int] = []
    read_image(tmp_path / "a.png", admit=sizes.append)
    assert sizes == [24 * 40]


def test_listing_a_folder(tmp_path: Path) -> None:
    for name in [
        "b.jpg",
        "a.PNG",
        "sub/c.webp",
        "sub/c.jpg",
        ".hidden.jpg",
        ".cache/d.jpg",
        "notes.txt",
        "e.pdf",
    ]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    photos = list_images([tmp_path])
    assert [photo.image_id for photo in photos] == ["a", "b", "sub/c", "sub/c.webp"]
    assert [os.path.relpath(photo.path, tmp_path) for photo in photos] == [
        "a.PNG",
        "b.jpg",
        "sub/c.jpg",
        "sub/c.webp",
    ]


def test_listing_several_paths_gives_each_photo_once_and_ids_stay_unique(tmp_path: Path) -> None:
    for name in ["x/a.jpg", "y/a.jpg", "z/a.jpg", "odd.name"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    photos = list_images(
        [tmp_path / "x", tmp_path / "y", tmp_path / "z", tmp_path / "x/a.jpg", tmp_path / "odd.name"]
    )
    assert [photo.image_id for photo in photos] == ["a", "a.jpg", "a.jpg~2", "odd"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").touch()
    (tmp_path / "in/up").symlink_to(tmp_path)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "in")
    assert len(list_images([tmp_path])) == 1


def test_nothing_to_list(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no photos"):
        list_images([tmp_path])
    with pytest.raises(UsageError, match="no such file or folder"):
        list_images([tmp_path / "gone"])
