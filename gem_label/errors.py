"""Errors whose text is meant for the person at the terminal: one line that says what to do."""

from __future__ import annotations


class GemLabelError(Exception):
    """The work failed or nothing could be done (exit code 1)."""

    exit_code = 1


class UsageError(GemLabelError):
    """The request itself is wrong: an unknown name, settings that do not fit together (exit code 2)."""

    exit_code = 2


class ImageError(GemLabelError):
    """A photo that cannot be read; the message is the reason recorded in failures.jsonl."""
