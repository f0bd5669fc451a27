"""Everything of FiftyOne that we use and that FiftyOne does not promise to keep, in one place.

Tried with FiftyOne 1.22; pyproject.toml allows a later minor version when the tests have run with it. What
FiftyOne documents (datasets, views, labels, `to_mongo`) is used where it is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DUPLICATE_KEY = 11000


def find_mongod() -> str:
    """The path of the database program that FiftyOne starts.

    Raises:
        FileNotFoundError: it has none; the message is FiftyOne's reason.
        ImportError: FiftyOne cannot be imported.
    """
    from fiftyone.core.service import DatabaseService, ServiceExecutableNotFound

    try:
        return DatabaseService.find_mongod()
    except (ServiceExecutableNotFound, PermissionError) as error:
        raise FileNotFoundError(str(error)) from error


def database() -> Any:
    """The pymongo database that FiftyOne is connected to."""
    from fiftyone.core.odm import get_db_conn

    return get_db_conn()


def limit_database_patience(seconds: float) -> None:
    """Give up on a database that has ended after some seconds; pymongo waits 30 for every command.

    That time is for elections among the members of a replica set. A database of one process has none, and where its
    address states a time, that is kept.

    Args:
        seconds: after so long without the database, a command fails.

    Raises:
        ConnectionError: there is no database at its address.
    """
    import fiftyone as fo
    from mongoengine import get_connection

    ours = database().client  # connects
    if "serverselectiontimeoutms" in (fo.config.database_uri or "").lower():
        return
    for client in (ours, get_connection()):
        if client.topology_description.topology_type_name == "Single":
            # pymongo takes the time with the address, and the App has connected before a plugin is loaded
            client._topology._settings._server_selection_timeout = seconds


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


def add_samples_once(dataset: Any, samples: list[Any]) -> set[str]:
    """Add samples of photos that a dataset does not have, although others may add the same ones at the same time.

    The `_id` of such a sample follows from dataset and path, so that the second of two never gets in; samples that
    users add, also several of one path, have ids of their own and stay.

    Args:
        dataset: the FiftyOne dataset.
        samples: new FiftyOne samples, each of another path.

    Returns:
        The paths of the samples that were added here.
    """
    from bson import ObjectId

    collection = samples_of(dataset)
    documents = {}
    for sample in samples:  # as `add_samples` does, with ids
        _, document = dataset._transform_sample(sample, validate=False, copy=True)
        documents[document["filepath"]] = document
    added: set[str] = set()
    number = 0
    while documents:
        for path, document in documents.items():
            text = f"{dataset_id(dataset)} {number} {path}"
            document["_id"] = ObjectId(
                hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=12).digest()
            )
        added |= _insert_new(collection, list(documents.values()))
        there = collection.find({"filepath": {"$in": list(documents)}}, ["filepath"])
        # an id that is taken by a sample whose path was changed since: the next one
        for path in {document["filepath"] for document in there}:
            documents.pop(path, None)
        number += 1
    return added


def _insert_new(collection: Any, documents: list[dict[str, Any]]) -> set[str]:
    """Insert documents unless their `_id`s are there; the paths of those that were inserted."""
    from pymongo.errors import BulkWriteError

    try:
        collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        errors = error.details["writeErrors"]
        if any(each["code"] != _DUPLICATE_KEY for each in errors):
            raise
        refused = {each["index"] for each in errors}
        return {document["filepath"] for i, document in enumerate(documents) if i not in refused}
    return {document["filepath"] for document in documents}


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


def is_app_server(command: Sequence[str]) -> bool:
    """Whether a command line is that of an App's server."""
    return is_session_server(command) or any(each.endswith("fiftyone/server/main.py") for each in command)


def is_session_server(command: Sequence[str]) -> bool:
    """Whether a command line is that of an App's server that a session started."""
    return "main.py" in command and "--port" in command and not is_server_keeper(command)


def is_server_keeper(command: Sequence[str]) -> bool:
    """Whether a command line is that of the process between a session and its server, which ends both together."""
    return "--51-service" in command
