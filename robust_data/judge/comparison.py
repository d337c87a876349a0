"""Judged models beside one another: means over seeds, and differences from a baseline seed by seed."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robust_data.judge.conditions import BY_GRADIENT, Condition
from robust_data.judge.paired import FEWEST_PAIRS, bootstrap_interval, holm, is_equivalent, sign_flip_p
from robust_data.reading import open_arrays, read_json, read_member, readable
from robust_data.records import labels_hash
from robust_data.registry import InputError

# A folder of another name is one method.
RUN = re.compile(r"(?P<method>.+)[_/-]seed_?(?P<seed>\d+)")
# What tells on which instances a model was judged.
DATA = ("dataset_name", "split", "index_sha256", "labels_sha256")
# How hard an attack by gradient tried; older files do not say it.
EFFORT = ("steps", "step_size", "restarts", "special_tokens", "attack_loss", "temperature", "source_model")
FIELDS = tuple(name for name in Condition.__dataclass_fields__ if name not in EFFORT)


@dataclass(frozen=True)
class JudgedModel:
    """One model's accuracies, 0 to 1, by condition, perturbations as the mean over their severities.

    right: by condition how right each instance was, float [N] in 0..1 (the mean over severities), NaN where it was not
    judged; empty where an older judgement kept nothing of single instances. doubted: the conditions that are attacks
    by gradient, where the judgement found signs that those failed.
    """

    accuracies: dict[str, float]
    right: dict[str, np.ndarray]
    doubted: frozenset[str] = frozenset()


# By method, then by seed.
Judged = dict[str, dict[int, JudgedModel]]


@dataclass(frozen=True)
class PairedDifference:
    """How much better a method is than the baseline under a condition, in points of accuracy (percent).

    seeds: those that both were judged with; differences: one for each, method minus baseline. interval: of the mean,
    95 %. p: of the exact two-sided sign-flip test, None under 6 pairs; p_holm: adjusted for the methods compared under
    this condition. equivalent: whether the interval lies within the margin asked for, None if none was. doubted:
    whether a judgement of either method doubts its attack.
    """

    method: str
    condition: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    interval: tuple[float, float]
    p: float | None
    p_holm: float | None
    equivalent: bool | None
    doubted: bool = False

    @property
    def mean(self) -> float:
        """The mean difference, in points."""
        return statistics.mean(self.differences)


def read_all(folder: Path) -> Judged:
    """Every judged model of the folders in a folder; those named <method>_seed<seed> are replicates of a method.

    A folder of another name is a method, with the seed of its judgement. Raises InputError if there is none, if there
    are two of a method and seed, or they were judged differently.
    """
    judged: Judged = {}
    under = set()
    for path in sorted([*folder.glob("*/robustness_*.json"), *folder.glob("*/seed*/robustness_*.json")]):
        model, conditions, seed = read(path)
        name = path.parent.relative_to(folder).as_posix()
        if match := RUN.fullmatch(name):
            name, seed = match["method"], int(match["seed"])
        if seed in judged.setdefault(name, {}):
            raise InputError(f"{path.parent} holds several robustness_*.json of {name}; leave the one that counts")
        judged[name][seed] = model
        under.add(conditions)
    if not judged:
        raise InputError(f"--results_dir {folder} holds no folder with a robustness_*.json; judge a model first")
    if len(under) > 1:
        raise InputError(
            f"--results_dir {folder}: the models were judged on other data or under other conditions; judge them alike"
        )
    return {method: dict(sorted(seeds.items())) for method, seeds in judged.items()}


def read(path: Path) -> tuple[JudgedModel, tuple, int]:
    """A judged model, all that it was judged under, and by which seed.

    Raises InputError for a file that cannot be read.
    """
    with readable(str(path), "judge the model again"):
        report = read_json(path, str(path), "judge the model again")
        rows = report["results"]
        conditions = [
            (*(row[field] for field in FIELDS), row["instances"], *(row.get(field) for field in EFFORT)) for row in rows
        ]
        accuracies = [float(row["accuracy"]) for row in rows]
        if outside := [accuracy for accuracy in accuracies if not 0 <= accuracy <= 1]:
            raise ValueError(f"an accuracy of {outside[0]} is outside [0, 1]")
        under = (*(report.get(name) for name in DATA), *conditions)
        hash(under)  # lists and objects have no place in it
        seed = int(report.get("arguments", {}).get("seed", 0))
        doubts = (report.get("believable") or {}).get("verdict") == "no"
        doubted = frozenset(condition(row) for row in rows if doubts and row["name"] in BY_GRADIENT)
    return JudgedModel(_means_by_condition(rows, accuracies), _right_by_condition(report, path), doubted), under, seed


def condition(row: Mapping[str, Any]) -> str:
    """What a model was judged under, in a word or two."""
    if row["kind"] == "published":
        return f"published {row['name']}"
    if row["eps"] is None:
        size = f" {row['steps']} x {row['step_size']:.3g}" if row.get("steps") else ""
        return row["name"] + size
    return f"{row['name']} {row['norm']} {row['eps']:.3g}"


def _means_by_condition(rows, values) -> dict[str, Any]:
    """The mean of the rows' values, numbers or arrays [N], by condition, in the order of the rows."""
    by_condition: dict[str, list] = {}
    for row, value in zip(rows, values):
        by_condition.setdefault(condition(row), []).append(value)
    return {name: sum(found) / len(found) for name, found in by_condition.items()}


