"""gem_label.photos.reading: every kind of photo is read as people see it."""

from __future__ import annotations

import contextlib
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from gem_label.errors import ImageError
from gem_label.photos import png
from gem_label.photos.reading import check_header, open_image, read_image, upright_size


def ramp(height: int = 24, width: int = 40) -> NDArray[np.uint8]:
    """Smooth colors, dark red at the top left, so that turns and inversions show."""
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


def as_stored(upright: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """Pixels as a camera stores them when EXIF says `orientation`."""
    transposed = upright.swapaxes(0, 1)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: transposed,
        6: np.rot90(upright),
        7: np.rot90(transposed, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    return np.ascontiguousarray(stored)


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


MODES = {
    "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "tif": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16", "I;16B"],
    "jpg": ["L", "RGB", "CMYK"],
    "mpo": ["L", "RGB"],
    "webp": ["RGB", "RGBA"],
    "avif": ["L", "RGB", "RGBA"],
    "heic": ["L", "RGB", "RGBA"],
}


@pytest.mark.parametrize(
    ("suffix", "mode", "compressed"),
    [(suffix, mode, False) for suffix in MODES for mode in MODES[suffix]]
    + [("tif", mode, True) for mode in MODES["tif"]],
)
def test_every_mode_is_turned_upright(tmp_path: Path, suffix: str, mode: str, compressed: bool) -> None:
    # three gray levels that every mode and every lossy format keeps apart: nothing is symmetric
    upright = np.full((24, 40), 255, np.uint8)
    upright[:8, :16] = 0
    upright[16:, :8] = 0
    for orientation in range(1, 9):
        gray = Image.fromarray(as_stored(upright, orientation))
        if mode in ("I", "I;16", "I;16B"):
            image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
            image = image.convert("I") if mode == "I" else image
            if mode == "I;16B":
                image = Image.frombytes("I;16B", image.size, np.asarray(image).astype(">u2").tobytes())
        elif mode == "F":
            image = Image.fromarray(np.asarray(gray).astype(np.float32) / 255)
        elif mode == "LAB":
            image = Image.merge("LAB", [gray, *2 * [Image.new("L", gray.size, 128)]])
        else:
            image = (
                gray.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr", "RGB") else gray.convert(mode)
            )
        path, exif = tmp_path / f"{orientation}.{suffix}", exif_of(orientation)
        if suffix == "heic":
            pillow_heif.from_pillow(image).save(path, quality=-1, exif=exif.tobytes())
        elif suffix == "mpo":
            image.save(path, "MPO", exif=exif, save_all=True, append_images=[image], quality=95)
        elif suffix == "tif" and (
            compressed or mode == "YCbCr"
        ):  # uncompressed YCbCr is broken in Pillow 11.3
            image.save(path, exif=exif, compression="tiff_adobe_deflate")
        else:
            image.save(path, exif=exif)
        with open_image(path) as opened:
            assert upright_size(opened) == (40, 24), orientation
        tolerance = 8 if suffix in ("jpg", "mpo", "webp", "avif", "heic") else 1
        assert close(read_image(path), np.repeat(upright[..., None], 3, axis=2), tolerance), orientation


@pytest.mark.parametrize("suffix", ["heic", "heif", "avif"])
def test_phone_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.init()
    formats = set(Image.OPEN)  # other packages in this process may have registered theirs
    if suffix == "avif":
        Image.fromarray(ramp()).save(path, quality=95)
    else:
        pillow_heif.from_pillow(Image.fromarray(ramp())).save(path, quality=95)
    with ThreadPoolExecutor(4) as pool:
        assert all(close(pixels, ramp(), 4) for pixels in pool.map(read_image, [path] * 20))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match="broken"):
        read_image(path)
    assert set(Image.OPEN) == formats  # nothing is registered with PIL behind the user's back


