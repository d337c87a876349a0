"""Which instances: ranked by their metrics, chosen by a metric's name or as a group, balanced over the classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robust_data.metrics import (
    IDENTITY,
    OF_PERTURBED_INPUTS,
    class_share,
    clean_loss_correlation,
    min_max,
    normal_scores,
    residual,
)
from robust_data.metrics import within_class as within_class_metrics
from robust_data.registry import InputError, nearest

# By sensitivity, from the lowest.
SENSITIVITY_GROUPS = ("robust", "swing", "non_robust")
GROUPS = (*SENSITIVITY_GROUPS, "random")
SENSITIVITY = "perturbed_loss_mean"
# By what the groups are ordered; each settles the ties of the one before, the index those of the last.
GROUP_ORDER = (SENSITIVITY, "perturbed_loss_std", "flip_times")
# The corners of the map of loss_diff as the older code draws it: mean to the right, standard deviation upwards.
CORNERS = {
    "top_left": "loss_diff_mean_r+loss_diff_std",
    "top_right": "loss_diff_mean+loss_diff_std",
    "bottom_left": "loss_diff_mean_r+loss_diff_std_r",
    "bottom_right": "loss_diff_mean+loss_diff_std_r",
}
# What pages and tables call a metric.
WORDS = {
    "sensitivity": SENSITIVITY,
    "variability": "perturbed_loss_std",
    "clean_loss": "original_loss_mean",
    "mean_clean_loss": "original_loss_mean",
    "loss_difference": "loss_diff_mean",
}
# What stands beside the metrics: a draw by the seed, and a quantity that is made of two of them.
RANDOM = "random"
RESIDUAL = "residual"
RESIDUAL_OF = (SENSITIVITY, "original_loss_mean")
# A metric that statistics hold on request alone.
INPUT_GRADIENT = "input_gradient"
VARIABILITIES = ("_std", "_variability")
COMPLEMENT = "non_robust_"
ASCENDING = "_r"
# A file of indices in the place of a metric's name.
LIST = ".npy"

# Takes a class's part of the ranking and how many to take; returns those to list from the front of the
# ranking, and those to list from its back.
Take = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def select(
    metrics: Mapping[str, np.ndarray],
    select_metric: str | np.ndarray,
    select_ratio: float,
    labels: np.ndarray | None = None,
    balance: bool = False,
    *,
    tilt: Mapping[str, float] | None = None,
    classes: Iterable[int] | None = None,
    from_two_end: bool = False,
    ratio_proportion: float = 0.5,
    within_class: bool = False,
    seed: int = 0,
) -> np.ndarray:
    """Choose a share of the instances by a metric.

    metrics: as `instance_metrics` gives them, M instances. select_metric:
    - `name`: the highest of that metric; `name_r`: the lowest;
    - `a+b`: the nearest, with every metric scaled to [0,1], to the corner at 1 of each, at 0 with `_r`;
    - `top_left`, `top_right`, `bottom_left`, `bottom_right`: the nearest to that corner of the map of
      loss_diff_mean (to the right) and loss_diff_std (upwards);
    - `residual`, used as the name of a metric: see `metrics.residual`;
    - `random`: drawn by `seed`, a larger share holding a smaller, as the random `group`;
    - `non_robust_<any of these>`: the instances that <any of these> leaves over at ratio 1 - select_ratio, all
      options alike: with `balance` all that the balanced selection does not take;
    - a list of distinct indices, int64 [L], best first, which is the ranking itself; L then takes the place of M.
    Ties go to the lower index.

    select_ratio: in (0, 1]; the number chosen is select_ratio * M, halves rounded up.
    tilt: weights by the names of metrics, for `random`: it then ranks by the sum of weight times normal score, see
    `metrics.normal_scores`, and a draw from the standard Gumbel distribution, from the highest, so that of two
    instances of a class the odds of coming first are exp of the difference of their sums. An _r turns a weight.
    labels: int64 [M], the classes for `balance` and `within_class`, by default the golden labels.
    balance: the same number of every class: the number chosen divided by the number of classes, rounded
    down, or the size of the smallest class where that is less. classes: those that must all be there, by
    default those that are. from_two_end: of the number chosen (with balance: in each class)
    `ratio_proportion` come from the front of the ranking, halves rounded up, the rest from its back.
    within_class: rank by the difference from the class mean; `residual` then is that of these differences.

    Returns the indices, int64, best first: in order of the ranking; those from the back of it (two ends,
    and `non_robust_`) from its last place forwards. Raises InputError for a metric that does not exist,
    or is not finite, a variability that is 0 for all, a ratio outside (0, 1], a proportion outside [0, 1],
    an empty selection, or a class without an instance.
    """
    _check_share("--select_ratio", select_ratio)
    if not 0 <= ratio_proportion <= 1:
        raise InputError(f"--ratio_proportion {ratio_proportion} is outside [0, 1]")
    _check_not_empty(metrics)
    labels = _labels(metrics, labels)
    leave = isinstance(select_metric, str) and select_metric.startswith(COMPLEMENT)
    if not isinstance(select_metric, str):
        ranking, select_metric = _rows(metrics, select_metric), "of a list"
    elif tilt:
        ranking = _tilted(metrics, tilt, labels, seed)
    else:
        ranking = _ranking(metrics, select_metric.removeprefix(COMPLEMENT), labels, within_class, seed)
    total = len(ranking)
    count = _rounded((1 - select_ratio if leave else select_ratio) * total)
    take = _ends(ratio_proportion if from_two_end else 1.0)
    places = _take(labels[ranking], count, take, balance, classes)
    if leave:
        places = np.setdiff1d(np.arange(total), places)[::-1]
    _check_chosen(places, labels, f"--select_metric {select_metric} --select_ratio {select_ratio}", balance)
    return metrics["index"][ranking[places]]


def group(
    metrics: Mapping[str, np.ndarray],
    name: str,
    fraction: float,
    seed: int = 0,
    labels: np.ndarray | None = None,
    balance: bool = False,
    *,
    classes: Iterable[int] | None = None,
    within_class: bool = False,
) -> np.ndarray:
    """Choose a group of instances: the robust, the swing, the non-robust, or as many at random.

    The order is that of perturbed_loss_mean, perturbed_loss_std, flip_times and index, ascending. `robust`
    is the first `fraction` of it, `non_robust` the last, `swing` the middle (with an odd number left over,
    one more after it than before it); `random` draws as many by `seed`, a larger fraction holding a smaller.
    fraction: in (0, 1]; the number is fraction * M, halves rounded up. labels, balance, classes,
    within_class: as in `select`.

    Returns the indices, int64, in order, for `non_robust` from the last forwards, for `random` as drawn.
    Raises InputError for another name, a fraction outside (0, 1], an empty group, a class without an instance,
    or metrics that are not finite.
    """
    if name not in GROUPS:
        raise InputError(f"unknown group '{name}'; nearest: {', '.join(nearest(name, GROUPS))}")
    _check_share("the size of a group", fraction)
    _check_not_empty(metrics)
    labels = _labels(metrics, labels)
    order = _drawn(metrics, seed) if name == RANDOM else _group_order(metrics, name, labels, within_class)
    take = {"swing": _middle, "non_robust": _ends(0.0)}.get(name, _ends(1.0))
    what = f"the group {name}, share {fraction},"
    places = _take(labels[order], _rounded(fraction * len(order)), take, balance, classes)
    _check_chosen(places, labels, what, balance)
    return metrics["index"][order[places]]


def is_list(select_metric: str | None) -> bool:
    """Whether this names a file of indices, and no metric."""
    return select_metric is not None and select_metric.endswith(LIST)


def in_names(select_metric: str) -> str:
    """What stands in the names of files and runs for a metric, or for a file of indices."""
    return Path(select_metric).stem if is_list(select_metric) else select_metric


def _ranking(
    metrics: Mapping[str, np.ndarray], name: str, labels: np.ndarray, within_class: bool, seed: int
) -> np.ndarray:
    """The rows of the metrics, ranked by what a name without `non_robust_` stands for."""
    parsed = parse(name, metrics)
    _check_finite(metrics, (quantity for quantity, _ in parsed))
    _check_varies(metrics, (quantity for quantity, _ in parsed))
    if name == RANDOM:
        return _drawn(metrics, seed)
    source = within_class_metrics(metrics, labels) if within_class else metrics
    return np.lexsort((metrics["index"], _badness(source, parsed)))


def _rows(metrics: Mapping[str, np.ndarray], index: np.ndarray) -> np.ndarray:
    """The rows of the metrics that these instances have. Raises InputError for others, and for one that comes twice."""
    order = np.argsort(metrics["index"], kind="stable")
    places = np.searchsorted(metrics["index"], index, sorter=order).clip(max=len(order) - 1)
    strange = index[metrics["index"][order[places]] != index]
    if len(strange) or len(np.unique(index)) < len(index):
        what = f"instance {strange[0]} is not among those to choose from" if len(strange) else "an instance comes twice"
        raise InputError(f"--select_metric: {what}; give a list of distinct indices, as select_instances.py writes it")
    return order[places]


def _tilted(metrics: Mapping[str, np.ndarray], tilt: Mapping[str, float], labels: np.ndarray, seed: int) -> np.ndarray:
    """The rows of the metrics in an order that is drawn with these weights, see `select`."""
    parsed = [parse(name, metrics, "--tilt") for name in tilt]
    if not all(len(one) == 1 for one in parsed):
        raise InputError(f"--tilt {' '.join(tilt)}: a weight is of a single metric")
    quantities = [quantity for ((quantity, _),) in parsed]
    _check_finite(metrics, quantities)
    source = _with_residual(metrics, quantities)
    try:
        scores = normal_scores(np.stack([source[name] for name in quantities], axis=1), labels)
    except ValueError as error:
        name = quantities[error.args[0]]
        raise InputError(
            f"--tilt {name}: it is the same for all of a class, or told by the metrics before it"
        ) from None
    weights = [-weight if ascending else weight for weight, ((_, ascending),) in zip(tilt.values(), parsed)]
    noise = np.empty(len(labels))
    noise[np.argsort(metrics["index"], kind="stable")] = np.random.default_rng(seed).gumbel(size=len(labels))
    return np.lexsort((metrics["index"], -(scores @ weights + noise)))


def _group_order(metrics: Mapping[str, np.ndarray], name: str, labels: np.ndarray, within_class: bool) -> np.ndarray:
    """The rows of the metrics in the order that the groups are cut from."""
    _check_perturbed(metrics, GROUP_ORDER, f"the group {name}")
    _check_finite(metrics, GROUP_ORDER)
    source = within_class_metrics(metrics, labels) if within_class else metrics
    return np.lexsort((metrics["index"], *(source[quantity] for quantity in reversed(GROUP_ORDER))))


def parse(
    select_metric: str, metrics: Mapping[str, np.ndarray], option: str = "--select_metric"
) -> list[tuple[str, bool]]:
    """The quantities that a metric's name without `non_robust_` ranks by, each with whether it is ascending.

    `random` ranks by none. Raises InputError, with the nearest names, for one that is not among the metrics, and for
    one that needs a perturbation where the metrics are of clean inputs alone.
    """
    if select_metric == RANDOM:
        return []
    names = [*(name for name in metrics if name not in IDENTITY), RESIDUAL]
    parsed = []
    for part in CORNERS.get(select_metric, select_metric).split("+"):
        ascending = part not in names and part.endswith(ASCENDING)
        quantity = metric_name(part.removesuffix(ASCENDING) if ascending else part)
        needed = RESIDUAL_OF if quantity == RESIDUAL else (quantity,)
        _check_perturbed(metrics, needed, f"{option} {select_metric}")
        if quantity not in names:
            if quantity in (*CORNERS, RANDOM):
                raise InputError(f"{option} {select_metric}: {quantity} stands alone, without _r and +; see --help")
            if quantity == INPUT_GRADIENT:
                raise InputError(
                    f"{option} {select_metric}: the statistics do not hold it; collect them with "
                    "--record_input_gradient 1"
                )
            close = ", ".join(nearest(quantity, [*names, *CORNERS, *WORDS, RANDOM]))
            raise InputError(f"{option}: unknown metric '{quantity}'; nearest: {close}")
        parsed.append((quantity, ascending))
    return parsed


def metric_name(word: str) -> str:
    """The name of the metric that pages and tables call so, or the word itself: `flip rate` is `flip_rate`."""
    name = word.strip().lower().replace(" ", "_")
    return WORDS.get(name, name)


@dataclass(frozen=True)
class Explained:
    """What a ranking by a quantity may owe to something else than the instance's robustness.

    class_share: of the quantity's variance that the class explains, 0 to 1; clean_loss: the quantity's rank
    correlation with mean clean loss, -1 to 1.
    """

    class_share: float
    clean_loss: float


def explained(select_metric: str | np.ndarray, metrics: Mapping[str, np.ndarray]) -> dict[str, Explained]:
    """What explains each quantity that `select_metric` ranks by, before any difference from the class mean."""
    if not isinstance(select_metric, str):
        return {}
    quantities = [quantity for quantity, _ in parse(select_metric.removeprefix(COMPLEMENT), metrics)]
    metrics = _with_residual(metrics, quantities)
    return {
        quantity: Explained(
            class_share(metrics[quantity], metrics["golden_label"]), clean_loss_correlation(metrics, quantity)
        )
        for quantity in quantities
    }


def _with_residual(metrics: Mapping[str, np.ndarray], quantities: Iterable[str]) -> Mapping[str, np.ndarray]:
    return {**metrics, RESIDUAL: residual(metrics)} if RESIDUAL in quantities else metrics


def _drawn(metrics: Mapping[str, np.ndarray], seed: int) -> np.ndarray:
    """The rows of the metrics in an order drawn by the seed and the instances' indices alone."""
    return np.random.default_rng(seed).permutation(np.argsort(metrics["index"], kind="stable"))


