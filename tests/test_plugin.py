"""The FiftyOne plugin through FiftyOne's own executor: every operator's form, execution, delegation and refusals."""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from plugin_calls import URI, DeskSession, dataset, execute, form_of, invalid, plugin, told
from review_dataset import FIELD, WORDS

from gem_label.review.storage.decision_log import list_decisions

__all__ = ["dataset", "fiftyone_db", "plugin"]

OPERATORS = (
    "label", "relabel", "learn", "search_masks", "evaluate_points", "evaluate_labels", "accept", "reject",
    "rename", "merge", "delete", "undo", "export_annotations", "import_annotations", "open_review_desk",
    "review_desk", "open_review_panel", "review_masks",
)  # fmt: skip


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
    for name in OPERATORS[1:14]:
        form = form_of(name, dataset)
        assert "no masks yet" in form["no_field"]["error_message"], name
    assert "no photo to label" in invalid(form_of("label", dataset, words="cat"))["about"]
    for name in ("accept", "relabel", "export_annotations", "undo"):
        with pytest.raises(Exception, match="no masks yet"):
            execute(name, dataset)
    plugin.delete_dataset(dataset.name)


# --- decisions -----------------------------------------------------------------------------------------------------


def test_decisions_about_selected_labels_and_undo(dataset: Any) -> None:
    sample = dataset.first()
    chosen = sorted(sample[FIELD].detections[:2], key=lambda d: d.label)
    selected = [{"label_id": d.id, "sample_id": sample.id, "field": FIELD} for d in chosen]
    form = form_of("accept", dataset, {"selected_labels": selected})
    assert form["target"]["type"]["values"] == ["selection", "dataset"]
    assert form["target"]["default"] == "selection"
    assert invalid(form) == {}
    assert set(form) == {"target", "meant", "about"}  # nothing else is asked
    named = ", ".join(f"{n} {label}" for label, n in Counter(d.label for d in chosen).most_common())
    assert form["meant"]["view"]["label"] == f"2 masks of {FIELD}: {named}"
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
    form = form_of("accept", cats)
    assert (form["target"]["type"]["values"], form["target"]["default"]) == (["view", "dataset"], None)
    assert "no_target" in invalid(form)  # nothing is meant until it is chosen
    form = form_of("accept", cats, target="view", undecided=True)
    execute("accept", cats, undecided=True)
    undecided_cats = labels(dataset)["cat"] - sum(
        d == "cat" for d in patches.limit(3).values(f"{FIELD}.label")
    )
    assert invalid(form) == {}
    assert form["meant"]["view"]["label"] == f"{undecided_cats} masks of {FIELD}: {undecided_cats} cat"
    assert tags(dataset) == {"rejected": 3, "accepted": undecided_cats}
    execute("undo", dataset)
    two = dataset.limit(2).values("id")
    assert form_of("accept", dataset, {"selected": two})["target"]["type"]["values"] == ["samples", "dataset"]
    execute("accept", dataset, {"selected": two}, target="samples", undecided=True)
    assert tags(dataset)["accepted"] == 8 - 3
    with pytest.raises(Exception, match="no mask is meant"):
        execute("accept", dataset, min_score=1.0, labels=["horse"])


def test_rename_merge_and_delete(dataset: Any) -> None:
    form = form_of("rename", dataset, label=" ", target="dataset")
    assert invalid(form) == {"label": "give the new label"}
    hidden = form_of("rename", dataset, target="dataset")[
        "no_label"
    ]  # keeps the button off without a red line
    assert (hidden["invalid"], hidden["view"]["name"], hidden["required"]) == (True, "HiddenView", False)
    form = form_of("rename", dataset, target="dataset", label="ho")
    assert form["classes"]["default"] == "A new class. Classes that begin so: horse"
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


