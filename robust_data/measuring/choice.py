"""What the scripts choose from a statistics file, as their arguments say."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import perturbations
from registry import InputError
from robust_data import files, records, selection
from robust_data.command_line import arguments
from robust_data.fine_tuning import results_file
from robust_data.metrics import IDENTITY, describe_counted, instance_metrics
from robust_data.selection import Explained

DEFAULT_METRIC = f"{selection.SENSITIVITY}_r"
DEFAULT_SHARE = 0.3
DATA_ARGUMENTS = (
    *("dataset_name", "data_dir", "download", "image_size", "num_workers", "skip_corrupt"),
    *arguments.TEXT_ARGUMENTS,
)


@dataclass(frozen=True)
class Choice:
    """Instances chosen from a statistics file.

    rows: structured array (T, N) of `records.DTYPE`; metadata: the JSON beside it, or {}; metrics: of the
    M <= N instances there were to choose from, see `instance_metrics`; index: int64 [K], the chosen ones,
    best first; second: those of the second subset of --cycle_train; explained: what explains each quantity
    ranked by; options: how groups are formed, see `selection.group`.
    """

    path: Path
    rows: np.ndarray
    metadata: dict[str, Any]
    metrics: dict[str, np.ndarray]
    index: np.ndarray
    second: np.ndarray | None
    explained: dict[str, Explained]
    options: dict[str, Any]

    def group(self, name: str, fraction: float) -> np.ndarray:
        """The instances of a group of this size, formed as those that were chosen: int64 [K], see `selection.group`."""
        return selection.group(self.metrics, name, fraction, **self.options)

    def check_dataset(self, dataset) -> None:
        """Refuse a training set that is not the very one the statistics were collected on."""
        records.check_dataset(self.rows, self.metadata, dataset, self.path)
        if self.rows.shape[1] != len(dataset):
            raise InputError(
                f"{self.path} holds {self.rows.shape[1]} instances, the training set {len(dataset)}; "
                "give the --dataset_len and --skip_corrupt with which the statistics were collected"
            )

    def perturbation(self) -> dict[str, Any] | None:
        """Name, severity, seed, draw and pgd_options with which the last checkpoint was perturbed; None if unknown."""
        return last_perturbation(self.metadata, len(self.rows))

    def describe(self, args: argparse.Namespace) -> list[str]:
        """Lines for the terminal: how many were chosen of how many, by what, and what explains that."""
        by = f"group {args.group}" if getattr(args, "group", None) else args.select_metric
        amount = args.set_percentage if getattr(args, "group", None) else args.select_ratio
        lines = [f"chosen: {len(self.index)} of {len(self.metrics['index'])} instances, {by}, share {amount}"]
        lines.append(f"counted: {describe_counted(self.rows, bool(args.use_untrained_model))}")
        if self.second is not None:
            other = f"{args.select_metric2}, share {args.select_ratio2}"
            lines.append(f"in turn with: {len(self.second)} instances, {other}")
        for quantity, explained in self.explained.items():
            line = f"class explains {explained.class_share:.0%} of the variance of {quantity}"
            lines.append(line + self._remedy(args, explained.class_share))
            lines.append(f"clean loss explains {quantity} with a rank correlation of {explained.clean_loss:.2f}")
        return lines

    def _remedy(self, args: argparse.Namespace, share: float) -> str:
        if args.within_class:
            return "; ranked within the class"
        return "; consider --within_class 1" if share > 0.3 else ""

    def label_names(self) -> list[str] | None:
        """The names of the classes, where they are known."""
        return self.metadata.get("label_names")


def severities(metadata: Mapping[str, Any]) -> list[int]:
    """Those with which a statistics file's checkpoints were perturbed, ascending; none where there is none to choose.

    metadata: the JSON beside the file, or {}.
    """
    if metadata.get("parameter") is None:
        return []
    levels = {checkpoint.get("severity") for checkpoint in metadata.get("checkpoints") or []} - {None}
    return sorted(levels or {metadata["severity"]})


def last_perturbation(metadata: Mapping[str, Any], checkpoints: int) -> dict[str, Any] | None:
    """How a statistics file's last checkpoint of so many was perturbed, for `evaluate_perturbed`; None if unknown.

    metadata: the JSON beside the file, or {}. The entries are name, severity, seed, draw and pgd_options.
    """
    used = metadata.get("arguments", {})
    if metadata.get("perturbation") not in perturbations.CATALOGUE or "severity" not in metadata:
        return None
    last = (metadata.get("checkpoints") or [{}])[-1]
    sizes = ("adv_steps", "adv_lr", "adv_init_mag", "adv_max_norm", "adv_norm_type")
    options = [used[name] for name in sizes] if all(name in used for name in sizes) else []
    return {
        "name": metadata["perturbation"],
        "severity": last.get("severity", metadata["severity"]),
        "seed": used.get("seed", 0),
        "draw": checkpoints - 1 if used.get("resample_perturbation") else 0,
        "pgd_options": perturbations.PgdOptions(
            *options, special_tokens=bool(used.get("attack_special_tokens", False))
        ),
    }


def choose(args: argparse.Namespace) -> Choice:
    """Open the statistics file and choose as the arguments say; fills in the defaults of those left out.

    args: of `add_metric_arguments` and `add_selection_arguments`, and where the script has them of
    `add_group_arguments`, and `cycle_train`, `select_metric2` and `select_ratio2`. Raises InputError for a
    file that cannot be used, arguments that exclude each other, and whatever `selection` refuses.
    """
    _check(args)
    rows, metadata = records.load(args.statistics_source)
    metrics = instance_metrics(rows, bool(args.only_original_pred), bool(args.use_untrained_model))
    options = {
        "balance": bool(args.do_balance_labels),
        "classes": np.unique(rows["golden_label"][0]).tolist(),
        "within_class": bool(args.within_class),
    }
    ends = {"from_two_end": bool(args.select_from_two_end), "ratio_proportion": args.ratio_proportion}
    second = None
    if getattr(args, "group", None):
        index = selection.group(metrics, args.group, args.set_percentage, args.seed, **options)
        explained = selection.explained(selection.SENSITIVITY, metrics)
    else:
        index = selection.select(metrics, args.select_metric, args.select_ratio, **options, **ends)
        explained = selection.explained(args.select_metric, metrics)
    if getattr(args, "cycle_train", 0):
        second = selection.select(metrics, args.select_metric2, args.select_ratio2, **options, **ends)
        explained |= selection.explained(args.select_metric2, metrics)
    return Choice(Path(args.statistics_source), rows, metadata, metrics, index, second, explained, options)


def choose_for_training(args: argparse.Namespace) -> Choice:
    """Choose, and refuse a results file that the run could not add its row to; see `choose`."""
    choice = choose(args)
    if args.results_file is None:
        args.results_file = str(Path(args.output_dir) / "results.csv")
    results_file.check(args.results_file)
    return choice


def _check(args: argparse.Namespace) -> None:
    """Refuse arguments that would have no effect, and fill in the defaults of the others."""
    if getattr(args, "group", None):
        for name in ("select_metric", "select_ratio"):
            if getattr(args, name) is not None:
                raise InputError(f"--group {args.group} chooses without --{name}; leave one of the two out")
    else:
        args.select_metric = args.select_metric or DEFAULT_METRIC
        args.select_ratio = args.select_ratio or DEFAULT_SHARE
    if hasattr(args, "group"):
        args.set_percentage = args.set_percentage or DEFAULT_SHARE
    if hasattr(args, "cycle_train"):
        _check_cycle(args)
    ranks_by_metric = args.select_metric is not None or getattr(args, "select_metric2", None) is not None
    if args.select_from_two_end and not ranks_by_metric:
        raise InputError(f"--select_from_two_end 1 has no effect on --group {args.group}; leave it out")
    if args.ratio_proportion is not None and not args.select_from_two_end:
        raise InputError("--ratio_proportion has no effect without --select_from_two_end 1")
    args.ratio_proportion = 0.5 if args.ratio_proportion is None else args.ratio_proportion


def _check_cycle(args: argparse.Namespace) -> None:
    for name in ("select_metric2", "select_ratio2"):
        if getattr(args, name) is not None and not args.cycle_train:
            raise InputError(f"--{name} has no effect without --cycle_train 1")
    if args.cycle_train and args.select_metric2 is None:
        raise InputError("--cycle_train 1 needs --select_metric2, the metric of the other subset")
    if args.cycle_train:
        args.select_ratio2 = args.select_ratio2 or args.select_ratio or args.set_percentage or DEFAULT_SHARE


def data_arguments(args: argparse.Namespace, metadata: Mapping[str, Any]) -> argparse.Namespace:
    """The arguments with which to load the data: what the user left out is as the statistics were collected.

    That holds for the seed too, by which --dataset_len drew its subset. Raises InputError if nothing names
    the dataset.
    """
    used = metadata.get("arguments", {})
    loading = {name: _given(args, name, used.get(name)) for name in DATA_ARGUMENTS}
    if loading["dataset_name"] is None:
        raise InputError(f"--dataset_name is missing: no JSON beside {args.statistics_source} names the dataset")
    for name in ("download", "num_workers", "skip_corrupt"):
        loading[name] = loading[name] or 0
    loading["dataset_len"] = _given(args, "dataset_len", used.get("dataset_len"))
    loading["seed"] = used.get("seed", args.seed)
    return argparse.Namespace(**vars(args) | loading)


def _given(args: argparse.Namespace, name: str, default: Any) -> Any:
    value = getattr(args, name)
    return default if value is None else value


def sources(dataset, index: np.ndarray) -> dict[int, str] | None:
    """The image's file or the text of each of these instances, by index; None if the dataset keeps none."""
    if dataset is None or dataset.sources is None:
        return None
    places = np.searchsorted(dataset.index.numpy(), index)
    return {instance: dataset.sources[place] for instance, place in zip(index.tolist(), places.tolist())}


def write_csv(
    path: Path,
    choice: Choice,
    index: np.ndarray,
    label_names: Sequence[str] | None = None,
    sources: Mapping[int, str] | None = None,
) -> None:
    """Write one line per instance, in the order of `index`: index, label, label name, metrics, source.

    index: int64 [K], of instances in `choice.metrics`; sources: the image's file or the text, by index.
    """
    rows = np.searchsorted(choice.metrics["index"], index)
    quantities = [name for name in choice.metrics if name not in IDENTITY]
    with files.atomic_write(path, "w") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["index", "label", "label_name", *quantities, *(["source"] if sources else [])])
        for row, instance in zip(rows.tolist(), index.tolist()):
            label = int(choice.metrics["golden_label"][row])
            name = label_names[label] if label_names else label
            values = [choice.metrics[quantity][row].item() for quantity in quantities]
            lines.writerow([instance, label, name, *values, *([sources[instance]] if sources else [])])
