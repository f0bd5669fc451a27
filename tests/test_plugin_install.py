"""Getting the plugin and the zoo models: from a checkout, from a wheel, and by FiftyOne's own downloads."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from fiftyone_fixture import fiftyone_db

from gem_label.errors import GemLabelError, UsageError
from gem_label.plugin import check_version
from gem_label.plugin.installing import LOADER, install_plugin

__all__ = ["fiftyone_db"]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an archive of the repository, as a forge serves it."""
    folder = tmp_path_factory.mktemp("served")
    with zipfile.ZipFile(folder / "gem-label.zip", "w") as file:
        for part in ("plugins", "zoo"):
            for path in (ROOT / part).rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    file.write(path, Path("gem-label-main") / path.relative_to(ROOT))
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/gem-label.zip"
    server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_gem_label_plugin_install(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gem_label.cli", "plugin", "install", "--to", str(tmp_path)]
    first = subprocess.run(command, capture_output=True, text=True)
    assert (first.returncode, first.stdout.strip()) == (0, str(tmp_path / "gem_label"))
    again = subprocess.run(command, capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, first.stdout)  # is up to date
    (tmp_path / "gem_label" / "old.py").write_text("")
    older = subprocess.run(command, capture_output=True, text=True)
    assert older.returncode == 2
    assert "--overwrite replaces it" in older.stderr
    assert install_plugin(tmp_path, overwrite=True) == tmp_path / "gem_label"
    assert {path.name for path in (tmp_path / "gem_label").iterdir()} == {
        "__init__.py",
        "fiftyone.yml",
        "package.json",
        "dist",
    }
    script = json.loads((tmp_path / "gem_label" / "package.json").read_text())["fiftyone"]["script"]
    assert (tmp_path / "gem_label" / script).read_bytes() == (LOADER / script).read_bytes()


def test_the_repository_holds_the_plugin_that_the_package_installs() -> None:
    # `fiftyone plugins download` looks for plugins/ in the repository
    assert LOADER.resolve() == ROOT / "plugins" / "gem_label"
    assert install_plugin(ROOT / "plugins") == LOADER.resolve()


@pytest.mark.slow
def test_the_wheel_holds_the_plugin(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    ignored = shutil.ignore_patterns(".venv", ".git", "*.egg-info", "build", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignored)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(copy),
    ]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name.removeprefix("gem_label/plugin/loader/") for name in archive.namelist()}
    files = {
        str(path.relative_to(LOADER.resolve())) for path in LOADER.resolve().rglob("*") if path.is_file()
    }
    assert {name for name in files if "__pycache__" not in name} <= names


def test_the_plugin_declares_what_the_package_registers() -> None:
    import yaml

    from gem_label.plugin import register

    declared = yaml.safe_load((LOADER / "fiftyone.yml").read_text())
    registered: list[str] = []

    class Context:
        def register(self, operator: type) -> None:
            registered.append(operator(_builtin=True).config.name)

    register(Context(), version("gem-label"))
    assert sorted(registered) == sorted(declared["operators"] + declared["panels"])
    assert declared["version"] == version("gem-label")
    assert f'VERSION = "{declared["version"]}"' in (LOADER / "__init__.py").read_text()


def test_a_plugin_of_another_version_says_how_to_update() -> None:
    with pytest.raises(GemLabelError, match="plugin install --overwrite"):
        check_version("0.0.1")


def test_fiftyone_plugins_download(
    fiftyone_db: str, archive: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fiftyone as fo
    import fiftyone.plugins as fop

    monkeypatch.setattr(fo.config, "plugins_dir", str(tmp_path))
    downloaded = fop.download_plugin(archive)
    assert list(downloaded) == ["@gem-label/gem-label"]
    definition = fop.get_plugin("@gem-label/gem-label")
    assert (Path(definition.directory) / "__init__.py").is_file()
    assert "label" in definition.operators


@pytest.mark.slow
def test_the_model_zoo(
    fiftyone_db: str, archive: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fiftyone as fo
    import fiftyone.zoo as foz

    from gem_label.demo import scene_paths
    from gem_label.labeling.settings import DEFAULT_MIN_SCORE
    from gem_label.review import GemSamModel

    monkeypatch.setattr(fo.config, "model_zoo_dir", str(tmp_path))
    foz.register_zoo_model_source(archive)
    names = {"gem-sam-demo", "gem-sam-vit-b-16", "gem-sam-vit-l-14"}
    assert names <= set(foz.list_zoo_models())
    with pytest.raises(UsageError, match="give the words"):
        foz.load_zoo_model("gem-sam-demo")
    asked = {"classes": "bicycle, rose", "max_prompts": 4}
    model = foz.load_zoo_model("gem-sam-demo", **asked)
    assert isinstance(model, GemSamModel)
    assert (model.min_score.default, len(model.vocabulary.negatives) > 100) == (DEFAULT_MIN_SCORE, True)
    model = foz.load_zoo_model("gem-sam-demo", **asked, min_score="0, rose=0.01", negatives="none")
    assert model.vocabulary.negatives == ()
    from gem_label.review import load_zoo_model  # the same without a source

    assert load_zoo_model("gem-sam-demo", **asked).vocabulary.classes == ("bicycle", "rose")
    with pytest.raises(UsageError, match="there is no model 'gem-sam'"):
        load_zoo_model("gem-sam", "cat")
    dataset = fo.Dataset("model zoo", overwrite=True)
    dataset.add_sample(fo.Sample(filepath=str(scene_paths()[0])))
    dataset.apply_model(model, "gem_sam")
    assert set(dataset.distinct("gem_sam.detections.label")) <= {"bicycle", "rose"}
    assert dataset.count("gem_sam.detections") > 0
    fo.delete_dataset(dataset.name)


def test_doctor_tells_a_missing_and_an_outdated_plugin(tmp_path: Path, fiftyone_db: str) -> None:
    from gem_label.doctor import State, check_plugin

    found = check_plugin(tmp_path)
    assert found.state is State.NOTE
    assert found.detail == f"not in {tmp_path}, the App has no GEM-Label: gem-label plugin install"
    place = install_plugin(tmp_path)
    assert check_plugin(tmp_path).state is State.OK
    manifest = place / "fiftyone.yml"
    current = version("gem-label")
    manifest.write_text(manifest.read_text().replace(f'version: "{current}"', 'version: "0.0.1"'))
    found = check_plugin(tmp_path)
    assert found.state is State.NOTE
    update = "gem-label plugin install --overwrite"
    assert found.detail == f"{place} is of gem-label 0.0.1, this is {current}: {update}"
    install_plugin(tmp_path, overwrite=True)
    (tmp_path / "other" / "deep").mkdir(parents=True)  # as `fiftyone plugins download` may put it
    shutil.copy(manifest, tmp_path / "other" / "deep")
    assert "it is there twice" in check_plugin(tmp_path).detail
    (tmp_path / "other" / "deep" / "fiftyone.yml").write_text("name: [")
    assert check_plugin(tmp_path).state is State.OK
    assert "\n" not in found.detail
