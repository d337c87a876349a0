"""From records to one row of numbers per instance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robust_data.records import column

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

# The columns that say which instance it is; all others are quantities.
IDENTITY = ("index", "golden_label")

# Instances are worked through in slices of this length, so that a memory-mapped file stays on the disk.
SLICE = 1 << 18


def instance_metrics(records: np.ndarray, only_original_pred: bool = False) -> dict[str, np.ndarray]:
    """Summarise every instance over the checkpoints.

    records: structured array (T, N), see `robust_data.records`. With `only_original_pred` an instance is
    summarised over those checkpoints alone at which its clean input was classified correctly, and drops
    out if there is none.

    Returns arrays [M], M <= N, in ascending order of `index`:
    - `index`, `golden_label` (int64);
    - `<quantity>_mean` and `<quantity>_std` (population) of the quantities in `QUANTITIES`, float64.
      Sensitivity is `perturbed_loss_mean`, variability `perturbed_loss_std` (Zheng et al. 2023);
    - `original_correctness` and `flip_times`, counts over the checkpoints, and `flip_rate`, the share of
      the checkpoints at which correctness on the clean and on the perturbed input differ;
    - the neighbours' scores, always over all checkpoints, from the clean input alone: `confidence`,
      `cartography_variability` and `correctness`, a share (Swayamdipta et al. 2020), `forgetting_events`
      (Toneva et al. 2019; an instance that was never learned has 0), `aum` (Pleiss et al. 2020), `el2n`
      (Paul et al. 2021).
    """
    parts = [
        _slice_metrics(records[:, start : start + SLICE], only_original_pred)
        for start in range(0, records.shape[1], SLICE)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


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


def _neighbours_scores(records: np.ndarray, correct: np.ndarray) -> dict[str, np.ndarray]:
    probability = column(records, "original_probability")
    return {
        "confidence": probability.mean(axis=0),
        "cartography_variability": probability.std(axis=0),
        "correctness": correct.mean(axis=0),
        "forgetting_events": (correct[:-1] & ~correct[1:]).sum(axis=0),
        "aum": column(records, "original_margin").mean(axis=0),
        "el2n": column(records, "original_el2n").mean(axis=0),
    }


def min_max(values: np.ndarray) -> np.ndarray:
    """Scale to [0,1]; a constant column becomes zeros."""
    low, high = values.min(), values.max()
    return np.zeros_like(values, dtype=np.float64) if high == low else (values - low) / (high - low)


def class_means(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each instance's class mean: float64 [M] from values [M] and labels int64 [M]."""
    _, classes = np.unique(labels, return_inverse=True)
    return (np.bincount(classes, weights=values) / np.bincount(classes))[classes]


def class_share(values: np.ndarray, labels: np.ndarray) -> float:
    """The share of the variance of `values` that the class explains, 0 to 1 (0 for a constant)."""
    total = np.var(values)
    return float(np.var(class_means(values, labels)) / total) if total > 0 else 0.0


def within_class(metrics: Mapping[str, np.ndarray], labels: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The metrics with each replaced by its difference from the mean of the instance's class.

    metrics: as `instance_metrics` gives them; labels: int64 [M], by default the golden labels. `index` and
    `golden_label` stay as they are.
    """
    labels = metrics["golden_label"] if labels is None else labels
    return {
        name: values if name in IDENTITY else values - class_means(values, labels) for name, values in metrics.items()
    }