def test_negative_words_and_thresholds_of_relabel(dataset: Any, tmp_path: Path) -> None:
    from gem_label.runs import open_run

    def vocabulary() -> Any:
        return open_run(tmp_path / "run").vocabulary

    form = form_of("relabel", dataset)
    # it begins with what the run has: no negative words, all scores
    assert (form["negatives"]["default"], form["min_score"]["default"]) == ("none", "0")
    assert "probability that the label is right" in str(form["min_score"]["view"])
    execute("relabel", dataset, words="cat, horse, pizza")
    assert len(vocabulary().negatives) > 100
    form = form_of("relabel", dataset)
    assert form["negatives"]["default"] == "auto"
    assert "0 masks change" in form["preview"]["default"]
    execute("relabel", dataset, words="cat, pizza", negatives="number", negative_count=7)
    assert len(vocabulary().negatives) == 7
    execute("relabel", dataset, words="cat, pizza", negatives="words", negative_words="bicycle, rose")
    assert vocabulary().negatives == ("bicycle", "rose")
    form = form_of("relabel", dataset)
    assert form["negatives"]["default"] == "words"
    assert form["negative_words"]["default"] == "bicycle, rose"
    assert "0 masks change" in form["preview"]["default"]
    execute("relabel", dataset, words="cat, pizza", negatives="none")
    assert vocabulary().negatives == ()
    for params, problem in (
        ({"min_score": "high"}, "cannot read 'high'"),
        ({"min_score": "2"}, "between 0 and 1"),
        ({"min_score": "0.5, zebra=0.2"}, "not among the classes"),
        ({"negatives": "words", "negative_words": " "}, "give negative words"),
    ):
        for name in ("label", "relabel"):
            field = "min_score" if "min_score" in params else "negative_words"
            assert problem in invalid(form_of(name, dataset, words="cat, pizza", **params))[field]
            with pytest.raises(Exception, match=problem):
                execute(name, dataset, words="cat, pizza", **params)
    execute("relabel", dataset, words="cat, pizza", min_score="0.1, cat=1")
    assert set(labels(dataset)) == {"pizza"}
    # thresholds stay, without those of classes that are gone
    assert form_of("relabel", dataset)["min_score"]["default"] == "0.1, cat=1"
    assert form_of("relabel", dataset, words="horse, pizza")["min_score"]["default"] == "0.1"
    execute("relabel", dataset, words="horse, pizza")
    assert open_run(tmp_path / "run").label_settings.min_score.default == 0.1
    execute("relabel", dataset, words="horse, pizza", min_score=0.25)  # from Python
    assert open_run(tmp_path / "run").label_settings.min_score.default == 0.25


def test_the_words_of_a_run_are_what_one_types(plugin: Any) -> None:
    import fiftyone.operators as foo

    from gem_label.vocabulary import Vocabulary

    relabel = sys.modules[type(foo.get_operator(URI + "relabel")).__module__]
    text = 'tent, rose\ncat, kitten => cat ! cat statue\n"tench, Tinca" => tench\ndog ! toy dog, hot dog'
    parsed = Vocabulary.parse(text)
    assert Vocabulary.parse(relabel.words_as_text(parsed)).to_dict() == parsed.to_dict()


# --- less likely labels and the desk -------------------------------------------------------------------------------


def test_the_desk_hides_less_likely_labels_until_asked(dataset: Any, tmp_path: Path) -> None:
    from gem_label.review import push_run
    from gem_label.runs import open_run

    hidden = f"{FIELD}_less_likely"
    desk = DeskSession(dataset)
    assert "less_likely" not in desk.shown
    median = float(np.median(dataset.values(f"{FIELD}.detections.confidence", unwind=True)))
    push_run(open_run(tmp_path / "run"), dataset.name, min_score=median, hidden_from=0.0)
    dataset.reload()
    desk.send("on_load")
    assert "field" not in desk.shown  # one field of labels
    assert "of 12 masks decided" in desk.shown["progress"]["default"]
    button = desk.shown["less_likely"]["type"]["properties"]["toggle"]["view"]
    assert button["label"] == "Show 12 less likely labels"
    desk.send("change_tab", tab="queue")
    desk.send("open_queue")
    assert len(dataset.view()._build(dataset, desk.asked("set_view")["view"])) == 12

    desk.send("show_less_likely", less_likely=True)
    assert desk.asked(f"{URI}draw_fields")["fields"] == [hidden]
    assert "set_view" not in [uri for uri, _ in desk.messages]  # one change of the grid in an event
    assert "0 of 12 less likely masks decided" in desk.shown["progress"]["default"]
    desk.send("open_form", operator="rename")
    assert desk.asked("prompt_user_for_operation")["params"] == {"field": hidden, "from_desk": True}
    desk.send("open_queue")
    patches = dataset.view()._build(dataset, desk.asked("set_view")["view"])
    some = patches.limit(2).values("id")
    desk.send("accept_selected", view=patches, selected=some)
    dataset.reload()
    assert dataset.count(f"{FIELD}.detections") == 14
    assert "0 of 10 less likely masks decided" in desk.shown["progress"]["default"]
    desk.send("reject_selected", view=patches, selected=patches.skip(2).limit(1).values("id"))
    assert "1 of 10 less likely masks decided" in desk.shown["progress"]["default"]

    desk.send("show_less_likely", view=patches, less_likely=False)
    assert desk.asked(f"{URI}draw_fields")["fields"] == [FIELD]
    assert "clear_view" in [uri for uri, _ in desk.messages]
    assert "2 of 14 masks decided" in desk.shown["progress"]["default"]
    # a desk that is opened again begins with the labels
    desk.send("show_less_likely", less_likely=True)
    desk.send("refresh")
    assert "of 10 less likely masks" in desk.shown["progress"]["default"]
    desk.send("on_load")
    assert desk.asked(f"{URI}draw_fields")["fields"] == [FIELD]
    assert "2 of 14 masks decided" in desk.shown["progress"]["default"]
    # undo takes the last decisions back, whichever field they are about
    desk.send("undo_last")
    assert "undone: reject 1 mask" in desk.asked("notify")["message"]
    desk.send("undo_last")
    dataset.reload()
    assert (dataset.count(f"{FIELD}.detections"), dataset.count(f"{hidden}.detections")) == (12, 12)
    desk.send("undo_last")
    assert "nothing to undo" in desk.asked("notify")["message"]


