"""A run that learns: learned.json, relabeling, new photos, and back; without any vision model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from learning_run import SIZE, WORDS, scene, write_run
from random_run import rounded_scores, rows_of
from stored_copy import stored_copy

from gem_label.cli import run as command
from gem_label.clip.models import load_clip
from gem_label.clip.text import TextEncoder
from gem_label.errors import GemLabelError, UsageError
from gem_label.learning.judging import PhotoReview
from gem_label.runs import Run, open_run, relabel_run
from gem_label.runs.files import LEARNED, MANIFEST, MASKS, RELABEL_READY
from gem_label.runs.learn import LearnReport, learn_from_reviews, learn_run
from gem_label.runs.learned_file import read_learned
from gem_label.runs.reviews import reviews_of
from gem_label.runs.stored import StoredRun
from gem_label.stores import open_store


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(load_clip("demo", "cpu"))


def coco_of(path: Path, encoder: TextEncoder, photos: range) -> Path:
    """Annotations of some photos: every cat and every blick in them."""
    categories = [{"id": i + 1, "name": name.title()} for i, name in enumerate(WORDS.classes)]
    images, annotations = [], []
    for number in photos:
        images.append({"id": number, "file_name": f"{number:03d}.jpg", "height": SIZE, "width": SIZE})
        masks, names = scene(number, encoder)
        for name, rle in zip(names, masks.rles[: len(names)], strict=True):
            counts = {"counts": rle["counts"].decode(), "size": [SIZE, SIZE]}
            category = WORDS.classes.index(name) + 1
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "segmentation": counts,
                    "area": 400,
                    "iscrowd": 0,
                    "bbox": [0, 0, 1, 1],
                }
            )
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    return path


def reviews(encoder: TextEncoder, photos: range) -> dict[int, PhotoReview]:
    found = {}
    for number in photos:
        masks, names = scene(number, encoder)
        found[number] = PhotoReview(masks.rles[:2], names, complete=frozenset(WORDS.classes))
    return found


def learned_from(run: Run, encoder: TextEncoder, photos: range = range(1, 17)) -> LearnReport:
    return learn_from_reviews(run, reviews(encoder, photos), encoder.encode(WORDS.phrases))


def kept_names(run: Run) -> list[str | None]:
    return [row["label"] if row["kept"] else None for row in rows_of(run)]


def test_a_run_learns_relabels_and_goes_back(tmp_path: Path, encoder: TextEncoder) -> None:
    run, text = write_run(tmp_path / "run", encoder, range(1, 25)), encoder.encode(WORDS.phrases)
    before = rows_of(run)
    report = learned_from(run, encoder)
    assert report.teaches
    assert report.lesson.words is not None
    assert report.after.f1 is not None
    assert report.after.f1 > (report.before.f1 or 0)
    taught = learn_run(run, report, text)
    assert taught.learned is not None
    assert taught.learned.digest == report.learned.digest == taught.manifest["labeling"]["learned"]
    assert kept_names(taught)[17 * 4 :] == ["cat", "blick", None, None] * 7  # photos that taught nothing
    # a relabel keeps what was learned, the same reviews teach the same, and going back gives the old labels
    rows, names = rows_of(taught), kept_names(taught)
    assert rows_of(relabel_run(taught, WORDS, text)) == rows
    again = learned_from(open_run(taught.path), encoder)
    assert again.learned.digest == report.learned.digest
    back = relabel_run(open_run(taught.path), WORDS, text, learned="none")
    assert back.learned is None
    assert "learned" not in back.manifest["labeling"]
    assert rows_of(back) == before
    returned = relabel_run(back, WORDS, text, learned=read_learned(back.path / LEARNED), out=tmp_path / "out")
    assert kept_names(returned) == names


def test_a_run_in_a_store_learns_as_one_in_a_folder(tmp_path: Path, encoder: TextEncoder) -> None:
    run, text = write_run(tmp_path / "run", encoder, range(1, 25)), encoder.encode(WORDS.phrases)
    stored = stored_copy(run, open_store(tmp_path / "store"))
    report = learned_from(stored, encoder)
    taught = learn_run(run, learned_from(run, encoder), text)
    learn_run(stored, report, text)
    found = StoredRun(stored.store)
    assert found.learned is not None
    assert found.learned.digest == report.learned.digest
    assert rows_of(found) == rows_of(taught)
    assert found.manifest["labeling"] == taught.manifest["labeling"]
    assert learned_from(found, encoder).learned.digest == report.learned.digest


def test_new_photos_get_the_labels_that_a_relabel_gives(tmp_path: Path, encoder: TextEncoder) -> None:
    run, text = write_run(tmp_path / "run", encoder, range(1, 20)), encoder.encode(WORDS.phrases)
    report = learned_from(run, encoder)
    relabeled = relabel_run(run, WORDS, text, learned=report.learned, out=tmp_path / "relabeled")
    labeled = write_run(tmp_path / "labeled", encoder, range(1, 20), report.learned)
    assert rounded_scores(rows_of(labeled)) == rounded_scores(rows_of(relabeled))
    assert labeled.manifest["labeling"] == relabeled.manifest["labeling"]
    # the run is resumed with the same file only
    assert len(list(write_run(tmp_path / "labeled", encoder, range(1, 22), report.learned).photos())) == 21
    with pytest.raises(UsageError, match="learned"):
        write_run(tmp_path / "labeled", encoder, range(1, 23))


def test_a_kill_leaves_old_labels_or_new_ones(tmp_path: Path, encoder: TextEncoder) -> None:
    run, text = write_run(tmp_path / "run", encoder, range(1, 20)), encoder.encode(WORDS.phrases)
    taught = learn_run(run, learned_from(run, encoder), text, out=tmp_path / "taught")
    ready = run.path / RELABEL_READY
    ready.mkdir()
    for name in (MASKS, MANIFEST, LEARNED):
        (taught.path / name).rename(ready / name)
    (ready / LEARNED).rename(run.path / LEARNED)  # killed before the manifest came
    found = open_run(run.path)
    assert found.learned is not None
    assert not ready.exists()
    (run.path / LEARNED).write_text("{}")
    with pytest.raises(GemLabelError, match="--learned none"):
        relabel_run(open_run(run.path), WORDS, text)
    relabel_run(open_run(run.path), WORDS, text, learned="none")


def test_reviews_are_taken_from_annotations(tmp_path: Path, encoder: TextEncoder) -> None:
    from gem_label.formats.reading import read_annotations

    run = write_run(tmp_path / "run", encoder, range(1, 4))
    found = reviews_of(
        run, read_annotations(coco_of(tmp_path / "a.json", encoder, range(2, 6))), complete=True
    )
    assert sorted(found.photos) == [2, 3]
    assert found.photos[2].names == ["cat", "blick"]
    assert found.photos[2].complete == frozenset(WORDS.classes)
    assert "2 annotated photos" in found.left_out[0]
    with pytest.raises(UsageError, match="none of the 2"):
        reviews_of(run, read_annotations(coco_of(tmp_path / "b.json", encoder, range(7, 9))), complete=True)


def test_learn_command(tmp_path: Path, encoder: TextEncoder, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_run(tmp_path / "run", encoder, range(1, 25)).path
    before = rows_of(open_run(path))
    annotations = str(coco_of(tmp_path / "a.json", encoder, range(1, 17)))
    assert command(["learn", str(path)]) == 2
    assert "--dataset NAME or --annotations FILE" in capsys.readouterr().err
    assert command(["learn", str(path), "--annotations", annotations, "--dry-run"]) == 0
    assert "words: used" in capsys.readouterr().out
    assert rows_of(open_run(path)) == before
    assert command(["learn", str(path), "--annotations", annotations]) == 0
    said = capsys.readouterr().out
    assert "16 reviewed photos" in said
    assert "blick: 16 things" in said
    assert open_run(path).learned is not None
    best = str(tmp_path / "best")
    assert command(["learn", str(path), "--annotations", annotations, "--min-score", "best"]) == 2
    assert "too few things" in capsys.readouterr().err
    assert (
        command(["learn", str(path), "--annotations", annotations, "--min-score", "0.2", "--out", best]) == 0
    )
    assert open_run(best).label_settings.min_score.default == 0.2
    capsys.readouterr()
    out = tmp_path / "back"
    arguments = ["relabel", str(path), "--classes", ",".join(WORDS.classes), "--negatives", "none"]
    assert command([*arguments, "--learned", "none", "--out", str(out)]) == 0
    assert rows_of(open_run(out)) == before
    few = str(coco_of(tmp_path / "few.json", encoder, range(1, 3)))
    assert command(["learn", str(out), "--annotations", few]) == 0
    assert "nothing is changed" in capsys.readouterr().out
