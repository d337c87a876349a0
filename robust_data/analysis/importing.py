"""Measurements that another training loop made: logits over checkpoints, written as a statistics file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robust_data import __version__, records
from robust_data.analysis import metadata
from robust_data.collection import check_logits, measure
from robust_data.datasets.base import Dataset
from robust_data.reading import one_each, open_array, readable
from robust_data.registry import InputError

LARGEST_INDEX = 2**63 - 1
# Instances are measured in slices of this length, so that of a large checkpoint only a part is in memory.
SLICE = 1 << 12
# An array of logits [N, C] of the clean inputs, and of the perturbed ones or None.
Passes = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Measurements:
    """What was measured elsewhere.

    index: int64 [N], distinct, in any order; labels: int64 [N], of the same instances; steps: the global step of each
    checkpoint, ascending; checkpoints: the logits of each, instances in the order of `index`. source: what errors and
    the JSON call it. perturbed: whether there are logits of perturbed inputs.
    """

    index: np.ndarray
    labels: np.ndarray
    steps: Sequence[int]
    checkpoints: Iterable[Passes]
    source: str
    perturbed: bool


def write(path: Path, measured: Measurements, about: Mapping[str, Any]) -> np.ndarray:
    """Write a statistics file, one checkpoint at a time, with instances in ascending order; returns its last row.

    about: what the JSON beside it says of the circumstances. The fields are those that a collection computes from the
    same logits; `delta_norm` is not known and NaN, as is all of perturbed inputs where there are none. Raises
    InputError for what `check_logits` refuses.
    """
    order = np.argsort(measured.index)
    growing = records.RecordFile(path, len(measured.steps), len(order))
    row = np.zeros(0, dtype=records.DTYPE)
    try:
        for step, (clean, perturbed) in zip(measured.steps, measured.checkpoints, strict=True):
            row = clean_rows(measured.index[order], measured.labels[order], step)
            _fill(row, "original", clean, order, f"{measured.source}, step {step}")
            if perturbed is not None:
                _fill(row, "after_perturb", perturbed, order, f"{measured.source}, step {step}, perturbed")
            growing.append(row)
        growing.finish(lambda rows: {**about, **_describe(rows, measured)})
    except BaseException:
        growing.discard()
        raise
    return row


def clean_rows(index: np.ndarray, labels: np.ndarray, step: int) -> np.ndarray:
    """Records (N,) that say which instances they are of, and that nothing is known of perturbed inputs.

    index, labels: int64 [N].
    """
    row = np.zeros(len(index), dtype=records.DTYPE)
    row["global_step"], row["index"], row["golden_label"] = step, index, labels
    row["delta_norm"], row["after_perturb_class"] = np.nan, -1
    for name in records.DTYPE.names:
        if name.startswith("after_perturb_") and records.DTYPE[name].kind == "f":
            row[name] = np.nan
    return row


def _fill(row: np.ndarray, prefix: str, logits: np.ndarray, order: np.ndarray, what: str) -> None:
    """Write what one pass measured into the records (N,) of a checkpoint."""
    for start in range(0, len(order), SLICE):
        part = row[start : start + SLICE]
        with np.errstate(over="ignore"):  # what is too large for float32 is told below
            values = np.array(logits[order[start : start + SLICE]], dtype=np.float32)
        check_logits(torch.from_numpy(values), what)
        labels = torch.from_numpy(part["golden_label"].astype(np.int64))
        for name, column in measure(torch.from_numpy(values), labels, labels).items():
            if (field := f"{prefix}_{name}") in records.DTYPE.names:
                part[field] = column.numpy()


def _describe(rows: np.ndarray, measured: Measurements) -> dict[str, Any]:
    """What the records (T, N) tell of themselves, for the JSON."""
    checkpoints = [
        {"global_step": int(row["global_step"][0]), **metadata.accuracies(row, perturbed=measured.perturbed)}
        for row in rows
    ]
    return {
        "clean_only": not measured.perturbed,
        "imported_from": measured.source,
        **records.identity(rows),
        "checkpoints": checkpoints,
        "loss_against": "the golden label",
        "summary": metadata.summary(rows) if measured.perturbed else None,
        "versions": {"robust_data": __version__},
    }


def open_logits(path: str, argument: str) -> np.ndarray:
    """Logits [T, N, C], a memory map. Raises InputError, which names the argument, for anything else."""
    with readable(f"{argument} {path}", "give an .npy of checkpoints x instances x classes"):
        array = open_array(path)
    if array.ndim != 3 or array.dtype.kind != "f" or array.shape[2] < 2 or not array.size:
        raise InputError(
            f"{argument} {path} holds {array.dtype} of shape {array.shape}; give floating point numbers, checkpoints x "
            "instances x classes, at least 2 of them"
        )
    return array


def open_numbers(path: str, argument: str, count: int, below: int = LARGEST_INDEX) -> np.ndarray:
    """Whole numbers from 0 to less than `below`: int64 [count]. Raises InputError, which names the argument."""
    with readable(f"{argument} {path}", "give an .npy of whole numbers, one for each instance"):
        array = one_each(open_array(path))
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise InputError(
            f"{argument} {path} holds {array.dtype} of shape {array.shape}; give {count} whole numbers, one for each "
            "instance of the logits"
        )
    if wrong := [number for number in (int(array.min()), int(array.max())) if not 0 <= number < below]:
        raise InputError(f"{argument} {path} holds {wrong[0]}; all numbers must be at least 0 and less than {below}")
    return array.astype(np.int64)


def open_index(path: str, count: int) -> np.ndarray:
    """The positions of the instances in the training split: int64 [count], distinct."""
    index = open_numbers(path, "--index", count)
    values, counts = np.unique(index, return_counts=True)
    if len(values) < count:
        raise InputError(
            f"--index {path} holds {values[np.argmax(counts > 1)]} more than once; give each instance once"
        )
    return index


def check_dataset(dataset: Dataset, index: np.ndarray, labels: np.ndarray, source: str) -> None:
    """Refuse measurements of instances that the data set lacks, or has other labels for."""
    rows = np.zeros((1, len(index)), dtype=records.DTYPE)
    rows["index"], rows["golden_label"] = index, labels
    records.check_dataset(rows, {}, dataset, source)


def labels_of(dataset: Dataset, index: np.ndarray) -> np.ndarray:
    """The labels of these instances: int64 [N]; of those that the data set lacks any, for `check_dataset` to refuse."""
    places = np.searchsorted(dataset.index.numpy(), index)
    return dataset.labels.numpy()[np.minimum(places, len(dataset) - 1)]
