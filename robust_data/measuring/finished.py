"""The files of a finished collection: found and summarised without torch, which takes seconds to import."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from datasets.base import Dataset
from registry import InputError
from robust_data import records
from robust_data.command_line.names import statistics_name
from robust_data.metrics import counted_checkpoints, describe_counted, instance_metrics, summarise
from robust_data.running import launch
from robust_data.running.identity import OWN_DATASETS, check_arguments

SAID = "finished already; --overwrite 1 collects again"


def file_paths(args: argparse.Namespace) -> dict[str, Path]:
    """The statistics file of every perturbation, by its name; args: of `data_statistics.py`, resolved."""
    return {name: Path(args.output_dir) / statistics_name(args, name) for name in args.perturbations}


def run_name(args: argparse.Namespace) -> str:
    """The name of a run, as its log and its state have it."""
    return statistics_name(args).removesuffix(".npy")


def state_path(args: argparse.Namespace) -> Path:
    """Where a run that is not finished keeps its state."""
    return Path(args.output_dir) / f"{run_name(args)}.state"


def recorded_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments that decide what is recorded; the others only summarise it."""
    return {name: value for name, value in vars(args).items() if name != "use_untrained_model"}


def is_finished(args: argparse.Namespace, dataset: Dataset | None = None) -> bool:
    """Whether all files of a run are there.

    dataset: the training set; without one the files are not compared with it. Raises InputError for a file that was
    made with other arguments or on other data, or that ends where the loss stopped being finite.
    """
    found = [path for path in file_paths(args).values() if path.exists()]
    for path in found:
        rows, about = records.load(path)
        saved = about.get("arguments", {}) | {"perturbations": args.perturbations}
        check_arguments(saved, recorded_arguments(args), path)
        if dataset is not None:
            records.check_dataset(rows, about, dataset, path)
        if about.get("stopped"):
            raise InputError(f"{about['stopped']}; checkpoints kept before it: {len(rows)}, in {path}")
    return len(found) == len(args.perturbations)


def is_finished_without_data(args: argparse.Namespace) -> bool:
    """As `is_finished`, but False wherever the answer needs the data or other processes.

    It needs the data if they are the user's own, which may have changed, or lie in another place than before.
    """
    paths = file_paths(args).values()
    if args.overwrite or launch.process_count() > 1 or state_path(args).exists():
        return False
    if args.dataset_name in OWN_DATASETS or not all(path.exists() for path in paths):
        return False
    for path in paths:
        before = records.load_metadata(path).get("arguments", {})
        if any(before.get(name) != getattr(args, name) for name in ("data_dir", "skip_corrupt")):
            return False
    return is_finished(args)


def summary(rows: np.ndarray, use_untrained_model: bool = False) -> dict[str, Any] | None:
    """The figures of a file, see `metrics.summarise`, and over which checkpoints they were taken.

    rows: the records (T, N). None if no checkpoint counts, as after a training that diverged at once.
    """
    try:
        counted = counted_checkpoints(rows, use_untrained_model)
    except InputError:
        return None
    figures = summarise(instance_metrics(rows, use_untrained_model=use_untrained_model))
    return {"checkpoints": len(counted), "use_untrained_model": int(use_untrained_model), **figures}


def print_summary(args: argparse.Namespace) -> None:
    """A table of the perturbations, a line each, over which checkpoints it was taken, then the files."""
    paths, use_untrained_model = list(file_paths(args).values()), bool(args.use_untrained_model)
    columns = ("sensitivity", "variability", "flip rate", "class explains", "clean loss explains")
    print(f"{'perturbation':<34}{'instances':>11}" + "".join(f"{column:>{len(column) + 2}}" for column in columns))
    opened = [records.load(path) for path in paths]
    for rows, about in opened:
        figures = summarise(instance_metrics(rows, use_untrained_model=use_untrained_model)).values()
        cells = (f"{value:>{len(column) + 2}.4f}" for column, value in zip(columns, figures))
        print(f"{about['perturbation']:<34}{rows.shape[1]:>11}" + "".join(cells))
    print(f"counted: {describe_counted(opened[0][0], use_untrained_model)}")
    for path in paths:
        print(f"saved {path}")
