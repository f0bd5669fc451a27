"""Classes by examples: annotated masks are embedded once and say what a class looks like."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gem_label.cli import run as command
from gem_label.clip.models import load_clip
from gem_label.demo import demo_words
from gem_label.demo.dataset import write_dataset
from gem_label.demo.scenes import Scene, render_scene
from gem_label.demo.sprites import load_sprites
from gem_label.demo.truth import TEST_SEED
from gem_label.errors import UsageError
from gem_label.examples import read_examples, with_example_classes
from gem_label.runs import open_run
from gem_label.vocabulary import Vocabulary

SHOWN, OTHER = "parrot", "fish"


def scenes(first: int, count: int) -> list[Scene]:
    """Scenes of parrots and fish, as their drawings look that the demo CLIP was not trained on."""
    book = load_sprites()
    drawings = book.drawings(held_out=True)
    nouns = [book.nouns.index(SHOWN), book.nouns.index(OTHER)]
    drawings = drawings[np.isin(drawings[:, 1], nouns)]
    return [
        render_scene(np.random.default_rng(TEST_SEED + i), book, drawings, (320, 320), (4, 5), (100, 150))
        for i in range(first, first + count)
    ]


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scenes with their parrots, which the file calls part A-17."""
    folder = tmp_path_factory.mktemp("examples")
    write_dataset(scenes(7000, 6), list(demo_words()), folder)
    content = json.loads((folder / "instances.json").read_text())
    (shown,) = [each for each in content["categories"] if each["name"] == SHOWN]
    content["categories"] = [shown | {"name": "part A-17"}]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == shown["id"]]
    path = folder / "examples.json"
    path.write_text(json.dumps(content))
    return path


def test_classes_of_examples_join_the_vocabulary(annotated: Path, tmp_path: Path) -> None:
    found = read_examples(annotated)
    assert found.classes == ("part A-17",)
    assert all(Path(photo.path or "").is_file() for photo in found.photos)
    both = with_example_classes(Vocabulary.parse("cat ! toy cat; part A-17"), found)
    assert both.classes == ("cat", "part A-17")
    more = with_example_classes(Vocabulary.parse("cat ! toy cat"), found)
    assert more.phrases == ("cat", "part A-17", "toy cat")
    assert with_example_classes(None, found, "sky").phrases == ("part A-17", "sky")
    alone = tmp_path / "alone.json"
    alone.write_text(annotated.read_text())
    with pytest.raises(UsageError, match="no photos"):
        read_examples(alone)


@pytest.mark.slow
def test_label_finds_a_class_that_has_examples_and_no_word(
    annotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    write_dataset(scenes(7100, 2), list(demo_words()), photos)
    arguments = ["label", str(photos / "data"), "--classes", OTHER, "--clip", "demo", "--max-prompts", "64"]
    assert command([*arguments, "--examples", str(annotated), "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    run = open_run(tmp_path / "run")
    assert run.vocabulary.classes == (OTHER, "part A-17")
    assert run.learned is not None
    assert run.learned.examples is not None
    assert run.learned.examples.with_text.tolist() == [False]
    truth = json.loads((photos / "instances.json").read_text())
    names = {each["id"]: each["name"] for each in truth["categories"]}
    things = sum(names[a["category_id"]] == SHOWN for a in truth["annotations"])
    assert things / 2 <= run.manifest["counts"]["kept_by_class"]["part A-17"] <= things + 1
    assert load_clip("demo", "cpu").weights_sha256 == run.learned.clip_sha256
    # new words for the run: the class keeps its looks
    words = f"{OTHER}, part A-17"
    assert command(["relabel", str(run.path), "--classes", words, "--out", str(tmp_path / "again")]) == 0
    again = open_run(tmp_path / "again").manifest["counts"]["kept_by_class"]
    assert again == run.manifest["counts"]["kept_by_class"]
