"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

# Before anything imports huggingface_hub or fiftyone: tests never reach for a network they may not have.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")


@pytest.fixture(scope="session")
def photos() -> dict[str, NDArray[np.uint8]]:
    """Real photos that scikit-image ships inside its package: name -> (H, W, 3) uint8."""
    from skimage import data

    return {"astronaut": data.astronaut(), "coffee": data.coffee(), "chelsea": data.chelsea()}


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory, photos: dict[str, NDArray[np.uint8]]) -> Path:
    """The same photos as JPEG files in a folder."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    for name, pixels in photos.items():
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=95)
    return folder


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names a test with a parameter of bytes after the parameter, not after the bytes.

    A packed file holds the time at which it was made, so that two test processes would know the test by two names.
    """
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no test process is left alone with one at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak-minutes", type=float, default=0.0, help="random cases for so long, in place of a fixed number"
    )


@pytest.fixture
def one_thread() -> AbstractContextManager[None]:
    """PyTorch and BLAS on one thread: threads that wait for each other on a busy machine count as processor time."""

    @contextmanager
    def limited() -> Iterator[None]:
        import torch
        from threadpoolctl import threadpool_limits

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with threadpool_limits(1):
                yield
        finally:
            torch.set_num_threads(threads)

    return limited()
