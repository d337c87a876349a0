"""Statistics of paired comparisons: two methods judged on the same instances, replicate by replicate."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

# Below it the smallest p that a two-sided sign-flip test can reach is above .05.
FEWEST_PAIRS = 6
# Up to so many pairs all 2^n sign patterns are counted; beyond, so many are drawn.
MOST_PAIRS_COUNTED = 20
DRAWN_PATTERNS = 1 << 20


def sign_flip_p(differences: Sequence[float], seed: int = 0) -> float | None:
    """The exact two-sided p of the sign-flip test that paired differences have a mean of 0; None under 6 pairs.

    Under the hypothesis the sign of every difference might as well be the other one; p is the share of the 2^n sign
    patterns whose mean lies at least as far from 0 as the observed one (Fisher's randomisation test).
    differences: n numbers, finite; above 20 pairs 2^20 patterns are drawn by `seed`, the observed one among them.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if len(differences) < FEWEST_PAIRS:
        return None
    if len(differences) <= MOST_PAIRS_COUNTED:
        patterns = np.array(list(itertools.product((1, -1), repeat=len(differences))), dtype=np.int8)
    else:
        draws = np.random.default_rng(seed)
        patterns = draws.choice(np.array([1, -1], dtype=np.int8), (DRAWN_PATTERNS, len(differences)))
        patterns[0] = 1
    sums = np.abs(patterns @ differences)
    # Patterns that tie with the observed one may differ from it by a rounding error.
    return float(np.mean(sums >= abs(differences.sum()) - 1e-9 * np.abs(differences).sum()))


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """The p-values, adjusted so that the chance of any false rejection stays below alpha (Holm 1979); None stays None.

    The k-th smallest of m is multiplied by m - k + 1, and none may be below one before it, nor above 1.
    """
    ordered = sorted((p, name) for name, p in p_values.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    least = 0.0
    for place, (p, name) in enumerate(ordered):
        least = max(least, min(1.0, (len(ordered) - place) * p))
        adjusted[name] = least
    return adjusted


def bootstrap_interval(
    differences: Sequence[np.ndarray], level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """A percentile interval of the mean difference, by a bootstrap over replicates and then instances within each.

    differences: for each replicate the differences of its instances, [n] each (say 1, 0 or -1: which of two models
    was right); a replicate counts by its mean. With one number per replicate the bootstrap is over replicates alone.
    level: 0..1. Returns the lower and the upper end.
    """
    random = np.random.default_rng(seed)
    differences = [np.asarray(values, dtype=np.float64) for values in differences]
    chosen = random.integers(0, len(differences), (draws, len(differences)))
    means = np.empty((draws, len(differences)))
    for replicate, values in enumerate(differences):
        of_replicate = chosen == replicate
        means[of_replicate] = _resampled_means(values, int(of_replicate.sum()), random)
    ends = np.quantile(means.mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(ends[0]), float(ends[1])


def _resampled_means(values: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """The means of `count` samples of the values, each drawn with replacement: [count].

    A sample is drawn by how often it holds each distinct value, of which there are few.
    """
    distinct, shares = np.unique(values, return_counts=True)
    if len(distinct) == 1:
        return np.full(count, distinct[0])
    held = random.multinomial(len(values), shares / len(values), size=count)
    return held @ distinct / len(values)


def is_equivalent(interval: tuple[float, float], margin: float) -> bool:
    """Whether the whole interval lies within -margin..margin: then no effect of that size is left to be found."""
    return -margin <= interval[0] and interval[1] <= margin
