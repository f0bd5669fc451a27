"""The review desk in FiftyOne's own executor: decisions touch what is selected, and odd states end in order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fiftyone_fixture import fiftyone_db
from plugin_calls import URI, DeskSession, dataset, execute, form_of, invalid, plugin, told
from review_dataset import FIELD

__all__ = ["dataset", "fiftyone_db", "plugin"]

EVENTS: dict[str, dict[str, Any]] = {
    "on_load": {}, "on_change_dataset": {}, "refresh": {}, "change_field": {"value": FIELD},
    "show_less_likely": {"less_likely": True}, "change_tab": {"tab": "words"}, "change_label": {"value": "cat"},
    "click_class": {"y": "cat"},
    "click_score": {"x": 0.5}, "click_pair": {"y": "cat", "x": "horse"}, "show_all": {}, "turn_page": {"step": 1},
    "move_threshold": {"y": "cat", "x": 0.51}, "clear_thresholds": {}, "show_changes": {}, "reject_below": {},
    "accept_above": {}, "open_queue": {}, "accept_selected": {}, "reject_selected": {}, "undo_last": {},
    "open_form": {"operator": "rename"},
    "form_done": {"result": {"decision": "x"}, "original_params": {"from_desk": True}},
}  # fmt: skip
"""Every event of the desk, with the parameters that the App sends."""

ODD_STATES: dict[str, Any] = {
    "empty": {},
    "none": dict.fromkeys(("dataset", "field", "less_likely", "tab", "label", "page", "thresholds", "queue")),
    "unknown names": {"dataset": "here", "field": "gone", "tab": "gone", "label": "gone", "queue": "gone"},
    "unknown class": {"dataset": "here", "field": FIELD, "label": "gone", "queue": "gone", "tab": "thresholds"},
    "another dataset": {"dataset": "elsewhere", "field": FIELD, "tab": "queue", "queue": "cat", "page": 7},
    "wrong types": {
        "dataset": "here", "field": FIELD, "less_likely": "yes", "tab": ["run"], "label": 3, "page": "two",
        "thresholds": {"cat": 0.5}, "queue": {"all": True},
    },
    "odd thresholds": {
        "dataset": "here", "field": FIELD, "tab": "thresholds", "page": 10**6, "less_likely": True,
        "thresholds": json.dumps({"cat": 2, "gone": 0.5, "horse": None, "pizza": True}),
    },
    "of an older version": {"field": FIELD, "tab": "classes", "chart_keys": {}, "thresholds": None},
}  # fmt: skip


def is_whole(shown: dict[str, Any]) -> bool:
    """Whether the panel shows masks, what to do about their absence, or one line."""
    return bool({"progress", "empty", "problem"} & shown.keys())


@pytest.mark.parametrize("state", ODD_STATES.values(), ids=ODD_STATES)
def test_every_event_ends_in_order_whatever_the_state(dataset: Any, state: Any) -> None:
    state = {name: dataset.name if value == "here" else value for name, value in state.items()}
    desk = DeskSession(dataset)
    for method, params in EVENTS.items():
        desk.state = dict(state)
        for sent in (params, params, {}):  # twice, then without what the event is about
            desk.send(method, **sent)
            assert is_whole(desk.shown), (method, sent)


def test_events_after_the_dataset_or_the_field_is_gone(plugin: Any, dataset: Any) -> None:
    desk = DeskSession(dataset)
    desk.send("open_queue")
    state = dict(desk.state)
    copy = dataset.clone("plugin desk copy")
    late = DeskSession(copy)
    late.dataset.delete_sample_field(FIELD)
    for method, params in EVENTS.items():
        late.state = {**state, "dataset": copy.name}
        late.send(method, **params)
        assert "No masks yet" in late.shown["empty"]["default"], method
    request = {"dataset_name": copy.name, "dataset_id": str(copy._doc.id), "view": []}
    plugin.delete_dataset(copy.name)
    for method, params in EVENTS.items():
        late.state = {**state, "dataset": copy.name}
        late.send(method, request=request, **params)
        assert "No dataset" in late.shown["empty"]["default"], method


def test_the_tab_that_is_shown_is_the_one_that_is_marked(dataset: Any) -> None:
    desk = DeskSession(dataset)
    for tab, part in {"run": "run", "queue": "open_queue", "gone": "open_queue"}.items():
        desk.send("change_tab", tab=tab)
        buttons = desk.shown["tabs"]["type"]["properties"]
        marked = [name for name, each in buttons.items() if each["view"]["variant"] == "contained"]
        assert marked == ["run" if tab == "run" else "queue"]
        assert part in {
            **desk.shown,
            **desk.shown.get("start", {"type": {"properties": {}}})["type"]["properties"],
        }


def test_two_clicks_within_one_answer_both_count(dataset: Any) -> None:
    desk = DeskSession(dataset)
    before = dict(desk.state)
    desk.send("change_tab", tab="thresholds")
    desk.state = dict(before)  # the second click goes out with the state before the first one's answer
    desk.send("move_threshold", y="cat", x=0.99)
    desk.state = dict(before)
    desk.send("move_threshold", y="horse", x=0.5)
    assert desk.shown["tabs"]["type"]["properties"]["thresholds"]["view"]["variant"] == "contained"
    texts = [note["text"] for note in desk.shown["threshold_rows"]["view"]["layout"]["annotations"]]
    assert [text.split(":")[0] for text in texts if "go" in text][:2] == ["0.98", "0.50"]
    desk.state = {}  # the page was loaded again: a desk of its own, which begins at the first tab
    desk.send("on_load")
    assert desk.shown["tabs"]["type"]["properties"]["classes"]["view"]["variant"] == "contained"
    assert desk.state["desk"] != before["desk"]


def test_after_a_decision_nothing_is_selected_and_the_patches_are_new(dataset: Any) -> None:
    patches = dataset.to_patches(FIELD)
    chosen = patches.limit(3).values("id")
    context = {"selected": chosen}
    form = form_of("rename", patches, context, label="zebra")
    assert invalid(form) == {}
    assert form["meant"]["view"]["label"].startswith("3 masks of gem_label: ")
    _, messages = execute("rename", patches, context, label="zebra", target="selection")
    asked = [uri for uri, _ in messages]
    assert asked == ["clear_selected_samples", "clear_selected_labels", "set_view", "notify"]
    shown = dataset.view()._build(dataset, dict(messages)["set_view"]["view"])
    assert shown.select(chosen).values(f"{FIELD}.label") == ["zebra"] * 3
    assert len(shown) == 24
    # the form that is sent twice, or after the selection went, touches nothing
    with pytest.raises(Exception, match="no mask is selected any more"):
        execute("reject", shown, {"selected": []}, target="selection")
    assert dataset.count_label_tags() == {}


@pytest.mark.parametrize("event", ["accept_selected", "reject_selected"])
def test_a_button_without_a_selection_says_so(dataset: Any, event: str) -> None:
    desk = DeskSession(dataset)
    desk.send("open_queue")
    desk.send(event)
    assert told(desk.messages).startswith("select masks first")
    desk.send(event, selected=dataset.limit(2).values("id"))  # photos, not masks
    assert told(desk.messages).startswith("select masks first")
    assert dataset.count_label_tags() == {}


def test_a_form_of_the_desk_moves_the_queue_on(dataset: Any) -> None:
    desk = DeskSession(dataset)
    desk.send("open_queue")
    patches = dataset.view()._build(dataset, desk.asked("set_view")["view"])
    chosen = patches.limit(4).values("id")
    desk.send("open_form", view=patches, selected=chosen, operator="delete")
    asked = desk.asked("prompt_user_for_operation")
    assert (asked["operator_uri"], asked["on_success"]) == (URI + "delete", URI + "review_desk#form_done")
    context = {"selected": chosen}
    result, messages = execute("delete", patches, context, target="selection", **asked["params"])
    assert [uri for uri, _ in messages] == ["notify"]  # the desk does the rest
    desk.send("form_done", result=result, original_params=asked["params"])
    uris = [uri for uri, _ in desk.messages]
    assert uris.index("clear_selected_samples") < uris.index("clear_selected_labels") < uris.index("set_view")
    assert uris.count("set_view") == 1  # the grid is painted once
    assert len(dataset.view()._build(dataset, desk.asked("set_view")["view"])) == 20


def test_thresholds_are_clicked(dataset: Any) -> None:
    import fiftyone as fo

    desk = DeskSession(dataset)
    desk.send("change_tab", tab="thresholds")
    desk.send("move_threshold", y="cat", x=0.99)
    cats = dataset.filter_labels(FIELD, fo.ViewField("label") == "cat")
    scores = cats.values(f"{FIELD}.detections.confidence", unwind=True)
    go = sum(score < 0.98 for score in scores)
    row = desk.shown["apply"]["type"]["properties"]
    assert row["reject_below"]["view"]["label"] == f"Reject the {go}"
    texts = [note["text"] for note in desk.shown["threshold_rows"]["view"]["layout"]["annotations"]]
    assert f"0.98: {len(scores) - go} stay, {go} go" in texts
    desk.send("clear_thresholds")
    desk.send("reject_below")
    assert told(desk.messages) == "click a threshold first"
