"""The methods since GEM: equal to their authors' code, and what they do where that code is not asked."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from color_guide import COLOR_GUIDE
from fixtures import make_methods
from fixtures.make_gem_torch import build_model, make_images
from torch import Tensor

from gem_label.clip.corrclip import CorrClip, merge_regions, paint_regions
from gem_label.clip.dense import DenseEncoder
from gem_label.clip.guides import Guide
from gem_label.clip.last_block import LastBlockMethod, scaled_block
from gem_label.clip.method_settings import method_settings, read_method
from gem_label.clip.methods import METHODS, PAPER_ROWS, AnyMethod
from gem_label.clip.proxyclip import ProxyClip
from gem_label.clip.resclip import ResClip
from gem_label.clip.scclip import ScClip, find_outliers, replace_outliers
from gem_label.clip.surgery import surgery_texts
from gem_label.errors import UsageError

LATER = [name for name, method in METHODS.items() if isinstance(method, LastBlockMethod)]


class FixedProxy:
    """Features that are known beforehand, for any image."""

    def __call__(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        assert 0 <= images.min() <= images.max() <= 1
        assert grid == make_methods.GRID
        return make_methods.make_proxy().expand(len(images), -1, -1, -1)

    def describe(self) -> dict:
        return {"name": "fixed"}


GUIDE = Guide(FixedProxy())


def region_shares() -> np.ndarray:
    """(4, 8, 8) the masks of the authors' map of regions."""
    regions = make_methods.make_regions()[0, 0, ::16, ::16].numpy()
    return np.stack([regions == number for number in range(1, 5)]).astype(np.float32)


THEIRS: dict[str, tuple[AnyMethod, bool]] = {
    "scclip": (ScClip(), True),
    **{f"resclip_{share:g}": (ResClip(share=share), True) for share in make_methods.RESCLIP_SHARES},
    "proxyclip": (ProxyClip(), False),
    "corrclip": (CorrClip(), False),
    "corrclip_regions": (CorrClip(spatial=0.0, semantic=0.0), False),
}


@pytest.mark.parametrize("name", THEIRS)
def test_a_method_is_its_authors_code(name: str) -> None:
    method, quick_gelu = THEIRS[name]
    encoder = DenseEncoder(make_methods.make_model(quick_gelu), method, guide=GUIDE)
    found = encoder.encode_photo(make_images(make_methods.CASE)[0], region_shares())
    np.testing.assert_allclose(found.patches, np.load(make_methods.FIXTURE)[name][0], atol=2e-5)


def test_region_tokens_are_corrclips() -> None:
    model = make_methods.make_model(quick_gelu=False)
    found = DenseEncoder(model, CorrClip(spatial=0.0, semantic=1e6), guide=GUIDE).encode_photo(
        make_images(make_methods.CASE)[0], region_shares()
    )
    np.testing.assert_allclose(found.patches, np.load(make_methods.FIXTURE)["corrclip_tokens"][0], atol=2e-4)


def test_feature_surgery_is_its_authors_code() -> None:
    image, words = make_methods.make_words()
    found = torch.einsum("bpd,bcd->bpc", image[:, 1:], surgery_texts(words, image[:, 0]))
    np.testing.assert_allclose(found, np.load(make_methods.FIXTURE)["surgery"], atol=1e-6)


def test_similarity_after_feature_surgery() -> None:
    encoder = DenseEncoder(build_model(layers=4))
    image = make_images(make_methods.CASE)[:, :, :48, :80]
    patches, embeddings = encoder.encode_with_class_token(image)
    words = torch.from_numpy(encoder.text.encode(["cat", "dog", "cup"]))
    expected = torch.einsum("bhwd,bcd->bchw", patches, surgery_texts(words, embeddings))
    found = encoder.similarity(image, ["cat", "dog", "cup"], feature_surgery=True)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, encoder.similarity(image, ["cat", "dog", "cup"]))


def test_blocks_are_where_they_are_in_a_tower_of_12() -> None:
    assert sorted(ScClip().blocks(12)) == [4, 5, 6, 7, 8, 9, 10]
    assert sorted(ResClip().blocks(12)) == [6, 7, 8, 9]
    assert sorted(CorrClip().blocks(12)) == [6, 7, 8, 9, 10]
    assert sorted(CorrClip().blocks(24)) == [*range(11, 23)]
    assert [scaled_block(10, count) for count in (24, 12, 3, 2)] == [20, 10, 2, 1]


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("layers", [2, 3, 5])
def test_shallow_towers_and_few_patches_will_do(name: str, layers: int) -> None:
    encoder = DenseEncoder(build_model(layers), name, guide=COLOR_GUIDE)
    for size in ((16, 16), (16, 48), (48, 80)):
        image = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, *size))).float()
        assert encoder.encode(image).isfinite().all()
    layered = encoder.encode_layers(image)
    assert len(layered) == layers
    torch.testing.assert_close(layered[-1], encoder.encode(image))


