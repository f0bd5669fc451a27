"""What decides over labels besides the words: thresholds, and whether overlapping masks are kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gem_label.checks import COUNT, SHARE, check_number
from gem_label.errors import UsageError
from gem_label.labeling.evidence import TOKEN_SHARE

DEFAULT_MIN_SCORE = 0.4
"""The score from which labels are kept unless asked otherwise.

F1 is flat around it on scenes and on simulated photos; lower thresholds find more, higher ones err less.
"""

MIN_SCORE_FOR = {"training": 0.2, "review": 0.6}
"""Thresholds by purpose. A detector trained on automatic labels gains from recall; reviewers want precision."""

_EARLIER = frozenset({"containment"})  # a setting that manifests of format 1 have


@dataclass(frozen=True)
class Thresholds:
    """The least score of a label that is kept, for all classes and for some of their own.

    Attributes:
        default: in [0, 1].
        classes: class name to its own threshold in [0, 1].

    Example:
        >>> Thresholds.parse("0.5, cat=0.4, hot dog=0.6")
        Thresholds(default=0.5, classes={'cat': 0.4, 'hot dog': 0.6})
    """

    default: float = DEFAULT_MIN_SCORE
    classes: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_number("min_score", self.default, SHARE)
        if not isinstance(self.classes, Mapping):
            raise UsageError(
                f"thresholds of classes must be a mapping of names to scores, not {self.classes!r}"
            )
        for name, value in self.classes.items():
            check_number(f"min_score of {name!r}", value, SHARE)

    @classmethod
    def parse(cls, text: str, default: float = DEFAULT_MIN_SCORE) -> Self:
        """Read "0.5, cat=0.4, dog=0.6": a number for all classes and numbers for some of their own.

        Args:
            text: parts separated by commas, in any order; the last "=" of a part separates name and number.
            default: the threshold of the other classes where the text has no number without a name.

        Raises:
            UsageError: a part that is no number, or two numbers for one name.
        """
        found: dict[str, float] = {}
        for part in text.split(","):
            name, _, number = part.rpartition("=")
            try:
                value = float(number)
            except ValueError:
                raise UsageError(f"cannot read {part.strip()!r}: write '0.5' or '0.5, cat=0.4'") from None
            if name.strip() in found:
                raise UsageError(f"two thresholds for {name.strip() or 'all classes'}: give one")
            found[name.strip()] = value
        return cls(found.pop("", default), found)

    @classmethod
    def of(cls, value: float | str | Mapping[str, float] | Thresholds | None) -> Thresholds:
        """From a number, from text for `parse`, from numbers by class, or from thresholds; None: the defaults."""
        if value is None:
            return cls()
        if isinstance(value, Thresholds):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        return cls(classes=dict(value)) if isinstance(value, Mapping) else cls(value)

    def by_class(self, classes: Sequence[str]) -> NDArray[np.float32]:
        """(C,) the threshold of each class.

        Raises:
            UsageError: a threshold for a class that is not among them.
        """
        unknown = [name for name in self.classes if name not in classes]
        if unknown:
            raise UsageError(f"a threshold for {unknown[0]!r}, which is not among the classes")
        return np.array([self.classes.get(name, self.default) for name in classes], np.float32)

    def among(self, classes: Collection[str]) -> Thresholds:
        """The same thresholds without those of classes that are not among these."""
        return Thresholds(self.default, {name: s for name, s in self.classes.items() if name in classes})

    def to_json(self) -> float | dict[str, Any]:
        """A number, or {"default": number, "classes": {name: number}}, for a manifest."""
        return {"default": self.default, "classes": dict(self.classes)} if self.classes else self.default

    @classmethod
    def from_json(cls, data: float | Mapping[str, Any]) -> Thresholds:
        """The inverse of `to_json`.

        Raises:
            UsageError: for anything else.
        """
        if not isinstance(data, Mapping):
            return cls(data)
        if unknown := set(data) - {"default", "classes"}:
            raise UsageError(f"min_score has {sorted(unknown)[0]!r}, which is neither default nor classes")
        return cls(**data)

    def __str__(self) -> str:
        """As `parse` reads it."""
        return ", ".join(
            [f"{self.default:g}", *(f"{name}={value:g}" for name, value in self.classes.items())]
        )


@dataclass(frozen=True)
class LabelSettings:
    """What decides over labels besides the words.

    Attributes:
        min_score: a mask whose class has a lower score is not kept; a number, or text for `Thresholds.parse`.
        top_k: how many classes and scores are stored per mask.
        overlaps: keep masks that repeat a better one, too.
        image_top_k: only the K classes most similar to the whole photo (class token) take part; None: all.
        token_share: how much of the log-probabilities mask tokens decide, where masks have them: 0 leaves it to the
            pooled patches, 1 to the tokens.
    """

    min_score: Thresholds = field(default_factory=Thresholds)
    top_k: int = 5
    overlaps: bool = False
    image_top_k: int | None = None
    token_share: float = TOKEN_SHARE

    def __post_init__(self) -> None:
        object.__setattr__(self, "min_score", Thresholds.of(self.min_score))
        check_number("top_k", self.top_k, COUNT)
        check_number("token_share", self.token_share, SHARE)
        check_number("image_top_k", self.image_top_k, replace(COUNT, optional=True))
        if not isinstance(self.overlaps, bool):
            raise UsageError(f"overlaps must be True or False, not {self.overlaps!r}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON in manifest.json."""
        settings = asdict(self) | {"min_score": self.min_score.to_json()}
        if self.token_share == TOKEN_SHARE:  # so that runs of versions that had no mask tokens are resumed
            del settings["token_share"]
        return settings

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; reads manifests of older formats too.

        Raises:
            UsageError: a setting is missing, unknown or out of range.
        """
        if "min_score" not in data:
            raise UsageError("no min_score")
        unknown = data.keys() - {each.name for each in fields(cls)} - _EARLIER
        if unknown:
            raise UsageError(f"{min(unknown)}, a setting of a later version")
        values = {
            name: data[name] for name in ("top_k", "overlaps", "image_top_k", "token_share") if name in data
        }
        return cls(Thresholds.from_json(data["min_score"]), **values)
