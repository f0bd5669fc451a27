"""gem_label.atomic: files are replaced whole, by any number of writers, with the right permissions."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest

from gem_label.atomic import delete_leftovers, replacing, replacing_folder, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_replaced_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("old")
    with replacing(path, "w") as file:
        file.write("new, ü")
        assert path.read_text() == "old"
        assert Path(file.name).parent == tmp_path
    assert path.read_bytes() == "new, ü".encode()
    write_atomic(path, lambda file: file.write(b"bytes"))
    assert path.read_bytes() == b"bytes"
    assert names(tmp_path) == ["numbers.txt"]


def _fail_half_way(file: IO[bytes], error: type[BaseException]) -> None:
    file.write(b"half")
    raise error


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), replacing(path) as file:
            _fail_half_way(file, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["numbers.txt"]


def test_writers_of_one_file_never_mix(tmp_path: Path) -> None:
    path, barrier = tmp_path / "numbers.txt", threading.Barrier(8)

    def write(letter: str) -> None:
        barrier.wait()
        for _ in range(10):
            with replacing(path, "w", sync=False) as file:
                for _ in range(50):
                    file.write(letter * 100)
                    file.flush()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, "abcdefgh"))
    text = path.read_text()
    assert len(text) == 5000
    assert len(set(text)) == 1
    assert names(tmp_path) == ["numbers.txt"]


def test_permissions_follow_the_umask_or_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    umask = os.umask(0o027)
    try:
        write_atomic(path, lambda file: None)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write_atomic(path, lambda file: file.write(b"new"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(umask)


def test_of_a_link_the_file_is_replaced_that_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "numbers.txt").write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to("store/numbers.txt")
    write_atomic(link, lambda file: file.write(b"new"))
    assert link.is_symlink()
    assert (tmp_path / "store" / "numbers.txt").read_bytes() == b"new"
    (tmp_path / "ahead.txt").symlink_to("store/later.txt")  # there is no such file yet
    write_atomic(tmp_path / "ahead.txt", lambda file: file.write(b"new"))
    assert (tmp_path / "store" / "later.txt").read_bytes() == b"new"
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)), replacing(tmp_path / "loop.txt"):
        raise AssertionError
    assert names(tmp_path) == ["ahead.txt", "link.txt", "loop.txt", "store"]


def test_a_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(path.read_bytes)
        write_atomic(path, lambda file: file.write(b"through"))
        assert reading.result(10) == b"through"
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_what_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "gone" / "numbers.txt"):
        raise AssertionError
    with pytest.raises(IsADirectoryError), replacing(tmp_path):
        raise AssertionError
    long_name = "ü" * 120 + ".json"  # 245 of at most 255 bytes
    write_atomic(tmp_path / long_name, lambda file: file.write(b"new"))
    assert names(tmp_path) == [long_name]


def test_leftovers_are_deleted_by_name_and_age(tmp_path: Path) -> None:
    for name in (".a.json.0123.tmp", ".a.json.tmp", ".b.json.0123.tmp", "a.tmp", ".a.json"):
        (tmp_path / name).touch()
    (tmp_path / ".run.0123.tmp").mkdir()
    (tmp_path / ".run.0123.tmp" / "file").touch()
    delete_leftovers(tmp_path, of=["a.json"])
    assert names(tmp_path) == [".a.json", ".b.json.0123.tmp", ".run.0123.tmp", "a.tmp"]
    os.utime(tmp_path / ".b.json.0123.tmp", (time.time() - 100,) * 2)
    delete_leftovers(tmp_path, age=50)
    assert names(tmp_path) == [".a.json", ".run.0123.tmp", "a.tmp"]
    delete_leftovers(tmp_path)
    assert names(tmp_path) == [".a.json", "a.tmp"]
    delete_leftovers(tmp_path / "gone")


def test_a_folder_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "run") as folder:
        (folder / "file").touch()
        assert not (tmp_path / "run").exists()
    assert names(tmp_path / "run") == ["file"]
    with pytest.raises(OSError, match="not empty"), replacing_folder(tmp_path / "run") as folder:
        (folder / "other").touch()
    assert names(tmp_path / "run") == ["file"]
    assert names(tmp_path) == ["run"]


def test_a_folder_takes_the_place_of_another_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/photo").touch()
    for round in ("first", "second"):
        with replacing_folder(tmp_path / "run", replace=True) as folder:
            (folder / round).touch()
            (folder / "link").symlink_to(tmp_path / "kept")
    assert names(tmp_path / "run") == ["link", "second"]
    assert names(tmp_path / "kept") == ["photo"]
    assert names(tmp_path) == ["kept", "run"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/file").touch()
    with pytest.raises(FileNotFoundError), replacing_folder(tmp_path / "run", replace=True) as folder:
        folder.rename(tmp_path / "elsewhere")
    assert names(tmp_path / "run") == ["file"]
    with pytest.raises(KeyError), replacing_folder(tmp_path / "run", replace=True):
        raise KeyError
    assert names(tmp_path / "run") == ["file"]
    assert names(tmp_path) == ["elsewhere", "run"]
