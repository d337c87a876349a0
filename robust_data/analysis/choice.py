"""Instances chosen from a statistics file as the arguments of a script say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from robust_data import selection
from robust_data.analysis.held_out import index_list
from robust_data.analysis.statistics_file import StatisticsFile, open_statistics
from robust_data.metrics import permuted_within_class
from robust_data.registry import InputError
from robust_data.selection import Explained
from robust_data.settings import Choose, FineTune


@dataclass(frozen=True)
class Choice:
    """Instances chosen from a statistics file.

    statistics: its metrics are permuted if the instances were chosen so. index: int64 [K], the chosen ones, best first;
    second: those of the second subset of --cycle_train; explained: what explains each quantity ranked by; options: how
    groups are formed, see `selection.group`.
    """

    statistics: StatisticsFile
    index: np.ndarray
    second: np.ndarray | None
    explained: dict[str, Explained]
    options: dict[str, Any]

    def group(self, name: str, fraction: float) -> np.ndarray:
        """The instances of a group of this size, with the options of this choice: int64 [K], see `selection.group`."""
        return selection.group(self.statistics.metrics, name, fraction, **self.options)

    def describe(self, job: Choose | FineTune) -> list[str]:
        """Lines for the terminal: how many were chosen of how many, by what, and what explains that."""
        by = f"group {job.group}" if getattr(job, "group", None) else job.select_metric
        if tilt := getattr(job, "tilt", None):
            by += f" tilted by {', '.join(f'{weight:g} times {name}' for name, weight in tilt)}"
        amount = job.set_percentage if getattr(job, "group", None) else job.select_ratio
        lines = [f"chosen: {len(self.index)} of {len(self.statistics)} instances, {by}, share {amount}"]
        lines.append(f"counted: {self.statistics.describe_counted()}")
        if job.permute_statistics:
            lines.append("permuted: the metrics belong to other instances of the same class, a negative control")
        if self.second is not None:
            other = f"{job.select_metric2}, share {job.select_ratio2}"
            lines.append(f"in turn with: {len(self.second)} instances, {other}")
        for quantity, explained in self.explained.items():
            line = f"class explains {explained.class_share:.0%} of the variance of {quantity}"
            lines.append(line + self._remedy(job, explained.class_share))
            lines.append(f"rank correlation of {quantity} with clean loss: {explained.clean_loss:.2f}")
        return lines

    def _remedy(self, job: Choose | FineTune, share: float) -> str:
        if job.within_class:
            return "; ranked within the class"
        return "; consider --within_class 1" if share > 0.3 else ""


def choose(job: Choose | FineTune) -> Choice:
    """Open the statistics file and choose as the arguments say.

    job: of `complete.selection`. Raises InputError for a file that cannot be used, and whatever `selection` refuses.
    """
    # Not relative to the class: `selection` sees to that itself.
    statistics = open_statistics(
        job.statistics_source, job.only_original_pred, use_untrained_model=job.use_untrained_model, clean_only_too=True
    )
    if (split := statistics.metadata.get("split", "train")) != "train":
        raise InputError(
            f"{statistics.path} holds instances of the {split} split, which are not to be chosen for training; give "
            "statistics of the training split"
        )
    if job.permute_statistics:
        statistics = replace(statistics, metrics=permuted_within_class(statistics.metrics, job.seed))
    metrics = statistics.metrics
    options = {
        "balance": bool(job.do_balance_labels),
        "classes": np.unique(statistics.rows["golden_label"][0]).tolist(),
        "within_class": bool(job.within_class),
    }
    ends = {"from_two_end": bool(job.select_from_two_end), "ratio_proportion": job.ratio_proportion}
    second = None
    if getattr(job, "group", None):
        index = selection.group(metrics, job.group, job.set_percentage, job.seed, **options)
        explained = {} if statistics.clean_only else selection.explained(selection.SENSITIVITY, metrics)
    else:
        by, tilt = _ranked_by(job.select_metric), dict(getattr(job, "tilt", None) or ())
        index = selection.select(metrics, by, job.select_ratio, seed=job.seed, tilt=tilt, **options, **ends)
        explained = selection.explained(by, metrics)
    if getattr(job, "cycle_train", 0):
        # With a seed of its own, so that two random subsets differ.
        seed = job.seed + 1
        by = _ranked_by(job.select_metric2)
        second = selection.select(metrics, by, job.select_ratio2, seed=seed, **options, **ends)
        explained |= selection.explained(by, metrics)
    return Choice(statistics, index, second, explained, options)


def _ranked_by(select_metric: str) -> str | np.ndarray:
    """A metric's name, or the indices in the file that stands for one."""
    is_list = selection.is_list(select_metric)
    return index_list(f"--select_metric {select_metric}", select_metric) if is_list else select_metric
