"""A statistics file, opened: its rows, its metadata, its metrics, and the data set that it belongs to."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robust_data import datasets, records
from robust_data.analysis.doubt import doubt
from robust_data.analysis.metadata import class_name, describe, last_perturbation
from robust_data.datasets.base import Dataset
from robust_data.metrics import IDENTITY, counted_checkpoints, describe_counted, instance_metrics, within_class
from robust_data.registry import InputError, warn_once
from robust_data.settings import Data, Metrics, as_recorded


@dataclass(frozen=True)
class StatisticsFile:
    """A statistics file, opened by `open_statistics`.

    rows: structured array (T, N) of `records.DTYPE`; metadata: the JSON beside the file, or {}; counted: those of
    the rows that the metrics are taken over; absolute: the metrics of the M <= N instances that are left, see
    `instance_metrics`; metrics: the same, or where they are `relative` their differences from the mean of the
    class (all but the flip rate, which is a share); columns: int64 [M], where these instances are in `rows`.
    """

    path: Path
    rows: np.ndarray
    metadata: dict[str, Any]
    counted: np.ndarray
    absolute: dict[str, np.ndarray]
    metrics: dict[str, np.ndarray]
    columns: np.ndarray
    relative: bool

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def clean_only(self) -> bool:
        """Whether nothing was measured on perturbed inputs, so that the metrics that need them are not there."""
        return "perturbed_loss_mean" not in self.absolute

    def with_metrics(self, names: Collection[str]) -> StatisticsFile:
        """The same without any other metrics than these, so that many files can be open."""
        kept = [
            {name: values for name, values in metrics.items() if name in (*IDENTITY, *names)}
            for metrics in (self.absolute, self.metrics)
        ]
        return dataclasses.replace(self, absolute=kept[0], metrics=kept[1])

    def label_name(self, label: int) -> str:
        """The name of a class, or its number where the names are not known."""
        return class_name(self.metadata.get("label_names"), label)

    def perturbation(self) -> dict[str, Any] | None:
        """Name, severity, seed, draw and pgd_options with which the last checkpoint was perturbed; None if unknown."""
        return last_perturbation(self.metadata, len(self.rows))

    def describe(self) -> str:
        """Data set (and task), model and perturbation in a few words."""
        return describe(self.metadata, self.path.stem)

    def describe_counted(self) -> str:
        """How many of the checkpoints count, in a few words."""
        return describe_counted(self.rows, len(self.counted) == len(self.rows))

    @property
    def reference(self) -> str:
        """The words to add to the name of a metric where the metrics are relative."""
        return ", above the mean of the class" if self.relative else ""

    @property
    def left_out(self) -> int:
        """How many instances --only_original_pred 1 leaves out."""
        return self.rows.shape[1] - len(self)

    @property
    def dropped(self) -> str:
        """The words to add to a title where instances are left out."""
        instances = f"{self.left_out:,} of {self.rows.shape[1]:,} instances"
        return f"; {instances} never classified correctly left out" if self.left_out else ""

    def data_settings(self, given: Data) -> Data:
        """The data of the statistics, where the settings leave them open.

        Raises InputError if nothing names the data set, and for another val_len.
        """
        used = self.metadata.get("arguments", {})
        recorded, asked = used.get("val_len"), given.val_len
        if used and asked is not None and asked != recorded:
            made = f"with --val_len {recorded}" if recorded else "without it"
            raise InputError(f"--val_len {asked}: {self.path} was collected {made}; leave the option out")
        found = as_recorded(given, used)
        if found.dataset_name is None:
            raise InputError(f"--dataset_name is missing: there is no JSON beside {self.path} that names the data set")
        return found

    @property
    def data_seed(self) -> int | None:
        """The seed by which dataset_len and val_len drew; None where it is not known."""
        return self.metadata.get("arguments", {}).get("seed")

    def image_size(self, given: Data) -> int | tuple[int, int] | None:
        """What the settings give, or else the size of the images that were measured; None where it is not known."""
        measured = self.metadata.get("image_size") or ()
        return given.image_size or (tuple(measured) if len(measured) == 2 else None)

    def check_output(self, path: Path, given: Data) -> None:
        """Refuse to write over the file that holds the data."""
        data = given.data_dir or self.metadata.get("arguments", {}).get("data_dir")
        if data and path.is_file() and os.path.isfile(data) and path.samefile(data):
            raise InputError(f"--output: {path} holds the data; name another file")

    def load_dataset(self, given: Data, seed: int = 0) -> Dataset:
        """The instances that the statistics were collected on, see `data_settings`; texts without a tokenizer.

        seed: where the statistics do not name theirs. Raises InputError if the data set cannot be loaded, or lacks an
        instance of the file.
        """
        loading = dataclasses.asdict(self.data_settings(given)) | {"image_size": self.image_size(given)}
        loading["seed"] = seed if self.data_seed is None else self.data_seed
        dataset = datasets.load(loading.pop("dataset_name"), self.metadata.get("split", "train"), **loading)
        self.check_dataset(dataset)
        return dataset

    def find_dataset(self, given: Data, consequence: str, seed: int = 0) -> Dataset | None:
        """As `load_dataset`, or None if the settings leave all open and the data of the JSON do not load.

        Then a warning gives the reason and the consequence. Otherwise InputError is raised.
        """
        try:
            return self.load_dataset(given, seed)
        except InputError as error:
            if any(value is not None for value in dataclasses.asdict(given).values()):
                raise
            warn_once(f"{error}; {consequence}")
            return None

    def check_dataset(self, dataset: Dataset) -> None:
        """Refuse a data set that lacks an instance of the file, or has another label for it; it may have more."""
        records.check_dataset(self.rows, self.metadata, dataset, self.path)

    def without_held_out(self, dataset: Dataset) -> Dataset:
        """The training split without the instances that the run of the statistics held out of its training."""
        if not self.metadata.get("arguments", {}).get("held_out"):
            return dataset
        if not self.metadata.get("trained_on", True):
            raise InputError(
                f"{self.path} holds the instances that its run held out of training; give the statistics of those that "
                "it trained on"
            )
        self.check_dataset(dataset)
        return dataset.subset(dataset.positions(self.rows["index"][0].copy()))

    def check_training_set(self, dataset: Dataset) -> None:
        """Refuse a training set with other instances than the file, also one with more."""
        self.check_dataset(dataset)
        if self.rows.shape[1] != len(dataset):
            raise InputError(
                f"{self.path} holds {self.rows.shape[1]} instances, the training set {len(dataset)}; "
                "give the --dataset_len, --val_len and --skip_corrupt with which the statistics were collected"
            )


def open_statistics(
    path: str | os.PathLike,
    only_original_pred: bool | int = False,
    relative: bool | int = False,
    use_untrained_model: bool | int = False,
    *,
    clean_only_too: bool = False,
) -> StatisticsFile:
    """Open a statistics file and compute the metrics of its instances.

    only_original_pred, use_untrained_model: see `instance_metrics`. relative: give every metric but the flip rate as
    its difference from the mean of the class. clean_only_too: take also a file of clean inputs alone. Raises InputError
    for a file that is no statistics file or is not taken, and if no instance is left or has a loss that is a number.
    """
    rows, metadata = records.load(path)
    wrong = doubt(rows, metadata, bool(use_untrained_model))
    counted = counted_checkpoints(rows, bool(use_untrained_model))
    absolute = instance_metrics(rows, bool(only_original_pred), bool(use_untrained_model))
    if not len(absolute["index"]):
        raise InputError(f"--only_original_pred 1: {path} has no instance that was ever classified correctly")
    if wrong and not np.isfinite(absolute.get("perturbed_loss_mean", absolute["original_loss_mean"])).any():
        raise InputError(f"{path}: {wrong}")
    if wrong:
        warn_once(f"{path}: {wrong}")
    if "perturbed_loss_mean" not in absolute and not clean_only_too:
        raise InputError(
            f"{path} was measured on clean inputs alone, and this needs a perturbation; give statistics that have one. "
            "plotting.py, select_instances.py and export_statistics.py take this file"
        )
    shares = {name: absolute[name] for name in ("flip_rate",) if name in absolute}
    metrics = within_class(absolute) | shares if relative else absolute
    columns = np.searchsorted(rows["index"][0], absolute["index"])
    return StatisticsFile(Path(path), rows, metadata, counted, absolute, metrics, columns, bool(relative))


def open_as_asked(switches: Metrics, path: str | os.PathLike, clean_only_too: bool = False) -> StatisticsFile:
    """Open a statistics file with these switches; see `open_statistics`."""
    asked = switches.only_original_pred, switches.within_class, switches.use_untrained_model
    return open_statistics(path, *asked, clean_only_too=clean_only_too)
