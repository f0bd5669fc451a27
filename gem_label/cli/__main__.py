"""`python -m gem_label.cli`, where the entry point is not on the path."""

from __future__ import annotations

from gem_label.cli import main

main()
