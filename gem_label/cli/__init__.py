"""The command line: parse, call the library, print.

Results go to stdout, progress and errors to stderr. An error is one line that says what to do; exit codes are 0 ok,
1 the work failed or nothing could be done, 2 wrong usage. Commands import what they need when they run, so that
`gem-label --help` needs neither torch nor fiftyone.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, cast

import typer

from gem_label.cli import (
    bench,
    demo,
    eval,
    exchange,
    heatmap,
    label,
    learn,
    models,
    plugin,
    repair,
    review,
    runs,
    show,
)
from gem_label.cli.commands import add_command, make_group, show_help
from gem_label.cli.options import INTERRUPTED
from gem_label.errors import GemLabelError

# UsageError and ClickException: typer has click inside or beside it, depending on its version
_USAGE_ERROR, _CLICK_ERROR = (
    cast("type[typer.BadParameter]", base) for base in typer.BadParameter.__mro__[1:3]
)


LABEL, LOOK, REVIEW, MEASURE, SET_UP = (
    "Label images",
    "Look at results",
    "Review and exchange annotations",
    "Measure",
    "Set up",
)
COMMANDS: Final[Mapping[str, Mapping[str, Callable[..., Any]]]] = MappingProxyType(
    {
        LABEL: {
            "label": label.label,
            "relabel": runs.relabel,
            "learn": learn.learn,
            "finish": runs.finish,
            "repair": repair.repair,
        },
        LOOK: {"show": show.show, "search": runs.search, "heatmap": heatmap.heatmap},
        REVIEW: {
            "push": review.push,
            "review": review.review,
            "export": exchange.export,
            "import": exchange.import_annotations,
        },
        MEASURE: {"bench": bench.bench},
        SET_UP: {"doctor": models.doctor, "demo": demo.demo},
    }
)
"""All commands that are in no group, by the heading under which the help lists them."""


def make_app() -> typer.Typer:
    """The application with all its commands."""
    app = make_group(
        name="gem-label",
        help="Label photos with any words: SAM proposes masks, GEM names them, no training.",
        epilog="Start with: gem-label demo, or gem-label label PHOTOS --classes 'cat, dog' --out RUN",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.callback(invoke_without_command=True)(root)
    for panel, commands in COMMANDS.items():
        for name, command in commands.items():
            add_command(app, name, command, panel)
    app.add_typer(plugin.make_app(), name="plugin", rich_help_panel=REVIEW)
    app.add_typer(eval.make_app(), name="eval", rich_help_panel=MEASURE)
    app.add_typer(models.make_app(), name="models", rich_help_panel=SET_UP)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"gem-label {version('gem-label')}")
        raise typer.Exit


def root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """Label photos with any words: SAM proposes masks, GEM names them, no training."""
    show_help(context)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors are one line on stderr.

    Args:
        arguments: without the program's name; None takes the process's own.
    """
    try:
        code = make_app()(args=arguments, prog_name="gem-label", standalone_mode=False)
    except GemLabelError as error:
        return _fail(str(error), error.exit_code)
    except _USAGE_ERROR as error:
        context = error.ctx
        command = context.command_path if context else "gem-label"
        message = error.format_message().replace("Value error, ", "")  # pydantic's words
        return _fail(f"{message} (see {command} --help)", 2)
    except _CLICK_ERROR as error:
        return _fail(error.format_message(), 1)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # `gem-label search ... | head`: nobody is listening any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that may not be written
        return _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    except Exception as error:
        if not _is_of_database(error):
            raise
        from gem_label.review.database import explain_database_error

        return _fail(explain_database_error(error), 1)
    return code if isinstance(code, int) else 0


def _is_of_database(error: Exception) -> bool:
    """Whether FiftyOne's database failed; where pymongo is not imported, it has not."""
    errors = sys.modules.get("pymongo.errors")
    return errors is not None and isinstance(error, errors.PyMongoError)


def _fail(message: str, code: int) -> int:
    print(f"gem-label: {' '.join(message.split())}", file=sys.stderr)
    return code


def main() -> None:
    """The entry point `gem-label`; SIGTERM and SIGHUP end it as errors do, so that temporary files are deleted."""
    # before PyTorch is loaded: threads that spin while they wait take the time of others on a busy machine, and of
    # each other (docs/performance.md, "Beside other processes")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    sys.exit(run())


def _end(number: int, frame: object) -> None:
    with suppress(OSError):  # not by print: it may be in the middle of a line
        os.write(2, f"gem-label: ended by {signal.Signals(number).name}\n".encode())
    raise SystemExit(128 + number)
