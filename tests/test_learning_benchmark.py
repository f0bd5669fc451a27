"""benchmarks/learning.py: simulated reviews, on a run without any vision model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from learning_run import write_run

from gem_label.clip.models import load_clip
from gem_label.clip.text import TextEncoder


@pytest.mark.slow
def test_curves_of_a_run_whose_annotations_are_known(tmp_path: Path) -> None:
    from test_learn_run import coco_of

    encoder = TextEncoder(load_clip("demo", "cpu"))
    run = write_run(tmp_path / "run", encoder, range(1, 21))
    annotations = coco_of(tmp_path / "annotations.json", encoder, range(1, 21))
    script = Path(__file__).parents[1] / "benchmarks" / "learning.py"
    command = [sys.executable, script, "--run", run.path, "--annotations", annotations, "--counts", "2,12"]
    command += [
        "--orders",
        "1",
        "--decisions",
        "20",
        "--decision-orders",
        "1",
        "--json",
        tmp_path / "n.json",
    ]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    numbers = json.loads((tmp_path / "n.json").read_text())
    few, many = numbers["by_photos"]["2"], numbers["by_photos"]["12"]
    assert few["after"] >= few["before"]
    assert many["after"] > many["before"]
    assert [row["decisions"] for row in numbers["by_decisions"]["queue"]] == [20]
    assert min(numbers["coverage"]["interval_true"].values()) >= 0.95
