"""FiftyOne: push a run into a dataset, label a dataset with a `Model`, open the App.

Only this package imports fiftyone, and only when one of these names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gem_label.review.app import open_app
    from gem_label.review.pushing.push_run import PushReport, push_run
    from gem_label.review.tasks.model import GemSamModel, load_zoo_model
    from gem_label.review.tasks.prompting import add_mask

__all__ = ["GemSamModel", "PushReport", "add_mask", "load_zoo_model", "open_app", "push_run"]


def __getattr__(name: str) -> Any:
    homes = {
        "add_mask": "tasks.prompting",
        "GemSamModel": "tasks.model",
        "load_zoo_model": "tasks.model",
        "PushReport": "pushing.push_run",
        "open_app": "app",
        "push_run": "pushing.push_run",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)
