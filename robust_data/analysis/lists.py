"""Three lists of instances that deserve a look: fragile ones, suspect labels, and those that are robust by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robust_data.analysis.statistics_file import StatisticsFile
from robust_data.metrics import ranks

# Fragile: right when clean and wrong when perturbed at more than this share of the checkpoints.
FRAGILE_SHARE = 0.5
# Suspect label: AUM below 0, and learned in this last share of the checkpoints or never.
LATE_SHARE = 0.25
# Class-driven: sensitivity among this lowest share of all instances, but from this rank on within its class.
LOW_SENSITIVITY_SHARE = 1 / 3
RANK_IN_CLASS = 0.5


@dataclass(frozen=True)
class Evidence:
    """What the lists are made by, of each instance: float64 [M].

    fragile_share: of the checkpoints, those at which the clean input was classified correctly and the perturbed one
    was not. aum: mean margin on the clean input (Pleiss et al. 2020). learned_at: the number of the checkpoint, from 1,
    from which on the clean input was classified correctly until the end, one more than there are checkpoints if never.
    rank, rank_in_class: of sensitivity, above 0 and below 1, among all instances and within the class; equal values
    share theirs, and the middle is 0.5. Where a model diverged values may not be finite.
    """

    fragile_share: np.ndarray
    aum: np.ndarray
    learned_at: np.ndarray
    rank: np.ndarray
    rank_in_class: np.ndarray


@dataclass(frozen=True)
class MarkedList:
    """A list of instances: its name, the rule by which they are on it in a sentence, and which they are, bool [M]."""

    name: str
    rule: str
    members: np.ndarray


def evidence(
    clean_right: np.ndarray, perturbed_right: np.ndarray, aum: np.ndarray, sensitivity: np.ndarray, labels: np.ndarray
) -> Evidence:
    """What the lists are made by.

    clean_right, perturbed_right: was the label predicted, bool [T, M], over the checkpoints that count, in their order;
    aum, sensitivity: float [M]; labels: int [M].
    """
    right_to_the_end = np.logical_and.accumulate(clean_right[::-1], axis=0).sum(axis=0)
    return Evidence(
        fragile_share=(clean_right & ~perturbed_right).mean(axis=0),
        aum=np.asarray(aum, dtype=np.float64),
        learned_at=(len(clean_right) + 1 - right_to_the_end).astype(np.float64),
        rank=_shares(sensitivity),
        rank_in_class=_shares_in_class(sensitivity, labels),
    )


def marked_lists(found: Evidence, checkpoints: int) -> list[MarkedList]:
    """The lists fragile, suspect label and class-driven; an instance may be on several. checkpoints: how many count."""
    known = not np.isnan(found.aum).all()
    late = found.learned_at > checkpoints * (1 - LATE_SHARE)
    low_sensitivity = found.rank < LOW_SENSITIVITY_SHARE
    return [
        MarkedList(
            "fragile",
            "classified correctly when clean and wrongly when perturbed, at more than "
            f"{FRAGILE_SHARE:.0%} of the checkpoints",
            found.fragile_share > FRAGILE_SHARE,
        ),
        MarkedList(
            "suspect label",
            "AUM (the mean margin of the label on the clean input) below 0, and learned late or never: classified "
            f"correctly until the end only from a checkpoint of the last {LATE_SHARE:.0%} on, or not at the end; where "
            "a model has learned little, most of them are only hard" + ("" if known else "; the file holds no margins"),
            (found.aum < 0) & late,
        ),
        MarkedList(
            "class-driven",
            "sensitivity among the lowest third of all instances, but not below the middle of its own class: the "
            "class is robust, the instance within it is not",
            low_sensitivity & (found.rank_in_class >= RANK_IN_CLASS),
        ),
    ]


def of_file(statistics: StatisticsFile) -> tuple[Evidence, list[MarkedList]]:
    """The evidence and the lists of a statistics file, over its instances and the checkpoints that count.

    They are of the quantities themselves, also where the file's metrics are relative.
    """
    rows, metrics = statistics.counted, statistics.absolute
    right = (rows[field][:, statistics.columns] for field in ("original_pred", "after_perturb_pred"))
    found = evidence(*right, metrics["aum"], metrics["perturbed_loss_mean"], metrics["golden_label"])
    return found, marked_lists(found, len(rows))


def _shares(values: np.ndarray) -> np.ndarray:
    """Ranks [M] above 0 and below 1, with equal values sharing theirs; NaN is the largest."""
    return (ranks(values) - 0.5) / len(values)


def _shares_in_class(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """As `_shares`, within each class."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    found = np.empty(len(values))
    for members in np.split(order, starts):
        found[members] = _shares(values[members])
    return found
