"""Logistic regression with an offset and a penalty for each weight, which scikit-learn's does not have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fit_logistic(
    columns: NDArray[np.float64],
    right: NDArray[np.bool_],
    offset: NDArray[np.float64],
    penalty: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The weights b that minimize sum(weight * log-loss(offset + columns . b)) + sum(penalty * b^2) / 2.

    Deterministic: a convex problem, from 0, by L-BFGS in double precision.

    Args:
        columns: (J, F).
        right: (J,).
        offset: (J,) log-odds to start from.
        penalty: (F,) above 0.
        weight: (J,) how much each row counts.

    Returns:
        (F,).
    """
    from scipy.optimize import minimize

    def loss(b: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = offset + columns @ b
        residual = weight * (1 / (1 + np.exp(-odds)) - right)
        value = (weight * (np.logaddexp(0, odds) - right * odds)).sum() + 0.5 * (penalty * b * b).sum()
        return float(value), columns.T @ residual + penalty * b

    found = minimize(loss, np.zeros(columns.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(found.x, np.float64)


def log_loss(odds: NDArray[np.floating], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(J,) the negative logarithm of the probability that each outcome was given."""
    values: NDArray[np.float64] = np.logaddexp(0, odds) - right * odds
    return values
