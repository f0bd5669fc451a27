"""A hook of MkDocs: pages that are made when the site is built, so that no text is kept twice.

README.md, CONTRIBUTING.md, CHANGELOG.md and SECURITY.md become pages of the site, and command-line.md is
made from the help of every command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from gem_label.cli import make_app

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:|#)([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not below docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=site_links(text, ROOT)))
    files.append(File.generated(config, "command-line.md", content=command_line_page()))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Turn links that leave docs/ into links of the site."""
    if page.file.generated_by:
        return markdown
    return site_links(markdown, Path(page.file.abs_src_path).parent)


def site_links(text: str, folder: Path) -> str:
    """Make links between files of the repository links between pages of the site.

    Links to files that have no page become their text. Links that show a page's file name show its title.

    Args:
        text: Markdown.
        folder: where its file is, which relative links start from.
    """

    def replaced(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2].strip(), match[3] or ""
        path = (folder / target).resolve()
        if label.endswith(".md") and path.is_file():
            label = _title(path)
        if path.is_relative_to(ROOT / "docs"):
            inside = target if folder != ROOT else str(path.relative_to(ROOT / "docs"))
            return f"[{label}]({inside}{anchor})"
        page = PAGES.get(str(path.relative_to(ROOT))) if path.is_relative_to(ROOT) else None
        if page is None:
            return label
        up = "" if folder == ROOT else "../" * len(folder.relative_to(ROOT / "docs").parts)
        return f"[{label}]({up}{page}{anchor})"

    text = _LINK.sub(replaced, text)
    return text.replace("](docs/images/", "](images/") if folder == ROOT else text


def _title(page: Path) -> str:
    """The first heading of a page."""
    return page.read_text(encoding="utf-8").partition("# ")[2].partition("\n")[0]


def command_line_page() -> str:
    """A page of the help of every command, in Markdown."""
    root = typer.main.get_command(make_app())
    sections = [_section(command, context) for command, context in _commands(root, "gem-label", None)]
    return "\n\n".join(["# Command line", *sections]) + "\n"


def _commands(command: Any, name: str, parent: Any) -> Iterator[tuple[Any, Any]]:
    """Every command below one, itself first, with the context that its help is made in."""
    context = command.context_class(command, info_name=name, parent=parent, **command.context_settings)
    yield command, context
    for child, each in getattr(command, "commands", {}).items():
        yield from _commands(each, child, context)


def _section(command: Any, context: Any) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## {context.command_path}", f"    {usage}", _text(command.help or "")]
    panels: dict[str | None, list[str]] = {}
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):  # None: hidden
            entry = f"`{' '.join(record[0].split())}`\n:   {_escaped(record[1])}"
            panels.setdefault(getattr(parameter, "rich_help_panel", None), []).append(entry)
    for panel, entries in panels.items():
        lines += [f"**{panel}**"] * bool(panel) + entries
    return "\n\n".join(line for line in lines if line.strip())


def _text(text: str) -> str:
    """Help as Markdown: examples become blocks."""
    text = text.replace("\b", "")  # click's mark of a paragraph that is not wrapped
    text = re.sub(r"^\s*Example: (.*)$", r"\n    \1\n", text, flags=re.MULTILINE)
    text = re.sub(r"\n{3,}", "\n\n", text)
    return "\n".join(line if line.startswith("    ") else _escaped(line) for line in text.splitlines())


def _escaped(text: str) -> str:
    return re.sub(r"([<>*_\\|])", r"\\\1", text)
