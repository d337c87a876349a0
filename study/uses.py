"""Part C of study 2: which use of which choice of instances pays, beside the same use of random ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from robust_data.judge.paired import holm
from robust_data.study import student
from robust_data.study.analysis import Contrast, compared
from robust_data.study.results import UNSEEN_CORRUPTIONS, WORST_OF_WHITE_BOX, Results
from robust_data.study.rows import ADVERSARIAL, CHOICES

# By block: what its use is for.
MEASURED_BY = {
    "attacked": WORST_OF_WHITE_BOX,
    "corrupted": UNSEEN_CORRUPTIONS,
    "left_out": WORST_OF_WHITE_BOX,
    "left_out_10": WORST_OF_WHITE_BOX,
}
ASCENTS, SHARE = 3, 0.3
# Points that clean accuracy may fall.
PRICE = 1.0


@dataclass(frozen=True)
class Use:
    """An arm beside the one that treats random instances alike, or random ones beside all.

    contrast: by the endpoint of the use, adjusted by Holm within it; by_t: its 95 % interval by Student's t; clean: by
    clean accuracy. passes: forward and backward passes of the model in training, per instance and epoch; of random
    beside all those of random.
    """

    contrast: Contrast
    by_t: tuple[float, float]
    clean: Contrast
    passes: float

    @property
    def pays(self) -> bool:
        """Whether the gain is above 0 and clean accuracy not much lower."""
        return self.contrast.interval[0] > 0 and self.clean.mean >= -PRICE


def uses(results: Results, block: str) -> dict[str, list[Use]]:
    """The contrasts of a block by the way of training, adjusted together; {} while a run is missing."""
    if not results.is_complete(f"images {block}"):
        return {}
    found: dict[str, list[Use]] = {}
    for arm, reference in _pairs(results, block):
        by_endpoint = compared(results, "images", (block, arm), (block, reference))
        contrast = by_endpoint[MEASURED_BY[block]]
        use = Use(contrast, student.interval(contrast.differences), by_endpoint["clean"], passes(arm))
        found.setdefault(ADVERSARIAL if ADVERSARIAL in arm else "", []).append(use)
    return {way: _adjusted(of_way) for way, of_way in found.items()}


def _pairs(results: Results, block: str) -> Iterator[tuple[str, str]]:
    arms = dict.fromkeys(row.arm for row in results.planned[f"images {block}"])
    for arm in arms:
        reference = as_random(arm)
        if arm != reference and reference in arms and not arm.endswith("_all"):
            yield arm, reference
    yield from ((arm, arm.replace("random", "all")) for arm in arms if arm.replace("random", "all") in {*arms} - {arm})


def as_random(arm: str) -> str:
    """The arm that treats random instances alike."""
    # Longer names first: a robust one is part of a non_robust one.
    chosen = [name for name in sorted(CHOICES, key=len, reverse=True) if f"_{name}" in arm]
    return arm.replace(f"_{chosen[0]}", "_random") if chosen else arm


def passes(arm: str) -> float:
    """Forward and backward passes per instance of the data and epoch, of which plain training has 1."""
    if arm.startswith("attacked"):
        return 1 + ASCENTS * (1 if arm.endswith("_all") else SHARE)
    if arm.startswith("without"):
        return (1 - int(arm.rpartition("_")[2]) / 100) * (ASCENTS if ADVERSARIAL in arm else 1)
    return 1.0


def _adjusted(of_way: list[Use]) -> list[Use]:
    p_values = holm({one.contrast.first + one.contrast.second: one.contrast.p for one in of_way})
    return [
        replace(one, contrast=replace(one.contrast, p_holm=p_values[one.contrast.first + one.contrast.second]))
        for one in of_way
    ]


def costs(results: Results) -> dict[str, dict[str, tuple[float, float]]]:
    """By complete block and arm: passes, and the mean of the endpoint of the use over the replicates, in points."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for block, endpoint in MEASURED_BY.items():
        for arm in dict.fromkeys(row.arm for row in results.planned[f"images {block}"]):
            lines = results.of_arm("images", block, arm).values()
            if results.is_complete(f"images {block}"):
                values = [results.endpoints(line)[endpoint].mean() for line in lines]
                found.setdefault(block, {})[arm] = passes(arm), float(sum(values) / len(values))
    return found
