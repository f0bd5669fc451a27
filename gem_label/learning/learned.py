"""`Learned`: all that a run learned, as data that can be stored and applied to other masks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.labeling.evidence import Evidence
from gem_label.labeling.labels import MaskLabels
from gem_label.learning.calibration import Calibration, apply_calibration
from gem_label.learning.features import FEATURES, mask_features
from gem_label.learning.words import LearnedWords, learned_text
from gem_label.vocabulary import Vocabulary

FORMAT = "gem-label learned 1"


@dataclass(frozen=True)
class Learned:
    """What was learned from decisions or examples, for the embeddings of one CLIP model.

    Attributes:
        clip_sha256: of the weights of the CLIP model whose embeddings it is about; None where a run has no sum.
        calibration: of the scores; None: they stay as they are.
        words: the looks of classes, on top of text and examples; None: classes are these.
        examples: the looks of classes by examples that the user gave; None: classes are their text. Learning from
            reviews starts from them.
        source: what it was learned from and how it did, as JSON; for people, not for labeling.
    """

    clip_sha256: str | None
    calibration: Calibration | None = None
    words: LearnedWords | None = None
    examples: LearnedWords | None = None
    source: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        calibration: dict[str, Any] | None = None
        if self.calibration is not None:
            c = self.calibration
            names = {"mean": c.mean, "deviation": c.deviation, "weights": c.weights}
            calibration = {name: dict(zip(FEATURES, v.tolist(), strict=True)) for name, v in names.items()}
            calibration |= {"intercept": c.intercept, "offsets": dict(c.offsets)}
        return {
            "format": FORMAT,
            "clip_sha256": self.clip_sha256,
            "calibration": calibration,
            "words": _rows(self.words),
            "examples": _rows(self.examples),
            "source": dict(self.source),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The inverse of `to_dict`.

        Raises:
            UsageError: it has another form, or numbers that are not finite.
        """
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise UsageError(f"it is not of the format {FORMAT!r}")
        try:
            calibration = data["calibration"]
            return cls(
                data["clip_sha256"],
                None if calibration is None else _calibration(calibration),
                _words(data["words"]),
                _words(data["examples"]),
                dict(data["source"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise UsageError(f"it holds numbers that cannot be used ({reason})") from error

    @property
    def digest(self) -> str:
        """sha256 of all that it holds."""
        text = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def check_model(self, clip_sha256: str | None, dimension: int) -> None:
        """Make sure that it fits the embeddings of a run.

        Args:
            clip_sha256: of the weights of the run's CLIP model.
            dimension: length of its embeddings.

        Raises:
            UsageError: it was learned with another model.
        """
        lengths = {each.vectors.shape[1] for each in (self.words, self.examples) if each is not None}
        if lengths - {dimension} or self.clip_sha256 != clip_sha256:
            raise UsageError(
                "this was learned with another CLIP model, whose embeddings mean something else: learn again from "
                "a run of this model"
            )


def _calibration(data: Mapping[str, Any]) -> Calibration:
    names = ("mean", "deviation", "weights")
    columns = [np.array([float(data[name][feature]) for feature in FEATURES]) for name in names]
    offsets = {str(name): float(value) for name, value in data["offsets"].items()}
    return Calibration(columns[0], columns[1], columns[2], float(data["intercept"]), offsets)


def _rows(words: LearnedWords | None) -> list[dict[str, Any]] | None:
    """Words as JSON; the shortest numbers that are read as the same ones."""
    if words is None:
        return None
    return [
        {"class": name, "with_text": bool(with_text), "vector": [float(str(value)) for value in vector]}
        for name, with_text, vector in zip(words.classes, words.with_text, words.vectors, strict=True)
    ]


def _words(rows: list[Mapping[str, Any]] | None) -> LearnedWords | None:
    if not rows:
        return None
    return LearnedWords(
        tuple(str(row["class"]) for row in rows),
        np.array([row["vector"] for row in rows], np.float32).reshape(len(rows), -1),
        np.array([bool(row["with_text"]) for row in rows], bool),
    )


@dataclass(frozen=True)
class CalibratedScores:
    """A `Rescore` by a calibration; plain data, so that it can travel to other machines.

    Attributes:
        calibration: what was learned.
        text: (T, d) embeddings of `vocabulary.phrases`, with what was learned about words.
        vocabulary: the words.
        logit_scale: the CLIP model's scale.
    """

    calibration: Calibration
    text: NDArray[np.float32]
    vocabulary: Vocabulary
    logit_scale: float

    def __call__(self, evidence: Evidence, labels: MaskLabels) -> MaskLabels:
        """The same labels with calibrated scores, best class first."""
        features = mask_features(evidence, labels, self.text, self.vocabulary, self.logit_scale)
        scores = apply_calibration(
            labels.top_scores, labels.top_classes, labels.classes, features, self.calibration
        )
        order = np.argsort(np.where(labels.top_classes < 0, 1.0, -scores), axis=1, kind="stable")
        return replace(
            labels,
            top_classes=np.take_along_axis(labels.top_classes, order, axis=1),
            top_scores=np.take_along_axis(scores, order, axis=1),
        )


def apply_learned(
    learned: Learned | None, text: NDArray[np.float32], vocabulary: Vocabulary, logit_scale: float
) -> tuple[NDArray[np.float32], CalibratedScores | None]:
    """What labeling takes in place of plain text embeddings: taught ones, and a `Rescore`.

    Args:
        learned: None: nothing was learned.
        text: (T, d) embeddings of `vocabulary.phrases`.
        vocabulary: the words.
        logit_scale: the CLIP model's scale.
    """
    if learned is None:
        return text, None
    taught = text
    for words in (learned.examples, learned.words):
        taught = taught if words is None else learned_text(taught, vocabulary, words)
    if learned.calibration is None:
        return taught, None
    return taught, CalibratedScores(learned.calibration, taught, vocabulary, logit_scale)
