"""GEM-Label in the FiftyOne App: operators and a review desk over `gem_label.review`.

FiftyOne finds plugins by their folder. The folder that `gem-label plugin install` writes holds the files of `loader/`
(a link to `plugins/gem_label` in the repository), which register what is here.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from gem_label.errors import GemLabelError


def register(plugin: Any, loader_version: str) -> None:
    """Give FiftyOne the operators and the panel.

    Args:
        plugin: FiftyOne's context of the plugin.
        loader_version: the version of gem-label that the plugin's folder was written by.

    Raises:
        GemLabelError: that is another version than the one that is installed.
    """
    check_version(loader_version)
    from gem_label.plugin.corrections import ImportAnnotations
    from gem_label.plugin.decide import Accept, Delete, Merge, Reject, Rename, Undo
    from gem_label.plugin.desk import OpenReviewDesk, ReviewDesk
    from gem_label.plugin.exchange import ExportAnnotations
    from gem_label.plugin.label import Label
    from gem_label.plugin.learn import Learn
    from gem_label.plugin.measure import EvaluateLabels
    from gem_label.plugin.points import EvaluatePoints
    from gem_label.plugin.relabel import Relabel
    from gem_label.plugin.review_panel import OpenReviewPanel, ReviewPanel
    from gem_label.plugin.search import SearchMasks

    for operator in (
        Label,
        Relabel,
        Learn,
        SearchMasks,
        EvaluatePoints,
        EvaluateLabels,
        Accept,
        Reject,
        Rename,
        Merge,
        Delete,
        Undo,
        ExportAnnotations,
        ImportAnnotations,
        OpenReviewDesk,
        ReviewDesk,
        OpenReviewPanel,
        ReviewPanel,
    ):
        plugin.register(operator)


def check_version(loader_version: str) -> None:
    """Refuse a plugin folder that another version of gem-label wrote: FiftyOne reads the operators' names there.

    Raises:
        GemLabelError: with how to update the folder.
    """
    installed = version("gem-label")
    if loader_version != installed:
        raise GemLabelError(
            f"the plugin was installed by gem-label {loader_version}, but this is gem-label {installed}: run "
            "`gem-label plugin install --overwrite` and start the App again"
        )
