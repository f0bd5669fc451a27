"""Words that this project does not use, in code, help, docs and the plugin (CONTRIBUTING.md, "Style")."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUFFIXES = {".html", ".md", ".py", ".toml", ".ts", ".tsx", ".yaml", ".yml"}
FOLDERS = ("gem_label", "docs", "benchmarks", "pipelines", "plugins", "tests", "zoo")
# American spelling, as in the field
BRITISH = (
    r"labell(?:ed|ing|er)|colour|\bgrey|neighbour|(?:normal|local|initial|optim|organ|recogn|summar|visual|general|"
    r"minim|maxim|random|quant|color|memor|critic|central|stand?ard)is(?:e|ed|es|ing|ation|ations)\b|\bcentr(?:e|es|ed)\b|"
    r"behaviour|favour|\blicence|artefact|catalogue|\banalys(?:e|ed|es|ing)\b|cancelled|modelling|travelled|whilst|amongst"
)
# archaisms and literal translations
PHRASES = (
    r"likest|\banew\b|\bgoes on\b|\bgoing on\b|\bgone on\b|\bwent on\b|under way|at hand\b|told otherwise|"
    r"where (?:they|it) pays?|what its device is good for|is everything here|order of two hands|\bone looks at\b|"
    r"\bto be had\b|\bcan(?:not)? be had\b|\bcould be had\b|for want of|in no time|thereof|therein|hereby|no sooner|"
    r"\bso many pixels\b|\bunless given\b|right sum|curve bends|gone through|first design"
)
BANNED = re.compile(f"{BRITISH}|{PHRASES}", re.IGNORECASE)
# names that other projects gave, texts of others, words in vocabularies, and this list
LEFT_OUT = {
    "CONTRIBUTING.md",  # shows what not to write
    "tests/test_style.py",
    "docs/fiftyone-issues.md",
    "gem_label/demo/sprites/ATTRIBUTION.md",
}
ALLOWED = re.compile(r"was_cancelled|class_colour|--colour|\" unless given\.")


def _files() -> list[Path]:
    files = [
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "pyproject.toml")
    ]
    for folder in FOLDERS:
        files += [path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES]
    skipped = {"node_modules", "dist", "__pycache__", "lexicon", "fixtures", "loader", "site"}
    return [
        path
        for path in files
        if path.is_file()
        and not skipped & set(path.relative_to(ROOT).parts)
        and path.relative_to(ROOT).as_posix() not in LEFT_OUT
    ]


@pytest.mark.parametrize("path", _files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_words_are_plain_american_english(path: Path) -> None:
    found = [
        f"{path.name}:{number}: {match[0]!r} in {line.strip()[:100]!r}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for match in BANNED.finditer(ALLOWED.sub("", line))
    ]
    assert not found, "\n".join(found)
