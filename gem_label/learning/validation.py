"""Whether learning helps, on photos that it has not seen: cross-validation by photo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gem_label.learning.calibration import Calibration, DecidedLabels, fit_calibration
from gem_label.learning.features import log_odds
from gem_label.learning.logistic import log_loss

STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0)
"""How strongly a calibration is held at the untaught score; which one is chosen by cross-validation."""
FOLDS = 10
LEAST_THINGS = 10.0
"""So many things with a right label, and as many wrong labels, a calibration needs."""
LEAST_PHOTOS = 4
AS_GOOD = 1.0
"""Standard errors within which two strengths do equally well."""
LEAST_GAIN = 2.0
"""A calibration is used when its gain is at least so many standard errors above 0."""
CLASS_GAIN = 1.0
"""The same for the offsets of classes, which change little else."""
LEAST_OF_CLASS = 20
"""Decisions that a class needs for an offset of its own."""


@dataclass(frozen=True)
class Validation:
    """How a calibration did on photos that it had not seen.

    Attributes:
        photos: with decided labels.
        right, wrong: decided labels, masks of one thing counted once.
        strength: of the calibration that did best, None where none was tried.
        loss_before: mean log-loss of the untaught scores on decided labels; None where none was tried.
        loss_after: the same of calibrations that were fitted on the other photos.
        gain: the difference in standard errors over photos.
        used: whether that was enough.
        reason: why not, "" where it is used.
    """

    photos: int
    right: float
    wrong: float
    strength: float | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    gain: float | None = None
    used: bool = False
    reason: str = ""


@dataclass(frozen=True)
class CalibrationChoice:
    """A calibration and how it was chosen.

    Attributes:
        calibration: None where the untaught scores stay.
        validation: how it did on photos that it had not seen.
        held_out: (J,) probability that each decided label is right, by calibrations that have not seen its photo;
            the untaught score where none was tried.
    """

    calibration: Calibration | None
    validation: Validation
    held_out: NDArray[np.float64]


def photo_folds(photos: int, folds: int = FOLDS) -> list[NDArray[np.int64]]:
    """The numbers of the photos of each fold, in order.

    Photos that follow each other share a fold, as frames of a video are alike.

    Args:
        photos: how many photos there are.
        folds: at most so many; one for each photo when there are fewer.
    """
    return np.array_split(np.arange(photos), max(1, min(folds, photos)))


def choose_calibration(decided: DecidedLabels) -> CalibrationChoice:
    """The calibration that does best on photos it has not seen, or none.

    Args:
        decided: J labels of reviewed photos.
    """
    counts = Validation(
        len(np.unique(decided.photo[decided.weight > 0])),
        float(decided.weight[decided.right].sum()),
        float(decided.weight[~decided.right].sum()),
    )
    before = log_loss(log_odds(decided.scores), decided.right) * decided.weight
    untaught = 1 / (1 + np.exp(-log_odds(decided.scores)))
    few = _too_few(counts)
    if few:
        return CalibrationChoice(None, replace(counts, reason=few), untaught)
    tried = []
    for strength in STRENGTHS:
        odds = held_out_odds(decided, strength)
        tried.append((strength, odds, log_loss(odds, decided.right) * decided.weight))
    least = min((loss for _, _, loss in tried), key=np.sum)
    # the strongest that does as well as the best, within a standard error: few photos cannot tell them apart
    strength, odds, loss = [
        each for each in tried if standard_errors(each[2] - least, decided.photo) <= AS_GOOD
    ][-1]
    gain = standard_errors(before - loss, decided.photo)
    classes, odds = _classes_with_offsets(decided, strength, odds)
    after, weight = log_loss(odds, decided.right) * decided.weight, decided.weight.sum()
    used = gain >= LEAST_GAIN
    validation = replace(
        counts,
        strength=strength,
        loss_before=float(before.sum() / weight),
        loss_after=float(after.sum() / weight),
        gain=gain,
        used=used,
        reason="" if used else "it does not do better for certain on photos that it has not seen",
    )
    if not used:
        return CalibrationChoice(None, validation, untaught)
    return CalibrationChoice(fit_calibration(decided, strength, classes), validation, 1 / (1 + np.exp(-odds)))


def held_out_odds(
    decided: DecidedLabels, strength: float, classes: Sequence[str] = ()
) -> NDArray[np.float64]:
    """(J,) log-odds of each decided label by a calibration that has not seen its photo; see `fit_calibration`."""
    odds = log_odds(decided.scores)
    for fold in photo_folds(int(decided.photo.max(initial=-1)) + 1):
        rows = np.isin(decided.photo, fold)
        fitted = fit_calibration(decided[~rows], strength, classes)
        own = np.array([fitted.offsets.get(name, 0.0) for name in decided.names[rows]])
        odds[rows] += fitted.shift(decided.features[rows]) + own
    return odds


def _too_few(counts: Validation) -> str:
    """Why so few decisions teach nothing, "" where they are enough."""
    if counts.photos < LEAST_PHOTOS:
        return f"it needs decisions in {LEAST_PHOTOS} photos, there are {counts.photos}"
    if min(counts.right, counts.wrong) < LEAST_THINGS:
        return (
            f"it needs {LEAST_THINGS:g} right and {LEAST_THINGS:g} wrong labels of different things, there are "
            f"{counts.right:.0f} and {counts.wrong:.0f}"
        )
    return ""


def standard_errors(saved: NDArray[np.float64], photo: NDArray[np.integer]) -> float:
    """The mean over photos of the loss that is saved, in its standard errors; 0 for a single photo.

    Args:
        saved: (J,) loss that each row saves.
        photo: (J,) number of its photo.
    """
    _, number = np.unique(photo, return_inverse=True)
    by_photo = np.bincount(number, saved)
    if len(by_photo) < 2:
        return 0.0
    error = by_photo.std(ddof=1) / np.sqrt(len(by_photo))
    return float(by_photo.mean() / max(error, 1e-12))


def _classes_with_offsets(
    decided: DecidedLabels, strength: float, odds: NDArray[np.float64]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The classes that get an offset, none where offsets do not help unseen photos, and the held-out log-odds."""
    found = Counter(decided.names[decided.weight > 0].tolist())
    classes = tuple(sorted(name for name, count in found.items() if count >= LEAST_OF_CLASS))
    if not classes:
        return (), odds
    with_offsets = held_out_odds(decided, strength, classes)
    saved = log_loss(odds, decided.right) - log_loss(with_offsets, decided.right)
    if standard_errors(saved * decided.weight, decided.photo) < CLASS_GAIN:
        return (), odds
    return classes, with_offsets
