"""How far measurements of the same instances agree, and what sensitivity is made of: plain functions of arrays."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robust_data.metrics import class_means, class_share, rank_correlation
from robust_data.registry import InputError


@dataclass(frozen=True)
class Overlap:
    """What two groups of the same instances share.

    share: of the first group's instances those that are in the second, 0 to 1. chance: the share expected if the second
    were drawn at random, its size over the number of instances.
    """

    share: float
    chance: float


@dataclass(frozen=True)
class Reliability:
    """How much of the differences between instances comes back in another replicate, such as a run of another seed.

    replicates: how many there are, R. single: r, the mean of Pearson's correlation over all pairs of replicates, -1 to
    1: the share of one replicate's variance that is the instances' own. mean: the same for the mean of the R
    replicates, R r / (1 + (R - 1) r) (Spearman-Brown); r itself where it is not above 0.
    """

    replicates: int
    single: float
    mean: float


@dataclass(frozen=True)
class Decomposition:
    """Shares of the variance of sensitivity over the instances; class_share + clean_loss + rest = 1.

    class_share: between the classes (eta squared). class_chance: what classes without meaning would be expected to
    explain, (C - 1) / (M - 1) for C classes and M instances. clean_loss: explained by mean clean loss beyond the class:
    by least squares, with one slope for all classes, on differences from the class means. rest: explained by neither.
    rest_reliability: Pearson's correlation of the rests of two replicates, the mean over all pairs, -1 to 1; None for a
    single replicate. reliable: the part of the rest that comes back, rest * rest_reliability (0 where that is
    negative), and noise: the part that does not; both None for a single replicate.
    """

    class_share: float
    class_chance: float
    clean_loss: float
    rest: float
    rest_reliability: float | None
    reliable: float | None
    noise: float | None


def rank_correlation_within_class(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> float:
    """Spearman's correlation of two columns [M] inside the classes, -1 to 1.

    The mean over the classes of the correlation among the instances of the class, weighted by its number of instances;
    a class of one instance, which has no order, is left out. 0 where no class is larger. labels: int64 [M].
    """
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    members = [own for own in members if len(own) > 1]
    if not members:
        return 0.0
    found = [rank_correlation(first[own], second[own]) for own in members]
    return float(np.average(found, weights=[len(own) for own in members]))


def rank_correlations(columns: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Spearman's correlations of every two of C columns [M], float64 [C, C]; labels: int64 [M].

    Above the diagonal of all instances, below it inside the classes, see `rank_correlation_within_class`.
    """
    matrix = np.eye(len(columns))
    for first, second in zip(*np.triu_indices(len(columns), 1)):
        matrix[first, second] = rank_correlation(columns[first], columns[second])
        matrix[second, first] = rank_correlation_within_class(columns[first], columns[second], labels)
    return matrix


def overlap(first: np.ndarray, second: np.ndarray, instances: int) -> Overlap:
    """What two groups share: indices int64 [K] and [L], each once, of the same `instances` instances; K at least 1."""
    return Overlap(float(np.isin(first, second).mean()), len(second) / instances)


def reliability(replicates: np.ndarray, labels: np.ndarray | None = None) -> Reliability:
    """How far replicates of a measurement agree: float [R, M], R at least 2, one column per instance.

    With labels, int64 [M], of the differences from the mean of the instance's class. A constant replicate correlates
    with none (0). Raises InputError for a single replicate and for values that are not finite.
    """
    values = _checked(replicates)
    if len(values) < 2:
        raise InputError("reliability needs at least 2 replicates, such as runs of 2 seeds")
    if labels is not None:
        values = np.stack([row - class_means(row, labels) for row in values])
    single = _mean_correlation(values)
    count = len(values)
    return Reliability(count, single, count * single / (1 + (count - 1) * single) if single > 0 else single)


def decompose(sensitivity: np.ndarray, clean_loss: np.ndarray, labels: np.ndarray) -> Decomposition:
    """Split the variance of sensitivity into class, difficulty and rest, and the rest by whether replicates repeat it.

    sensitivity, clean_loss: float [R, M], of R replicates (runs of several seeds), or [M] of one: mean perturbed and
    mean clean loss, nats. labels: int64 [M]. Every replicate is decomposed with its own clean loss, and the shares are
    means over the replicates. A replicate without variance has no shares: InputError, as for values that are not
    finite.
    """
    values, clean = _checked(sensitivity), _checked(clean_loss)
    if values.shape != clean.shape:
        raise InputError(f"sensitivity has the shape {values.shape}, clean loss {clean.shape}; give both alike")
    if not np.ptp(values, axis=1).all():
        raise InputError("sensitivity is the same for every instance; it has no variance to explain")
    shares, rests = zip(*(_shares(*pair, labels) for pair in zip(values, clean)))
    of_class, of_clean_loss = np.mean(shares, axis=0).tolist()
    rest = 1 - of_class - of_clean_loss
    chance = (len(np.unique(labels)) - 1) / (len(labels) - 1)
    if len(values) < 2:
        return Decomposition(of_class, chance, of_clean_loss, rest, None, None, None)
    repeated = _mean_correlation(np.stack(rests))
    reliable = rest * max(repeated, 0.0)
    return Decomposition(of_class, chance, of_clean_loss, rest, repeated, reliable, rest - reliable)


def _shares(sensitivity: np.ndarray, clean_loss: np.ndarray, labels: np.ndarray) -> tuple[tuple[float, float], ...]:
    """The shares of class and of clean loss beyond class, and what is left of sensitivity, [M]."""
    within, clean = (values - class_means(values, labels) for values in (sensitivity, clean_loss))
    scale = clean @ clean
    # What rounding leaves of a clean loss that is constant inside the classes has no slope.
    explains = scale > 1e-20 * max(1.0, float(clean_loss @ clean_loss))
    rest = within - clean * (within @ clean / scale) if explains else within
    explained = (np.var(within) - np.var(rest)) / np.var(sensitivity)
    return (class_share(sensitivity, labels), float(explained)), rest


def _mean_correlation(values: np.ndarray) -> float:
    """The mean of Pearson's correlation over all pairs of rows, float [R, M]; 0 with a constant row."""
    centred = values - values.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1)
    pairs = list(itertools.combinations(range(len(values)), 2))
    found = [
        float(centred[one] @ centred[other] / (lengths[one] * lengths[other])) if lengths[one] * lengths[other] else 0.0
        for one, other in pairs
    ]
    return float(np.mean(found))


def _checked(values: np.ndarray) -> np.ndarray:
    """float64 [R, M] from [R, M] or [M], M at least 2. Raises InputError for fewer, or values that are not finite."""
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if table.shape[1] < 2:
        raise InputError(f"{table.shape[1]} instances have no variance; give at least 2")
    if not np.isfinite(table).all():
        raise InputError(f"{np.count_nonzero(~np.isfinite(table))} values are not finite; the run diverged")
    return table
