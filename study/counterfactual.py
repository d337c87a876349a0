"""Part B of study 2: what one standard deviation of a score does to a model that is trained on such instances."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from robust_data.judge.paired import holm, is_equivalent
from robust_data.metrics import normal_scores, permuted_within_class, ranks
from robust_data.study import halves, student
from robust_data.study.analysis import MARGIN, Contrast
from robust_data.study.planted import FAULTS
from robust_data.study.results import PRIMARY_ENDPOINT, Results, arrays
from robust_data.study.rows import HELD_OUT_HALVES

# The first features count with their squares, too.
SQUARED = 2
WORST = "worst attack, linf 1"
WORST_OF = ("pgd linf 1", "pgd linf 1 climbing margin")
OUTCOMES = (PRIMARY_ENDPOINT, WORST, "clean", "15 corruptions", "worst class")
PERMUTED_SEED = 0


@dataclass(frozen=True)
class Prediction:
    """The correlation of the predicted and the real outcome of the halves held out, with its 95 % interval.

    share: its square over that of the prediction by all features; 0 for a correlation below 0.
    """

    correlation: float
    interval: tuple[float, float]
    share: float


@dataclass(frozen=True)
class Counterfactual:
    """effects: by outcome and feature; permuted: by feature, of the primary endpoint, with features of other instances.

    predictions: by score, of the primary endpoint; predicted, real: by all features, [held out], in points.
    """

    effects: dict[str, dict[str, Contrast]]
    permuted: dict[str, Contrast]
    predictions: dict[str, Prediction]
    predicted: np.ndarray
    real: np.ndarray


def counterfactual(results: Results) -> Counterfactual | None:
    """None while a run is missing."""
    if not all(results.is_complete(f"images {block}") for block in ("tilted_statistics", "tilted")):
        return None
    lines = list(results.of_arm("images", "tilted", "tilted_half").values())
    scores = halves.means(list(_scores(results, "tilted_statistics")))
    chosen = np.array([_half(results, line["row"], len(scores["index"])) for line in lines])
    outcomes = [_outcomes(results, line) for line in lines]
    by_name = {name: np.array([of_run[name] for of_run in outcomes]) for name in OUTCOMES}
    return analyse(scores, chosen, by_name)


def analyse(scores: Mapping[str, np.ndarray], chosen: np.ndarray, outcomes: Mapping[str, np.ndarray]) -> Counterfactual:
    """The analysis of the plan.

    scores: of `halves.means`, [N] each; chosen: bool [M, N], the halves; outcomes: float [M] by `OUTCOMES`, points.
    """
    of_half = _means_in(chosen, halves.features(scores))
    permuted = permuted_within_class(scores, PERMUTED_SEED)
    primary, count = outcomes[PRIMARY_ENDPOINT], len(chosen) - HELD_OUT_HALVES
    predicted = {"all features": _predicted(_design(of_half), primary, count)}
    for name, score in halves.ALONE.items():
        alone = normal_scores(scores[score][:, None], scores["golden_label"])
        predicted[name] = _predicted(_with_intercept(_means_in(chosen, alone)), primary, count)
    real = primary[count:]
    found = {name: float(np.corrcoef(values, real)[0, 1]) for name, values in predicted.items()}
    whole = max(found["all features"], 0) ** 2
    return Counterfactual(
        {name: effects(of_half, values) for name, values in outcomes.items()},
        effects(_means_in(chosen, halves.features(permuted)), primary),
        {
            name: Prediction(one, _interval_by_z(one, len(real)), max(one, 0) ** 2 / whole if whole else math.nan)
            for name, one in found.items()
        },
        predicted["all features"],
        real,
    )


def effects(of_half: np.ndarray, outcome: np.ndarray) -> dict[str, Contrast]:
    """By feature the effect of one standard deviation, in points.

    By least squares, with HC3 standard errors (MacKinnon & White, 1985).

    of_half: the means of the features in each half, [M, 6]; outcome: [M].
    """
    design = _design(of_half)
    inverse = np.linalg.inv(design.T @ design)
    fitted = inverse @ design.T @ outcome
    leverage = np.einsum("mi,ij,mj->m", design, inverse, design)
    scaled = (outcome - design @ fitted) / (1 - leverage)
    errors = np.sqrt(np.diag(inverse @ (design.T * scaled**2) @ design @ inverse))
    freedom = len(outcome) - design.shape[1]
    reach = student.quantile(0.05, freedom)
    t_values = (fitted / errors)[1 : 1 + len(halves.FEATURES)].tolist()
    p_values = {name: student.p_value(t, freedom) for name, t in zip(halves.FEATURES, t_values, strict=True)}
    adjusted = holm(p_values)
    found = {}
    for number, name in enumerate(halves.FEATURES, 1):
        size, half_width = float(fitted[number]), float(reach * errors[number])
        interval = (size - half_width, size + half_width)
        equivalent = is_equivalent(interval, MARGIN["images"])
        found[name] = Contrast(name, name, "", (size,), interval, p_values[name], adjusted[name], equivalent)
    return found


def planted_truth(results: Results) -> dict[str, dict[str, tuple[float, float]]]:
    """By score and fault: AUROC within the class, the mean and the sample deviation over the runs; {} while one is
    missing."""
    if not results.is_complete("images planted"):
        return {}
    found: dict[str, dict[str, list[float]]] = {}
    for line in results.of_arm("images", "planted", "statistics").values():
        scores = arrays(results.folder / "scores" / f"{line['row']}.npz")
        faults = arrays(results.folder / "planted" / f"{line['row']}.npz")
        for name, values in scores.items():
            if name in ("index", "label"):
                continue
            for fault in FAULTS:
                has_it = np.unpackbits(faults[fault], count=int(faults["count"])).astype(bool)
                found.setdefault(name, {}).setdefault(fault, []).append(auroc(values, has_it, scores["label"]))
    return {
        name: {fault: (float(np.mean(of)), float(np.std(of, ddof=1))) for fault, of in by_fault.items()}
        for name, by_fault in found.items()
    }


def auroc(values: np.ndarray, has_it: np.ndarray, labels: np.ndarray) -> float:
    """How often, within a class, an instance with the fault has the higher value than one without; ties count half.

    values: [N]; has_it: bool [N]; labels: int [N]. The mean over the classes that have both.
    """
    found = []
    for label in np.unique(labels):
        of_class = labels == label
        own = has_it[of_class]
        with_it, without = int(own.sum()), int((~own).sum())
        if with_it and without:
            above = ranks(values[of_class])[own].sum() - with_it * (with_it + 1) / 2
            found.append(above / (with_it * without))
    return float(np.mean(found))


def _half(results: Results, row: str, count: int) -> np.ndarray:
    """Which instances a model was trained on: bool [N]."""
    packed = arrays(results.folder / "halves" / f"{row}.npz")["chosen"]
    return np.unpackbits(packed, count=count).astype(bool)


def _scores(results: Results, block: str) -> Iterator[dict[str, np.ndarray]]:
    for line in results.of_arm("images", block, "statistics").values():
        yield arrays(results.folder / "scores" / f"{line['row']}.npz")


def _outcomes(results: Results, line: dict[str, str]) -> dict[str, float]:
    """Every outcome of a model, in points."""
    found = {name: float(values.mean()) for name, values in results.endpoints(line).items()}
    right, _ = results.right(line)
    found[WORST] = 100 * float(np.min([right[name] for name in WORST_OF], axis=0).mean())
    return found | {"worst class": results.worst_class(line)}


def _means_in(chosen: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The means of the features [N, F] in each half [M, N]: [M, F]."""
    return chosen @ features / chosen.sum(axis=1, keepdims=True)


def _with_intercept(columns: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(columns)), columns])


def _design(of_half: np.ndarray) -> np.ndarray:
    return _with_intercept(np.column_stack([of_half, of_half[:, :SQUARED] ** 2]))


def _predicted(design: np.ndarray, outcome: np.ndarray, count: int) -> np.ndarray:
    """What least squares on the first `count` halves predicts of the others."""
    return design[count:] @ np.linalg.lstsq(design[:count], outcome[:count], rcond=None)[0]


def _interval_by_z(correlation: float, count: int) -> tuple[float, float]:
    """95 %, by Fisher's z."""
    z = math.atanh(min(max(correlation, -0.999999), 0.999999))
    reach = NormalDist().inv_cdf(0.975) / math.sqrt(count - 3)
    return math.tanh(z - reach), math.tanh(z + reach)
