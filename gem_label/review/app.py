"""The FiftyOne App on a run or a dataset."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from gem_label.allowed_folders import VARIABLE, folders_from_environment
from gem_label.errors import UsageError
from gem_label.review.database import load_fiftyone, open_dataset
from gem_label.review.ports import bare_address, check_port, is_loopback
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
    place = run.place
    pushes = [
        (push.get("pushed", ""), dataset["name"], field, push)
        for dataset in database().datasets.find({"info.gem_label": {"$exists": True}}, ["name", "info"])
        for field, push in dataset["info"]["gem_label"].items()
        if push.get("run") == place
    ]
    if not pushes:
        name = unused_name(PurePosixPath(place).name)
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
    open_to_network: bool = False,
    folders: Sequence[str | Path] = (),
) -> Any:
    """Open the FiftyOne App, with masks colored by their label.

    The App has no password: whoever reaches its port can do what the person at the browser can. So it listens on this
    machine alone unless `open_to_network` says otherwise.

    Args:
        run_or_name: a run directory (pushed first when it is in no dataset as it is now) or a dataset's name.
        port: where the App listens.
        address: the interface it listens on; None: FiftyOne's setting, by default this machine only, or every
            interface with `open_to_network`.
        remote: do not open a browser here.
        wait: come back when the last browser window is closed, or, with `remote`, when interrupted.
        open_to_network: let other machines reach the App.
        folders: below these, beside those of `GEM_LABEL_FOLDERS`, the App's forms may name files to write and read.
            Where there is none, and the App is not open to the network: the home folder and the current one.

    Returns:
        The FiftyOne session.

    Raises:
        UsageError: neither a run nor a dataset, an address that other machines reach without `open_to_network`, a
            port that something listens on, or a folder that is not there.
        GemLabelError: FiftyOne or its database does not work.
    """
    fo = load_fiftyone()
    address = _checked_address(address or _default_address(fo, open_to_network), open_to_network)
    allowed = _checked_folders(folders, open_to_network)
    check_port(address, port)
    is_run = (Path(run_or_name) / "manifest.json").is_file()
    name = dataset_of_run(run_or_name) if is_run else str(run_or_name)
    dataset = open_dataset(name, "neither a run directory nor a FiftyOne dataset")
    for line in _explain(address, port, remote, allowed):
        print(line, file=sys.stderr)
    with _environment(VARIABLE, os.pathsep.join(map(str, allowed))):  # the server inherits it
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


def _default_address(fo: Any, open_to_network: bool) -> str:
    if open_to_network:  # only where --remote asks for it, which says so
        return "0.0.0.0"  # noqa: S104
    return fo.config.default_app_address or "localhost"


def _checked_address(address: str, open_to_network: bool) -> str:
    """The address as FiftyOne takes it.

    Raises:
        UsageError: other machines reach it, and nobody said that they may.
    """
    if not open_to_network and not is_loopback(address):
        raise UsageError(
            f"{address} is reached from other machines, and the App has no password: --open-to-network allows that; "
            "without it use an SSH tunnel, see docs/review.md"
        )
    bare = bare_address(address)
    return f"[{bare}]" if ":" in bare else bare


def _checked_folders(folders: Sequence[str | Path], open_to_network: bool) -> list[Path]:
    """All folders that the App's forms may name, absolute.

    Raises:
        UsageError: one of those given here is no folder.
    """
    given = [Path(folder).expanduser().absolute() for folder in folders]
    for folder in given:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}")
    allowed = [*given, *(folders_from_environment() or [])]
    if not allowed and not open_to_network:
        here = Path.cwd()
        allowed = [*([here] if here != Path(here.anchor) else []), Path.home()]  # "/" would allow everything
    return allowed


def _explain(address: str, port: int, remote: bool, allowed: Sequence[Path]) -> Iterator[str]:
    """Yield lines about who reaches the App and how."""
    if not is_loopback(address):
        below = " or ".join(map(str, allowed)) or "FiftyOne's folder of runs"
        yield (
            f"gem-label: open to the network without a password: whoever reaches port {port} of this machine can "
            "change and delete every dataset, read every file that you can read, start work here, and write files "
            f"below {below}"
        )
    elif remote:
        host = socket.gethostname()
        yield (
            f"gem-label: only this machine reaches the App. From another one: ssh -N -L 5151:localhost:{port} {host} "
            "and then http://localhost:5151 in a browser there"
        )


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for the processes that the block starts; "" leaves it as it is."""
    before = os.environ.get(name)
    if value:
        os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
