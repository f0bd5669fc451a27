"""The methods since GEM: equal to their authors' code, and what they do where that code is not asked."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from fixtures import make_methods
from fixtures.make_gem_torch import build_model, make_images
from torch import Tensor
from torch.nn import functional as F

from gem_label.clip.corrclip import CorrClip, merge_regions, paint_regions
from gem_label.clip.dense import DenseEncoder
from gem_label.clip.guides import Guide
from gem_label.clip.last_block import LastBlockMethod, scaled_block
from gem_label.clip.method_settings import method_settings, read_method
from gem_label.clip.methods import METHODS, PAPER_ROWS, AnyMethod
from gem_label.clip.proxyclip import ProxyClip
from gem_label.clip.resclip import ResClip
from gem_label.clip.scclip import ScClip, find_outliers, replace_outliers
from gem_label.errors import UsageError

LATER = [name for name, method in METHODS.items() if isinstance(method, LastBlockMethod)]


class FixedProxy:
    """Features that are known beforehand, for any image."""

    def __init__(self, features: Tensor) -> None:
        self._features = features

    def __call__(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        assert 0 <= images.min() <= images.max() <= 1
        return F.interpolate(self._features, grid, mode="nearest").expand(len(images), -1, -1, -1)

    def describe(self) -> dict:
        return {"name": "fixed"}


GUIDE = Guide(FixedProxy(make_methods.make_proxy()))


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
