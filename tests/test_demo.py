"""The demo's scenes are what they say, and the demo CLIP still names the things in them."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from pycocotools.coco import COCO

from gem_label.clip.models import load_clip
from gem_label.demo import demo_folder, demo_words, scene_paths
from gem_label.demo.captions import caption
from gem_label.demo.dataset import write_dataset
from gem_label.demo.scenes import MIN_VISIBLE, Scene, render_scene
from gem_label.demo.sprites import TRAINED_STYLES, SpriteBook, load_sprites
from gem_label.demo.truth import held_out_scenes, scene_points, true_masks
from gem_label.demo.weights import scale_norms
from gem_label.evaluation.demo_clip import report
from gem_label.sam.models import load_sam
from gem_label.weights import pull_weights


@pytest.fixture(scope="module")
def book() -> SpriteBook:
    return load_sprites()


@pytest.fixture(scope="module")
def scenes(book: SpriteBook) -> list[Scene]:
    return held_out_scenes(book, 60)


def test_two_hundred_nouns_in_five_styles(book: SpriteBook) -> None:
    assert len(book.nouns) >= 200
    assert len(book.styles) == 5
    assert list(book.nouns) == demo_words()
    for tiles in book.levels.values():
        solid = (tiles[..., 3] > 127).mean(axis=(2, 3))
        assert solid.min() > 0.02, "a drawing is empty"
        assert (tiles[..., :3] <= tiles[..., 3:]).all(), "colors are premultiplied with alpha"


def test_training_sees_its_own_styles_alone(book: SpriteBook) -> None:
    seen, unseen = book.drawings(held_out=False), book.drawings(held_out=True)
    assert {book.styles[s] for s, _ in seen} == set(TRAINED_STYLES)
    assert {book.styles[s] for s, _ in unseen} == set(book.styles) - set(TRAINED_STYLES)
    assert len(seen) + len(unseen) == len(book.styles) * len(book.nouns)


def test_a_seed_decides_a_scene(book: SpriteBook) -> None:
    drawings = book.drawings(held_out=False)
    one, same, other = (
        render_scene(np.random.default_rng(seed), book, drawings, (96, 128), (2, 4), (30, 60))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.owners, same.owners)
    assert one.image.shape == (96, 128, 3)
    assert not np.array_equal(one.image, other.image)


def test_masks_are_disjoint_and_mostly_visible(scenes: list[Scene]) -> None:
    for scene in scenes[:10]:
        masks = true_masks(scene)
        assert len(masks) == len(scene.things) >= 1
        assert sum(m.astype(int) for m in masks).max() <= 1
        assert (masks.areas > 0).all()
    assert MIN_VISIBLE == 0.5


def test_points_agree_with_masks(scenes: list[Scene]) -> None:
    scene = scenes[0]
    points = scene_points(scene, np.random.default_rng(0))
    rows, columns = points.pixels(*scene.owners.shape)
    for row, column, c, positive in zip(rows, columns, points.class_index, points.positive, strict=True):
        owner = scene.owners[row, column]
        assert (owner >= 0 and scene.things[owner].noun == scene.nouns[c]) == positive


def test_captions_name_every_noun_given() -> None:
    rng = np.random.default_rng(0)
    words = ["cat", "bus", "hammer"]
    for nouns in itertools.chain.from_iterable(itertools.combinations(words, n) for n in (1, 2, 3)):
        text = caption(rng, nouns)
        assert all(noun in text for noun in nouns)
        assert sum(noun in text for noun in words) == len(nouns)


def test_a_dataset_on_disk_is_coco_and_open_images(
    tmp_path: Path, book: SpriteBook, scenes: list[Scene]
) -> None:
    write_dataset(scenes[:2], book.nouns, tmp_path)
    coco = COCO(str(tmp_path / "instances.json"))
    for number, scene in enumerate(scenes[:2], start=1):
        annotations = coco.loadAnns(coco.getAnnIds(number))
        assert [coco.cats[a["category_id"]]["name"] for a in annotations] == [t.noun for t in scene.things]
        for i, annotation in enumerate(annotations):
            np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), scene.mask(i))
    with (tmp_path / "labels" / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["EstimatedYesNo"] for r in rows} == {"yes", "no"}
    assert {r["TextLabel"] for r in rows if r["ImageId"] == "scene_001"} == set(scenes[0].nouns)


def test_the_package_ships_a_dozen_scenes_and_small_weights() -> None:
    assert len(scene_paths()) == 12
    assert (demo_folder() / "instances.json").is_file()
    weights = demo_folder().parent / "clip" / "open_clip_model.safetensors"
    assert weights.stat().st_size < 25e6


def test_scaled_norms_change_nothing_but_gems_temperature() -> None:
    """The ordinary path's outputs stay; the inverse temperature grows by the gain."""
    torch.manual_seed(0)
    visual = open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 32, "patch_size": 8, "width": 32, "head_width": 8, "layers": 2},
        text_cfg={"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1},
    ).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = visual.encode_image(images)
        norm = visual.visual.transformer.resblocks[0].ln_1(torch.randn(2, 5, 32)).norm()
        visual.load_state_dict(scale_norms(visual.state_dict(), 4.0))
        torch.testing.assert_close(visual.encode_image(images), before)
        torch.manual_seed(1)
        assert visual.visual.transformer.resblocks[0].ln_1(torch.randn(2, 5, 32)).norm() > 3 * norm


@pytest.mark.slow
def test_the_demo_clip_names_things_by_their_patches(book: SpriteBook, scenes: list[Scene]) -> None:
    """Naming and grounding on scenes and backgrounds never rendered in training, over the whole vocabulary."""
    figures = report(load_clip("demo"), book.nouns, scenes)
    assert figures.named_gem > 0.77
    assert figures.gem > 0.79
    assert figures.gem > figures.clip + 0.1
    assert figures.named_gem > figures.named_clip + 0.2
    assert figures.retrieval > 0.9


@pytest.mark.slow
def test_masks_and_words_come_together(book: SpriteBook, scenes: list[Scene]) -> None:
    """MobileSAM's masks, the demo CLIP's words; GEM-SAM is above GEM, as in the paper's table 3."""
    pull_weights("mobile_sam", progress=False)
    figures = report(load_clip("demo"), book.nouns, scenes[:12], load_sam("mobile_sam"))
    assert figures.found > 0.93
    assert figures.found_and_named > 0.7
    assert figures.gem_sam_argmax > figures.gem + 0.02
