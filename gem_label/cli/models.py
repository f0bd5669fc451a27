"""`gem-label models` and `gem-label doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from gem_label.cli.commands import add_command, help_text, make_group
from gem_label.defaults import DEFAULT_CLIP, DEFAULT_SAM


def make_app() -> typer.Typer:
    """The group `models`; without a subcommand it lists."""
    app = make_group(invoke_without_command=True)
    app.callback(help=help_text(models))(models)
    add_command(app, "list", list_models)
    add_command(app, "pull", pull)
    return app


def models(context: typer.Context) -> None:
    """Show and fetch SAM weights.

    CLIP models come by open_clip's names when they are used.

    \b
    Example: gem-label models pull mobile_sam
    """
    if context.invoked_subcommand is None:
        list_models()


def list_models() -> None:
    """List the SAM weights and which of them are on this machine.

    \b
    Example: gem-label models list
    """
    from gem_label.weights import list_weights

    for weights in list_weights():
        size = f"{weights.source.bytes / 1e6:.0f} MB"
        where = str(weights.path) if weights.present else f"gem-label models pull {weights.name}"
        print(f"{weights.name:12}{'here' if weights.present else 'not here':10}{size:>8}  {where}")
    print(f"CLIP: demo comes with the package; {DEFAULT_CLIP} and open_clip's others are fetched when used")


def pull(name: Annotated[str, typer.Argument(help="mobile_sam, vit_b, vit_l or vit_h.")]) -> None:
    """Fetch SAM weights and check their sha256.

    Nothing happens when they are there.

    \b
    Example: gem-label models pull mobile_sam
    """
    from gem_label.weights import pull_weights

    print(pull_weights(name))


def doctor(
    clip: Annotated[str, typer.Option(help="The CLIP that you will use.")] = DEFAULT_CLIP,
    sam: Annotated[str, typer.Option(help="The SAM that you will use.")] = DEFAULT_SAM,
) -> None:
    """Check what gem-label needs on this machine, and say how to get what is missing.

    Says for everything that is missing how to get it. Exit code 1 when something needed is missing.

    \b
    Example: gem-label doctor
    Example: gem-label doctor --clip demo
    """
    from gem_label.doctor import check_all, report

    missing = report(check_all(clip, sam))
    if missing:
        print(f"{missing} needed {'thing is' if missing == 1 else 'things are'} missing: see the lines above")
        raise typer.Exit(1)
    print("everything needed is here")
