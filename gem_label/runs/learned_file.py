"""learned.json: what a run learned, as a file of numbers."""

from __future__ import annotations

import json
from pathlib import Path

from gem_label.errors import UsageError
from gem_label.learning.learned import Learned
from gem_label.runs.files import write_json
from gem_label.text_files import read_text


def read_learned(path: str | Path) -> Learned:
    """Read what `write_learned` wrote.

    Raises:
        UsageError: the file cannot be read or holds something else.
    """
    try:
        text = read_text(path)
    except UsageError as error:
        raise UsageError(f"{path} cannot be used: {error}") from error
    return parse_learned(text, path)


def parse_learned(text: str, path: str | Path) -> Learned:
    """What `write_learned` wrote, from the text of the file.

    Args:
        text: of the file.
        path: of the file, for messages.

    Raises:
        UsageError: it holds something else.
    """
    try:
        return Learned.from_dict(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON file: {error}") from error
    except UsageError as error:
        raise UsageError(f"{path} cannot be used: {error}") from error


def write_learned(path: Path, learned: Learned) -> None:
    """Write what was learned, whole or not at all."""
    write_json(path, learned.to_dict())
