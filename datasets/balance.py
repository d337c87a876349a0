"""Smaller training sets in which every class has its share."""

from __future__ import annotations

from robust_data.registry import InputError, LazyModule

np = LazyModule("numpy")


def balanced_subset(labels: np.ndarray, count: int, seed: int, argument: str = "dataset_len") -> np.ndarray:
    """Draw `count` rows, the same number of each class as far as the classes reach.

    labels: int64 [N]. Returns int64 [min(count, N)], ascending. What does not divide goes, one each, to
    classes drawn by lot; what a small class cannot give, the others give. A larger `count` with the same
    seed keeps nearly all rows of a smaller one. Raises InputError, which names the argument, if `count` is below the
    number of classes.
    """
    classes, available = np.unique(labels, return_counts=True)
    if count < len(classes):
        raise InputError(f"--{argument} {count} is below the number of classes; give at least {len(classes)}")
    if count >= len(labels):
        return np.arange(len(labels))
    chosen = []
    for label, quota in zip(classes, _quotas(available, count, seed), strict=True):
        # A generator per class: the draw within a class does not depend on the sizes of the others.
        lot = np.random.default_rng([seed, int(label)])
        chosen.append(lot.permutation(np.flatnonzero(labels == label))[:quota])
    return np.sort(np.concatenate(chosen))


def training_and_held_out(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All rows but `count`, and these, as many of each class: int64 each, ascending; see `balanced_subset`.

    Raises InputError if `count` is below the number of classes, or takes all that there is of a class.
    """
    held_out = balanced_subset(labels, count, seed, "val_len")
    others = np.setdiff1d(np.arange(len(labels)), held_out)
    lost = np.setdiff1d(labels, labels[others])
    if len(lost):
        raise InputError(f"--val_len {count} leaves no training instance of class {lost[0]}; lower it")
    return others, held_out


def tenth_of_each_class(labels: np.ndarray) -> np.ndarray:
    """Which rows are a test split, bool [N]: of each class a tenth, and one of fewer than ten but of two or more.

    labels: int64 [N]. Always the same rows for the same labels.
    """
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = max(round(len(rows) / 10), min(1, len(rows) - 1))
        held_out[np.random.default_rng([0, int(label)]).permutation(rows)[:count]] = True
    return held_out


def _quotas(available: np.ndarray, count: int, seed: int) -> np.ndarray:
    """How many instances each class gives; `available` says how many it has."""
    quotas = np.zeros_like(available)
    while rest := count - quotas.sum():
        willing = np.flatnonzero(quotas < available)
        if share := rest // len(willing):
            quotas[willing] += np.minimum(share, available[willing] - quotas[willing])
        else:
            quotas[np.random.default_rng(seed).choice(willing, rest, replace=False)] += 1
    return quotas
