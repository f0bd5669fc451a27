"""Text files in every encoding and packing that other programs write."""

import csv
import gzip
import io
import os
import subprocess
import sys
import threading
import zipfile

import pytest
from PIL import Image

from gem_label.errors import UsageError
from gem_label.text_files import decode_text, open_binary, open_text, read_text

TEXT = "name,words\nrue de l'église,café\nstreet 2,naïve €\n"
ENCODINGS = [
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "utf-32-le",
    "utf-32-be",
    "cp1252",
]


def zipped(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda data: zipped({"names.csv": data})])
def test_every_encoding_plain_and_packed(tmp_path, encoding, pack):
    path = tmp_path / "any name"
    path.write_bytes(pack(TEXT.encode(encoding)))
    assert read_text(path) == TEXT
    with open_text(path, newline="") as file:
        assert list(csv.reader(file))[2] == ["street 2", "naïve €"]
    with open_binary(path) as (data, found):
        assert data.read().decode(found) == TEXT


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bytes_that_are_in_memory_already(encoding):
    assert decode_text(TEXT.encode(encoding), "names") == TEXT


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_other_scripts(encoding):
    text = "猫,犬\nкит,щит\nĀ,ā\n" * 3
    assert decode_text(text.encode(encoding), "names") == text


def test_a_letter_over_the_edge_of_a_block_and_a_late_byte_of_cp1252(tmp_path):
    for at in range((1 << 12) - 2, (1 << 12) + 2):
        text = "x" * at + "é€😀" + "y" * 10
        assert decode_text(text.encode(), "x") == text
    assert decode_text(b"x" * 2_000_000 + b"\xe9", "x").endswith("xé")


def test_lines_end_in_one_way(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(b"cat\r\ndog\rcup\n")
    assert read_text(path) == "cat\ndog\ncup\n"
    with open_text(path, newline="") as file:
        assert file.read() == "cat\r\ndog\rcup\n"


def test_no_text_at_all_is_text(tmp_path):
    for data in (b"", b"\xef\xbb\xbf", b"\xff\xfe", gzip.compress(b"")):
        (tmp_path / "empty").write_bytes(data)
        assert read_text(tmp_path / "empty") == ""


def test_a_control_character_in_utf8_is_text():
    assert decode_text("café\x01".encode(), "names") == "café\x01"


def test_the_files_that_macos_adds_to_a_zip_do_not_count(tmp_path):
    path = tmp_path / "names.zip"
    path.write_bytes(zipped({"names": b"cat", "__MACOSX/._names": b"\0\0"}))
    assert read_text(path) == "cat"


def photo(kind: str) -> bytes:
    data = io.BytesIO()
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"cat\0dog\0", "no text file"),
        (b"caf\xe9 \x01", "no text file"),
        (b"\x81\x8d", "no text file"),
        (b"\xef\xbb\xbfcaf\xe9", "no text file"),
        (b"\xff\xfec", "no text file"),
        (photo("PNG"), "no text file"),
        (photo("JPEG"), "no text file"),
        (gzip.compress(photo("PNG")), "no text file"),
        (gzip.compress(b"cat" * 999)[:-9], "cannot unpack"),
        (gzip.compress(b"cat")[:5] + b"\xff" * 30, "cannot"),
        (zipped({"a": b"cat", "b": b"dog"}), "holds 2 files, not one"),
        (zipped({}), "holds 0 files, not one"),
        (zipped({"a": b"cat" * 999})[:-30], "no text file"),
    ],
)
def test_what_is_no_text_is_said_in_a_line(tmp_path, data, reason):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=reason) as error:
        read_text(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_cannot_be_opened(tmp_path):
    for path in (tmp_path, tmp_path / "missing", "a\0b"):
        with pytest.raises(UsageError, match="cannot read"):
            read_text(path)


def test_a_small_file_of_endless_text_is_refused(tmp_path):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"cat\n" * 1_000_000))
    with pytest.raises(UsageError, match="more than 1,000,000 bytes"):
        read_text(tmp_path / "bomb.gz", max_bytes=1_000_000)


def test_a_pipe_is_a_file(tmp_path):
    for data in (TEXT.encode("utf-16"), gzip.compress(TEXT.encode()), zipped({"a": TEXT.encode()})):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        assert read_text(pipe) == TEXT
        writer.join()
        pipe.unlink()


def test_torch_is_not_needed():
    code = "import sys, gem_label.text_files; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
