"""What the App sends to the plugin, through FiftyOne's own executor."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from review_dataset import demo_run

from gem_label.allowed_folders import VARIABLE

URI = "@gem-label/gem-label/"
DECISIONS = ("accept", "reject", "rename", "merge", "delete")


@pytest.fixture(scope="module")
def plugin(fiftyone_db: str) -> Any:
    """FiftyOne with this repository's plugins folder."""
    import fiftyone as fo

    before = fo.config.plugins_dir
    fo.config.plugins_dir = str(Path(__file__).parents[1] / "plugins")
    yield fo
    fo.config.plugins_dir = before


@pytest.fixture
def dataset(
    plugin: Any, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Six photos with four masks each of cats, horses and pizzas; the App may write into the test's folder."""
    from gem_label.review import push_run

    monkeypatch.setenv(VARIABLE, str(tmp_path))
    name = f"plugin {request.node.name}"[:90]
    push_run(demo_run(tmp_path / "run", 6), name)
    yield plugin.load_dataset(name)
    plugin.delete_dataset(name)


def request_of(samples: Any, **context: Any) -> dict[str, Any]:
    """What the App sends."""
    dataset = samples._root_dataset
    view = samples._serialize() if samples is not dataset else []
    return {"dataset_name": dataset.name, "dataset_id": str(dataset._doc.id), "view": view, **context}


def form_of(name: str, samples: Any, context: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    """The form as the App gets it, by field name; "view" has title and button."""
    import fiftyone.operators.executor as executor
    from fiftyone.operators.registry import OperatorRegistry

    request = request_of(samples, **(context or {})) | {"params": params, "target": "inputs"}
    resolved = asyncio.run(executor.resolve_type(OperatorRegistry(), URI + name, request))
    assert not isinstance(resolved, executor.ExecutionResult), resolved.error
    return resolved.to_json()["type"]["properties"]


def invalid(form: dict[str, Any]) -> dict[str, str]:
    return {name: each["error_message"] for name, each in form.items() if each["invalid"]}


def execute(name: str, samples: Any, context: dict[str, Any] | None = None, **params: Any) -> Any:
    """Run an operator as the App does; its result, and what it tells the App to do, in order."""
    import fiftyone.operators.executor as executor

    if name in DECISIONS and not context:  # the form asks for it where nothing is selected
        params = {"target": "dataset" if samples is samples._root_dataset else "view"} | params
    request = request_of(samples, **(context or {})) | {"params": params}
    result = asyncio.run(executor.execute_or_delegate_operator(URI + name, request))
    if result.is_generator:
        messages = [message.body for message in result.result]
        value = None
    else:
        result.raise_exceptions()
        messages, value = result.executor._requests, result.result
    return value, [(message.operator_uri, message.params) for message in messages]


def told(messages: list[tuple[str, dict[str, Any]]]) -> str:
    """The last thing that the App showed."""
    return [params["message"] for uri, params in messages if uri == "notify"][-1]


class DeskSession:
    """The panel's events as the App sends them; `state` is what it keeps, `messages` what the last event asks for."""

    def __init__(self, dataset: Any) -> None:
        self.dataset, self.state = dataset, {}
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.send("on_load")

    def send(
        self, method: str, view: Any = None, selected: Any = (), request: dict | None = None, **params: Any
    ) -> None:
        """An event; `request` stands for what the App knows of a dataset that is gone."""
        import fiftyone.operators.executor as executor

        if request is None:
            request = request_of(self.dataset if view is None else view, selected=list(selected))
        panel = {"panel_id": "desk", "panel_state": dict(self.state), "__method__": method}
        request = request | {"params": panel | params}
        result = asyncio.run(executor.execute_or_delegate_operator(URI + "review_desk", request))
        result.raise_exceptions()
        self.messages = [(message.operator_uri, message.params) for message in result.executor._requests]
        for uri, given in self.messages:
            if uri == "patch_panel_state":
                self.state |= given["state"]

    def asked(self, uri: str) -> dict[str, Any]:
        return next(params for name, params in self.messages if name == uri)

    @property
    def shown(self) -> dict[str, Any]:
        """What the panel looks like, by name."""
        return self.asked("show_panel_output")["output"]["type"]["properties"]
