"""Dense methods as JSON, for manifests and results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gem_label.clip.corrclip import CorrClip
from gem_label.clip.last_block import LastBlockMethod
from gem_label.clip.methods import AnyMethod, DenseMethod
from gem_label.clip.proxyclip import ProxyClip
from gem_label.clip.resclip import ResClip
from gem_label.clip.scclip import ScClip

_KINDS: dict[str, type[LastBlockMethod]] = {
    "scclip": ScClip,
    "resclip": ResClip,
    "proxyclip": ProxyClip,
    "corrclip": CorrClip,
}


def method_settings(method: AnyMethod) -> dict[str, Any]:
    """All settings of a method; "method" is its name, "kind" says which class has the others."""
    settings = asdict(method)
    named = {"method": settings.pop("name")}
    if isinstance(method, DenseMethod):
        if not method.neighborhood:  # so that runs of versions that had none are resumed
            del settings["neighborhood"]
        return named | settings
    kind = next(kind for kind, each in _KINDS.items() if type(method) is each)
    return named | {"kind": kind} | settings


def read_method(settings: Mapping[str, Any]) -> AnyMethod:
    """The inverse of `method_settings`, also of what came back from JSON.

    Raises:
        KeyError, TypeError, UsageError: settings that no method of this version has.
    """
    values: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each for name, each in settings.items()
    }
    values["name"] = values.pop("method")
    kind = values.pop("kind", None)
    return DenseMethod(**values) if kind is None else _KINDS[kind](**values)
