"""Several statistics files of the same data: the instances of all, what their groups share, which are replicates."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robust_data import selection
from robust_data.analysis.agreement import Overlap, overlap
from robust_data.analysis.metadata import facts
from robust_data.analysis.statistics_file import StatisticsFile
from robust_data.registry import InputError, warn_once
from robust_data.selection import SENSITIVITY_GROUPS

# What the JSON beside a file says of its data, and what an error calls it.
DATA = {"dataset_name": "data set", "task_name": "task", "split": "split"}


def check_same_data(opened: Sequence[StatisticsFile]) -> None:
    """Refuse files of different data: by what their JSONs say, and by the labels of the instances that both have.

    Raises InputError that names both files, also where a file is given twice.
    """
    first = opened[0]
    for number, other in enumerate(opened):
        if any(other.path.resolve() == earlier.path.resolve() for earlier in opened[:number]):
            raise InputError(f"{other.path} is given twice; give each file once")
        told = [_data(statistics.metadata) for statistics in (first, other)]
        for key, name in DATA.items():
            values = [one.get(key) for one in told]
            if None not in values and values[0] != values[1]:
                raise InputError(
                    f"{first.path} and {other.path} are of different data: {name} '{values[0]}' and '{values[1]}'"
                )
        rows = [statistics.rows[0] for statistics in (first, other)]
        _, *places = np.intersect1d(rows[0]["index"], rows[1]["index"], assume_unique=True, return_indices=True)
        labels = [row["golden_label"][place] for row, place in zip(rows, places)]
        if differing := np.count_nonzero(labels[0] != labels[1]):
            raise InputError(
                f"{first.path} and {other.path} are of different data: "
                f"{differing:,} of {len(labels[0]):,} labels differ"
            )


def _data(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"task_name": metadata.get("arguments", {}).get("task_name")} | dict(metadata)


def common_rows(opened: Sequence[StatisticsFile]) -> list[np.ndarray]:
    """Of each file, which rows of its metrics are the instances that all files have: int64 [K], ascending, K >= 2.

    Raises InputError for files of different data, and where fewer than 2 instances are in all of them. Where a file
    has more instances than these, a warning says so.
    """
    check_same_data(opened)
    index = [statistics.metrics["index"] for statistics in opened]
    common = index[0]
    for other in index[1:]:
        common = np.intersect1d(common, other, assume_unique=True)
    if len(common) < 2:
        raise InputError(f"{len(common)} instances are in all {len(opened)} files; give files of the same instances")
    most = max(map(len, index))
    if most > len(common):
        warn_once(
            f"{len(common):,} instances are in all {len(opened)} files, of up to {most:,}; the others do not count"
        )
    return [np.searchsorted(one, common) for one in index]


def at_rows(metrics: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics of the instances in these rows, int64 [K], ascending; where these are all, without a copy."""
    return {name: values if len(rows) == len(values) else values[rows] for name, values in metrics.items()}


def check_finite(opened: Sequence[StatisticsFile], names: Sequence[str]) -> None:
    """Refuse files in which metrics of these names are not all finite."""
    for statistics in opened:
        for name in names:
            if not np.isfinite(statistics.metrics[name]).all():
                raise InputError(
                    f"{statistics.path} holds a {name} that is not finite; the run diverged, leave the file out"
                )


def group_overlaps(
    metrics: Sequence[Mapping[str, np.ndarray]], fraction: float
) -> dict[tuple[int, int], dict[str, Overlap]]:
    """What the groups of every two files share, by the files' positions and by the name of the group.

    metrics: of the same instances in every file; fraction: the size of each group, in (0, 1].
    """
    chosen = [{name: selection.group(own, name, fraction) for name in SENSITIVITY_GROUPS} for own in metrics]
    count = len(metrics[0]["index"])
    return {
        (first, second): {name: overlap(one[name], other[name], count) for name in SENSITIVITY_GROUPS}
        for (first, one), (second, other) in itertools.combinations(enumerate(chosen), 2)
    }


def replicates(opened: Sequence[StatisticsFile]) -> list[list[int]]:
    """The positions of files that differ in the seed alone, together, in the order given.

    A file whose JSON does not say how it was made is alone. Of files that do not even differ in the seed only the first
    is kept, with a warning: the same run twice is no replicate.
    """
    found: dict[Any, dict[str, int]] = {}
    for number, statistics in enumerate(opened):
        known = facts(statistics.metadata)
        seed = known.pop("seed", "")
        # An option that a JSON lacks, as it is older, was off.
        made = {name: text for name, text in known.items() if text != f"{name} 0"}
        seeds = found.setdefault(tuple(sorted(made.items())) or number, {})
        if seed in seeds:
            same = opened[seeds[seed]].path
            warn_once(f"{statistics.path} was made as {same} was, {seed or 'no seed is known'}; it is no replicate")
        else:
            seeds[seed] = number
    return [list(seeds.values()) for seeds in found.values()]
