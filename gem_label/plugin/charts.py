"""The review desk's charts, as plotly takes them; colors of text and background are left to the App's theme."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go

from gem_label.review.statistics.review import ConfusedPair, ReviewStatistics
from gem_label.review.storage.selection import STATES

# the same in light and dark: strong enough on white, not glaring on black
STATE_COLORS = {"undecided": "#8c96a8", "accepted": "#2f9e62", "rejected": "#d0533f", "renamed": "#d09a2d"}
MAX_CLASSES = 30
MAX_WORDS = 15
CONFIG = {"displayModeBar": False, "responsive": True}

Traces = list[dict[str, Any]]


def layout(height: int, **changes: Any) -> dict[str, Any]:
    """A layout that takes its colors from the App."""
    margins = {"l": 10, "r": 10, "t": 8, "b": 30}
    return {"height": height, "margin": margins, "autosize": True, "dragmode": False} | changes


def key_of(chart: str, traces: Traces) -> str:
    """Where a panel keeps a chart's data: another place for lists of other lengths.

    The App merges a panel's data entry by entry, so that a shorter list would keep the end of the longer one before.
    """
    return "_".join([chart, *(str(len(trace["y"])) for trace in traces)])


def class_bars(statistics: ReviewStatistics) -> tuple[Traces, dict[str, Any]]:
    """Masks per class, stacked by state; the classes with most masks on top."""
    names = list(statistics.classes[:MAX_CLASSES])
    by_class = statistics.by_class[: len(names)]
    traces = [
        go.Bar(
            x=by_class[:, i].tolist(),
            y=names,
            name=state,
            orientation="h",
            marker={"color": STATE_COLORS[state]},
            hovertemplate="%{y}: %{x} " + state + "<extra></extra>",
        ).to_plotly_json()
        for i, state in enumerate(STATES)
        if by_class[:, i].any()
    ]
    axis = {"autorange": "reversed", "automargin": True, "type": "category", "fixedrange": True}
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}
    return traces, layout(
        90 + 24 * max(3, len(names)),
        barmode="stack",
        yaxis=axis,
        xaxis={"title": {"text": "masks"}, "fixedrange": True},
        legend=legend,
        margin={"l": 10, "r": 10, "t": 30, "b": 40},
    )


def score_histogram(
    statistics: ReviewStatistics, label: str | None, bins: int = 20
) -> tuple[Traces, dict[str, Any]]:
    """Masks per range of scores, of a class or of all."""
    counts = statistics.histogram(label, bins)
    edges = np.linspace(0, 1, bins + 1).round(2)
    trace = go.Bar(
        x=((edges[:-1] + edges[1:]) / 2).round(3).tolist(),
        y=counts.tolist(),
        width=0.94 / bins,
        marker={"color": "#5a7bd8"},
        customdata=[f"{low:g} to {high:g}" for low, high in pairwise(edges)],
        hovertemplate="score %{customdata}: %{y} masks<extra></extra>",
    ).to_plotly_json()
    return [trace], layout(
        220,
        xaxis={"title": {"text": "score"}, "range": [0, 1], "fixedrange": True},
        yaxis={"automargin": True, "fixedrange": True},
        margin={"l": 10, "r": 10, "t": 8, "b": 40},
        showlegend=False,
    )


def confusion(pairs: Sequence[ConfusedPair]) -> tuple[Traces, dict[str, Any]]:
    """A heat map of labels (rows) and their close seconds (columns)."""
    weight: dict[str, int] = {}
    for pair in pairs:
        for word in (pair.label, pair.runner_up):
            weight[word] = weight.get(word, 0) + pair.masks
    words = sorted(weight, key=lambda word: (-weight[word], word))[:MAX_WORDS]
    index = {word: i for i, word in enumerate(words)}
    table = np.zeros((len(words), len(words)), int)
    for pair in pairs:
        if pair.label in index and pair.runner_up in index:
            table[index[pair.label], index[pair.runner_up]] = pair.masks
    shown = [[int(n) if n else None for n in row] for row in table]
    trace = go.Heatmap(
        x=words,
        y=words,
        z=shown,
        texttemplate="%{z}",
        colorscale=[[0, "#dfe6f7"], [1, "#3559c7"]],
        showscale=False,
        xgap=2,
        ygap=2,
        hoverongaps=False,
        hovertemplate="%{y}, but nearly %{x}: %{z} masks<extra></extra>",
    ).to_plotly_json()
    axis = {"type": "category", "automargin": True, "fixedrange": True, "showgrid": False}
    return [trace], layout(
        120 + 26 * max(4, len(words)),
        xaxis=axis | {"side": "bottom", "title": {"text": "second best"}},
        yaxis=axis | {"autorange": "reversed", "title": {"text": "label"}},
    )
