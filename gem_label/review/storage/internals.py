"""Everything of FiftyOne that we use and that FiftyOne does not promise to keep, in one place.

Tried with FiftyOne 1.22; pyproject.toml allows a later minor version when the tests have run with it. What
FiftyOne documents (datasets, views, labels, `to_mongo`) is used where it is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def database() -> Any:
    """The pymongo database that FiftyOne is connected to."""
    from fiftyone.core.odm import get_db_conn

    return get_db_conn()


def samples_of(dataset: Any) -> Any:
    """The pymongo collection with the samples of a dataset."""
    return dataset._sample_collection


def samples_name(dataset: Any) -> str:
    """The name of that collection, for `$lookup` and `$merge`."""
    return dataset._sample_collection_name


def dataset_id(dataset: Any) -> Any:
    """The id of a dataset's document in the database."""
    return dataset._doc.id


def dataset_of(samples: Any) -> Any:
    """The dataset that a dataset or a view of it is of."""
    return samples._root_dataset


def is_patches(view: Any) -> bool:
    """Whether a view shows patches in place of photos."""
    return view._is_patches


def rebuild_view(view: Any) -> Any:
    """The same view over what is stored now.

    A view of patches shows a copy of the masks that FiftyOne makes once and keeps in the view's `_state`: without it
    FiftyOne makes the copy again. The copy that the App shows stays, since somebody else may look at it.
    """
    import fiftyone as fo

    stages = view._serialize(include_uuids=False)
    for stage in stages:
        stage["kwargs"] = [[name, None if name == "_state" else value] for name, value in stage["kwargs"]]
    return fo.DatasetView._build(view._root_dataset, stages)


def aggregate_view(view: Any, stages: list[dict[str, Any]]) -> Any:
    """Run pipeline stages on what a view shows: a pymongo cursor. Patches have a collection of their own."""
    pipeline = view._pipeline(post_pipeline=stages)
    return view._dataset._sample_collection.aggregate(pipeline, allowDiskUse=True)


def unused_name(name: str) -> str:
    """A name of a dataset that does not exist yet: this one, or this one with a number."""
    from fiftyone.core.dataset import make_unique_dataset_name

    return make_unique_dataset_name(name)


def serialize_array(array: NDArray[np.bool_]) -> bytes:
    """An array as FiftyOne keeps it in its database."""
    from fiftyone.core.utils import serialize_numpy_array

    return serialize_numpy_array(array)


def deserialize_array(data: bytes) -> NDArray[Any]:
    """An array that FiftyOne keeps in its database."""
    from fiftyone.core.utils import deserialize_numpy_array

    return np.asarray(deserialize_numpy_array(data))
