"""The FiftyOne plugin through FiftyOne's own executor: every operator's form, execution, delegation and refusals."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from fiftyone_fixture import fiftyone_db
from review_dataset import FIELD, WORDS, demo_run

from gem_label.review.decision_log import list_decisions

__all__ = ["fiftyone_db"]

URI = "@gem-label/gem-label/"
OPERATORS = (
    "label", "relabel", "search_masks", "evaluate_points", "evaluate_labels", "accept", "reject", "rename", "merge", "delete", "undo",
    "export_coco", "import_annotations", "open_review_desk", "review_desk",
)  # fmt: skip


@pytest.fixture(scope="module")
def plugin(fiftyone_db: str) -> Any:
    """FiftyOne with this repository's plugins folder."""
    import fiftyone as fo

    before = fo.config.plugins_dir
    fo.config.plugins_dir = str(Path(__file__).parents[1] / "plugins")
    yield fo
    fo.config.plugins_dir = before


@pytest.fixture
def dataset(plugin: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Six photos with four masks each of cats, horses and pizzas."""
    from gem_label.review import push_run

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


def tags(dataset: Any) -> dict[str, int]:
    dataset.reload()
    return dataset.count_label_tags()


def labels(dataset: Any) -> dict[str, int]:
    dataset.reload()
    return dataset.count_values(f"{FIELD}.detections.label")


# --- the plugin itself ---------------------------------------------------------------------------------------------


def test_fiftyone_finds_every_operator(plugin: Any) -> None:
    import fiftyone.operators as foo
    from fiftyone.operators.registry import OperatorRegistry

    assert {o.uri for o in foo.list_operators() if o.uri.startswith(URI)} == {
        URI + name for name in OPERATORS
    }
    assert OperatorRegistry().list_errors() == []


def test_an_empty_dataset_is_told_what_to_do(plugin: Any, tmp_path: Path) -> None:
    dataset = plugin.Dataset("plugin empty", overwrite=True)
    for name in OPERATORS[1:13]:
        form = form_of(name, dataset)
        assert "no masks yet" in form["no_field"]["error_message"], name
    assert "no photo to label" in invalid(form_of("label", dataset, words="cat"))["about"]
    for name in ("accept", "relabel", "export_coco", "undo"):
        with pytest.raises(Exception, match="no masks yet"):
            execute(name, dataset)
    plugin.delete_dataset(dataset.name)


# --- decisions -----------------------------------------------------------------------------------------------------


def test_decisions_about_selected_labels_and_undo(dataset: Any) -> None:
    sample = dataset.first()
    selected = [
        {"label_id": d.id, "sample_id": sample.id, "field": FIELD} for d in sample[FIELD].detections[:2]
    ]
    form = form_of("accept", dataset, {"selected_labels": selected})
    assert form["target"]["type"]["values"] == ["selection", "dataset"]
    assert form["target"]["default"] == "selection"
    assert invalid(form) == {}
    result, messages = execute("accept", dataset, {"selected_labels": selected})
    assert result["masks"] == 2
    assert told(messages) == "accept 2 masks"
    assert "reload_dataset" in [uri for uri, _ in messages]
    assert tags(dataset) == {"accepted": 2}
    form = form_of("undo", dataset)
    assert "accept 2 masks" in form["decision"]["view"]["choices"][0]["label"]
    _, messages = execute("undo", dataset)
    assert told(messages) == "undone: accept 2 masks"
    assert tags(dataset) == {}
    assert "nothing to undo" in invalid(form_of("undo", dataset))["nothing"]


def test_decisions_about_selected_patches_a_view_and_thresholds(dataset: Any) -> None:
    import fiftyone as fo

    patches = dataset.to_patches(FIELD)
    chosen = patches.limit(3).values("id")
    execute("reject", patches, {"selected": chosen})
    assert tags(dataset) == {"rejected": 3}
    cats = dataset.filter_labels(FIELD, fo.ViewField("label") == "cat")
    assert form_of("accept", cats)["target"]["default"] == "view"
    execute("accept", cats, undecided=True)
    undecided_cats = labels(dataset)["cat"] - sum(
        d == "cat" for d in patches.limit(3).values(f"{FIELD}.label")
    )
    assert tags(dataset) == {"rejected": 3, "accepted": undecided_cats}
    execute("undo", dataset)
    two = dataset.limit(2).values("id")
    assert form_of("accept", dataset, {"selected": two})["target"]["default"] == "samples"
    execute("accept", dataset, {"selected": two}, undecided=True)
    assert tags(dataset)["accepted"] == 8 - 3
    with pytest.raises(Exception, match="no mask is meant"):
        execute("accept", dataset, min_score=1.0, labels=["horse"])


def test_rename_merge_and_delete(dataset: Any) -> None:
    form = form_of("rename", dataset, label=" ")
    assert invalid(form) == {"label": "give the new label"}
    before = labels(dataset)
    execute("rename", dataset, label="mug", labels=["pizza", "horse"])
    assert labels(dataset) == {"cat": before["cat"], "mug": before["pizza"] + before["horse"]}
    _, messages = execute("merge", dataset, labels=["mug"])
    assert "merge" in told(messages)
    assert labels(dataset)["mug"] == 6  # one in each photo
    execute("delete", dataset, labels=["cat"])
    assert labels(dataset) == {"mug": 6}
    for _ in range(3):
        execute("undo", dataset)
    assert labels(dataset) == before


def test_two_users_decide_at_the_same_time(dataset: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as users:
        jobs = [users.submit(execute, "accept", dataset, labels=["cat"]) for _ in range(3)]
        jobs += [users.submit(execute, "reject", dataset, labels=["horse"]) for _ in range(3)]
        jobs += [users.submit(execute, "rename", dataset, labels=["pizza"], label="mug")]
        for job in jobs:
            job.result()
    counts = labels(dataset)
    assert tags(dataset) == {"accepted": counts["cat"], "rejected": counts["horse"]}
    assert set(counts) == {"cat", "horse", "mug"}
    assert len(list_decisions(dataset, FIELD)) == 7


# --- relabel and search --------------------------------------------------------------------------------------------


def test_relabel_previews_and_leaves_decided_masks_alone(dataset: Any) -> None:
    form = form_of("relabel", dataset)
    assert form["words"]["default"] == "cat, horse, pizza"
    assert form["preview"]["default"].startswith("**Preview on 6 photos:** 0 masks change, 24 stay")
    execute("accept", dataset, labels=["horse"])
    counts = labels(dataset)
    form = form_of("relabel", dataset, words="pizza", background="cat")
    preview = form["preview"]["default"]
    assert f"{counts['cat']} masks change, {24 - counts['cat']} stay ({counts['horse']} of them" in preview
    assert f"| cat | (not kept) | {counts['cat']} |" in preview
    only_two = form_of("relabel", dataset, {"selected": dataset.limit(2).values("id")}, words="pizza")
    assert "**Preview on 2 photos:**" in only_two["preview"]["default"]
    assert labels(dataset) == counts  # nothing happened yet
    _, messages = execute("relabel", dataset, words="pizza", background="cat")
    assert f"{counts['horse']} decided masks stay as they are" in told(messages)
    assert labels(dataset) == {"pizza": counts["pizza"], "horse": counts["horse"]}
    assert [uri for uri, _ in messages].count("set_progress") >= 3


@pytest.mark.parametrize(
    ("params", "field", "problem"),
    [
        ({"words": "cat; => horse"}, "words", "phrasing, phrasing => class"),
        ({"words": "cat, horse => pet; cat"}, "words", "stands for both"),
        ({"words": "cat", "background": "cat"}, "background", "stands for both"),
        ({"words_from": "file", "words_file": {"name": "w.txt", "content": ""}}, "words_file", "no classes"),
        ({"words": "cat", "words_field": "tagged"}, "words_field", "not among the classes"),
    ],
)
def test_words_are_checked_as_one_types(dataset: Any, params: dict, field: str, problem: str) -> None:
    import fiftyone as fo

    dataset.add_sample_field("tagged", fo.EmbeddedDocumentField, embedded_doc_type=fo.Classifications)
    sample = dataset.first()
    sample["tagged"] = fo.Classifications(classifications=[fo.Classification(label="zebra")])
    sample.save()
    for name in ("label", "relabel"):
        assert problem in invalid(form_of(name, dataset, **params))[field]
        with pytest.raises(Exception, match=problem):
            execute(name, dataset, **params)


def test_words_from_a_file_from_the_dataset_and_per_photo(dataset: Any) -> None:
    import fiftyone as fo

    content = "data:text/plain;base64," + base64.b64encode(b"# pets\ncat\nhorse\n").decode()
    execute("relabel", dataset, words_from="file", words_file={"name": "w.txt", "content": content})
    assert set(labels(dataset)) == {"cat", "horse"}
    dataset.default_classes = ["pizza", "cat"]
    dataset.classes = {}
    dataset.save()
    execute("relabel", dataset, words_from="dataset")
    assert set(labels(dataset)) == {"cat", "pizza"}
    tags_of = [
        fo.Classifications(classifications=[fo.Classification(label="pizza")]) for _ in range(len(dataset))
    ]
    dataset.set_values("tagged", tags_of)
    execute("relabel", dataset, words="cat, pizza", words_field="tagged")
    assert set(labels(dataset)) == {"pizza"}


def test_search_shows_patches_in_order(dataset: Any) -> None:
    assert invalid(form_of("search_masks", dataset)) == {}
    result, messages = execute("search_masks", dataset, phrase="horse", top=5)
    similarities = [mask["similarity"] for mask in result["masks"]]
    assert similarities == sorted(similarities, reverse=True)
    assert {mask["label"] for mask in result["masks"]} == {"horse"}
    view = next(params["view"] for uri, params in messages if uri == "set_view")
    shown = dataset.view()._build(dataset, view)
    assert shown.values("id") == [mask["id"] for mask in result["masks"]]
    execute("delete", dataset, labels=["horse"])
    result, _ = execute("search_masks", dataset, phrase="horse", top=5)
    assert "horse" not in {mask["label"] for mask in result["masks"]}
    assert len(result["masks"]) == 5
    with pytest.raises(Exception, match="type a phrase"):
        execute("search_masks", dataset, phrase="  ")


def test_a_field_without_its_run_is_told(dataset: Any, tmp_path: Path) -> None:
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    for name in ("relabel", "search_masks"):
        assert "bring it back or label again" in " ".join(invalid(form_of(name, dataset)).values())
    with pytest.raises(Exception, match="bring it back"):
        execute("search_masks", dataset, phrase="cat")
    dataset.clone_sample_field(FIELD, "copy")
    assert "did not come from a run" in " ".join(invalid(form_of("relabel", dataset, field="copy")).values())
    execute("accept", dataset, labels=["cat"])  # needs no run
    assert tags(dataset)["accepted"] > 0


# --- files and points ----------------------------------------------------------------------------------------------


def test_export_and_import(dataset: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    execute("accept", dataset, labels=["cat"])
    assert "is a folder" in invalid(form_of("export_coco", dataset, path=str(tmp_path)))["path"]
    _, messages = execute("export_coco", dataset, path=str(out), which="accepted")
    content = json.loads(out.read_text())
    assert len(content["annotations"]) == labels(dataset)["cat"]
    shown = next(params for uri, params in messages if uri == "show_output")
    assert shown["results"]["link"] == f"/media?filepath={out}"
    assert (
        "exists and will be replaced"
        in form_of("export_coco", dataset, path=str(out))["exists"]["view"]["label"]
    )
    for annotation in content["annotations"]:
        annotation["category_id"] = 7
    out.write_text(json.dumps(content | {"categories": [{"id": 7, "name": "lynx"}]}))
    assert "there is no file" in invalid(form_of("import_annotations", dataset, path="/nowhere.json"))["path"]
    _, messages = execute("import_annotations", dataset, path=str(out))
    assert "relabelled" in told(messages)
    assert "lynx" in labels(dataset)
    with pytest.raises(Exception, match="there is no file"):
        execute("import_annotations", dataset, path="/nowhere.json")
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(Exception, match="neither COCO instances"):
        execute("import_annotations", dataset, path=str(tmp_path / "other.json"))


def test_evaluate_points(dataset: Any, tmp_path: Path) -> None:
    rows = ["ImageId,X,Y,Label,EstimatedYesNo,TextLabel"]
    for sample in dataset:
        for detection in sample[FIELD].detections:
            x, y, w, h = detection.bounding_box
            rows.append(
                f"{Path(sample.filepath).stem},{x + w / 2},{y + h / 2},{detection.label},yes,{detection.label}"
            )
        rows.append(f"{Path(sample.filepath).stem},0.999,0.999,{detection.label},no,{detection.label}")
    (tmp_path / "points.csv").write_text("\n".join(rows) + "\n")
    assert (
        "there is no file" in invalid(form_of("evaluate_points", dataset, points_csv="/no.csv"))["points_csv"]
    )
    _, messages = execute("evaluate_points", dataset, points_csv=str(tmp_path / "points.csv"))
    assert told(messages).startswith("p-mIoU 1.000 over image-class pairs")
    shown = next(params for uri, params in messages if uri == "show_output")["results"]
    assert {row["label"] for row in shown["per_class"]} == set(WORDS)
    dataset.reload()
    assert dataset.count_values("points.keypoints.gem_label_result") == {"TP": 24, "TN": 6}
    form = form_of("evaluate_points", dataset)
    assert form["points_field"]["default"] == "points"
    execute("reject", dataset, labels=["cat"])
    _, messages = execute("evaluate_points", dataset)
    assert "p-mIoU 1.000" not in told(messages)


# --- delegation and Python -----------------------------------------------------------------------------------------


def test_delegated_work_and_its_result(dataset: Any, tmp_path: Path) -> None:
    import fiftyone.operators as foo
    from fiftyone.operators.delegated import DelegatedOperationService

    service = DelegatedOperationService()
    relabel = foo.get_operator(URI + "relabel")
    queued = relabel(dataset, delegate=True, words="pizza, cat").result
    refused = relabel(dataset, delegate=True, words="pizza").result
    service.execute_operation(service.get(queued["id"]))
    (tmp_path / "run").rename(tmp_path / "gone")
    service.execute_operation(service.get(refused["id"]))
    done, failed = (service.get(operation["id"]) for operation in (queued, refused))
    assert done.run_state == "completed", done.result.error
    assert done.result.result["masks"] == 24
    assert done.status.progress > 0
    assert set(labels(dataset)) == {"cat", "pizza"}
    assert failed.run_state == "failed"
    assert "bring it back or label again" in failed.result.error
    for operation in (done, failed):
        service.delete_operation(operation.id)


def test_operators_are_called_from_python(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo
    import fiftyone.operators as foo

    accept = foo.get_operator(URI + "accept")
    assert accept(dataset, labels=["cat"]).result["masks"] == labels(dataset)["cat"]
    view = dataset.filter_labels(FIELD, fo.ViewField("label") == "horse").limit(2)
    assert accept(view, target="view").result["masks"] == view.count(f"{FIELD}.detections")
    foo.get_operator(URI + "export_coco")(dataset, path=str(tmp_path / "o.json"), format="polygon")
    assert (tmp_path / "o.json").exists()
    with pytest.raises(Exception, match="no mask is meant"):
        accept(dataset, labels=["zebra"])
