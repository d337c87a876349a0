"""What a judgement found of every single instance, and figures that need more than the mean over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robust_data import files
from robust_data.datasets.base import Dataset

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Found:
    """The instances under some conditions.

    index, label: int64 [N], the position in the whole split and the golden label. right: bool [C, N], was the golden
    label predicted? margin: float32 [C, N], the golden label's logit minus the largest other one, the least of all
    steps of an attack, until it was wrong; NaN where an instance was not judged under a condition, such as a text
    that an attack on words left out, and there `right` says nothing.
    """

    index: np.ndarray
    label: np.ndarray
    right: np.ndarray
    margin: np.ndarray

    @property
    def measured(self) -> tuple[np.ndarray, np.ndarray]:
        """Right and margin."""
        return self.right, self.margin

    def without(self, conditions: int) -> Found:
        """With conditions under which none of these instances was judged."""
        nothing = np.empty((conditions, 0))
        return self.extended(self.index[:0], nothing, nothing)

    def extended(self, index: np.ndarray, right: np.ndarray, margin: np.ndarray) -> Found:
        """With conditions under which only these instances were judged; index: int64 [M], right, margin: [K, M]."""
        places = np.searchsorted(self.index, index)
        all_right = np.zeros((len(right), len(self.index)), dtype=bool)
        all_margins = np.full((len(right), len(self.index)), np.nan, dtype=np.float32)
        all_right[:, places], all_margins[:, places] = right, margin
        return Found(
            self.index,
            self.label,
            np.concatenate([self.right, all_right]),
            np.concatenate([self.margin, all_margins]),
        )

    def save(self, path: Path, conditions: Sequence[str]) -> None:
        """Write the arrays and the names of the conditions, [C], as a .npz without pickle, atomically."""
        arrays = {"index": self.index, "label": self.label, "conditions": np.array(conditions)}
        with files.atomic_write(path) as file:
            np.savez(file, **arrays, right=self.right, margin=self.margin)


def worst_figures(right: np.ndarray, dataset: Dataset) -> dict[str, Any]:
    """The class that is classified worst, its accuracy, and the accuracy of the best constant answer; 0..1.

    right: bool [N], of the data set's instances. Where these have groups also the worst of them, and its accuracy.
    """
    label = dataset.labels.numpy()
    worst, accuracy = _worst(right, label, dataset.label_names)
    figures = {"worst_class": worst, "worst_class_accuracy": accuracy}
    figures["constant_accuracy"] = float(np.bincount(label).max() / len(label))
    if dataset.group_column is not None:
        names, group = np.unique(dataset.others[dataset.group_column], return_inverse=True)
        figures["worst_group"], figures["worst_group_accuracy"] = _worst(right, group, names.tolist())
    return figures


def _worst(right: np.ndarray, label: np.ndarray, label_names: Sequence[str]) -> tuple[str, float]:
    """The class or group that is classified worst and its accuracy; one without instances does not count."""
    counts = np.bincount(label, minlength=len(label_names))
    accuracies = np.bincount(label, weights=right, minlength=len(label_names)) / np.maximum(counts, 1)
    worst = int(np.where(counts > 0, accuracies, np.inf).argmin())
    return label_names[worst], float(accuracies[worst])


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """How far confidence lies from accuracy, 0..1: the mean over 15 bins of equal width, weighted by their instances.

    confidence: [N], the probability of the predicted class; right: bool [N]. A bin holds its upper end.
    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(confidence))
