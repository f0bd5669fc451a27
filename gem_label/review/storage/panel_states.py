"""What an open panel shows, kept in the database from one event to the next.

The App sends a panel's state with every event, and it is the state before the answer to the event before: of two
clicks within the time of one answer, the second would take the first one back. `gem_label.panels` has one document
for every open panel, and an event writes what it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from gem_label.review.storage.internals import database

PANELS = "gem_label.panels"
KEPT_FOR = timedelta(days=1)
"""So long after its last event the state of a panel is dropped; the App still has its own copy."""


def read_panel_state(panel_id: str) -> dict[str, Any]:
    """What the events of a panel have written so far; empty: nothing, or too long ago.

    Args:
        panel_id: an id of its own for every open panel.
    """
    stored = database()[PANELS].find_one({"_id": panel_id}) or {}
    values = stored.get("values")
    return dict(values) if isinstance(values, dict) else {}


def write_panel_state(panel_id: str, changes: Mapping[str, Any]) -> None:
    """Write what an event has changed; what other events wrote meanwhile stays.

    Args:
        panel_id: an id of its own for every open panel.
        changes: values by name; the names have no dots.
    """
    panels = database()[PANELS]
    panels.create_index("until", expireAfterSeconds=0)
    until = {"$add": ["$$NOW", int(KEPT_FOR.total_seconds() * 1000)]}
    values = {f"values.{name}": {"$literal": value} for name, value in changes.items()}
    panels.update_one({"_id": panel_id}, [{"$set": {**values, "until": until}}], upsert=True)
