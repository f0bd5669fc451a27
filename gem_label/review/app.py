"""The FiftyOne App on a run or a dataset."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from gem_label.review.database import load_fiftyone, open_dataset
from gem_label.review.pushing.push_run import push_run
from gem_label.review.storage.fields import thresholds_of_push
from gem_label.review.storage.internals import database, unused_name
from gem_label.review.storage.less_likely import HIDDEN_FLOOR
from gem_label.runs import open_run


def dataset_of_run(path: str | Path) -> str:
    """Name of the dataset that holds a run as it is now.

    The dataset that the run was pushed to last is brought up to date when the run changed since, with the thresholds
    of that push; a run that was never pushed goes into a new dataset with the name of its folder.

    Raises:
        GemLabelError: there is no run, or FiftyOne does not work.
    """
    load_fiftyone()
    run = open_run(path)
    place = str(run.path.resolve())
    pushes = [
        (push.get("pushed", ""), dataset["name"], field, push)
        for dataset in database().datasets.find({"info.gem_label": {"$exists": True}}, ["name", "info"])
        for field, push in dataset["info"]["gem_label"].items()
        if push.get("run") == place
    ]
    if not pushes:
        name = unused_name(run.path.resolve().name)
        push_run(run, name)
        return name
    _, name, field, last = max(pushes, key=lambda push: push[:3])
    if last.get("run_updated") != run.manifest.get("updated"):
        thresholds = thresholds_of_push(last, run.vocabulary.classes)
        hidden_from = last.get("hidden_from", HIDDEN_FLOOR)
        push_run(run, name, field=field, min_score=thresholds, hidden_from=hidden_from)
    return name


def open_app(
    run_or_name: str | Path,
    port: int = 5151,
    address: str | None = None,
    remote: bool = False,
    wait: bool = True,
) -> Any:
    """Open the FiftyOne App, with masks colored by their label.

    Args:
        run_or_name: a run directory (pushed first when it is in no dataset as it is now) or a dataset's name.
        port: where the App listens.
        address: the interface it listens on; None: FiftyOne's setting, by default this machine only.
        remote: do not open a browser here; the App is looked at from another machine.
        wait: come back when the last browser window is closed, or, with `remote`, when interrupted.

    Returns:
        The FiftyOne session.

    Raises:
        UsageError: neither a run nor a dataset.
        GemLabelError: FiftyOne or its database does not work.
    """
    fo = load_fiftyone()
    is_run = (Path(run_or_name) / "manifest.json").is_file()
    name = dataset_of_run(run_or_name) if is_run else str(run_or_name)
    dataset = open_dataset(name, "neither a run directory nor a FiftyOne dataset")
    session = fo.launch_app(
        dataset,
        port=port,
        address=address,
        remote=remote,
        color_scheme=fo.ColorScheme(color_by="value"),
    )
    if wait:
        with suppress(KeyboardInterrupt):
            session.wait(-1 if remote else 3)
    return session
