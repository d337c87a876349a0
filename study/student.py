"""Student's t, which numpy lacks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def p_value(t: float, freedom: int) -> float:
    """The two-sided p of a t with so many degrees of freedom."""
    at, beyond = _table(freedom)
    return float(np.interp(math.atan(abs(t) / math.sqrt(freedom)), at, beyond))


def quantile(p: float, freedom: int) -> float:
    """The t whose two-sided p is this."""
    at, beyond = _table(freedom)
    return math.sqrt(freedom) * math.tan(float(np.interp(-p, -beyond, at)))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of n values, at least two."""
    mean, deviation, count = np.mean(values), np.std(values, ddof=1), len(values)
    reach = quantile(0.05, count - 1) * deviation / math.sqrt(count)
    return float(mean - reach), float(mean + reach)


def _table(freedom: int) -> tuple[np.ndarray, np.ndarray]:
    """Angles whose tangent is t over the root of the degrees of freedom, and the two-sided p there.

    In the angle the density is the cosine's power of one less than the degrees of freedom.
    """
    at = np.linspace(0, np.pi / 2, 20_001)
    density = np.cos(at) ** (freedom - 1)
    upto = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return at, 1 - upto / upto[-1]
