"""Paths in the App's forms: what operators may write and read, and what they replace."""

from __future__ import annotations

import base64
import json
import socket
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from fiftyone_fixture import fiftyone_db
from plugin_calls import URI, dataset, execute, form_of, invalid, plugin, told
from review_dataset import FIELD
from test_plugin import labels

from gem_label.allowed_folders import VARIABLE
from gem_label.formats.reading import read_annotations
from gem_label.formats.writing import FORMATS

__all__ = ["dataset", "fiftyone_db", "plugin"]

NOT_ALLOWED = "this path is not in an allowed folder: give one below "
NAMED = (
    ("export_annotations", "path", {}),
    ("export_annotations", "path", {"format": "yolo"}),
    ("export_annotations", "path", {"format": "label-studio"}),
    ("import_annotations", "path", {}),
    ("evaluate_points", "points_csv", {}),
    ("label", "run_folder", {"words": "cat", "clip": "demo"}),
    ("label", "clip", {"words": "cat"}),
)
SECRETS = (
    "hunter2",
    '["hunter2"]',
    "{hunter2",
    "<hunter2",
    "a: hunter2\n\tb: 'hunter2",
    "user,hunter2\n1,2",
    "hunter2: ]",
    "names: {hunter2: hunter2}",
)


@pytest.fixture
def elsewhere(dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file; the App may write into another one."""
    (tmp_path / "allowed").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "there.json").write_text("{}")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "allowed"))
    return tmp_path / "elsewhere"


@pytest.mark.parametrize(("operator", "param", "params"), NAMED)
def test_every_path_of_a_form_is_below_an_allowed_folder(
    dataset: Any, elsewhere: Path, operator: str, param: str, params: dict[str, Any]
) -> None:
    allowed = elsewhere.parent / "allowed"
    (allowed / "link").symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    for path in (
        elsewhere / "there.json",
        elsewhere / "new",
        allowed / "link" / "new",
        allowed / ".." / "new",
    ):
        given = {**params, param: str(path)}
        said = invalid(form_of(operator, dataset, **given))[param]
        assert said.startswith(f"{NOT_ALLOWED}{allowed} or "), said
        assert "\n" not in said
        assert "`gem-label review --folder PATH` or GEM_LABEL_FOLDERS" in said
        with pytest.raises(Exception, match=NOT_ALLOWED):
            execute(operator, dataset, **given)
    with pytest.raises(Exception, match="hidden files"):
        execute(operator, dataset, **{**params, param: str(allowed / ".bashrc")})
    assert sorted(elsewhere.rglob("*")) == before
    assert not (elsewhere.parent / "new").exists()


def test_models_are_no_way_to_read_files(dataset: Any, elsewhere: Path) -> None:
    given = {"words": "cat", "sam": str(elsewhere / "there.json")}
    with pytest.raises(Exception, match="Invalid enum value"):
        execute("label", dataset, **given)
    for clip in (f"ViT-B-16/{elsewhere}/there.json", "ViT-B-16/../there.pt", f"{elsewhere}/not-there"):
        assert NOT_ALLOWED in invalid(form_of("label", dataset, words="cat", clip=clip))["clip"]
    form = form_of("label", dataset, words="cat", clip="torchscript:ViT-B-16/x.pt")
    assert "holds code, and the App loads none" in invalid(form)["clip"]
    for clip in ("demo", "ViT-B-16/laion400m_e32", f"ViT-B-16/{elsewhere.parent}/allowed/x.pt"):
        assert "clip" not in invalid(form_of("label", dataset, words="cat", clip=clip))


def test_delegated_work_is_checked_where_it_is_done(dataset: Any, elsewhere: Path) -> None:
    import fiftyone.operators as foo
    from fiftyone.operators.delegated import DelegatedOperationService

    service = DelegatedOperationService()
    export = foo.get_operator(URI + "export_annotations")
    with pytest.raises(Exception, match=NOT_ALLOWED):
        export(dataset, delegate=True, path=str(elsewhere / "new.json"))
    queued = export(dataset, delegate=True, path=str(elsewhere.parent / "allowed" / "a.json")).result
    service.execute_operation(service.get(queued["id"]))
    assert (elsewhere.parent / "allowed" / "a.json").is_file()
    service.delete_operation(queued["id"])


def test_python_may_name_any_path(dataset: Any, elsewhere: Path) -> None:
    import fiftyone.operators as foo

    export = foo.get_operator(URI + "export_annotations")
    export(dataset, path=str(elsewhere / "new.json"))
    assert json.loads((elsewhere / "new.json").read_text())["images"]
    # the App cannot say that it is Python
    context = {"gem_label_caller": "OWN_PROCESS"}
    with pytest.raises(Exception, match=NOT_ALLOWED):
        execute("export_annotations", dataset, context, path=str(elsewhere / "other.json"))


def test_the_suffix_is_that_of_the_format(dataset: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "code.pth")
    given = {"path": path, "format": "csv"}
    assert invalid(form_of("export_annotations", dataset, **given))["path"].endswith("ends with .csv")
    with pytest.raises(Exception, match=r"ends with \.csv"):
        execute("export_annotations", dataset, **given)
    assert not Path(path).exists()
    execute("export_annotations", dataset, path=str(tmp_path / "O.CSV"), format="csv")


def test_without_folders_the_home_folder_is_allowed_while_nobody_else_can_ask(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = str(tmp_path / "home" / "street.json")
    execute("export_annotations", dataset, path=path)
    assert Path(path).is_file()
    assert "not in an allowed" in invalid(form_of("export_annotations", dataset, path="/srv/a.json"))["path"]
    with socket.create_server(("127.0.0.1", 0)):
        assert invalid(form_of("import_annotations", dataset, path=path)) == {}
    with socket.create_server(
        ("0.0.0.0", 0)
    ):  # as this process would listen if the App were open to the network
        assert "not in an allowed" in invalid(form_of("import_annotations", dataset, path=path))["path"]
        # what a form begins with is allowed, though
        form = form_of("export_annotations", dataset)
        assert invalid(form) == {}
        assert "gem-label" in form["path"]["default"]
    assert "not in an allowed" in invalid(
        form_of("import_annotations", dataset, {"delegated": True}, path=path)
    ).get("path", "")


def test_a_field_keeps_its_run_wherever_that_is(dataset: Any, elsewhere: Path) -> None:
    run = elsewhere.parent / "run"
    form = form_of("label", dataset, words="cat", clip="demo")
    assert form["run_folder"]["default"] == str(run)
    assert "run_folder" not in invalid(form)
    execute("relabel", dataset, words="pizza")
    assert set(labels(dataset)) == {"pizza"}
    # but a dataset cannot make any folder a run
    dataset.info["gem_label"][FIELD]["run"] = str(elsewhere)
    dataset.save()
    assert NOT_ALLOWED in invalid(form_of("label", dataset, words="cat", clip="demo"))["run_folder"]


# --- replacing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["coco", "lvis", "cvat", "label-studio", "yolo", "csv", "parquet"])
def test_an_export_is_replaced_when_asked(dataset: Any, tmp_path: Path, format: str) -> None:
    out = tmp_path / f"out{FORMATS[format].suffix}"
    given = {"path": str(out), "format": format}
    execute("export_annotations", dataset, **given)
    with pytest.raises(Exception, match="exists: tick this, or give another name"):
        execute("export_annotations", dataset, **given)
    execute("delete", dataset, labels=["cat"])
    _, messages = execute("export_annotations", dataset, **given, replace=True)
    assert told(messages)
    assert "cat" not in {m.label for photo in read_annotations(out).photos for m in photo.masks}


def test_what_is_no_annotation_file_is_never_replaced(dataset: Any, tmp_path: Path) -> None:
    contents = ("", "{}", "[1]", "thesis, chapter 1", '{"key": "value"}')
    for format, content in product(("coco", "label-studio", "csv", "yolo"), contents):
        out = tmp_path / f"out{FORMATS[format].suffix}"
        out.write_text(content)
        with pytest.raises(Exception, match=r"is no annotation file and is not replaced|is a file: YOLO"):
            execute("export_annotations", dataset, path=str(out), format=format, replace=True)
        assert out.read_text() == content
        out.unlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["photos", "run"]


def test_the_file_beside_label_studios_is_not_replaced_either(dataset: Any, tmp_path: Path) -> None:
    (tmp_path / "out.config.xml").write_text("<settings/>")
    given = {"path": str(tmp_path / "out.json"), "format": "label-studio"}
    assert "out.config.xml exists" in invalid(form_of("export_annotations", dataset, **given))["replace"]
    with pytest.raises(Exception, match=r"out.config.xml is no annotation file"):
        execute("export_annotations", dataset, **given, replace=True)
    assert (tmp_path / "out.config.xml").read_text() == "<settings/>"


def test_the_name_that_an_export_begins_with_is_free(dataset: Any, tmp_path: Path) -> None:
    first = form_of("export_annotations", dataset)["path"]["default"]
    execute("export_annotations", dataset)
    assert Path(first).is_file()
    second = form_of("export_annotations", dataset)["path"]["default"]
    assert Path(second).name == Path(first).stem + "-2.json"
    execute("export_annotations", dataset)
    assert Path(second).is_file()


# --- reading -------------------------------------------------------------------------------------------------------


def test_messages_do_not_show_what_is_in_other_files(dataset: Any, tmp_path: Path) -> None:
    operators = (("import_annotations", "path"), ("evaluate_points", "points_csv"))
    for name in ("secret.csv", "secret.json", "secret.yaml", "secret.xml", "secret.txt", "secret"):
        path = tmp_path / name
        for content, (operator, param) in product(SECRETS, operators):
            path.write_text(content)
            with pytest.raises(Exception, match=name) as error:
                execute(operator, dataset, **{param: str(path)})
            assert "hunter2" not in str(error.value)


def upload(name: str, data: bytes) -> dict[str, Any]:
    """A file as the App sends it."""
    content = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
    return {"file_from": "upload", "file": {"name": name, "size": len(data), "content": content}}


def test_corrections_are_uploaded(dataset: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    execute("export_annotations", dataset, path=str(out))
    content = json.loads(out.read_text())
    content["categories"] = [{**each, "name": f"big {each['name']}"} for each in content["categories"]]
    corrected = upload("corrected.JSON", json.dumps(content).encode())
    assert invalid(form_of("import_annotations", dataset, **corrected)) == {}
    _, messages = execute("import_annotations", dataset, **corrected)
    assert "24" in told(messages)
    assert set(labels(dataset)) == {"big cat", "big horse", "big pizza"}


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"file_from": "upload"}, "choose the file|Required"),
        (upload("data.yaml", b"train: /etc"), r"upload one of \.json"),
        (upload("../../a.sh", b""), r"upload one of \.json"),
        (upload("a.json", b"x" * 5_000_001), "more than 5 MB"),
        (upload("a.json", b"hunter2"), "is no annotation file"),
        ({"file_from": "upload", "file": {"name": "a.json", "content": "data:,%%%"}}, "did not arrive whole"),
        ({"file_from": "upload", "file": {"name": None, "content": None}}, "choose the file"),
    ],
)
def test_an_upload_that_is_none_is_told(dataset: Any, params: dict[str, Any], problem: str) -> None:
    with pytest.raises(Exception, match=problem) as error:
        execute("import_annotations", dataset, **params)
    assert "hunter2" not in str(error.value)
