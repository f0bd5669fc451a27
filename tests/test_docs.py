"""README and docs/: their commands exist, their links lead somewhere, and the site's hook makes its pages."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import gem_label
from gem_label.cli import make_app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LONGER = re.compile(r"\\\n\s*")


def shell_lines(text: str) -> list[str]:
    """The lines of a page's shell blocks, indented or fenced, that call gem-label."""
    fenced = re.findall(r"^ *```(?:sh|bash|console)?\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^(?: {4,}|\t).*\n?)+", rest, re.MULTILINE)
    lines = (line for block in [*fenced, *indented] for line in LONGER.sub(" ", block).splitlines())
    return [line.strip().removeprefix("$ ") for line in lines if "gem-label " in line]


def commands_of(line: str) -> list[list[str]]:
    """The arguments of each gem-label that a shell line calls."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for token in lexer:
        if token in {"|", "||", "&&", ";", "&", ">", "(", ")"}:
            parts.append([])
        else:
            parts[-1].append(token)
    found = []
    for words in parts:
        while words and (words[0] in {"sudo", "nice", "time"} or re.match(r"[A-Z_]+=", words[0])):
            words = words[1:]
        if words[:1] == ["gem-label"]:
            found.append(words[1:])
    return found


def parse(arguments: list[str]) -> None:
    """Read the arguments as gem-label does, and run nothing."""
    command: Any = typer.main.get_command(make_app())
    context = None
    name = "gem-label"
    while hasattr(command, "commands"):
        context = command.context_class(command, info_name=name, parent=context)
        if not arguments or arguments[0] in {"--help", "-h", "--version"}:
            return
        name, *arguments = arguments
        assert name in command.commands, f"{context.command_path} has no command {name}"
        command = command.commands[name]
    if not {"--help", "-h"} & set(arguments):
        command.make_context(name, arguments, parent=context)


CALLS = [
    (page.relative_to(ROOT), call)
    for page in PAGES
    for line in shell_lines(page.read_text(encoding="utf-8"))
    for call in commands_of(line)
]


def test_the_pages_have_shell_blocks() -> None:
    assert len(CALLS) > 60
    assert commands_of("A=1 gem-label doctor && gem-label label x --out R | head  # why") == [
        ["doctor"],
        ["label", "x", "--out", "R"],
    ]


@pytest.mark.parametrize(
    ("page", "arguments"), CALLS, ids=[f"{page}: {' '.join(call)[:80]}" for page, call in CALLS]
)
def test_commands_and_options_of_the_pages_exist(page: Path, arguments: list[str]) -> None:
    parse(arguments)


@pytest.mark.parametrize(
    "arguments", [["lable", "x"], ["label", "x", "--out", "R", "--colour"], ["label", "x"], ["eval", "label"]]
)
def test_a_command_that_does_not_exist_is_found(arguments: list[str]) -> None:
    with pytest.raises((AssertionError, typer.BadParameter.__mro__[1])):  # click's UsageError
        parse(arguments)


def names_of(module: str) -> set[str]:
    """What a module of gem_label defines or imports, read without importing it."""
    path = ROOT.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names = {each.stem for each in path.glob("*")} if path.is_dir() else set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_in_python_blocks_exist(page: Path) -> None:
    for block in re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gem_label":
                known = set(gem_label.__all__) if node.module == "gem_label" else names_of(node.module or "")
                assert {alias.name for alias in node.names} <= known, node.module
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "gem_label"
            ):
                assert node.attr in gem_label.__all__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    for target in re.findall(r"`((?:gem_label|tests|pipelines|benchmarks|docs)/[\w./-]+\.\w+)`", text):
        assert (ROOT / target).exists(), target


def hook() -> ModuleType:
    """docs/hooks/pages.py."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs/hooks/pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_command_line_has_every_command_and_option() -> None:
    page = hook().command_line_page()
    for heading in ("gem-label label", "gem-label eval labels", "gem-label models pull", "gem-label doctor"):
        assert f"\n## {heading}\n" in page
    assert "`--classes-file" in page
    assert "**Vocabulary**" in page


def test_links_of_the_repository_become_links_of_the_site() -> None:
    links = hook().site_links
    assert links("[a](docs/show.md#heat-maps)", ROOT) == "[a](show.md#heat-maps)"
    assert links("[docs/show.md](docs/show.md)", ROOT) == "[Looking at a run](show.md)"
    assert links("[show.md](show.md#heat-maps)", ROOT / "docs") == "[Looking at a run](show.md#heat-maps)"
    assert links("[a](../README.md)", ROOT / "docs") == "[a](index.md)"
    assert links("[a](../../CHANGELOG.md)", ROOT / "docs/how-to") == "[a](../changelog.md)"
    assert links("[LICENSE](LICENSE)", ROOT) == "LICENSE"
    assert links("![x](docs/images/x.png)", ROOT) == "![x](images/x.png)"
    assert links("[a](https://example.org) [b](#c)", ROOT) == "[a](https://example.org) [b](#c)"


def test_headings_of_troubleshooting_are_messages_of_the_program() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "gem_label").rglob("*.py"))
    text = re.sub(r'"\s*\n\s*f?"', "", sources)  # messages of several lines
    headings = re.findall(
        r"^### (.+)$", (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(headings) >= 20
    for heading in headings:
        # names are in capitals, numbers or quoted
        constant = max(re.split(r"[A-Z0-9'][^ :]*", heading), key=len).strip()
        assert constant in text, heading


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in navigation
