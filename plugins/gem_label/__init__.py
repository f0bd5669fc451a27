"""GEM-Label in the FiftyOne App: registers the operators and the panel of the package `gem_label.plugin`."""

from __future__ import annotations

from typing import Any

VERSION = "0.1.0"
"""Of the gem-label that wrote this folder; `fiftyone.yml` has the same."""


def register(plugin: Any) -> None:
    """Give FiftyOne the operators and the panel.

    Raises:
        ImportError: this Python has no gem-label.
    """
    try:
        from gem_label.plugin import register as register_operators
    except ImportError as error:
        raise ImportError(
            "the plugin GEM-Label needs the package gem-label in the Python that runs FiftyOne: "
            "pip install 'gem-label[fiftyone]'"
        ) from error
    register_operators(plugin, VERSION)
