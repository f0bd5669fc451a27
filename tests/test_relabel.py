"""gem_label.runs.relabel: new words for a run, and search."""

from __future__ import annotations

import os
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from random_run import (
    ANIMALS,
    DIM,
    THINGS,
    open_writer,
    photos,
    rounded_scores,
    rows_of,
    text_of,
    vectors_of,
    write_photo,
    write_run,
)
from threadpoolctl import threadpool_limits

from gem_label.errors import UsageError
from gem_label.labeling import LabelSettings
from gem_label.runs import open_run, relabel_run, search_run
from gem_label.runs.files import MANIFEST, MASKS, RELABEL_READY, REPLACED
from gem_label.vocabulary import Vocabulary
from gem_label.words import WordsPerImage


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("finished", [True, False])
def test_relabel_gives_what_label_would_have_given(tmp_path: Path, in_place: bool, finished: bool) -> None:
    table = {f"{i:04d}.jpg": ["cup"] for i in range(1, 12, 3)}
    for name, settings, words in [
        ("plain", LabelSettings(), None),
        ("strict", LabelSettings(min_score="0.6, cup=0.1", top_k=1, overlaps=True), None),
        ("top", LabelSettings(image_top_k=1), WordsPerImage(table)),
    ]:
        digest = None if words is None else words.digest
        path = tmp_path / name / "run"
        write_run(path, 9)
        if not finished:  # photos in no shard yet
            writer = open_writer(path)
            for photo in writer.register(photos(12)):
                write_photo(writer, photo)
            writer._lock.close()
        n = 9 if finished else 12
        expected = write_run(
            tmp_path / name / "label", n, THINGS, label_settings=settings, words=words, words_per_image=digest
        )
        out = None if in_place else tmp_path / name / "out"
        run = relabel_run(
            open_run(path), THINGS, text_of(THINGS), label_settings=settings, words=words, out=out
        )
        assert run.path == (path if in_place else out)
        assert rounded_scores(rows_of(run)) == rounded_scores(rows_of(expected))
        assert [p.number for p in run.photos()] == list(range(1, n + 1))
        assert run.vocabulary == THINGS
        assert run.label_settings == settings
        assert run.manifest["labeling"] == expected.manifest["labeling"]
        for key in ("photos", "masks", "kept", "kept_by_class"):
            assert run.manifest["counts"][key] == expected.manifest["counts"][key]
        if not in_place:
            assert open_run(path).vocabulary == ANIMALS
            with pytest.raises(UsageError, match="exists already"):
                relabel_run(open_run(path), THINGS, text_of(THINGS), out=out)
        with open_writer(run.path, THINGS, label_settings=settings, words_per_image=digest) as writer:
            assert writer.register(photos(n)) == []  # `label` with the new words resumes from there


@pytest.mark.slow
def test_relabel_costs_little_more_than_the_bare_product(tmp_path: Path) -> None:
    """`benchmarks/relabel.py` measures 3.5 times one product, as there are two; 7 is what no machine must exceed."""
    benchmark = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "relabel.py"))
    masks, dimension = 20_000, 512
    run = benchmark["make_run"](tmp_path / "run", masks, dimension)
    words = Vocabulary.from_words(tuple(f"word {i}" for i in range(1000)))
    text = benchmark["unit_rows"](np.random.default_rng(2), 1000, dimension)
    ours, product = [], []
    with threadpool_limits(1):  # threads that wait for each other count as processor time, too
        for _ in range(3):
            product.append(benchmark["seconds"](lambda: benchmark["matrix_product"](masks, text))[0])
            ours.append(benchmark["seconds"](lambda: relabel_run(run, words, text))[0])
    assert min(ours) < 7 * min(product)


def test_relabel_refuses_embeddings_of_another_model(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 2)
    with pytest.raises(UsageError, match="use the CLIP model"):
        relabel_run(run, THINGS, np.zeros((len(THINGS.phrases), DIM + 1), np.float32))
    with pytest.raises(UsageError, match="'spoon' is not among the classes"):
        relabel_run(run, THINGS, text_of(THINGS), words=WordsPerImage({"0001": ["spoon"]}))
    assert open_run(run.path).vocabulary == ANIMALS


def test_search_finds_the_nearest_masks(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 30)
    query = text_of(THINGS)[:2]
    rows = rows_of(run)
    similarity = (vectors_of(rows, "embedding") - 0.7 * vectors_of(rows, "surround")) @ query.T
    for embedding, best in ((query[0], similarity[:, 0]), (query, similarity.max(axis=1))):
        hits = search_run(run, embedding, top=10)
        expected = [rows[i]["mask_id"] for i in np.argsort(-best, kind="stable")[:10]]
        assert [hit.mask_id for hit in hits] == expected
        assert np.allclose([hit.similarity for hit in hits], np.sort(best)[::-1][:10])
    assert len(search_run(run, query, top=1000)) == len(rows)
    assert hits[0].image.startswith("/photos/")


@pytest.mark.parametrize("steps", range(5))
def test_a_relabel_killed_in_its_swap_is_finished_by_the_next_reader(tmp_path: Path, steps: int) -> None:
    """Every state that the swap can be left in."""
    run, other = write_run(tmp_path / "run", 10), write_run(tmp_path / "other", 10, THINGS)
    ready = run.path / RELABEL_READY
    swap: list[Callable[[], object]] = [
        lambda: os.rename(run.path / MASKS, run.path / REPLACED),
        lambda: os.rename(ready / MASKS, run.path / MASKS),
        lambda: os.replace(ready / MANIFEST, run.path / MANIFEST),
        lambda: ready.rmdir(),
    ]
    ready.mkdir()
    os.rename(other.path / MASKS, ready / MASKS)
    os.rename(other.path / MANIFEST, ready / MANIFEST)
    for step in swap[:steps]:
        step()
    after = open_run(run.path)
    assert after.vocabulary == THINGS
    assert set(after.vocabulary.classes) >= {row["label"] for row in rows_of(after)} - {None}
    assert len(list(after.photos())) == 10
    assert not ready.exists()
