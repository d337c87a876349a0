"""From records to one row of numbers per instance."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from robust_data.records import INPUT_GRADIENT, column, is_clean_only
from robust_data.registry import InputError

# Each gives a <quantity>_mean and a <quantity>_std, and what it is called in the records.
QUANTITIES = {
    "original_loss": "original_loss",
    "perturbed_loss": "after_perturb_loss",
    "loss_diff": "loss_diff",
    "original_logit": "original_logit",
    "perturbed_logit": "after_perturb_logit",
    "logit_diff": "logit_diff",
    "original_probability": "original_probability",
    "perturbed_probability": "after_perturb_probability",
    "probability_diff": "probability_diff",
}

# Those of them that are measured on clean inputs; all others need a perturbation.
OF_CLEAN_INPUTS = ("original_loss", "original_logit", "original_probability")
# All metrics that need one.
OF_PERTURBED_INPUTS = (
    *(f"{name}_{summary}" for name in QUANTITIES if name not in OF_CLEAN_INPUTS for summary in ("mean", "std")),
    *("flip_times", "flip_rate"),
)

# A model that diverged leaves infinite losses, which `measuring.doubt` tells; NumPy is to say nothing of them.
_with_infinities = np.errstate(invalid="ignore")

# The columns that say which instance it is; all others are quantities.
IDENTITY = ("index", "golden_label")

# Instances are worked through in slices of this length, so that a memory-mapped file stays on the disk and what is
# taken from it in the processor's cache.
SLICE = 1 << 13


def instance_metrics(
    records: np.ndarray, only_original_pred: bool = False, use_untrained_model: bool = False
) -> dict[str, np.ndarray]:
    """Summarise every instance over the checkpoints.

    records: structured array (T, N), see `robust_data.records`; of its checkpoints those count that
    `counted_checkpoints` gives. With `only_original_pred` an instance is summarised over those of them alone
    at which its clean input was classified correctly, and drops out if there is none.

    Returns arrays [M], M <= N, in ascending order of `index`:
    - `index`, `golden_label` (int64);
    - `<quantity>_mean` and `<quantity>_std` (population) of the quantities in `QUANTITIES`, float64.
      Sensitivity is `perturbed_loss_mean`, variability `perturbed_loss_std` (Zheng et al. 2023);
    - `original_correctness` and `flip_times`, counts over the checkpoints, and `flip_rate`, the share of
      the checkpoints at which correctness on the clean and on the perturbed input differ;
    - the neighbours' scores, always over all counted checkpoints, from the clean input and the golden label
      alone: `confidence`, `cartography_variability` and `correctness`, a share (Swayamdipta et al. 2020),
      `forgetting_events` (Toneva et al. 2019; an instance that was never learned has the number of counted
      checkpoints), `aum` (Pleiss et al. 2020), `el2n` (Paul et al. 2021), and where the records have it
      `input_gradient`, the mean of `original_input_gradient` (EasyCore, arXiv 2510.11018).
    Records of clean inputs alone, see `records.is_clean_only`, have none of `OF_PERTURBED_INPUTS`.

    Raises InputError if no checkpoint counts.
    """
    records = counted_checkpoints(records, use_untrained_model)
    left_out = OF_PERTURBED_INPUTS if is_clean_only(records) else ()
    parts = [
        _slice_metrics(records[:, start : start + SLICE], only_original_pred)
        for start in range(0, records.shape[1], SLICE)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name not in left_out}


def counted_checkpoints(records: np.ndarray, use_untrained_model: bool = False) -> np.ndarray:
    """The checkpoints that metrics are taken over: records (T', N), a view.

    All but that of the untrained model, whose losses are of its initial weights and not of the instances;
    with `use_untrained_model` all. The untrained model's is a first row at global step 0. Raises InputError
    if none is left.
    """
    if use_untrained_model:
        return records
    trained = records["global_step"][:, 0] > 0
    if not trained.any():
        raise InputError(
            f"the statistics hold no checkpoint after the first step of training ({len(records)} before it); "
            "--use_untrained_model 1 counts the untrained model's"
        )
    return records[np.argmax(trained) :]


def describe_counted(records: np.ndarray, use_untrained_model: bool = False) -> str:
    """How many of the checkpoints of records (T, N) count, in a few words, and what follows where it is one."""
    counted, total = len(counted_checkpoints(records, use_untrained_model)), len(records)
    many = f"{total} checkpoint{'s' * (total > 1)}"
    if counted < total:
        text = f"{counted} of {many}, without the untrained model's"
    else:
        untrained = total > 0 and records["global_step"][0, 0] == 0
        text = many + (", the untrained model's among them" if untrained else "")
    return text + ("; of one checkpoint every variability is 0" if counted == 1 else "")


def _slice_metrics(records: np.ndarray, only_original_pred: bool) -> dict[str, np.ndarray]:
    correct = column(records, "original_pred")
    counted = correct if only_original_pred else np.ones_like(correct)
    checkpoints = counted.sum(axis=0)
    flips = (correct != column(records, "after_perturb_pred")) & counted

    metrics = {
        "index": records["index"][0].astype(np.int64),
        "golden_label": records["golden_label"][0].astype(np.int64),
    }
    with np.errstate(divide="ignore", invalid="ignore"):  # the instances without a checkpoint are dropped below
        for quantity, name in QUANTITIES.items():
            values = column(records, name)
            mean = np.sum(values, axis=0, where=counted) / checkpoints
            variance = np.sum((values - mean) ** 2, axis=0, where=counted) / checkpoints
            metrics[f"{quantity}_mean"], metrics[f"{quantity}_std"] = mean, np.sqrt(variance)
        metrics["original_correctness"] = (correct & counted).sum(axis=0)
        metrics["flip_times"] = flips.sum(axis=0)
        metrics["flip_rate"] = metrics["flip_times"] / checkpoints
    metrics.update(_neighbours_scores(records, correct))
    return {name: values[checkpoints > 0] for name, values in metrics.items()}


@_with_infinities
def _neighbours_scores(records: np.ndarray, correct: np.ndarray) -> dict[str, np.ndarray]:
    probability = column(records, "original_probability")
    forgotten = (correct[:-1] & ~correct[1:]).sum(axis=0)
    scores = {
        "confidence": probability.mean(axis=0),
        "cartography_variability": probability.std(axis=0),
        "correctness": correct.mean(axis=0),
        "forgetting_events": np.where(correct.any(axis=0), forgotten, len(correct)),
        "aum": column(records, "original_margin").mean(axis=0),
        "el2n": column(records, "original_el2n").mean(axis=0),
    }
    if INPUT_GRADIENT in records.dtype.names:
        scores["input_gradient"] = column(records, INPUT_GRADIENT).mean(axis=0)
    return scores


def min_max(values: np.ndarray) -> np.ndarray:
    """Scale to [0,1]; a constant column becomes zeros."""
    low, high = values.min(), values.max()
    return np.zeros_like(values, dtype=np.float64) if high == low else (values - low) / (high - low)


def out_of_order(changes: Mapping[int, float]) -> list[int]:
    """The severities whose mean change of the inputs is smaller, by more than 1 %, than that of the next lower one."""
    levels = sorted(changes)
    return [level for lower, level in zip(levels, levels[1:]) if changes[level] < 0.99 * changes[lower]]


def class_means(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each instance's class mean: float64 [M] from values [M] and labels int64 [M]."""
    _, classes = np.unique(labels, return_inverse=True)
    return (np.bincount(classes, weights=values) / np.bincount(classes))[classes]


@_with_infinities
def class_share(values: np.ndarray, labels: np.ndarray) -> float:
    """The share of the variance of `values` that the class explains, 0 to 1 (0 for a constant)."""
    total = np.var(values)
    return float(np.var(class_means(values, labels)) / total) if total > 0 else 0.0


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two columns [M], -1 to 1, equal values sharing their mean rank (0 for a constant)."""
    one, other = (ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    scale = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / scale) if scale > 0 else 0.0


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, float64 [M]; equal values share their mean."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def normal_scores(columns: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The columns as normal scores within the class, each without what those before it explain: float64 [M, F].

    A column's ranks r of a class's n instances, equal values sharing their mean, become the quantiles of the normal
    distribution at (r - 1/2) / n. Least squares with an intercept for each class then takes out the columns before it;
    the rest has mean 0 in every class and, over all, standard deviation 1.

    columns: float [M, F]; labels: int64 [M]. Raises ValueError with its number for a column of which nothing is left.
    """
    scores = np.empty(columns.shape)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        for number, values in enumerate(columns[of_class].T):
            at, which = np.unique((ranks(values) - 0.5) / len(of_class), return_inverse=True)
            scores[of_class, number] = np.array([NormalDist().inv_cdf(one) for one in at])[which]
    for number in range(scores.shape[1]):
        rest, former = scores[:, number] - class_means(scores[:, number], labels), scores[:, :number]
        rest -= former @ np.linalg.lstsq(former, rest, rcond=None)[0]
        if rest.std() < 1e-6:
            raise ValueError(number)
        scores[:, number] = rest / rest.std()
    return scores


def clean_loss_correlation(metrics: Mapping[str, np.ndarray], quantity: str = "perturbed_loss_mean") -> float:
    """How much of a ranking is one by mean clean loss: the rank correlation of the two, -1 to 1."""
    return rank_correlation(metrics[quantity], metrics["original_loss_mean"])


def residual(metrics: Mapping[str, np.ndarray]) -> np.ndarray:
    """The part of sensitivity's rank that the rank of mean clean loss does not explain: float64 [M].

    Least squares with an intercept on ranks in which equal values share their mean, so the mean is 0. A high value is
    an instance more sensitive than others with its clean loss.
    """
    sensitivity, clean = (
        ranks(metrics[name]) - (len(metrics[name]) + 1) / 2 for name in ("perturbed_loss_mean", "original_loss_mean")
    )
    scale = clean @ clean
    return sensitivity - clean * (sensitivity @ clean / scale) if scale > 0 else sensitivity


def summarise(metrics: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The figures of a whole file, from metrics as `instance_metrics` gives them.

    The means over the instances of `sensitivity`, `variability` (nats) and `flip_rate`, and of sensitivity the
    `class_share` of its variance and the `clean_loss_correlation`.
    """
    return {
        "sensitivity": float(metrics["perturbed_loss_mean"].mean()),
        "variability": float(metrics["perturbed_loss_std"].mean()),
        "flip_rate": float(metrics["flip_rate"].mean()),
        "class_share": class_share(metrics["perturbed_loss_mean"], metrics["golden_label"]),
        "clean_loss_correlation": clean_loss_correlation(metrics),
    }


def within_class(metrics: Mapping[str, np.ndarray], labels: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The metrics with each replaced by its difference from the mean of the instance's class.

    metrics: as `instance_metrics` gives them; labels: int64 [M], by default the golden labels. `index` and
    `golden_label` stay as they are.
    """
    labels = metrics["golden_label"] if labels is None else labels
    return {
        name: values if name in IDENTITY else values - class_means(values, labels) for name, values in metrics.items()
    }


def permuted_within_class(
    metrics: Mapping[str, np.ndarray], seed: int, labels: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The metrics with those of instances of a class given to other instances of that class, drawn by `seed`.

    An instance gets all metrics of one other together. `index` and `golden_label` stay. What is chosen by such
    metrics has the classes and the values of the real choice, and says nothing of the instances: a negative control.
    labels: int64 [M], by default the golden labels.
    """
    labels = metrics["golden_label"] if labels is None else labels
    draws, donors = np.random.default_rng(seed), np.arange(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(metrics["index"][members], kind="stable")]
        donors[members] = draws.permutation(members)
    return {name: values if name in IDENTITY else values[donors] for name, values in metrics.items()}
