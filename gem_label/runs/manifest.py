"""A run's manifest: what it is made with, and whether that is the same as in an earlier session."""

from __future__ import annotations

import importlib.metadata
import json
import reprlib
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gem_label.checks import COUNT, Numbers, check_number
from gem_label.errors import UsageError
from gem_label.labeling import LabelSettings, Vocabulary
from gem_label.learning.learned import Learned
from gem_label.runs.files import FORMAT

MASK_TOKENS = "mask_tokens"
"""Of a manifest's settings; only in runs that hold mask tokens."""

_COMPARED = ("format", "settings", "weights", "vocabulary", "labeling", "embedding_dim")


def new_manifest(
    *,
    settings: Mapping[str, Any],
    vocabulary: Vocabulary,
    embedding_dim: int,
    logit_scale: float,
    label_settings: LabelSettings | None = None,
    weights: Mapping[str, Any] | None = None,
    words_per_image: str | None = None,
    learned: Learned | None = None,
) -> dict[str, Any]:
    """The manifest of a new run, without counts.

    Args:
        settings: what decides over masks and embeddings, as JSON (models, proposals, dense features).
        vocabulary: the words.
        embedding_dim: d.
        logit_scale: the CLIP model's scale.
        label_settings: thresholds; None: the defaults.
        weights: names and sha256 of the weights, as JSON.
        words_per_image: digest of the table of words per photo, or None.
        learned: what labels rest on besides the words, or None.

    Raises:
        UsageError: a number is out of range.
    """
    check_number("logit_scale", logit_scale, Numbers(0, above=True))
    check_number("embedding_dim", embedding_dim, COUNT)
    manifest = {
        "format": FORMAT,
        "id": new_run_id(),
        "settings": dict(settings),
        "weights": dict(weights or {}),
        "vocabulary": vocabulary.to_dict(),
        "labeling": {
            "settings": (label_settings or LabelSettings()).to_dict(),
            "logit_scale": float(logit_scale),
            "words_per_image": words_per_image,
            # left out where nothing was learned: runs without it have the same manifest as before
            **({} if learned is None else {"learned": learned.digest}),
        },
        "embedding_dim": embedding_dim,
        "versions": package_versions(),
        "created": now(),
    }
    # tuples become lists and numpy's numbers plain ones, as in a manifest to compare with
    return dict(json.loads(json.dumps(manifest, default=lambda number: number.item())))


def check_same_settings(run: object, manifest: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that a run was made with the settings of this session.

    Args:
        run: the run's path, for the message.
        manifest: of the run.
        wanted: of this session, from `new_manifest`.

    Raises:
        UsageError: it was not; the message names the differences.
    """
    changed = [line for key in _COMPARED for line in differences(manifest.get(key), wanted[key], key)]
    if changed:
        raise UsageError(
            f"{run} was made with other settings ({'; '.join(changed)}): use the same to resume it, another --out, "
            "or `gem-label relabel` for other words"
        )


def has_mask_tokens(manifest: Mapping[str, Any]) -> bool:
    """Whether the masks of a run have embeddings by class tokens of their own."""
    settings = manifest.get("settings")
    return isinstance(settings, Mapping) and settings.get(MASK_TOKENS) is True


def package_versions() -> dict[str, str]:
    """The versions that decide over results."""
    names = (
        "gem-label",
        "torch",
        "open_clip_torch",
        "segment-anything",
        "timm",
        "numpy",
        "pillow",
        "pyarrow",
    )
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def new_run_id() -> str:
    """A random id, which a run and its shards have in common."""
    return secrets.token_hex(8)


def now() -> str:
    """The time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Where two JSON values differ, one short line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = [
            differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
            for key in dict.fromkeys([*old, *new])
        ]
        return [line for part in found for line in part]
    if old == new:
        return []
    if isinstance(old, list) and isinstance(new, list):
        gone, added = [x for x in old if x not in new], [x for x in new if x not in old]
        if not (gone or added):
            return [f"{name}: in another order"]
        parts = (
            f"{word} {reprlib.repr(items)}" for word, items in (("without", gone), ("with", added)) if items
        )
        return [f"{name}: now {' and '.join(parts)}"]
    return [f"{name}: was {reprlib.repr(old)}, is now {reprlib.repr(new)}"]
