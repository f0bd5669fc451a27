"""gem_label.labeler, end to end: MobileSAM's real weights, a small CLIP with random ones, real photos."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from random_run import vectors_of
from safetensors.torch import save_file

import gem_label
from gem_label.clip.dense import MAX_PATCHES
from gem_label.clip.models import load_clip
from gem_label.engines.local import LocalEngine
from gem_label.engines.shared import Part, label_chunks
from gem_label.errors import UsageError
from gem_label.labeler import Labeler, text_encoder_of
from gem_label.labeling import LabelSettings
from gem_label.masks import MaskSet, encode_mask, patch_weights
from gem_label.photos.listing import list_images
from gem_label.runs import Run, open_run, relabel_run, search_run
from gem_label.sam.models import load_sam
from gem_label.sam.proposals import ProposalSettings
from gem_label.vocabulary import Vocabulary
from gem_label.weights import pull_weights

# a sparse grid that still gives a photo some masks
QUICK = ProposalSettings(points_per_side=3, pred_iou_thresh=0.6, stability_score_thresh=0.6)
ANIMALS = Vocabulary.parse("cat, cup; person, woman => person", background="wall")
THINGS = Vocabulary.parse("table, flag; rocket => rocket", background="fur, floor")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP with random weights in open_clip's hub layout."""
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    model = open_clip.CLIP(**json.loads(json.dumps(config)))
    folder = tmp_path_factory.mktemp("clip")
    settings = {"model_cfg": config, "preprocess_cfg": {}, "dense_cfg": {"short_side": 96, "depth": 2}}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


class RememberingLabeler(Labeler):
    """Asks SAM once per photo: SAM takes most of these tests' time, and it always says the same."""

    def propose_masks(self, image: NDArray[np.uint8]) -> MaskSet:
        seen = self.__dict__.setdefault("seen", {})
        key = image.tobytes()
        if key not in seen:
            seen[key] = super().propose_masks(image)
        return seen[key]


