"""The review desk's charts, as plotly takes them; colors of text and background are left to the App's theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

STEP = 0.02
"""Width of a cell of `threshold_rows`."""

Chart = tuple[list[dict[str, Any]], dict[str, Any]]
"""Traces and a layout."""


def layout(height: int, **changes: Any) -> dict[str, Any]:
    """A layout that takes its colors from the App."""
    margins = {"l": 10, "r": 10, "t": 8, "b": 30}
    return {"height": height, "margin": margins, "autosize": True, "dragmode": False} | changes


def class_bars(statistics: ReviewStatistics) -> Chart:
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


def score_histogram(statistics: ReviewStatistics, label: str | None, bins: int = 20) -> Chart:
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


def threshold_rows(
    statistics: ReviewStatistics, classes: Sequence[str], thresholds: Mapping[str, float]
) -> Chart:
    """A row a class: how many undecided masks have which score, and where the class's threshold is.

    Args:
        statistics: of the field.
        classes: C classes, which become rows from above.
        thresholds: scores in [0, 1] by class; 0 where a class has none.
    """
    bins = round(1 / STEP)
    rows = [statistics.undecided_histogram(label, bins).tolist() for label in classes]
    edges = np.linspace(0, 1, bins + 1).round(3)
    trace = go.Heatmap(
        x=((edges[:-1] + edges[1:]) / 2).round(3).tolist(),
        y=list(classes),
        # roots: a bin with one mask is seen beside a bin with a hundred; empty cells are clicked too
        z=np.sqrt(np.array(rows, float).reshape(len(classes), bins)).tolist(),
        customdata=[[f"{low:g}: {count}" for low, count in zip(edges, row, strict=False)] for row in rows],
        colorscale=[[0, "rgba(128,140,170,0.13)"], [0.001, "#9db4ee"], [1, "#2f56c9"]],
        showscale=False,
        xgap=1,
        ygap=4,
        hovertemplate="%{y} from %{customdata} masks here<extra></extra>",
    ).to_plotly_json()
    shapes = [
        {"type": "line", "x0": score, "x1": score, "y0": row - 0.5, "y1": row + 0.5, "yref": "y",
         "line": {"color": "#d0533f", "width": 3}}
        for row, label in enumerate(classes) if (score := thresholds.get(label, 0.0)) > 0
    ]  # fmt: skip
    texts = [
        {
            "x": 1.01,
            "xref": "paper",
            "xanchor": "left",
            "y": row,
            "yref": "y",
            "showarrow": False,
            "text": text,
        }
        for row, text in enumerate(_row_text(statistics, label, thresholds) for label in classes)
    ]
    return [trace], layout(
        46 + 24 * max(3, len(classes)),
        xaxis={"range": [0, 1], "fixedrange": True, "showgrid": False, "title": {"text": "score"}},
        yaxis={"autorange": "reversed", "automargin": True, "type": "category", "fixedrange": True},
        margin={"l": 10, "r": 150, "t": 4, "b": 40},
        shapes=shapes,
        annotations=texts,
    )


def _row_text(statistics: ReviewStatistics, label: str, thresholds: Mapping[str, float]) -> str:
    """What a class's threshold does, or how many undecided masks it has."""
    score = thresholds.get(label, 0.0)
    effect = statistics.effect(label, score)
    if not score:
        return f"{effect.stay} undecided"
    return f"{score:.2f}: {effect.stay} stay, {effect.go} go"


def confusion(pairs: Sequence[ConfusedPair]) -> Chart:
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
