"""What the kept results of the study say: contrasts by replicate, tables, what sensitivity is made of.

All figures are computed from the files that `run.py` keeps, which `kept.py` describes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from registry import InputError
from robust_data.judging.paired import bootstrap_interval, holm, is_equivalent, sign_flip_p
from robust_data.measuring.agreement import Decomposition, Reliability, decompose, reliability
from robust_data.metrics import rank_correlation
from scripts.study import kept
from scripts.study.rows import Row, rows

PRIMARY = {
    "images": ("pgd linf 0.5", "pgd linf 1", "pgd linf 2"),
    "texts": ("pgd 4 x 0.03", "pgd 8 x 0.03", "pgd 4 x 0.06", "pgd 8 x 0.06"),
}
# Points of accuracy within which an interval must lie for "no effect".
MARGIN = {"images": 1.5, "texts": 3.0}
# By hypothesis: the block that decides it, and the two arms.
CONTRASTS = {
    "images": {
        "H1": ("arms", "flood_robust", "flood_random"),
        "H2": ("arms", "flood_robust", "flood_easy"),
        "H3": ("arms", "flood_robust", "flood_all"),
        "H4": ("subsets", "robust_half", "random_half"),
    },
    "texts": {
        "H1": ("text_arms", "flood_robust", "flood_random"),
        "H2": ("text_arms", "flood_robust", "flood_easy"),
        "H3": ("text_arms", "flood_robust", "flood_all"),
    },
}
CONTROLS = {"positive": ("arms", "pgd_training", "plain"), "negative": ("arms", "flood_permuted", "flood_random")}
# Shares of the held-out half that H5 compares, and the loss that it looks at.
GROUP, RANKED_BY = 0.3, "gaussian_blur/5"


@dataclass(frozen=True)
class Contrast:
    """A difference between two arms, replicate by replicate, in points of accuracy; of H5 in nats.

    interval: 95 %, of the mean. p: exact sign-flip, None under 6 pairs; p_holm: adjusted within the modality, None
    where it was not. equivalent: whether the interval lies within the margin, None where there is none.
    """

    name: str
    first: str
    second: str
    differences: tuple[float, ...]
    interval: tuple[float, float]
    p: float | None
    p_holm: float | None = None
    equivalent: bool | None = None

    @property
    def mean(self) -> float:
        return float(np.mean(self.differences))

    @property
    def verdict(self) -> str:
        """What may be said: a difference, no effect, or nothing."""
        p = self.p if self.p_holm is None else self.p_holm
        if p is not None and p <= 0.05:
            return "higher" if self.mean > 0 else "lower"
        return "no effect" if self.equivalent else "not shown"


class Results:
    """The kept results in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lines = {line["row"]: line for line in kept.read_rows(folder / "rows.csv")}
        if not self.lines:
            raise InputError(f"--results_dir {folder} has no rows.csv with a finished run; run.py makes it")

    @cached_property
    def planned(self) -> dict[str, list[Row]]:
        """The rows of the plan by data and block, as "images arms"."""
        found: dict[str, list[Row]] = {}
        for row in rows():
            found.setdefault(f"{row.data} {row.block}", []).append(row)
        return found

    def finished(self, block: str) -> tuple[int, int]:
        """How many runs of a block are finished, and how many are planned."""
        planned = self.planned[block]
        return sum(row.name in self.lines for row in planned), len(planned)

    def is_complete(self, block: str) -> bool:
        """Whether every run of the block is finished; else it decides nothing."""
        done, planned = self.finished(block)
        return done == planned

    def of_arm(self, data: str, block: str, arm: str) -> dict[int, dict[str, str]]:
        """The lines of an arm by replicate."""
        found = [
            line for line in self.lines.values() if (line["data"], line["block"], line["arm"]) == (data, block, arm)
        ]
        return {int(line["replicate"]): line for line in sorted(found, key=lambda line: int(line["replicate"]))}

    def right(self, line: dict[str, str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Which instances a model got right, bool [N] by condition, and their labels [N]."""
        with np.load(self.folder / "instances" / f"{line['row']}.npz", allow_pickle=False) as found:
            count = len(found["label"])
            bits = np.unpackbits(found["right"], axis=1, count=count).astype(bool)
            return dict(zip(found["conditions"].tolist(), bits)), found["label"]

    def primary(self, line: dict[str, str]) -> np.ndarray:
        """The primary endpoint of every instance, float [N] in points, 0 to 100."""
        right, _ = self.right(line)
        return 100 * np.mean([right[name] for name in PRIMARY[line["data"]]], axis=0)

    def constant(self, data: str) -> float | None:
        """The accuracy of the best constant answer on the judged instances, in percent; None where none is judged."""
        for line in self.lines.values():
            if line["data"] == data and line.get("clean"):
                labels = self.right(line)[1]
                return 100 * float(np.bincount(labels).max() / len(labels))
        return None

    def scores(self, data: str) -> dict[int, dict[str, np.ndarray]]:
        """The kept scores of every statistics run of the study, by replicate."""
        lines = self.of_arm(data, "statistics", "statistics")
        return {replicate: _arrays(self.folder / "scores" / f"{line['row']}.npz") for replicate, line in lines.items()}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as found:
        return {
            name: found[name].astype(np.float64) if found[name].dtype == np.float16 else found[name] for name in found
        }


def contrasts(results: Results, data: str) -> list[Contrast]:
    """The hypotheses of a modality whose blocks are complete, adjusted by Holm together."""
    found = [
        _contrast(results, data, name, block, first, second)
        for name, (block, first, second) in CONTRASTS[data].items()
        if results.is_complete(f"{data} {block}")
    ]
    if data == "images" and results.is_complete("images overfitting") and results.is_complete("images statistics"):
        found.append(overfitting(results))
    adjusted = holm({contrast.name: contrast.p for contrast in found})
    return [replace(contrast, p_holm=adjusted[contrast.name]) for contrast in found]


def controls(results: Results) -> dict[str, Contrast]:
    """The positive and the negative control, where the arms are complete."""
    if not results.is_complete("images arms"):
        return {}
    return {name: _contrast(results, "images", name, *arms) for name, arms in CONTROLS.items()}


def _contrast(results: Results, data: str, name: str, block: str, first: str, second: str) -> Contrast:
    ours, theirs = (results.of_arm(data, block, arm) for arm in (first, second))
    both = [replicate for replicate in ours if replicate in theirs]
    by_instance = [results.primary(ours[replicate]) - results.primary(theirs[replicate]) for replicate in both]
    differences = tuple(float(values.mean()) for values in by_instance)
    interval = bootstrap_interval(by_instance)
    equivalent = is_equivalent(interval, MARGIN[data])
    return Contrast(name, first, second, differences, interval, sign_flip_p(differences), equivalent=equivalent)


@dataclass(frozen=True)
class HeldOut:
    """The mean loss of groups of held-out instances over the training: step [T], robust and non_robust [R, T], nats."""

    step: np.ndarray
    robust: np.ndarray
    non_robust: np.ndarray


def held_out(results: Results, loss: str = RANKED_BY) -> HeldOut:
    """The loss of held-out instances by group, which the statistics of the next replicate form within the class."""
    lines = results.of_arm("images", "overfitting", "halves")
    scores = results.scores("images")
    curves = []
    for replicate, line in lines.items():
        losses = _arrays(results.folder / "overfitting" / f"{line['row']}.npz")
        of_next = scores[replicate % len(scores) + 1]
        places = np.searchsorted(of_next["index"], losses["held_out/index"])
        sensitivity, labels = of_next[f"sensitivity/{RANKED_BY}"][places], losses["held_out/label"]
        groups = groups_within_class(sensitivity, labels, GROUP)
        curves.append([losses[f"held_out/{loss}"][:, group].mean(axis=1) for group in groups])
    robust, non_robust = np.swapaxes(np.array(curves), 0, 1)
    return HeldOut(losses["step"], robust, non_robust)


def groups_within_class(values: np.ndarray, labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The places of the lowest and of the highest `share` of the values [M] of each class; ties break by place."""
    lowest, highest = [], []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        own = own[np.argsort(values[own], kind="stable")]
        count = round(share * len(own))
        lowest.append(own[:count])
        highest.append(own[len(own) - count :])
    return np.concatenate(lowest), np.concatenate(highest)


def rise(curves: np.ndarray) -> np.ndarray:
    """How far each curve [R, T] ends above its lowest value: [R]."""
    return curves[:, -1] - curves.min(axis=1)


def overfitting(results: Results) -> Contrast:
    """H5: the rise of the held-out loss of the robust instances minus that of the non-robust ones, in nats."""
    found = held_out(results)
    differences = rise(found.robust) - rise(found.non_robust)
    interval = bootstrap_interval([np.array([value]) for value in differences])
    return Contrast("H5", "robust", "non_robust", tuple(differences.tolist()), interval, sign_flip_p(differences))


@dataclass(frozen=True)
class Cell:
    """The mean over replicates and the sample standard deviation (None of one), in the unit of the column."""

    mean: float
    deviation: float | None


def arm_table(results: Results, data: str, block: str) -> dict[str, dict[str, Cell]]:
    """By arm of a block: the primary endpoint, its worst class, clean accuracy, and every column of rows.csv."""
    table: dict[str, dict[str, Cell]] = {}
    for arm in dict.fromkeys(row.arm for row in results.planned[f"{data} {block}"]):
        lines = list(results.of_arm(data, block, arm).values())
        if not lines:
            continue
        primary, worst = [], []
        for line in lines:
            of_instance, (_, labels) = results.primary(line), results.right(line)
            primary.append(float(of_instance.mean()))
            worst.append(min(float(of_instance[labels == label].mean()) for label in np.unique(labels)))
        columns = {"primary": _cell(primary), "worst class": _cell(worst)}
        for name in lines[0]:
            values = [line[name] for line in lines]
            if name in ("dose_chosen", "dose_others", "train_cross_entropy") and all(values):
                columns[name] = _cell([float(value) for value in values])
            elif name not in kept.FIRST and all(values):
                columns[name] = _cell([100 * float(value) for value in values])
        table[arm] = columns
    return table


def _cell(values: Sequence[float]) -> Cell:
    return Cell(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


@dataclass(frozen=True)
class Parts:
    """What the sensitivity under a perturbation is made of."""

    parts: Decomposition
    reliability: Reliability


def sensitivities(results: Results, data: str) -> dict[str, Parts]:
    """By perturbation: the shares of class, clean loss and rest, and how far replicates agree within the class."""
    scores = list(results.scores(data).values())
    names = [name for name in scores[0] if name.startswith("sensitivity/")] if len(scores) > 1 else []
    clean = np.array([of_run["clean_loss"] for of_run in scores]) if names else np.empty(0)
    found = {}
    for name in names:
        values, labels = np.array([of_run[name] for of_run in scores]), scores[0]["label"].astype(np.int64)
        found[name.removeprefix("sensitivity/")] = Parts(decompose(values, clean, labels), reliability(values, labels))
    return found


def correlations(results: Results, data: str) -> tuple[list[str], np.ndarray]:
    """Spearman's correlation between the sensitivities under all perturbations, the mean over the replicates."""
    scores = list(results.scores(data).values())
    names = [name for name in scores[0] if name.startswith("sensitivity/")] if scores else []
    matrix = np.mean(
        [[[rank_correlation(one[first], one[second]) for second in names] for first in names] for one in scores], axis=0
    )
    return [name.removeprefix("sensitivity/") for name in names], matrix
