"""Paths that the App's forms name: real folders, links and dots."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gem_label.allowed_folders import VARIABLE, folders_from_environment, resolve_below
from gem_label.errors import UsageError


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An allowed folder beside one that is not."""
    (tmp_path / "out").mkdir()
    (tmp_path / "private").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["a.json", "new/folder/a.json", "./a.json", "x/../a.json"])
def test_what_is_below_is_allowed(out: Path, name: str) -> None:
    assert resolve_below(out / name, [out]) == Path(os.path.realpath(out / name))
    assert resolve_below(name, [out]) == Path(os.path.realpath(out / name))  # relative: below the first


@pytest.mark.parametrize(
    "name",
    [
        "../private/a.json",
        "x/../../private/a.json",
        ".",
        "",
        "..",
        "/etc/cron.d/a.json",
        "~root/a.json",
        "/proc/self/cwd/a.json",
        "../out2/a.json",
    ],
)
def test_what_is_elsewhere_is_refused(out: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"not in an allowed folder: give one below {out}; .*--folder PATH"):
        resolve_below(name, [out])
    with pytest.raises(UsageError, match="not in an allowed folder"):
        resolve_below(f"{out}/{name}" if not name.startswith(("/", "~")) else name, [out])


@pytest.mark.parametrize("name", [".bashrc.json", "..a.json", ".ssh/a.json", "x/.git/a.json"])
def test_hidden_files_are_refused(out: Path, name: str) -> None:
    with pytest.raises(UsageError, match="hidden files and folders are not allowed"):
        resolve_below(out / name, [out])
    # a hidden folder that was allowed itself is no secret
    assert resolve_below(out / ".x" / "a.json", [out / ".x"]).name == "a.json"


def test_links_are_followed_first(out: Path, tmp_path: Path) -> None:
    (out / "folder").symlink_to(tmp_path / "private")
    (out / "file.json").symlink_to(tmp_path / "private" / "a.json")
    (out / "loop").symlink_to(out / "loop")
    for name in ("folder/a.json", "file.json", "folder/../a.json"):
        with pytest.raises(UsageError, match="not in an allowed folder"):
            resolve_below(out / name, [out])
    # a link to what is allowed is no harm, and what comes back does not follow it any more
    (out / "inside").mkdir()
    (out / "there").symlink_to(out / "inside")
    real = resolve_below(out / "there" / "a.json", [out])
    (out / "there").unlink()
    (out / "there").symlink_to(tmp_path / "private")
    assert real == Path(os.path.realpath(out)) / "inside" / "a.json"
    # an allowed folder may be a link itself
    (tmp_path / "link").symlink_to(out)
    assert resolve_below(tmp_path / "link" / "a.json", [tmp_path / "link"]).parent == Path(
        os.path.realpath(out)
    )


@pytest.mark.parametrize("name", ["a\0b.json", "~nobody-of-this-name/a.json"])
def test_what_is_no_path_is_told(out: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no path of a file"):
        resolve_below(name, [out])


def test_all_folders_are_named_and_the_environment_is_read_at_every_call(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert folders_from_environment() is None
    monkeypatch.setenv(VARIABLE, "")
    assert folders_from_environment() is None
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(out), "", "~/x"]))
    folders = folders_from_environment()
    assert folders == [out, Path.home() / "x"]
    with pytest.raises(UsageError, match=f"below {out} or {Path.home() / 'x'};"):
        resolve_below(tmp_path / "private" / "a.json", folders)
    assert resolve_below("~/x/a.json", folders).name == "a.json"
