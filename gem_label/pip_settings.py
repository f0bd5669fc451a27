"""Where pip is told to look for packages, asked of pip itself."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping

_SECTIONS = ("global", "download", ":env:")  # of pip's configuration; the later ones win
_NAMES = (
    "index-url", "extra-index-url", "find-links", "no-index", "cert", "trusted-host", "timeout", "default-timeout",
)  # fmt: skip
_SECONDS = 60


def default_index() -> str:
    """The address of the index that pip asks when nobody says another; "" without pip in this environment."""
    command = [sys.executable, "-P", "-m", "pip", "download", "--help"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"--index-url.*?default\s+(https?://\S+?)\)", done.stdout, re.DOTALL)
    return found[1] if found else ""


def pip_settings() -> Mapping[str, str]:
    """What pip's configuration files and environment variables say about indexes, by the names of its options.

    Values may hold passwords and must not be shown. Without pip in this environment, only the variables count.
    """
    # -P: a file pip.py in the working folder is not pip
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "config", "list"]
    environment = os.environ | {"PIP_QUIET": "0"}  # quiet would leave nothing to read
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, env=environment, check=True
        )
    except (OSError, subprocess.SubprocessError):
        variables = {name: f"PIP_{name.upper().replace('-', '_')}" for name in _NAMES}
        return {
            name: os.environ[variable] for name, variable in variables.items() if os.environ.get(variable)
        }
    found: dict[str, tuple[int, str]] = {}
    for line in done.stdout.splitlines():
        key, separator, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if not separator or section not in _SECTIONS or name not in _NAMES:
            continue
        try:
            found[name] = max(
                found.get(name, (-1, "")), (_SECTIONS.index(section), str(ast.literal_eval(value)))
            )
        except (ValueError, SyntaxError):
            continue
    return {name: value for name, (_, value) in found.items()}