def test_heic_of_more_than_8_bits(tmp_path: Path) -> None:
    gray = np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)
    pillow_heif.from_bytes("I;16", (40, 24), gray.tobytes()).save(tmp_path / "a.heic", quality=-1)
    colors = np.repeat(gray[..., None], 3, axis=2)
    pillow_heif.from_bytes("RGB;16", (40, 24), colors.tobytes()).save(
        tmp_path / "b.heic", quality=-1, chroma=444
    )
    for name in ("a", "b"):
        assert close(read_image(tmp_path / f"{name}.heic"), (colors // 257).astype(np.uint8), 2)


def test_of_an_mpo_the_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime")]
    frames[0].save(tmp_path / "a.mpo", "MPO", save_all=True, append_images=frames[1:])
    assert close(read_image(tmp_path / "a.mpo"), np.full((8, 8, 3), (255, 0, 0), np.uint8), 2)


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
    gray = np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)
    Image.fromarray(gray).save(tmp_path / f"a.{suffix}")
    expected = np.repeat((gray / 257)[..., None], 3, axis=2).round().astype(np.uint8)
    assert close(read_image(tmp_path / f"a.{suffix}"), expected, 0)


def png_file(pixels: NDArray[np.uint16], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits a channel, gray (H, W) or RGB (H, W, 3), with more chunks before its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return png.SIGNATURE + b"".join(chunk(kind, data) for kind, data in parts)


def write_deep(
    path: Path, pixels: NDArray[np.uint16], said: str | None, orientation: int = 1, top: int = 4095
) -> None:
    """16-bit pixels as PNG or TIFF whose white is said to be `top` by a tag or chunk named `said`."""
    channels = 3 if pixels.ndim == 3 else 1
    if path.suffix == ".png":
        chunks = [(b"sBIT", bytes([top.bit_length()] * channels))] if said else []
        path.write_bytes(png_file(pixels, *chunks, (b"eXIf", exif_of(orientation).tobytes()[6:])))
    else:
        tag = {"MaxSampleValue": 281, "SMaxSampleValue": 341}.get(said or "")
        tags = [(274, "H", 1, orientation, True)] + (
            [(tag, "H", channels, (top,) * channels, True)] if tag else []
        )
        photometric = "rgb" if channels == 3 else "minisblack"
        tifffile.imwrite(path, pixels, photometric=photometric, extratags=tags, metadata=None)


@pytest.mark.parametrize(
    "suffix_and_tag", [("png", "sBIT"), ("tif", "MaxSampleValue"), ("tif", "SMaxSampleValue")]
)
@pytest.mark.parametrize("shape", [(24, 40), (24, 40, 3)], ids=["gray", "rgb"])
def test_12_bits_in_16_are_stretched_where_the_file_says_so(
    tmp_path: Path, suffix_and_tag: tuple[str, str], shape: tuple[int, ...]
) -> None:
    suffix, tag = suffix_and_tag
    values = np.linspace(0, 4095, int(np.prod(shape))).reshape(shape).astype(np.uint16)
    bright = np.rint(values / 4095 * 255).astype(np.uint8)
    bright = np.broadcast_to(bright.reshape(24, 40, -1), (24, 40, 3))
    for orientation in range(1, 9):
        write_deep(tmp_path / f"a.{suffix}", as_stored(values, orientation), tag, orientation)
        assert close(read_image(tmp_path / f"a.{suffix}"), bright, 0), orientation
    # without the word of the file 16 bits are 16 bits, and so they are where a value is larger than it says
    write_deep(tmp_path / f"b.{suffix}", values, None)
    assert close(read_image(tmp_path / f"b.{suffix}"), (bright.astype(int) // 16).astype(np.uint8), 0.6)
    values[-1, -1] = 65535
    write_deep(tmp_path / f"c.{suffix}", values, tag)
    assert read_image(tmp_path / f"c.{suffix}")[-1, -1].max() == 255
    assert read_image(tmp_path / f"c.{suffix}")[:-1].max() <= 16


def test_tiff_of_12_bits_a_sample(tmp_path: Path) -> None:
    values = np.array([[0, 4095], [1365, 2730]])
    rows = b"".join(((int(a) << 12) | int(b)).to_bytes(3, "big") for a, b in values)
    tags = [(256, 3, 2), (257, 3, 2), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 122), (277, 3, 1),
            (278, 3, 2), (279, 4, len(rows))]  # fmt: skip
    entries = b"".join(
        struct.pack("<HHI", tag, kind, 1) + value.to_bytes(4, "little") for tag, kind, value in tags
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(head + rows)
    assert len(head) == 122
    assert read_image(tmp_path / "a.tif")[..., 0].tolist() == [[0, 255], [85, 170]]


def test_16_bit_transparency_goes_over_white(tmp_path: Path) -> None:
    gray = np.array([[0, 1000], [40000, 65535]], np.uint16)
    (tmp_path / "l.png").write_bytes(png_file(gray, (b"tRNS", struct.pack(">H", 1000))))
    assert read_image(tmp_path / "l.png")[..., 0].tolist() == [[0, 255], [156, 255]]
    colors = np.repeat(gray[..., None], 3, axis=2)
    (tmp_path / "rgb.png").write_bytes(png_file(colors, (b"tRNS", struct.pack(">3H", 1000, 1000, 1000))))
    assert read_image(tmp_path / "rgb.png")[..., 0].tolist() == [[0, 255], [156, 255]]


def write_with_text(path: Path, kind: str, zipped: bool, size: int, times: int, after: bool) -> None:
    """A PNG on its side with `times` chunks of `size` bytes of text."""
    text = b"x" * size
    body = {
        "tEXt": b"Comment\0" + text,
        "zTXt": b"Comment\0\0" + zlib.compress(text),
        "iTXt": b"Comment\0" + bytes([zipped, 0]) + b"\0\0" + (zlib.compress(text) if zipped else text),
    }.get(kind)
    info = PngImagePlugin.PngInfo()
    for _ in range(times if body else 0):
        info.add(kind.encode(), body, after_idat=after)
    stored = Image.fromarray(as_stored(ramp(), 6))
    profile = {"icc_profile": text} if kind == "iCCP" else {}
    stored.save(path, pnginfo=info, exif=exif_of(6), **profile)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("kind", "zipped", "size", "times"),
    [("tEXt", False, 3_000_000, 30), ("zTXt", True, 3_000_000, 1), ("iTXt", True, 3_000_000, 1),
     ("iCCP", True, 3_000_000, 1)],
)  # fmt: skip
def test_a_png_with_megabytes_of_text_or_profile(
    tmp_path: Path, kind: str, zipped: bool, size: int, times: int, after: bool
) -> None:
    path = tmp_path / "a.png"
    write_with_text(path, kind, zipped, size, times, after)
    with pytest.raises(ValueError, match=r"too large|Too much"), Image.open(path) as image:
        image.load()
    limits = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    with ThreadPoolExecutor(4) as pool:
        for pixels in pool.map(read_image, [path] * 4):
            assert close(pixels, ramp(), 0)
    assert limits == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)
    sizes: list[int] = []
    read_image(path, admit=sizes.append)
    assert sizes == [7 * 24 * 40]
    check_header(path)
    with open_image(path) as image:
        assert upright_size(image) == (ramp().shape[1], ramp().shape[0])


def test_orientation_in_text_survives_much_other_text(tmp_path: Path) -> None:
    data = exif_of(6).tobytes()
    words = {
        "XML:com.adobe.xmp": ('<rdf tiff:Orientation="6"/>', False),
        "Raw profile type exif": (f"\nexif\n{len(data):8}\n{data.hex()}\n", True),
    }
    for key, (value, zipped) in words.items():
        info = PngImagePlugin.PngInfo()
        info.add_text("Comment", "x" * 3_000_000, zip=True)
        if zipped:
            info.add_text(key, value, zip=True)
        else:
            info.add_itxt(key, value)
        Image.fromarray(as_stored(ramp(), 6)).save(tmp_path / "a.png", pnginfo=info)
        assert close(read_image(tmp_path / "a.png"), ramp(), 0), key


def test_a_damaged_text_chunk_does_not_cost_the_photo(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "words")
    Image.fromarray(ramp()).save(tmp_path / "a.png", pnginfo=info)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data.replace(b"words", b"swords"[:5]))
    assert close(read_image(tmp_path / "a.png"), ramp(), 0)


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
    gray = ramp()[..., 1]
    Image.fromarray(gray).save(tmp_path / "l.png")
    Image.fromarray(gray > 100).save(tmp_path / "1.png")
    assert close(read_image(tmp_path / "l.png"), np.repeat(gray[..., None], 3, axis=2), 0)
    assert np.array_equal(read_image(tmp_path / "1.png")[..., 0] == 255, gray > 100)


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
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "bmp", "avif", "heic", "mpo"])
def test_a_file_cut_or_scrambled_anywhere_is_an_image_error_or_an_image(tmp_path: Path, suffix: str) -> None:
    path, rng = tmp_path / f"a.{suffix}", np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8))
    if suffix == "heic":
        pillow_heif.from_pillow(image).save(path)
    elif suffix == "mpo":
        image.save(path, save_all=True, append_images=[image])
    else:
        image.save(path)
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
    assert sizes == [7 * 24 * 40]
