"""`gem-label search`: lines that other programs can read, whatever names are, and phrases with something in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from random_run import ANIMALS, text_of, write_run
from run_factory import mask_labels, mask_set, rectangles
from small_clip import write_small_clip

from gem_label.cli import run as gem_label
from gem_label.clip.models import load_clip
from gem_label.clip.text import TextEncoder
from gem_label.errors import UsageError
from gem_label.photos.photo import Photo
from gem_label.runs import RunWriter, search_run
from gem_label.vocabulary import Vocabulary
from gem_label.weights import file_sha256

IMAGE = "/photos/a\tb\\n\nc.jpg"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one photo whose name has a tab, a line break and a backslash in it."""
    folder = tmp_path_factory.mktemp("search")
    clip = write_small_clip(folder / "clip")
    masks = mask_set(rectangles(2))
    masks = masks.__class__(
        **{
            name: getattr(masks, name)
            for name in ("height", "width", "counts", "predicted_iou", "stability", "points")
        },
        embeddings=np.random.default_rng(0).normal(size=(2, 32)).astype(np.float32),
    )
    writer = RunWriter.create_or_resume(
        folder / "run",
        settings={"clip": str(clip), "templates": ["a {}"]},
        weights={"clip": {"sha256": file_sha256(clip / "open_clip_model.safetensors")}},
        vocabulary=Vocabulary(("a\tcat",), (("cat",),), ()),
        embedding_dim=32,
        logit_scale=10.0,
    )
    with writer:
        photo = writer.register([Photo(IMAGE, IMAGE[8:-4])])[0]
        writer.write(photo, masks, mask_labels(["a\tcat", None], [0.9, 0.1], classes=("a\tcat",)))
    return folder / "run"


def test_lines_do_not_break_at_names(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gem_label(["search", str(run), "a cat"]) == 0
    header, *lines = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert header == ["similarity", "mask_id", "label", "bbox", "image"]
    assert {(*line[1:3], line[4]) for line in lines} == {
        (r"a\tb\\n\nc#0", r"a\tcat", r"/photos/a\tb\\n\nc.jpg"),
        (r"a\tb\\n\nc#1", "-", r"/photos/a\tb\\n\nc.jpg"),
    }


def test_lines_of_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gem_label(["search", str(run), "a cat", "--format", "jsonl", "--top", "1"]) == 0
    (hit,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert hit["image"] == IMAGE
    assert len(hit["bbox"]) == 4
    assert sorted(hit) == ["area", "bbox", "image", "image_id", "label", "mask_id", "score", "similarity"]


@pytest.mark.parametrize("phrase", ["", "  ", "\t\n", "\u200b", "\ufeff \u00a0"])
def test_a_phrase_of_nothing_is_refused(run: Path, phrase: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gem_label(["search", str(run), phrase]) == 2
    assert capsys.readouterr() == (
        "",
        "gem-label: a phrase is empty: give a word or a few, such as 'broken window'\n",
    )
    with pytest.raises(UsageError, match="a phrase is empty"):
        TextEncoder(load_clip(str(run.parent / "clip"))).encode(["cat", phrase])


@pytest.mark.parametrize("embedding", [np.zeros(8), np.full(8, np.nan), np.zeros((0, 8)), np.zeros(7)])
def test_an_embedding_of_nothing_is_refused(tmp_path: Path, embedding: np.ndarray) -> None:
    found = write_run(tmp_path / "run", 2)
    with pytest.raises(UsageError, match=r"text embedding|embedding of a word"):
        search_run(found, embedding)
    with pytest.raises(UsageError, match="top must be a whole number from 1, not 0"):
        search_run(found, text_of(ANIMALS)[0], top=0)


def test_a_run_that_names_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = write_run(tmp_path / "run", 2)
    assert gem_label(["search", str(found.path), "cat"]) == 1
    assert "does not say which CLIP model" in capsys.readouterr().err
