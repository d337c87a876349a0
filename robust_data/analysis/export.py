"""The instances of a statistics file as a table and as plain arrays, for other tools."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from robust_data import files, tables
from robust_data.analysis.metadata import class_name
from robust_data.analysis.statistics_file import StatisticsFile
from robust_data.datasets.base import Dataset
from robust_data.metrics import IDENTITY, SLICE
from robust_data.registry import InputError, printable, warn_once

# In an array of texts each takes as much room as the longest; one of more bytes is not worth it.
LARGEST_TEXTS = 2**28
# Of a float32 softmax.
ROUNDING = 1e-5
# The same at every checkpoint, or for every instance.
CONSTANT = ("global_step", "index", "golden_label")


def texts_of(dataset: Dataset | None, index: np.ndarray) -> dict[str, list[str]]:
    """What the data set knows of these instances in words, by name: its further columns, and the file or text."""
    if dataset is None:
        return {}
    kept = dataset.others | ({} if dataset.sources is None else {"source": dataset.sources})
    places = np.searchsorted(dataset.index.numpy(), index).tolist()
    return {name: [printable(texts[place]) for place in places] for name, texts in kept.items()}


def write_csv(
    path: Path,
    metrics: Mapping[str, np.ndarray],
    index: np.ndarray,
    label_names: Sequence[str] | None = None,
    texts: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Path:
    """Write one line per instance, in the order of `index`: index, label, label name, metrics, texts; returns path.

    index: int64 [K], of instances in `metrics`; texts: as `texts_of` gives them.
    """
    quantities = [name for name in metrics if name not in IDENTITY]
    header = ["index", "label", "label_name", *quantities, *texts]

    def lines() -> Iterator[list[Any]]:
        for start in range(0, len(index), SLICE):
            part = slice(start, start + SLICE)
            rows = np.searchsorted(metrics["index"], index[part])
            labels, *values = (metrics[name][rows].tolist() for name in ("golden_label", *quantities))
            names = (class_name(label_names, label) for label in labels)
            yield from zip(index[part].tolist(), labels, names, *values, *(column[part] for column in texts.values()))

    return tables.write(path, itertools.chain([header], lines()))


def check_probabilities(statistics: StatisticsFile) -> None:
    """Raise InputError for probabilities outside [0, 1], which other tools would take for what they are not."""
    for name in ("original_probability", "after_perturb_probability"):
        # Row by row, of a file that may be larger than the memory; NaN is a number that was not measured.
        ends = np.array([(np.nanmin(row, initial=0), np.nanmax(row, initial=1)) for row in statistics.counted[name]])
        if ends.min() < -ROUNDING or ends.max() > 1 + ROUNDING:
            raise InputError(
                f"{statistics.path}: its {name} reaches from {ends.min():.3g} to {ends.max():.3g}, outside [0, 1]; "
                "make the file from logits with import_statistics.py"
            )


def write_npz(
    path: Path,
    statistics: StatisticsFile,
    label_names: Sequence[str] | None = None,
    texts: Mapping[str, Sequence[str]] = MappingProxyType({}),
    per_checkpoint: bool = False,
) -> None:
    """Write an .npz without pickle, atomically: an array [M] per metric, in ascending order of `index`.

    label_names: of the classes; texts: as `texts_of` gives them. per_checkpoint: also write the fields
    of the records, [T, M], at the T checkpoints that count. See docs/files.md for the arrays.
    """
    arrays = instance_arrays(statistics, label_names, texts)
    if per_checkpoint:
        arrays |= checkpoint_arrays(statistics)
    with files.atomic_write(path) as file:
        np.savez(file, **arrays)


def instance_arrays(
    statistics: StatisticsFile,
    label_names: Sequence[str] | None = None,
    texts: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """What an .npz holds of each instance, by name; see `write_npz`."""
    metrics = statistics.metrics
    arrays = {"index": metrics["index"], "label": metrics["golden_label"]}
    if label_names:
        arrays["label_names"] = np.array([str(name) for name in label_names])
    for name, column in texts.items():
        arrays = _texts(statistics.path, name, column) | arrays
    arrays |= {name: values for name, values in metrics.items() if name not in IDENTITY}
    if (pred_probs := class_probabilities(statistics, label_names)) is not None:
        arrays["pred_probs"] = pred_probs
    return arrays


def class_probabilities(statistics: StatisticsFile, label_names: Sequence[str] | None) -> np.ndarray | None:
    """The probability of each of two classes on the clean input, the mean over the checkpoints: float64 [M, 2].

    The records hold the golden label's probability alone. Of two classes that leaves the other's; of more it does not
    tell how the rest is shared, and then, or where the number of classes is not known, the result is None.
    """
    labels = statistics.absolute["golden_label"]
    numbers = [labels, *(row["original_class"] for row in statistics.counted)]
    if len(label_names or ()) != 2 or labels.min() < 0 or any(row.max() > 1 for row in numbers):
        return None
    golden = statistics.absolute["confidence"]
    return np.where(labels[:, None] == np.arange(2), golden[:, None], 1 - golden[:, None])


def checkpoint_arrays(statistics: StatisticsFile) -> dict[str, np.ndarray]:
    """The fields of the records at the T checkpoints that count, by name: [T, M], and `global_step` int64 [T]."""
    counted = statistics.counted
    # Where no instance is left out these are views of the file, of which one at a time is read.
    columns = statistics.columns if statistics.left_out else slice(None)
    fields = {name: counted[name][:, columns] for name in counted.dtype.names if name not in CONSTANT}
    return {"global_step": counted["global_step"][:, 0].copy()} | fields


def _texts(path: Path, name: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """An array of texts of that name, or none, with a warning, where it would be too large."""
    size = np.dtype("U1").itemsize * len(texts) * max(map(len, texts))
    if size > LARGEST_TEXTS:
        warn_once(
            f"{path}: an array of its texts would take {size / 2**20:,.0f} MiB, for the longest sets the width of all; "
            "the .npz leaves them out, --format csv has them"
        )
        return {}
    return {name: np.array(texts)}
