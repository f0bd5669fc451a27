"""What the review desk is about at the moment, as the App keeps it between two events, made right where it is not.

The App sends a panel's state with every event. It is empty after a reload, and may be of another dataset, or name
fields and classes that are gone: an event that comes early, late or twice reads a state that can be shown. It is also
the state before the last answer, so that what events have written since is read from the database.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import field as with_default
from typing import Any
from uuid import uuid4

from gem_label.errors import UsageError
from gem_label.review.storage.fields import has_less_likely, label_fields, less_likely_field
from gem_label.review.storage.panel_states import read_panel_state, write_panel_state

TABS = {
    "classes": "Classes",
    "thresholds": "Thresholds",
    "queue": "Queue",
    "words": "Confused words",
    "run": "Run",
}
ALL = "all classes"


@dataclass(frozen=True, slots=True)
class DeskState:
    """What the desk shows.

    Attributes:
        dataset: the FiftyOne dataset; None: none is open, or it was deleted.
        field: the field of labels; None: the dataset has none yet.
        less_likely: the desk is about the less likely labels of that field.
        tab: one of `TABS`.
        label: the class that is looked at; None: all.
        page: of the classes' thresholds, from 0.
        thresholds: scores in [0, 1] by class, those that were moved.
        queue: the queue of uncertain masks that the grid shows: of a class, or `ALL`; None: it shows something else.
        stored: what this was read from, as `write_state` writes it.
    """

    dataset: Any = None
    field: str | None = None
    less_likely: bool = False
    tab: str = "classes"
    label: str | None = None
    page: int = 0
    thresholds: Mapping[str, float] = with_default(default_factory=dict)
    queue: str | None = None
    stored: Mapping[str, Any] = with_default(default_factory=dict, compare=False, repr=False)

    @property
    def shown_field(self) -> str:
        """The field that the desk is about: that of the labels, or of the less likely ones.

        Raises:
            UsageError: there is none.
        """
        if self.dataset is None:
            raise UsageError("this dataset is gone: open another one")
        if self.field is None:
            raise UsageError("this dataset has no masks yet: label its photos first")
        return less_likely_field(self.field) if self.less_likely else self.field

    @property
    def fields(self) -> list[str]:
        """The field of the labels and that of the less likely ones, as far as they exist."""
        if self.field is None:
            return []
        both = [self.field, less_likely_field(self.field)]
        return both if has_less_likely(self.dataset, self.field) else both[:1]


def read_state(ctx: Any) -> DeskState:
    """The state of the panel that sent an event, without what the dataset does not have."""
    dataset = open_dataset(ctx)
    panel = getattr(ctx, "panel", None)
    sent = panel.state._data if panel is not None else {}
    stored = dict(sent) if isinstance(sent, dict) else {}
    if isinstance(stored.get("desk"), str):
        stored |= read_panel_state(stored["desk"])
    return replace(_state_of(dataset, stored), stored=stored)


def _state_of(dataset: Any | None, stored: Mapping[str, Any]) -> DeskState:
    tab = stored.get("tab")
    tab = tab if isinstance(tab, str) and tab in TABS else "classes"
    if dataset is None:
        return DeskState(tab=tab)
    fields = label_fields(dataset)
    chosen = stored.get("field")
    if stored.get("dataset") != dataset.name or chosen not in fields:
        return DeskState(dataset, fields[0] if fields else None, tab=tab)
    label, queue, page = stored.get("label"), stored.get("queue"), stored.get("page")
    return DeskState(
        dataset,
        chosen,
        stored.get("less_likely") is True and has_less_likely(dataset, chosen),
        tab,
        label if isinstance(label, str) and label != ALL else None,
        page if isinstance(page, int) and page > 0 else 0,
        _read_thresholds(stored.get("thresholds")),
        queue if isinstance(queue, str) else None,
    )


def write_state(ctx: Any, state: DeskState, **changes: Any) -> DeskState:
    """Keep a state, with some changes, for the next event; returns it.

    Only what differs from what the event read is written: another event may have written the rest meanwhile.
    """
    state = replace(state, **changes)
    if getattr(ctx, "panel", None) is None:
        return state
    values = {
        "dataset": None if state.dataset is None else state.dataset.name,
        "field": state.field,
        "less_likely": state.less_likely,
        "tab": state.tab,
        "label": state.label or ALL,
        "page": state.page,
        # as text: the App merges dictionaries into what it has, so that none could become shorter
        "thresholds": json.dumps(dict(state.thresholds)),
        "queue": state.queue,
    }
    desk = state.stored.get("desk")
    known = state.stored if isinstance(desk, str) else {}
    changed = {name: value for name, value in values.items() if name not in known or known[name] != value}
    if not isinstance(desk, str):
        desk = changed["desk"] = uuid4().hex
    if changed:
        ctx.panel.state.set(changed)
        write_panel_state(desk, changed)
    return replace(state, stored={**state.stored, **changed})


def open_dataset(ctx: Any) -> Any | None:
    """The dataset that an event is about; None: none is open, or it was deleted since."""
    try:
        return ctx.dataset
    except ValueError:  # of FiftyOne: no such dataset
        return None


def _read_thresholds(text: Any) -> dict[str, float]:
    try:
        given = json.loads(text)
    except (TypeError, ValueError):
        return {}
    if not isinstance(given, dict):
        return {}
    return {label: float(score) for label, score in given.items() if _is_score(score)}


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