@pytest.fixture(scope="module")
def labeler(clip_folder: Path) -> Labeler:
    pull_weights("mobile_sam", progress=False)
    return RememberingLabeler(load_clip(str(clip_folder)), load_sam("mobile_sam"), QUICK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: dict[str, NDArray[np.uint8]]) -> Path:
    """Three small photos in two folders, and a file that is none."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "sub").mkdir()
    for name, pixels in photos.items():
        small = Image.fromarray(pixels).resize((160, 120))
        small.save(folder / ("sub/coffee.png" if name == "coffee" else f"{name}.jpg"))
    (folder / "broken.jpg").write_text("no photo")
    return folder


def label_folder(
    labeler: Labeler, folder: Path, out: Path, vocabulary: Vocabulary, settings: LabelSettings | None = None
) -> Run:
    job = labeler.job(vocabulary, settings)
    with labeler.start_run(out, job) as writer:
        LocalEngine(progress=False).run(writer.register(list_images([folder])), labeler, job, writer)
    return open_run(out)


@pytest.fixture(scope="module")
def run(labeler: Labeler, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "run"
    return gem_label.label_images([folder], ANIMALS, out, labeler, workers=1, progress=False)


def rows_of(run: Run) -> list[dict]:
    rows = [row for table in run.tables() for row in table.to_pylist()]
    return sorted(rows, key=lambda row: (row["image_id"], int(row["mask_id"].rpartition("#")[2])))


def test_names_are_loaded_when_they_are_used() -> None:
    heavy = "{'torch', 'fiftyone', 'open_clip', 'segment_anything', 'timm'} & set(sys.modules)"
    code = f"import sys, gem_label.runs, gem_label.labeling, gem_label.engines.local; assert not {heavy}, {heavy}"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert gem_label.Labeler is Labeler
    assert gem_label.open_run is open_run
    assert set(gem_label.__all__) <= set(dir(gem_label))
    for name in gem_label.__all__:
        assert getattr(gem_label, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = gem_label.nothing


def test_embeddings_are_the_mean_patch_features_under_each_mask(
    labeler: Labeler, photos: dict[str, NDArray[np.uint8]]
) -> None:
    image = photos["coffee"]
    masks = labeler.propose(image)
    assert len(masks) > 3
    assert (masks.height, masks.width) == image.shape[:2]
    assert masks.embeddings is not None
    features = labeler.dense.encode(labeler.clip.preprocess(image)[None])[0].numpy()
    weights = patch_weights(masks, features.shape[:2])
    for embedding, weight in zip(masks.embeddings, weights, strict=True):
        expected = (weight[..., None] * features).sum(axis=(0, 1)) / weight.sum()
        assert np.allclose(embedding, expected, atol=np.abs(expected).max() / 200)  # a run stores 8 bits
        assert np.linalg.norm(embedding) <= 1.001


def test_label_takes_paths_pictures_and_arrays(labeler: Labeler, folder: Path) -> None:
    path = folder / "chelsea.jpg"
    labeled = labeler.label(path, ANIMALS)
    for picture in (str(path), Image.open(path), np.array(Image.open(path))):
        same = labeler.label(picture, ANIMALS)
        assert same.masks.counts == labeled.masks.counts
        assert same.labels.names == labeled.labels.names
    assert set(labeled.labels.names) <= {"cat", "cup", "person", None}
    assert len(labeled.kept) == labeled.labels.kept.sum() <= len(labeled)
    words = labeler.label(path, ["cat", "cup"], background=["wall"], min_score=0.3, top_k=1)
    text = labeler.label(path, "cat, cup", background=["wall"], min_score=0.3, top_k=1)
    assert words.labels.names == text.labels.names
    assert words.labels.top_classes.shape[1] == 1
    with pytest.raises(ValueError, match="uint8 RGB"):
        labeler.label(np.zeros((4, 4)), "cat")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (900, 20)])
def test_photos_of_any_shape(labeler: Labeler, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    one = np.ones(1, np.float32)
    for masks in (
        MaskSet(*size),
        MaskSet(*size, (encode_mask(pixels[..., 0] > 9),), one, one, np.zeros((1, 2))),
    ):
        embedded = labeler.embed(pixels, masks)
        assert embedded.masks.embeddings is not None
        assert embedded.masks.embeddings.shape == (len(masks), labeler.clip.embedding_dim)
    assert embedded.patches.shape[0] * embedded.patches.shape[1] <= MAX_PATCHES


def test_long_photos_are_seen_smaller(labeler: Labeler) -> None:
    clip = labeler.clip
    side, clip.short_side = clip.short_side, 1024
    try:
        square = labeler.dense.preprocess(np.zeros((1000, 1000, 3), np.uint8))
        assert min(square.shape[1:]) == 1024
        height, width = labeler.dense.preprocess(np.zeros((1000, 4000, 3), np.uint8)).shape[1:]
        assert 0.8 * MAX_PATCHES < height * width / clip.patch_size**2 <= 1.02 * MAX_PATCHES
    finally:
        clip.short_side = side


def test_a_folder_gives_a_row_per_mask_of_every_photo(run: Run, labeler: Labeler, folder: Path) -> None:
    assert [photo.image_id for photo in run.photos()] == ["astronaut", "chelsea", "sub/coffee"]
    assert [(f.image_id, f.stage) for f in run.failures()] == [("broken", "read")]
    for photo, masks, labels in run.photo_masks():
        if photo.image_id == "sub/coffee":
            direct = labeler.label(photo.image, ANIMALS)
            assert masks.counts == direct.masks.counts
            assert labels.names == direct.labels.names
            assert labels.kept.tolist() == direct.labels.kept.tolist()
            assert np.allclose(labels.top_scores, direct.labels.top_scores, atol=1e-6)
    assert run.manifest["weights"]["sam"]["sha256"].startswith("6dbb9052")
    assert run.manifest["weights"]["clip"]["sha256"] == labeler.clip.weights_sha256
    assert run.manifest["settings"]["dense"]["depth"] == 2
    assert run.manifest["counts"]["masks"] == len(rows_of(run)) > 10


@pytest.mark.parametrize("settings", [LabelSettings(), LabelSettings(min_score=0.3, image_top_k=2, top_k=2)])
def test_relabel_is_label_with_the_new_words(
    run: Run, labeler: Labeler, folder: Path, tmp_path: Path, settings: LabelSettings
) -> None:
    expected = label_folder(labeler, folder, tmp_path / "label", THINGS, settings)
    words = expected.vocabulary  # with the negatives that `label` chose
    assert THINGS.classes == words.classes
    assert words.negatives
    text = text_encoder_of(run).encode(words.phrases)
    relabeled = relabel_run(run, words, text, label_settings=settings, out=tmp_path / "relabel")
    old, new = rows_of(expected), rows_of(relabeled)
    assert len(old) == len(new)
    for a, b in zip(old, new, strict=True):
        for name in a:
            if name in ("score", "margin", "top_scores"):
                assert np.allclose(a[name], b[name], atol=1e-3)
            else:
                assert a[name] == b[name]
    assert {row["label"] for row in new} <= {*THINGS.classes, None}


@pytest.fixture(scope="module")
def token_labeler(labeler: Labeler, run: Run) -> Labeler:
    """The labeler with mask tokens; it knows the masks that `run` has."""
    del run
    other = copy.copy(labeler)
    other.mask_tokens = True
    return other


def test_relabel_takes_another_share_of_mask_tokens(
    labeler: Labeler, token_labeler: Labeler, folder: Path, tmp_path: Path
) -> None:
    half = label_folder(token_labeler, folder, tmp_path / "half", ANIMALS)
    whole = label_folder(token_labeler, folder, tmp_path / "whole", ANIMALS, LabelSettings(token_share=1.0))
    lengths = np.linalg.norm(vectors_of(rows_of(half), "mask_token"), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=0.02)
    text = text_encoder_of(half).encode(half.vocabulary.phrases)
    relabeled = relabel_run(half, half.vocabulary, text, label_settings=whole.label_settings)
    assert relabeled.label_settings.token_share == 1
    scores = [[row["score"] for row in rows_of(each)] for each in (whole, relabeled)]
    np.testing.assert_allclose(*scores, atol=1e-4)
    _, masks, _ = next(relabeled.photo_masks())
    assert masks.mask_tokens is not None
    with pytest.raises(UsageError, match="mask_tokens"):
        labeler.start_run(half.path, labeler.job(ANIMALS))


def test_shared_runs_hold_mask_tokens_too(token_labeler: Labeler, folder: Path, tmp_path: Path) -> None:
    job = token_labeler.job(ANIMALS)
    shared = token_labeler.join_run(tmp_path / "shared", job)
    shared.add_photos(list_images([folder]))
    label_chunks(shared, Part(0, 1).of(shared), token_labeler, job, 1, progress=False)
    shared.finish()
    alone = label_folder(token_labeler, folder, tmp_path / "alone", ANIMALS)
    assert [row["mask_token"] for row in rows_of(open_run(tmp_path / "shared"))] == [
        row["mask_token"] for row in rows_of(alone)
    ]


def test_search_ranks_the_masks_of_a_run_by_text(run: Run, labeler: Labeler) -> None:
    query = text_encoder_of(run).encode(["a rocket"])[0]
    hits = search_run(run, query, top=5)
    rows = rows_of(run)
    every = np.sort((vectors_of(rows, "embedding") - 0.7 * vectors_of(rows, "surround")) @ query)[::-1]
    assert np.allclose([hit.similarity for hit in hits], every[:5], atol=1e-6)


def test_other_clip_weights_are_refused(run: Run, clip_folder: Path) -> None:
    opened = open_run(run.path)
    opened.manifest["weights"]["clip"]["sha256"] = "0" * 64
    with pytest.raises(UsageError, match="other weights"):
        text_encoder_of(opened)


def child_labels(clip_folder: Path, folder: Path, out: Path) -> None:
    label_folder(Labeler(load_clip(str(clip_folder)), load_sam("mobile_sam"), QUICK), folder, out, ANIMALS)


@pytest.mark.slow
def test_kill_9_half_way_and_resume_give_the_run_that_nothing_interrupted(
    run: Run, labeler: Labeler, clip_folder: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code = "import sys; from pathlib import Path; import test_labeler as t; t.child_labels(*map(Path, sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(clip_folder), str(folder), str(out)], env=environment
    )
    try:
        while len(list(out.glob("masks/pending/[0-9]*.parquet"))) < 1 and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert 1 <= len(list(open_run(out).photos())) < 3
    resumed = label_folder(labeler, folder, out, ANIMALS)
    assert rows_of(resumed) == rows_of(run)
    assert resumed.manifest["counts"] == run.manifest["counts"]
    assert [f.image_id for f in resumed.failures()] == ["broken"]
