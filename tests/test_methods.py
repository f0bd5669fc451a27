"""Dense methods against slow implementations written down from the papers' formulas, one head at a time."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from color_guide import COLOR_GUIDE
from fixtures import make_naclip
from fixtures.make_gem_torch import build_model, make_images
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gem_label.clip.dense import DenseEncoder
from gem_label.clip.kmeans import MAX_STEPS, cluster_mean, kmeans
from gem_label.clip.methods import METHODS, PAPER_ROWS, DenseMethod, named
from gem_label.clip.models import Clip, as_clip
from gem_label.clip.windows import Window, encode_scales, encode_windows
from gem_label.errors import UsageError

LAYERS, PATCH, WIDTH, HEADS = 5, 16, 64, 4
D_HEAD = WIDTH // HEADS


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


@pytest.fixture(scope="module")
def model() -> open_clip.CLIP:
    return build_model(layers=LAYERS)


@pytest.fixture(scope="module")
def clip(model: open_clip.CLIP) -> Clip:
    return as_clip(model)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return random_images(2, 3, 48, 80)


# the papers' formulas, over open_clip's own layers


def input_tokens(model: open_clip.CLIP, images: Tensor) -> Tensor:
    visual = model.visual
    patches = visual.conv1(images)
    rows, columns = patches.shape[-2:]
    position = visual.positional_embedding[1:].T.reshape(1, WIDTH, 4, 4)
    position = F.interpolate(position, (rows, columns), mode="bicubic", antialias=True)
    patches = (patches + position).flatten(2).mT
    class_token = (visual.class_embedding + visual.positional_embedding[0]).expand(len(images), 1, -1)
    return visual.ln_pre(torch.cat([class_token, patches], dim=1))


def attention_branch(block: torch.nn.Module, x: Tensor, attend: Callable[..., Tensor]) -> Tensor:
    """`attend(x, q, k, v)` of one image and one head -> (n, d_head), for all of them, through out_proj."""
    x = block.ln_1(x)
    projected = x @ block.attn.in_proj_weight.mT + block.attn.in_proj_bias
    q, k, v = projected.split(WIDTH, dim=-1)
    out = torch.zeros_like(x)
    for image in range(len(x)):
        for head in range(HEADS):
            part = slice(head * D_HEAD, (head + 1) * D_HEAD)
            out[image, :, part] = attend(x[image], q[image, :, part], k[image, :, part], v[image, :, part])
    return out @ block.attn.out_proj.weight.mT + block.attn.out_proj.bias


def mlp_branch(block: torch.nn.Module, x: Tensor) -> Tensor:
    return block.mlp(block.ln_2(x))


def features(model: open_clip.CLIP, stream: Tensor) -> Tensor:
    return F.normalize(model.visual.ln_post(stream)[:, 1:] @ model.visual.proj, dim=-1).unflatten(1, (3, 5))


def naive(
    model: open_clip.CLIP,
    images: Tensor,
    attend: Callable[..., Tensor],
    depth: int,
    residual: bool = True,
    mlp: bool = False,
) -> Tensor:
    blocks = model.visual.transformer.resblocks
    x = input_tokens(model, images)
    for block in blocks[:-depth]:
        x = block(x)
    dense = x
    for block in blocks[-depth:]:
        branch = attention_branch(block, x, attend)
        dense = dense + branch if residual else branch
        if mlp:
            dense = dense + mlp_branch(block, dense)
        x = block(x)
    return features(model, dense)


def softmax_attention(p: Tensor, v: Tensor, factor: float = D_HEAD**-0.5) -> Tensor:
    return torch.softmax(factor * p @ p.mT, dim=-1) @ v


def value_value(_x: Tensor, _q: Tensor, _k: Tensor, v: Tensor) -> Tensor:
    """CLIP Surgery: v-v attention with the usual scale."""
    return softmax_attention(v, v)


def correlative(_x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """SCLIP: softmax(q q^T / sqrt(d)) + softmax(k k^T / sqrt(d)), times v."""
    return (torch.softmax(q @ q.mT * D_HEAD**-0.5, -1) + torch.softmax(k @ k.mT * D_HEAD**-0.5, -1)) @ v


def grounding(
    letters: str = "qkv", iterations: int = 1, normalize: bool = True, multiple: float = 1.0
) -> Callable[..., Tensor]:
    """GEM, equations 3 to 7, with tau as the authors' package computes it."""

    def attend(x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        tau = multiple * len(x) * D_HEAD**0.5 / sum(float(token.norm()) for token in x)
        outputs = []
        for letter in letters:
            p = {"q": q, "k": k, "v": v}[letter]
            p = p / p.norm(dim=-1, keepdim=True) if normalize else p
            for _ in range(iterations):
                p = torch.softmax(p @ p.mT / tau, dim=-1) @ p
                p = p / p.norm(dim=-1, keepdim=True) if normalize else p
            outputs.append(torch.softmax(p @ p.mT / tau, dim=-1) @ v)
        return sum(outputs) / len(outputs)

    return attend


def only_itself(_x: Tensor, _q: Tensor, _k: Tensor, v: Tensor) -> Tensor:
    """MaskCLIP: the value projection in place of the attention."""
    return v


def trained(_x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT * D_HEAD**-0.5, dim=-1) @ v


def query_query(_x: Tensor, q: Tensor, _k: Tensor, v: Tensor) -> Tensor:
    return softmax_attention(q, v)


def near_keys(_x: Tensor, _q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """NACLIP: softmax(k k^T / sqrt(d) + omega) v, omega a Gaussian over the distance of patches in the 3 x 5 grid."""
    scores = k @ k.mT * D_HEAD**-0.5
    for i in range(15):
        for j in range(15):
            distance = (i // 5 - j // 5) ** 2 + (i % 5 - j % 5) ** 2
            scores[1 + i, 1 + j] += math.exp(-distance / (2 * 5**2))
    return torch.softmax(scores, dim=-1) @ v


PAPERS = {
    "gem": (grounding(), {"depth": LAYERS}),
    "clip": (trained, {"depth": 1, "mlp": True}),
    "maskclip": (only_itself, {"depth": 1, "mlp": True}),
    "clip_surgery": (value_value, {"depth": LAYERS}),
    "sclip": (correlative, {"depth": 1, "mlp": True}),
    "clearclip": (query_query, {"depth": 1, "residual": False}),
    "naclip": (near_keys, {"depth": 1, "residual": False}),
    "gem_clearclip": (grounding(), {"depth": 1, "residual": False}),
    "maskclip_clearclip": (only_itself, {"depth": 1, "residual": False}),
    "sclip_clearclip": (correlative, {"depth": 1, "residual": False}),
}


@pytest.mark.parametrize("name", PAPERS)
def test_a_method_is_its_papers_formula(model: open_clip.CLIP, clip: Clip, images: Tensor, name: str) -> None:
    attend, frame = PAPERS[name]
    with torch.no_grad():
        expected = naive(model, images, attend, **frame)
    torch.testing.assert_close(DenseEncoder(clip, name).encode(images), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("deviation", make_naclip.DEVIATIONS)
def test_naclip_is_its_authors_code(deviation: float) -> None:
    case = make_naclip.CASE
    model = as_clip(build_model(case.layers, case.quick_gelu))
    ours = DenseEncoder(model, replace(METHODS["naclip"], neighborhood=deviation)).encode(make_images(case))
    theirs = np.load(make_naclip.FIXTURE)[f"deviation_{deviation:g}"]
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)


def test_methods_differ_from_one_another(clip: Clip, images: Tensor) -> None:
    encoded = {
        name: torch.cat([DenseEncoder(clip, name, guide=COLOR_GUIDE).encode(each[None]) for each in images])
        for name in METHODS
    }
    names = list(encoded)
    for index, name in enumerate(names):
        for other in names[:index]:
            assert (encoded[name] - encoded[other]).abs().max() > 1e-2, (name, other)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_the_ordinary_embedding_too(model: open_clip.CLIP, clip: Clip, name: str) -> None:
    square = random_images(2, 3, 64, 64)
    encoder = DenseEncoder(clip, name, guide=COLOR_GUIDE)
    patches, embedding = encoder.encode_with_class_token(square)
    torch.testing.assert_close(patches, encoder.encode(square), atol=0, rtol=0)
    torch.testing.assert_close(embedding, model.encode_image(square, normalize=True), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def precise(model: open_clip.CLIP) -> open_clip.CLIP:
    """The same model in float64: some settings (no normalization, two groupings) magnify float32's noise."""
    return copy.deepcopy(model).double()


@settings(max_examples=15, deadline=None)
@given(
    depth=st.integers(1, LAYERS),
    residual=st.booleans(),
    mlp=st.booleans(),
    letters=st.sampled_from(["q", "k", "v", "qk", "vq", "qkv"]),
    iterations=st.integers(0, 2),
    normalize=st.booleans(),
    multiple=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_every_combination_of_settings_is_the_formula(
    precise: open_clip.CLIP,
    images: Tensor,
    depth: int,
    residual: bool,
    mlp: bool,
    letters: str,
    iterations: int,
    normalize: bool,
    multiple: float,
) -> None:
    method = DenseMethod(
        depth=depth,
        residual=residual,
        mlp=mlp,
        projections=letters,
        iterations=iterations,
        normalize=normalize,
        temperature_multiple=multiple,
    )
    attend = grounding(letters, iterations, normalize, multiple)
    with torch.no_grad():
        expected = naive(precise, images.double(), attend, depth, residual, mlp)
    encoded = DenseEncoder(precise, method).encode(images.double())
    torch.testing.assert_close(encoded, expected.float(), atol=1e-5, rtol=0)  # positions are float32


@pytest.mark.parametrize("depth", [1, 3, LAYERS])
def test_trained_attention_with_residual_and_mlp_is_plain_clip_at_any_depth(
    model: open_clip.CLIP, clip: Clip, images: Tensor, depth: int
) -> None:
    with torch.no_grad():
        expected = naive(model, images, trained, depth, mlp=True)
    for method in ("clip", DenseMethod(attention="qk", mlp=True)):
        patches = DenseEncoder(clip, method, depth=depth).encode(images)
        torch.testing.assert_close(patches, expected, atol=2e-5, rtol=0)


def test_layers_are_the_stream_cut_short(model: open_clip.CLIP, clip: Clip, images: Tensor) -> None:
    layers = DenseEncoder(clip, depth=2).encode_layers(images)
    assert layers.shape == (LAYERS, 2, 3, 5, 32)
    torch.testing.assert_close(layers[-1], DenseEncoder(clip, depth=2).encode(images), atol=0, rtol=0)
    with torch.no_grad():
        x = input_tokens(model, images)
        for index, block in enumerate(model.visual.transformer.resblocks[:3]):
            last, x = x, block(x)
            torch.testing.assert_close(layers[index], features(model, x), atol=2e-5, rtol=0)
        blocks = model.visual.transformer.resblocks
        stream = x + attention_branch(blocks[3], x, grounding())
    torch.testing.assert_close(layers[3], features(model, stream), atol=2e-5, rtol=0)
    assert last is not x


# names


TABLES = {
    "table1": 9,  # clip, and four projections with and without norm and temperature
    "table2": 4,
    "table4": 5,
    "table6": 4,  # for each of three backbones
    "table7": 22,  # for each of two backbones
    "table8": 11,
    "figure4": 14,
}


def test_every_row_of_the_papers_tables_has_a_name() -> None:
    counts = {table: sum(name.startswith(f"{table}/") for name in PAPER_ROWS) for table in TABLES}
    assert counts == TABLES
    assert sum(counts.values()) == len(PAPER_ROWS)
    assert all(named(name).name == name for name in [*METHODS, *PAPER_ROWS])


def test_every_row_of_the_paper_runs_and_says_something_of_its_own() -> None:
    clip = as_clip(build_model(layers=12))
    image = random_images(1, 3, 48, 64)
    encoded = {name: DenseEncoder(clip, name).encode(image) for name in PAPER_ROWS}
    assert all(patches.isfinite().all() for patches in encoded.values())
    # the paper's GEM, d = 4 and one iteration, is in every table
    same = {"table2/gem", "table4/gem-1", "table6/qkv", "table7/depth-4", "table8/gem", "figure4/norm-x1"}
    again = ({"table1/clip", "table2/clip"}, {"table2/clip_surgery", "table4/clip_surgery"})
    once_more = {"table1/qkv+norm", "table4/gem-0"}
    for equal in (same, *again, once_more):
        first, *others = (encoded.pop(name) for name in sorted(equal))
        assert all(torch.equal(first, other) for other in others)
        encoded[sorted(equal)[0]] = first
    flat = torch.stack([patches.flatten() for patches in encoded.values()])
    distances = torch.cdist(flat, flat, p=torch.inf) + torch.eye(len(flat))
    assert distances.min() > 1e-4


@pytest.mark.parametrize(
    ("row", "setting"),
    [
        ("table1/k-k", {"projections": "k", "normalize": False, "temperature": "trained", "iterations": 0}),
        (
            "table1/k-k+norm",
            {"projections": "k", "normalize": True, "temperature": "adaptive", "iterations": 0},
        ),
        ("table4/gem-3", {"iterations": 3, "depth": 4}),
        ("table6/q-q", {"projections": "q", "iterations": 1, "depth": 4}),
        ("table7/depth-9+mlp", {"depth": 9, "mlp": True}),
        ("table8/multihead_kmeans-5", {"attention": "multihead_kmeans", "clusters": 5, "depth": 4}),
        ("figure4/no-norm-x0.5", {"normalize": False, "temperature_multiple": 0.5}),
    ],
)
def test_a_rows_settings(row: str, setting: dict) -> None:
    assert replace(named(row), **setting) == named(row)


def test_an_argument_changes_the_methods_own_setting(
    model: open_clip.CLIP, clip: Clip, images: Tensor
) -> None:
    encoder = DenseEncoder(clip, "clip_surgery", depth=2, projections="k")
    assert encoder.method == replace(METHODS["clip_surgery"], depth=2, projections="k")
    assert encoder.settings["method"] == "clip_surgery"
    assert encoder.settings["iterations"] == 0
    assert encoder.settings["window"] is None
    with torch.no_grad():
        expected = naive(model, images, lambda _x, _q, k, v: softmax_attention(k, v), 2)
    torch.testing.assert_close(encoder.encode(images), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"attention": "none"}, "attention must be one of qk, self"),
        ({"ensemble": "max"}, "ensemble must be one of mean, sum"),
        ({"temperature": "hot"}, "adaptive, trained or a number"),
        ({"temperature": -1.0}, "a number above 0"),
        ({"clusters": 0}, "clusters"),
        ({"temperature_multiple": 0}, "above 0"),
        ({"temperature": "trained", "temperature_multiple": 2}, "adaptive temperature alone"),
    ],
)
def test_settings_that_do_not_exist_are_refused(wrong: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        DenseMethod(**wrong)


# k-means


def lloyd(points: np.ndarray, clusters: int) -> np.ndarray:
    """Farthest-first start and Lloyd's steps, point by point."""
    centers = [points[np.linalg.norm(points - points.mean(axis=0), axis=1).argmin()]]
    while len(centers) < min(clusters, len(points)):
        gaps = [min(np.linalg.norm(point - center) for center in centers) for point in points]
        centers.append(points[int(np.argmax(gaps))])
    assigned: list[int] = []
    for _ in range(MAX_STEPS):
        nearest = [int(np.argmin([np.linalg.norm(point - center) for center in centers])) for point in points]
        if nearest == assigned:
            break
        assigned = nearest
        for index in range(len(centers)):
            members = [point for point, number in zip(points, assigned, strict=True) if number == index]
            if members:
                centers[index] = np.mean(members, axis=0)
    return np.array(assigned)


@settings(max_examples=25, deadline=None)
@given(
    sets=st.integers(1, 3), points=st.integers(1, 12), clusters=st.integers(1, 5), seed=st.integers(0, 10**6)
)
def test_kmeans_is_lloyds_algorithm(sets: int, points: int, clusters: int, seed: int) -> None:
    batch = np.random.default_rng(seed).standard_normal((2, sets, points, 3)).astype(np.float32)
    assigned = kmeans(torch.from_numpy(batch), clusters)
    assert assigned.shape == (2, sets, points)
    for ours, cloud in zip(assigned.flatten(0, 1), batch.reshape(-1, points, 3), strict=True):
        # the numbers of clusters are free: two points are equally near their mean
        judge = torch.from_numpy(lloyd(cloud, clusters))
        assert torch.equal(ours[:, None] == ours, judge[:, None] == judge)


def test_kmeans_finds_blobs_and_their_means() -> None:
    centers = 10 * torch.eye(4)
    truth = torch.arange(4).repeat(6)
    points = centers[truth] + 0.1 * random_images(24, 4)
    assigned = kmeans(points[None], 4)
    assert all(len(assigned[0, truth == blob].unique()) == 1 for blob in range(4))
    assert len(assigned.unique()) == 4
    means = cluster_mean(points[None], assigned)[0]
    for blob in range(4):
        torch.testing.assert_close(means[truth == blob], points[truth == blob].mean(0).expand(6, -1))


@pytest.mark.parametrize("multihead", [False, True])
def test_kmeans_methods_average_values_over_clusters(
    model: open_clip.CLIP, clip: Clip, images: Tensor, multihead: bool
) -> None:
    def mean_over(assigned: np.ndarray, v: Tensor) -> Tensor:
        return torch.stack([v[torch.from_numpy(assigned == number)].mean(dim=0) for number in assigned])

    def per_head(_x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        outputs = [mean_over(lloyd(F.normalize(p, dim=-1).numpy(), 3), v) for p in (q, k, v)]
        return sum(outputs) / 3

    def whole(image: Tensor, _q: Tensor, _k: Tensor, v: Tensor) -> Tensor:
        attn = model.visual.transformer.resblocks[-1].attn
        projected = (image @ attn.in_proj_weight.mT + attn.in_proj_bias).split(WIDTH, dim=-1)
        outputs = [mean_over(lloyd(F.normalize(p, dim=-1).numpy(), 3), v) for p in projected]
        return sum(outputs) / 3

    method = replace(named("multihead_kmeans" if multihead else "kmeans"), clusters=3)
    with torch.no_grad():
        expected = naive(model, images, per_head if multihead else whole, depth=1)
    torch.testing.assert_close(
        DenseEncoder(clip, method, depth=1).encode(images), expected, atol=2e-5, rtol=0
    )


# windows and scales


@given(length=st.integers(1, 60), crop=st.integers(1, 20), data=st.data())
def test_windows_cover_a_side_without_leaving_it(length: int, crop: int, data: st.DataObject) -> None:
    window = Window(crop, data.draw(st.integers(1, crop)))
    starts = window.starts(length)
    assert starts[0] == 0
    assert all(0 <= later - start <= window.stride for start, later in itertools.pairwise(starts))
    assert starts[-1] + min(crop, length) == length


def test_windows_are_averaged_where_they_overlap(clip: Clip) -> None:
    images = random_images(2, 3, 48, 112)
    plain, windowed = DenseEncoder(clip), DenseEncoder(clip, window=Window(64, 32))
    total = torch.zeros(2, 3, 7, 32)
    for left in (0, 32, 48):  # 112 - 64
        total[:, :, left // PATCH : left // PATCH + 4] += plain.encode(images[..., left : left + 64])
    expected = F.normalize(total, dim=-1)
    torch.testing.assert_close(windowed.encode(images), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        windowed.encode(images[..., :64]), plain.encode(images[..., :64]), atol=1e-6, rtol=0
    )


def test_windows_come_in_bounded_batches() -> None:
    sizes: list[tuple[int, ...]] = []

    def encode(images: Tensor) -> Tensor:
        sizes.append(tuple(images.shape))
        return F.normalize(images[:, :, ::4, ::4].permute(0, 2, 3, 1), dim=-1)

    images = random_images(2, 3, 40, 24)
    encoded = encode_windows(encode, images, Window(crop=8, stride=8), patch_size=4)
    assert [size[0] for size in sizes] == [8, 8, 8, 6]
    torch.testing.assert_close(encoded, encode(images))


def test_scales_are_averaged_on_the_images_grid(clip: Clip) -> None:
    images, encode = random_images(1, 3, 64, 96), DenseEncoder(clip).encode
    larger = F.interpolate(images, (96, 144), mode="bicubic", antialias=True)
    smaller = encode(larger).permute(0, 3, 1, 2)
    smaller = F.interpolate(smaller, (4, 6), mode="bilinear", antialias=True).permute(0, 2, 3, 1)
    expected = F.normalize(encode(images) + F.normalize(smaller, dim=-1), dim=-1)
    encoded = DenseEncoder(clip, scales=(1.0, 1.5)).encode(images)
    torch.testing.assert_close(encoded, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(encode_scales(encode, images, [1.0], PATCH), encode(images), atol=1e-6, rtol=0)


def test_the_image_embedding_of_a_large_image_is_that_of_the_whole(model: open_clip.CLIP, clip: Clip) -> None:
    images = random_images(1, 3, 128, 128)
    encoder = DenseEncoder(clip, window=Window(64, 64))
    patches, embedding = encoder.encode_with_class_token(images)
    assert patches.shape == (1, 8, 8, 32)
    reduced = F.interpolate(images, (64, 64), mode="bicubic", antialias=True)
    torch.testing.assert_close(embedding, model.encode_image(reduced, normalize=True), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"window": Window(64, 24)}, "multiples of 16"),
        ({"window": Window(72, 16)}, "multiples of 16"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.0, 0.0)}, "scales"),
    ],
)
def test_windows_and_scales_that_do_not_fit_are_refused(clip: Clip, wrong: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        DenseEncoder(clip, **wrong)
    with pytest.raises(UsageError, match="stride"):
        Window(64, 65)
