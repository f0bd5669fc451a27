"""README's commands, pasted one after the other by somebody who has two images and no model hub."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from fiftyone_fixture import fiftyone_db  # noqa: F401

from gem_label.cli import run
from gem_label.demo import scene_paths

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
# what is not run here, and where it is
ELSEWHERE = {
    "gem-label review pets": "opens the App until it is closed: tests/test_app.py",
    "--engine ray": "tests/test_ray.py",
    "gem-label bench": "tests/test_fast.py",
    "gem-label learn": "needs reviews: tests/test_review_learning.py",
    "gem-label import": "needs a corrected file: tests/test_cli_exchange.py",
    "gem-label eval labels": "needs annotations: tests/test_eval_labels.py",
    "gem-label plugin install": "writes into FiftyOne's folder: tests/test_plugin_install.py",
}
DEMO = ["--clip", "demo"]  # the default needs a model hub
MODELS = {"label": [*DEMO, "--max-prompts", "64"], "heatmap": DEMO, "doctor": DEMO}


def commands() -> list[str]:
    """The lines of README's quick start that are commands of gem-label, without their comments."""
    part = README.split("## Quick start")[1].split("\n## ")[0]
    return [line.split("  #")[0].strip() for line in re.findall(r"^    (gem-label .*)$", part, re.MULTILINE)]


@pytest.mark.slow
def test_the_quick_start_runs_in_order(
    fiftyone_db: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for scene in scene_paths()[:2]:
        shutil.copy(scene, "photos")
    shutil.copy(scene_paths()[0], "photo.jpg")
    left, ran = set(ELSEWHERE), []
    for command in commands():
        reason = next((part for part in ELSEWHERE if part in command), None)
        if reason is not None:
            left.discard(reason)
            continue
        words = shlex.split(command)[1:]
        code = run([*words, *MODELS.get(words[0], [])])
        said = capsys.readouterr()
        assert code == 0, f"{command}: {said.err}"
        ran.append(words[0])
    assert not left, f"README has no such command any more: {left}"
    assert ran == ["doctor", "label", "show", "relabel", "push", "export", "heatmap", "search"]
    assert Path("RUN-show/index.html").is_file()
    assert Path("annotations.json").is_file()