def _right_by_condition(report: Mapping[str, Any], path: Path) -> dict[str, np.ndarray]:
    """How right each instance was, by condition, from the .npz beside a judgement's JSON; {} where there is none."""
    # Not with_suffix, which would cut a model's name at a point.
    beside = path.with_name(f"{path.name.removesuffix('.json')}.npz")
    if not beside.exists():
        return {}
    with readable(str(beside), "judge the model again"), open_arrays(beside) as found:
        kept = {name: read_member(found, name) for name in ("index", "label", "conditions", "right", "margin")}
        right = np.where(np.isnan(kept["margin"]), np.nan, kept["right"].astype(np.float64))
        if differing := [name for name, alike in _compared(report, kept, right) if not alike]:
            raise ValueError(f"it is not of the judgement in {path.name}: other {differing[0]}")
    return _means_by_condition(report["results"], right)


def _compared(
    report: Mapping[str, Any], kept: Mapping[str, np.ndarray], right: np.ndarray
) -> Iterator[tuple[str, bool]]:
    """What a judgement's arrays and its JSON both say, and whether they say the same."""
    rows = report["results"]
    yield "conditions", kept["conditions"].tolist() == [row["condition"] for row in rows]
    yield "instances", labels_hash(kept["index"]) == report["index_sha256"]
    yield "labels", labels_hash(kept["label"]) == report["labels_sha256"]
    yield "shapes", right.shape == (len(rows), len(kept["index"]))
    for row, of_row in zip(rows, right):
        judged = of_row[~np.isnan(of_row)]
        # Published corruptions of other instances leave nothing behind. A mean may differ by rounding.
        same = len(judged) == row["instances"] and abs(judged.mean() - row["accuracy"]) < 0.5 / len(judged)
        yield f"results under {row['condition']}", same or not len(judged)


def compare(judged: Judged, baseline: str, equivalence: float | None = None) -> list[PairedDifference]:
    """Every other method against the baseline, under every condition, by the seeds that both have.

    equivalence: a margin in points. The interval is a bootstrap over seeds and then over the instances of each, or
    where a judgement kept nothing of single instances over seeds alone. Raises InputError for a baseline that is not
    there or shares no seed with a method.
    """
    if baseline not in judged:
        raise InputError(f"--baseline {baseline} was not judged; there are {', '.join(judged)}")
    others = [method for method in judged if method != baseline]
    found = []
    for name in next(iter(judged[baseline].values())).accuracies:
        of_condition = [_difference(judged, baseline, method, name, equivalence) for method in others]
        adjusted = holm({difference.method: difference.p for difference in of_condition})
        found += [
            PairedDifference(**vars(difference) | {"p_holm": adjusted[difference.method]})
            for difference in of_condition
        ]
    return found


def _difference(judged: Judged, baseline: str, method: str, name: str, equivalence: float | None) -> PairedDifference:
    seeds = tuple(seed for seed in judged[method] if seed in judged[baseline])
    if not seeds:
        raise InputError(f"--baseline {baseline} and {method} have no seed in common; train them with the same seeds")
    pairs = [(judged[method][seed], judged[baseline][seed]) for seed in seeds]
    differences = tuple(100 * (ours.accuracies[name] - theirs.accuracies[name]) for ours, theirs in pairs)
    interval = bootstrap_interval([_by_instance(*pair, name) for pair in pairs])
    # Of fewer pairs the interval is far too narrow to tell.
    equivalent = None if equivalence is None else len(pairs) >= FEWEST_PAIRS and is_equivalent(interval, equivalence)
    doubted = any(name in model.doubted for pair in pairs for model in pair)
    p = sign_flip_p(differences)
    return PairedDifference(method, name, seeds, differences, interval, p, None, equivalent, doubted)


def _by_instance(ours: JudgedModel, theirs: JudgedModel, name: str) -> np.ndarray:
    """The differences of the instances, in points; or one alone, that of the accuracies, where they are not known."""
    if name in ours.right and name in theirs.right:
        differences = 100 * (ours.right[name] - theirs.right[name])
        judged = ~np.isnan(differences)
        if np.array_equal(judged, ~np.isnan(ours.right[name])) and judged.any():
            return differences[judged]
    return np.array([100 * (ours.accuracies[name] - theirs.accuracies[name])])
