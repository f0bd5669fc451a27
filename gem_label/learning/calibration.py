"""From evidence to the probability that a label is right: a logistic regression that starts from today's score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from gem_label.learning.features import FEATURES, log_odds
from gem_label.learning.logistic import fit_logistic

WIDEST = 4.0
"""Features count within so many standard deviations: beyond what was reviewed nothing is extrapolated."""
CLASS_SHRINKAGE = 3.0
"""How strongly the offset of a single class is held at 0, in labels: as many decisions as count half."""


@dataclass(frozen=True)
class Calibration:
    """What turns a score and its evidence into another score.

    For a label with score s, evidence x and class c, the log-odds of being right are

        log(s / (1 - s)) + weights . clip((x - mean) / deviation, -4, 4) + intercept + offset of c

    Attributes:
        mean: (F,) of the features of the decided labels.
        deviation: (F,) above 0.
        weights: (F,).
        intercept: for every label.
        offsets: class name to its own offset, for classes with enough decisions.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    weights: NDArray[np.float64]
    intercept: float
    offsets: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for name in ("mean", "deviation", "weights"):
            values = np.asarray(getattr(self, name), np.float64)
            if values.shape != (len(FEATURES),) or not np.isfinite(values).all():
                raise ValueError(f"{name} must be {len(FEATURES)} finite numbers")
            object.__setattr__(self, name, values)
        if not (self.deviation > 0).all():
            raise ValueError("deviation must be above 0")
        if not np.isfinite([self.intercept, *self.offsets.values()]).all():
            raise ValueError("intercept and offsets must be finite numbers")

    def shift(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M,) what the evidence adds to the log-odds of each mask's labels, without the offsets of classes.

        Args:
            features: (M, F) of `mask_features`.
        """
        return standardized(features, self.mean, self.deviation) @ self.weights + self.intercept

    def class_offsets(self, classes: Sequence[str]) -> NDArray[np.float64]:
        """(C,) the offset of each class, 0 where nothing was learned about it."""
        return np.array([self.offsets.get(name, 0.0) for name in classes], np.float64)


def standardized(
    features: NDArray[np.floating], mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(M, F) features in standard deviations, within `WIDEST`."""
    return np.clip((features - mean) / deviation, -WIDEST, WIDEST)


def apply_calibration(
    scores: NDArray[np.floating],
    classes: NDArray[np.integer],
    names: Sequence[str],
    features: NDArray[np.floating],
    calibration: Calibration,
) -> NDArray[np.float32]:
    """The calibrated scores of masks.

    All classes of a mask are shifted by the same evidence: their order only changes by the offsets of classes.

    Args:
        scores: (M, k) of the best classes of each mask, in [0, 1]; 0 stays 0.
        classes: (M, k) their indices, -1 where there is none.
        names: C class names.
        features: (M, F) of `mask_features`.
        calibration: what was learned.

    Returns:
        (M, k) in [0, 1].
    """
    offsets = np.append(calibration.class_offsets(names), 0.0)  # the last one is for class -1
    odds = log_odds(scores) + calibration.shift(features)[:, None] + offsets[classes]
    return np.where(np.asarray(scores) > 0, 1 / (1 + np.exp(-odds)), 0.0).astype(np.float32)


@dataclass(frozen=True)
class DecidedLabels:
    """Labels that are known to be right or wrong, as the calibration learns from them.

    Attributes:
        features: (J, F) of `mask_features`.
        scores: (J,) their scores without any learning, in [0, 1].
        names: (J,) class names.
        right: (J,) bool.
        photo: (J,) number of the photo, in the order of the photos.
        weight: (J,) how much each counts; 1 or less.
    """

    features: NDArray[np.float32]
    scores: NDArray[np.float32]
    names: NDArray[np.object_]
    right: NDArray[np.bool_]
    photo: NDArray[np.int64]
    weight: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: NDArray[np.bool_]) -> DecidedLabels:
        """Those of a boolean mask of length J."""
        return DecidedLabels(
            self.features[rows],
            self.scores[rows],
            self.names[rows],
            self.right[rows],
            self.photo[rows],
            self.weight[rows],
        )


def fit_calibration(decided: DecidedLabels, strength: float, classes: Sequence[str] = ()) -> Calibration:
    """Fit a calibration.

    Args:
        decided: J labels, right ones and wrong ones.
        strength: how strongly weights and intercept are held at 0, the untaught score; above 0.
        classes: those that get an offset of their own.
    """
    features = decided.features.astype(np.float64)
    mean, spread = features.mean(axis=0), features.std(axis=0)
    deviation = np.where(spread > 1e-3, spread, 1.0)
    own = np.equal.outer(decided.names, np.array(classes, object)).astype(np.float64)
    columns = np.hstack([standardized(features, mean, deviation), np.ones((len(decided), 1)), own])
    penalty = np.array(
        [strength] * len(FEATURES) + [strength] + [max(strength, CLASS_SHRINKAGE)] * len(classes)
    )
    fitted = fit_logistic(columns, decided.right, log_odds(decided.scores), penalty, decided.weight)
    weights, rest = fitted[: len(FEATURES)], fitted[len(FEATURES) :]
    return Calibration(
        mean, deviation, weights, float(rest[0]), dict(zip(classes, rest[1:].tolist(), strict=True))
    )
