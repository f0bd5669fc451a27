"""Help pages: every command's, at 80 columns, with panels and examples."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from gem_label.cli import make_app
from gem_label.cli import run as command
from gem_label.cli.commands import help_text
from gem_label.tables import columns


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, each in getattr(group, "commands", {}).items():
        yield from _commands(each, (*path, name))


ALL = dict(_commands(typer.main.get_command(make_app())))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_a_page_fits_80_columns_and_has_an_example(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    assert command([*path, "--help"]) == 0
    page = capsys.readouterr().out
    assert max(columns(line) for line in page.splitlines()) <= 80
    assert re.search(r"Example: gem-label|Start with: gem-label", page)
    assert "Value error" not in page


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_options_say_what_they_do(path: tuple[str, ...]) -> None:
    for parameter in ALL[path].params:
        if parameter.name not in ("help", "install_completion", "show_completion"):
            assert len(getattr(parameter, "help", None) or "") > 10, f"{path}: {parameter.name}"
            assert not parameter.help.endswith(" unless given."), f"{path}: {parameter.name}"


def test_label_lists_its_options_in_panels() -> None:
    panels = {
        getattr(option, "rich_help_panel", None) for option in ALL[("label",)].params if option.name != "help"
    }
    assert panels - {None} == {
        "Filtering",
        "Hardware",
        "Input and output",
        "Mask proposals",
        "Models",
        "Several processes or machines",
        "Vocabulary",
    }
    lonely = [
        option.name
        for option in ALL[("label",)].params
        if option.param_type_name == "option" and not getattr(option, "rich_help_panel", None)
    ]
    assert lonely in ([], ["help"])


@pytest.mark.parametrize("group", ["", "plugin", "eval"])
def test_a_group_alone_shows_its_help(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command([group] if group else []) == 2
    said = capsys.readouterr()
    assert "Usage: gem-label" in said.out
    assert said.err == ""


def test_a_wrong_choice_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["export", "RUN", "--out", "x", "--format", "bmp"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gem-label: Invalid value for '--format': 'bmp' is not one of 'coco', ")
    assert error.count("\n") == 1


def test_paragraphs_are_joined_and_examples_stay() -> None:
    def function() -> None:
        """First
        line.

        Second
        one.

        \b
        Example: a
        Example: b
        """

    assert help_text(function) == "First line.\n\nSecond one.\n\nExample: a\nExample: b"


def test_the_shell_completes_names() -> None:
    asked = {"_GEM_LABEL_COMPLETE": "complete_bash", "COMP_WORDS": "gem-label re", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from gem_label.cli import main; main()"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
    )
    assert {"relabel", "repair", "review"} <= set(done.stdout.split())