def _badness(metrics: Mapping[str, np.ndarray], parsed: list[tuple[str, bool]]) -> np.ndarray:
    """What to sort by, ascending, so that the best comes first: [M]."""
    metrics = _with_residual(metrics, [quantity for quantity, _ in parsed])
    if len(parsed) == 1:
        quantity, ascending = parsed[0]
        return metrics[quantity] if ascending else -metrics[quantity].astype(np.float64)
    distances = [min_max(metrics[quantity]) - (0.0 if ascending else 1.0) for quantity, ascending in parsed]
    return np.sqrt(np.sum(np.square(distances), axis=0))


def _ends(proportion: float) -> Take:
    """Take `proportion` of the number from the front, the rest from the back."""

    def take(places: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        front = _rounded(proportion * count)
        return places[:front], places[len(places) - (count - front) :]

    return take


def _middle(places: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    start = (len(places) - count) // 2
    return places[start : start + count], places[:0]


def _take(labels: np.ndarray, count: int, take: Take, balance: bool, classes: Iterable[int] | None) -> np.ndarray:
    """The places in the ranking that are taken, best first.

    labels: the classes in order of the ranking; count: how many to take, over all classes.
    """
    present, sizes = np.unique(labels, return_counts=True)
    parts = [np.arange(len(labels))]
    if balance:
        absent = [label for label in classes if label not in present] if classes is not None else []
        if absent:
            raise InputError(f"--do_balance_labels 1: class {absent[0]} has no instance left to choose from")
        parts = [np.flatnonzero(labels == label) for label in present]
        count = min(count // len(present), int(sizes.min()))
    fronts, backs = zip(*(take(places, count) for places in parts))
    return np.concatenate([np.sort(np.concatenate(fronts)), np.sort(np.concatenate(backs))[::-1]])


def _check_chosen(places: np.ndarray, labels: np.ndarray, what: str, balance: bool) -> None:
    if not len(places):
        each = f" of each of {len(np.unique(labels))} classes" if balance else ""
        raise InputError(f"{what} chooses no instance{each} out of {len(labels)}; raise it")


def _rounded(number: float) -> int:
    """To the nearest integer, halves up; the small term is for halves that rounding errors put just below."""
    return math.floor(number + 0.5 + 1e-9)


def _check_share(argument: str, share: float) -> None:
    if not 0 < share <= 1:
        raise InputError(f"{argument} {share} is outside (0, 1]")


def _check_not_empty(metrics: Mapping[str, np.ndarray]) -> None:
    if not len(metrics["index"]):
        raise InputError("there is no instance to choose from; use --only_original_pred 0")


def _check_perturbed(metrics: Mapping[str, np.ndarray], quantities: Iterable[str], what: str) -> None:
    """Refuse a ranking that needs a perturbation where the metrics are of clean inputs alone."""
    for quantity in quantities:
        if quantity in OF_PERTURBED_INPUTS and quantity not in metrics:
            raise InputError(
                f"{what}: the statistics are of clean inputs alone, and {quantity} needs a perturbation; choose by "
                "aum, confidence, cartography_variability, correctness, forgetting_events, el2n or original_loss_mean"
            )


def _check_finite(metrics: Mapping[str, np.ndarray], quantities: Iterable[str]) -> None:
    """Refuse to rank by NaN or infinity, which a model that diverged leaves in the records."""
    for quantity in [part for name in quantities for part in (RESIDUAL_OF if name == RESIDUAL else (name,))]:
        wrong = int(np.count_nonzero(~np.isfinite(metrics[quantity])))
        if wrong:
            raise InputError(
                f"{quantity} is not finite for {wrong} of {len(metrics['index'])} instances; collect the statistics "
                "of a training that does not diverge"
            )


def _check_varies(metrics: Mapping[str, np.ndarray], quantities: Iterable[str]) -> None:
    """Refuse to rank by a variability that is 0 for every instance, as over one checkpoint."""
    for quantity in quantities:
        if quantity.endswith(VARIABILITIES) and not metrics[quantity].any():
            raise InputError(
                f"{quantity} is 0 for every instance, as over a single checkpoint, and ranks nothing; choose by "
                "another metric, or collect more checkpoints"
            )


def _labels(metrics: Mapping[str, np.ndarray], labels: np.ndarray | None) -> np.ndarray:
    labels = metrics["golden_label"] if labels is None else np.asarray(labels)
    if labels.shape != metrics["index"].shape:
        raise ValueError(f"{labels.shape} labels for {metrics['index'].shape} instances")
    return labels
