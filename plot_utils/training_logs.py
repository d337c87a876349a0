"""The log.jsonl of training scripts: their runs, epoch by epoch, and the curves over the seeds of a run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_data.plot_utils.figures import distinct_parts
from robust_data.reading import check_regular, readable
from robust_data.registry import InputError

# These figures depend on the machine: two logs of the same run differ in them.
OF_THE_MACHINE = ("seconds", "instances_per_second", "peak_memory_mib")
REMEDY = "give the log.jsonl of a training script"
SEED = re.compile(r"seed\d+")

# A run's figures, a dict for each epoch; and all runs, by name.
Epochs = dict[int, dict[str, Any]]
Runs = dict[str, Epochs]
# Epochs, mean and standard deviation over the seeds, float64 [E] each.
Curve = tuple[np.ndarray, np.ndarray, np.ndarray]


def read_logs(paths: Sequence[Path]) -> Runs:
    """The figures of every run in these files, by run and epoch.

    A run that was started again replaces what it had logged of the epochs that it repeats. A run in two files counts
    once if the files agree; otherwise it counts as two runs, named by the folders of the files. Raises InputError for
    a file that is no log.
    """
    by_file: dict[Path, Runs] = {path: read_log(path) for path in dict.fromkeys(paths)}
    runs: Runs = {}
    for name in dict.fromkeys(name for found in by_file.values() for name in found):
        different: dict[Path, Epochs] = {}
        for path, found in by_file.items():
            if name not in found:
                continue
            same = next((known for known, epochs in different.items() if same_run(found[name], epochs)), path)
            different[same] = max(different.get(same, {}), found[name], key=len)
        folders = distinct_parts([str(path.absolute().parent) for path in different], "/")
        for path, epochs in different.items():
            folder = folders[str(path.absolute().parent)]
            runs[name if len(different) == 1 else f"{name}_in {folder}"] = epochs
    return runs


def read_log(path: Path) -> Runs:
    """The figures of every run in one file, by run and epoch."""
    runs: Runs = {}
    for line in read_lines(path):
        epochs = runs.setdefault(line["run"], {})
        for later in [epoch for epoch in epochs if epoch >= line["epoch"]]:
            del epochs[later]
        epochs[line["epoch"]] = line | {"train_cross_entropy": train_cross_entropy(line)}
    return runs


def train_cross_entropy(line: Mapping[str, Any]) -> float | None:
    """An epoch's mean cross-entropy of the training instances; None where the log holds only another objective.

    A script that minimises the cross-entropy logs it as `train_loss`.
    """
    if "train_cross_entropy" in line or "train_loss_robust" in line:
        return line.get("train_cross_entropy")
    return line.get("train_loss")


def same_run(one: Epochs, other: Epochs) -> bool:
    """Whether two logs hold the same figures of a run in the epochs that both have."""

    def figures(line: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in line.items() if name not in OF_THE_MACHINE}

    return all(figures(one[epoch]) == figures(other[epoch]) for epoch in one.keys() & other.keys())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of one log. Raises InputError if it is missing or holds anything else.

    An incomplete last line is left out: the run was killed, or is writing it now.
    """
    with readable(f"--log {path}", REMEDY):
        check_regular(path)
        text = path.read_text(encoding="utf-8")
    whole = text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
    lines = [parse_line(line, f"--log {path}: line {number}") for number, line in enumerate(whole, 1) if line.strip()]
    if not lines:
        raise InputError(f"--log {path} holds no line yet; let a training script finish an epoch")
    return lines


def parse_line(text: str, where: str) -> dict[str, Any]:
    """One line of a log: an object with the name of its run and its epoch."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{where} is no JSON; {REMEDY}") from None
    if not isinstance(line, dict) or not isinstance(line.get("run"), str) or not is_number(line.get("epoch")):
        raise InputError(f"{where} has no run and epoch; {REMEDY}")
    return line


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def chosen_runs(runs: Runs, text: str) -> Runs:
    """The runs whose name contains this text. Raises InputError if there are none."""
    chosen = {run: epochs for run, epochs in runs.items() if text in run}
    if not chosen:
        raise InputError(
            f"--exp {text}: none of the {len(runs)} runs has that in its name; one is called {next(iter(runs))}"
        )
    return chosen


def by_seed(runs: Runs) -> dict[str, list[Epochs]]:
    """The runs that differ only in their seed, together under a name without the seed."""
    families: dict[str, list[Epochs]] = {}
    for run, epochs in runs.items():
        families.setdefault(SEED.sub("seed*", run), []).append(epochs)
    return families


def curve(seeds: Sequence[Epochs], key: str) -> Curve:
    """One quantity over the epochs that all seeds have."""
    logged = [{epoch: line[key] for epoch, line in epochs.items() if is_number(line.get(key))} for epochs in seeds]
    # Seeds without the quantity are left out, and the curve ends with the shortest run: a mean would jump at the epoch
    # where a seed drops out.
    logged = [values for values in logged if values]
    common = sorted(set.intersection(*map(set, logged))) if logged else []
    values = np.array([[seed[epoch] for epoch in common] for seed in logged], dtype=np.float64)
    if not common:
        return np.empty(0), np.empty(0), np.empty(0)
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(len(common))
    return np.array(common, dtype=np.float64), values.mean(axis=0), spread
