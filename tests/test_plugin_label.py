"""Labeling from the App with the real MobileSAM: the form, an interruption, resuming delegated, a missing photo."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from fiftyone_fixture import fiftyone_db
from plugin_calls import URI, execute, form_of, invalid, plugin, request_of

from gem_label.allowed_folders import VARIABLE
from gem_label.demo import scene_paths
from gem_label.runs import open_run
from gem_label.runs.files import RunLock

__all__ = ["fiftyone_db", "plugin"]

FAST = {
    "clip": "demo",
    "words": "bicycle, rose, tent; onion, garlic => bulb",
    "points_per_side": 3,
    "max_prompts": 12,
    "pred_iou_thresh": 0.6,
    "stability_score_thresh": 0.6,
}


@pytest.fixture
def dataset(plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two scenes, and between them a photo whose file is gone; the App may write into the test's folder."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    dataset = plugin.Dataset("plugin label", overwrite=True)
    for name, scene in zip(("1.jpg", "3.jpg"), scene_paths(), strict=False):
        shutil.copyfile(scene, tmp_path / name)
    photos = [plugin.Sample(filepath=str(tmp_path / f"{i}.jpg")) for i in (1, 2, 3)]
    dataset.add_samples(photos, validate=False)
    yield dataset
    plugin.delete_dataset(dataset.name)


def execution_options(samples: Any) -> dict[str, Any]:
    import fiftyone.operators.executor as executor
    from fiftyone.operators.registry import OperatorRegistry

    request = request_of(samples) | {"params": {"words": "cat"}}
    return asyncio.run(
        executor.resolve_execution_options(OperatorRegistry(), URI + "label", request)
    ).to_dict()


def test_the_form_of_label(dataset: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import fiftyone as fo

    form = form_of("label", dataset)
    assert "masks in 3 photos" in form["about"]["view"]["label"]
    assert form["run_folder"]["default"].endswith("gem-label/plugin label/gem_label")
    assert invalid(form) == {}
    for value, problem in (("two words", "no name for a field"), ("filepath", "holds something else")):
        assert problem in invalid(form_of("label", dataset, field=value))["field"]
    assert (
        "fewer than the 9 x 9"
        in invalid(form_of("label", dataset, points_per_side=9, max_prompts=80))["points_per_side"]
    )
    assert "max_prompts" not in form_of("label", dataset, proposals="exact")
    selected = form_of("label", dataset, {"selected": dataset.limit(1).values("id")})
    assert selected["view_target"]["default"] == "SELECTED_SAMPLES"
    assert "to fetch: 2565 MB" in str(form["sam"]["view"]["choices"])
    monkeypatch.setenv("GEM_LABEL_CACHE", str(tmp_path))  # no weights at all
    assert "mobile_sam are not on this machine" in invalid(form_of("label", dataset))["fetch_weights"]
    assert invalid(form_of("label", dataset, fetch_weights=True)) == {}
    with pytest.raises(Exception, match="not on this machine"):
        execute("label", dataset, words="cat")
    with pytest.raises(Exception, match="no classes"):
        execute("label", dataset, words=" ; ")
    assert not execution_options(dataset)["default_choice_to_delegated"]
    dataset.add_samples([fo.Sample(filepath=f"/photos/{i}.jpg") for i in range(18)], validate=False)
    assert execution_options(dataset)["default_choice_to_delegated"]
    assert not execution_options(dataset.limit(20))["default_choice_to_delegated"]


@pytest.mark.slow
def test_label_interrupted_and_resumed(dataset: Any, tmp_path: Path) -> None:
    import fiftyone.operators as foo
    import fiftyone.operators.executor as executor
    from fiftyone.operators.delegated import DelegatedOperationService

    from gem_label.weights import pull_weights

    pull_weights("mobile_sam", progress=False)
    folder = tmp_path / "run"
    params = FAST | {"run_folder": str(folder)}

    # in the App: the first photo is done when the browser goes away
    request = request_of(dataset) | {"params": params}
    result = asyncio.run(executor.execute_or_delegate_operator(URI + "label", request))
    for message in result.result:
        if "1 of 3 photos" in (message.body.params.get("label") or ""):
            break
    result.result.close()
    run = open_run(folder)
    assert (run.manifest["counts"]["photos"], run.manifest["finished"]) == (1, False)
    assert not dataset.has_field("gem_label")
    assert "There is a run with 1 labeled photos" in str(form_of("label", dataset, **params)["resumes"])

    # another process writes the run
    with RunLock(folder), pytest.raises(Exception, match="being written by another gem-label"):
        execute("label", dataset, **params)

    # delegated, as a scheduler does it: resumes, and tells what failed
    service = DelegatedOperationService()
    queued = foo.get_operator(URI + "label")(dataset, delegate=True, **params).result
    service.execute_operation(service.get(queued["id"]))
    done = service.get(queued["id"])
    assert done.run_state == "completed", done.result.error
    assert (done.result.result["photos"], done.result.result["labeled_before"]) == (1, 1)
    assert [failure["reason"] for failure in done.result.result["failures"]] == [
        "vanished: the file is not there any more"
    ]
    service.delete_operation(done.id)
    dataset.reload()
    assert dataset.count("gem_label.detections") == done.result.result["masks"] > 0
    assert set(dataset.distinct("gem_label.detections.label")) <= {"bicycle", "rose", "tent", "bulb"}
    assert len(dataset) == 3

    # other words into the same run are refused with the difference
    with pytest.raises(Exception, match="made with other settings"):
        execute("label", dataset, **params | {"words": "cat"})
    # and the first words are what relabel begins with
    form = form_of("relabel", dataset)
    assert form["words"]["default"] == "bicycle, rose, tent\nonion, garlic => bulb"
    assert "0 masks change" in form["preview"]["default"]