def test_relabel_keeps_likely_and_less_likely_apart(dataset: Any) -> None:
    hidden = f"{FIELD}_less_likely"
    scores = sorted(dataset.values(f"{FIELD}.detections.confidence", unwind=True))
    _, messages = execute(
        "relabel", dataset, words="cat, horse, pizza", negatives="none", min_score=str(scores[12])
    )
    assert "12 masks and 12 less likely ones in 'gem_label'" in told(messages)
    dataset.reload()
    assert dataset.count(f"{hidden}.detections") == 12
    # from the field of the less likely ones it is the same run, and decisions stay
    execute("accept", dataset, field=hidden, labels=["cat"])
    dataset.reload()
    accepted = dataset.count_label_tags()["accepted"]
    assert accepted == dataset.count(f"{FIELD}.detections") - 12 > 0
    _, messages = execute(
        "relabel", dataset, field=hidden, words="cat, horse, pizza", negatives="none", min_score="0"
    )
    assert (
        told(messages) == f"24 masks in 'gem_label' with 3 words; {accepted} decided masks stay as they are"
    )


# --- files and points ----------------------------------------------------------------------------------------------


def test_export_and_import(dataset: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    execute("accept", dataset, labels=["cat"])
    folder = str(tmp_path / "photos")
    assert "is a folder" in invalid(form_of("export_annotations", dataset, path=folder))["path"]
    _, messages = execute("export_annotations", dataset, path=str(out), which="accepted")
    content = json.loads(out.read_text())
    assert len(content["annotations"]) == labels(dataset)["cat"]
    shown = next(params for uri, params in messages if uri == "show_output")
    assert shown["results"]["link"] == f"/media?filepath={out}"
    assert "out.json exists" in invalid(form_of("export_annotations", dataset, path=str(out)))["replace"]
    assert invalid(form_of("export_annotations", dataset, path=str(out), replace=True)) == {}
    for annotation in content["annotations"]:
        annotation["category_id"] = 7
    out.write_text(json.dumps(content | {"categories": [{"id": 7, "name": "lynx"}]}))
    assert "there is no file" in invalid(form_of("import_annotations", dataset, path="nowhere.json"))["path"]
    _, messages = execute("import_annotations", dataset, path=str(out))
    assert "relabeled" in told(messages)
    assert "lynx" in labels(dataset)
    with pytest.raises(Exception, match="there is no file"):
        execute("import_annotations", dataset, path="nowhere.json")
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(Exception, match="holds no COCO instances"):
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
        "there is no file" in invalid(form_of("evaluate_points", dataset, points_csv="no.csv"))["points_csv"]
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


def test_labels_are_measured_against_ground_truth(dataset: Any) -> None:
    form = form_of("evaluate_labels", dataset)
    assert "no ground truth" in invalid(form)["no_truth"]
    with pytest.raises(Exception, match="no ground truth"):
        execute("evaluate_labels", dataset)
    dataset.clone_sample_field(FIELD, "people_drew")
    dataset.rename_sample_field("people_drew", "ground_truth")
    cats = labels(dataset)["cat"]
    execute("rename", dataset, field="ground_truth", labels=["cat"], label="horse")
    form = form_of("evaluate_labels", dataset)
    assert form["truth_field"]["default"] == "ground_truth"
    assert invalid(form) == {}
    _, messages = execute("evaluate_labels", dataset)
    result = next(params for uri, params in messages if uri == "show_output")["results"]
    assert result["precision"] == pytest.approx((24 - cats) / 24)
    assert told(messages).startswith(f"precision {100 * (24 - cats) / 24:.1f}%, recall ")
    assert f"| wrong word | {cats} |" in result["summary"]
    assert f"| cat | horse | {cats} |" in result["summary"]
    rows = {row["label"]: row for row in result["per_class"]}
    assert rows["cat"]["instances"] == 0
    assert (rows["pizza"]["precision"], rows["pizza"]["recall"]) == ("100.0%", "100.0%")
    from gem_label.labeling import Thresholds

    Thresholds.parse(result["min_score"]).by_class(WORDS)


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
    foo.get_operator(URI + "export_annotations")(dataset, path=str(tmp_path / "o.xml"), format="cvat")
    assert (tmp_path / "o.xml").exists()
    with pytest.raises(Exception, match="no mask is meant"):
        accept(dataset, labels=["zebra"])
