"""The weight of an objective's tail, shared out over the steps by free variables.

The share of a tail's weight that a step takes is written as a logistic function of one variable a step, of which all
but m in the sum are free: smooth, and inside the tail's polytope whatever the variables are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LEAST_SHARE = 1e-6
"""Steps that take less of a tail than this are not told apart."""


@dataclass(frozen=True)
class Tail:
    """How a tail of the objective shares its weight out over the steps.

    Parameters
    ----------
    weight : float
        Units a second, in all.
    steps : float
        m: no step gets more than ``weight / m``.
    """

    weight: float
    steps: float

    def shares(self, a: np.ndarray) -> np.ndarray:
        """float64[N] in (0, 1), summing to m: logistic functions of a - eta, for the eta at which they do."""
        from scipy import special  # Imported on use, as it is slow to import.

        low, high = a.min() - 50.0, a.max() + 50.0
        for _ in range(80):
            eta = 0.5 * (low + high)
            low, high = (eta, high) if special.expit(a - eta).sum() > self.steps else (low, eta)
        return special.expit(a - low)

    def price(self, a: np.ndarray) -> np.ndarray:
        """float64[N]: units a second of each step."""
        share = self.shares(a)
        return self.weight * share / share.sum()

    def gradient(self, a: np.ndarray, by_price: np.ndarray) -> np.ndarray:
        """The derivatives by a from those by the steps' prices."""
        share = self.shares(a)
        slope = share * (1.0 - share)
        mean = float(slope @ by_price) / max(float(slope.sum()), 1e-300)
        return self.weight / self.steps * slope * (by_price - mean)

    def variables(self, share: np.ndarray) -> np.ndarray:
        """float64[N], 0 or more: an ``a`` with these shares."""
        from scipy import special  # Imported on use, as it is slow to import.

        a = special.logit(np.clip(share, _LEAST_SHARE, 1.0 - _LEAST_SHARE))
        return a - special.logit(_LEAST_SHARE)