@pytest.mark.parametrize("name", LATER)
def test_an_image_is_the_same_in_a_batch(name: str) -> None:
    images = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 3, 48, 80))).float()
    encoder = DenseEncoder(build_model(layers=4), name, guide=COLOR_GUIDE)
    alone = torch.cat([encoder.encode(image[None]) for image in images])
    torch.testing.assert_close(encoder.encode(images), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "method", [*METHODS.values(), PAPER_ROWS["table7/depth-3+mlp"]], ids=lambda each: each.name
)
def test_a_method_comes_back_from_a_manifest(method: AnyMethod) -> None:
    assert read_method(json.loads(json.dumps(method_settings(method)))) == method


def test_what_a_method_lacks_is_said() -> None:
    model = build_model(layers=2)
    with pytest.raises(UsageError, match="features of another vision model"):
        DenseEncoder(model, "proxyclip")
    with pytest.raises(UsageError, match="scclip has no depth or iterations"):
        DenseEncoder(model, "scclip", depth=1, iterations=2)
    with pytest.raises(UsageError, match="needs at least 2 blocks"):
        DenseEncoder(build_model(layers=1), "resclip")
    with pytest.raises(UsageError, match="masks of one photo at a time"):
        DenseEncoder(model, "corrclip", guide=Guide(COLOR_GUIDE.proxy)).encode(torch.zeros(1, 3, 32, 32))


# SC-CLIP's outliers


def local_outlier_factors(points: np.ndarray, k: int) -> np.ndarray:
    """Point by point; a neighbor counts at the distance of the point's own farthest neighbor at least."""
    densities, nearest = [], []
    for point in points:
        distances = ((points - point) ** 2).sum(axis=1)
        order = np.argsort(distances, kind="stable")[1 : k + 1]
        reach = np.maximum(distances[order], distances[order[-1]])
        densities.append(k / reach.mean())
        nearest.append(order)
    return np.array(
        [np.mean([densities[j] for j in near]) / own for near, own in zip(nearest, densities, strict=True)]
    )


def test_outliers_have_the_highest_factors() -> None:
    points = np.random.default_rng(0).standard_normal((2, 40, 6))
    found = find_outliers(torch.from_numpy(points), neighbors=7, share=0.1)
    for outliers, cloud in zip(found.numpy(), points, strict=True):
        highest = np.argsort(local_outlier_factors(cloud, 7))[-4:]
        assert set(np.flatnonzero(outliers)) == set(highest)


def test_outliers_become_the_mean_of_the_others_around_them() -> None:
    patches = torch.arange(12.0).reshape(1, 12, 1)  # 3 rows of 4
    outliers = torch.zeros(1, 12, dtype=torch.bool)
    outliers[0, [0, 1, 6]] = True
    found = replace_outliers(patches, outliers, (3, 4))[0, :, 0]
    assert found[0] == (4 + 5) / 2
    assert found[1] == pytest.approx((2 + 4 + 5) / 3)
    assert found[6] == pytest.approx((2 + 3 + 5 + 7 + 9 + 10 + 11) / 7)
    assert found[[2, 3, 4, 5, 7, 8, 9, 10, 11]].tolist() == [2, 3, 4, 5, 7, 8, 9, 10, 11]
    everything = torch.ones(1, 12, dtype=torch.bool)
    assert torch.equal(replace_outliers(patches, everything, (3, 4)), patches)


# CorrCLIP's regions


def clusters(vectors: np.ndarray, merge: float) -> list[set[int]]:
    """Chains of vectors whose cosine is less than `merge` below the highest of any two."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    groups: list[set[int]] = []
    for number in range(len(unit)):
        near = {number} | {
            other for other in range(len(unit)) if cosines.max() - cosines[number, other] <= merge
        }
        joined = [group for group in groups if group & near]
        groups = [group for group in groups if not group & near] + [near.union(*joined)]
    return groups


@pytest.mark.parametrize("merge", [0.0, 0.1, 0.4, 2.0])
def test_regions_that_look_alike_are_merged_in_chains(merge: float) -> None:
    rng = np.random.default_rng(3)
    regions = torch.from_numpy(np.repeat(np.arange(12).reshape(3, 4), 2, axis=1))
    proxy = rng.standard_normal((1, 3, 3, 4)).astype(np.float32).repeat(2, axis=3)
    merged = merge_regions(regions, torch.from_numpy(proxy), merge)
    assert (merged == 0).sum() == 2  # what is under no mask stays so
    vectors = proxy[0, :, :, ::2].reshape(3, 12).T[1:]
    numbers = merged[:, ::2].flatten()[1:].tolist()
    found = [{i for i, each in enumerate(numbers) if each == number} for number in sorted(set(numbers))]
    assert sorted(map(sorted, found)) == sorted(map(sorted, clusters(vectors, merge)))


def test_masks_are_painted_over_one_another_by_size() -> None:
    shares = torch.zeros(3, 2, 4)
    shares[0, :, 3], shares[1, 0], shares[2] = 1.0, 1.0, 0.4
    assert paint_regions(shares).tolist() == [[3, 3, 3, 3], [0, 0, 0, 1]]
    smallest = paint_regions(shares, largest_on_top=False)
    assert smallest.tolist() == [[1, 1, 1, 3], [0, 0, 0, 3]]
    assert not paint_regions(shares[:0]).any()
    with pytest.raises(UsageError, match="on_top"):
        CorrClip(on_top="newest")  # type: ignore[arg-type]
