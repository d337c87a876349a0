#!/usr/bin/env python3
"""Choose instances from a statistics file and write which they are, for other tools to use.

Writes their indices in the training split, best first, as STEM.npy (int64) and, with label, metrics and, when
the dataset is given, the image's file or the text, as STEM.csv.

  python scripts/select_instances.py --statistics FILE.npy
  python scripts/select_instances.py --statistics FILE.npy --select_metric swing --select_ratio 0.5 --output swing
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from robust_data import complete, files, settings
from robust_data.analysis import choice, export
from robust_data.analysis.metadata import class_name
from robust_data.command_line import arguments
from robust_data.command_line.arguments import metric_suffix
from robust_data.command_line.parser import Parser, run_script
from robust_data.datasets.base import Dataset
from robust_data.selection import in_names
from robust_data.settings import file_stem


def build_parser() -> Parser:
    parser = Parser(("statistics_source", "select_metric", "select_ratio", "data_dir", "output"), description=__doc__)
    arguments.add(parser, settings.Choice, settings.Group, settings.Metrics)
    arguments.add_source(parser)
    arguments.add(parser, settings.Choose, only=["tilt", "seed"])
    parser.add_argument(
        "--output",
        type=file_stem,
        metavar="STEM",
        help="write STEM.npy and STEM.csv; by default selected/<name of the statistics>/<what>_<share> beside them",
    )
    return parser


def main(args: argparse.Namespace) -> None:
    job = complete.selection(settings.of(settings.Choose, args))
    chosen = choice.choose(job)
    data = settings.of(settings.Data, args)
    dataset = chosen.statistics.find_dataset(data, "the table names no files or texts", job.seed)
    label_names = chosen.statistics.metadata.get("label_names") if dataset is None else dataset.label_names
    stem = Path(args.output) if args.output else default_stem(job, chosen)
    files.output_folder(str(stem.parent), "--output")
    # Not with_suffix, which would cut a name at the point of its ratio.
    npy, table = (stem.with_name(f"{stem.name}.{suffix}") for suffix in ("npy", "csv"))
    chosen.statistics.check_output(table, data)
    with files.atomic_write(npy) as file:
        np.save(file, chosen.index, allow_pickle=False)
    export.write_csv(
        table, chosen.statistics.metrics, chosen.index, label_names, export.texts_of(dataset, chosen.index)
    )
    counted = [*class_counts(chosen, label_names), *group_shares(chosen.index, dataset)]
    for line in [*chosen.describe(job), *counted, f"saved {npy}", f"saved {table}"]:
        print(line)


def default_stem(job: settings.Choose, chosen: choice.Choice) -> Path:
    """Where the two files go, without suffix."""
    parts = [job.group, job.set_percentage] if job.group else [in_names(job.select_metric), job.select_ratio]
    parts += [f"{name}{weight:g}" for name, weight in job.tilt or ()]
    parts += ["permuted"] if job.permute_statistics else []
    is_drawn = job.permute_statistics or "random" in (job.group or job.select_metric)
    parts += [f"seed{job.seed}"] if is_drawn else []
    parts += [f"two_ends{job.ratio_proportion}"] if job.select_from_two_end else []
    parts += ["do_balance_labels"] if job.do_balance_labels else []
    # In a folder of their own: the other scripts take an .npy beside the statistics for statistics.
    folder = chosen.statistics.path.parent / "selected" / chosen.statistics.path.stem
    return folder / files.fitting("_".join(map(str, parts)) + metric_suffix(job))


def class_counts(chosen: choice.Choice, label_names: list[str] | None) -> list[str]:
    """A line that says how many of each class were chosen."""
    rows = np.searchsorted(chosen.statistics.metrics["index"], chosen.index)
    labels, counts = np.unique(chosen.statistics.metrics["golden_label"][rows], return_counts=True)
    names = [class_name(label_names, label) for label in labels]
    return ["of each class: " + ", ".join(f"{name} {count}" for name, count in zip(names, counts))]


def group_shares(index: np.ndarray, dataset: Dataset | None) -> list[str]:
    """A line that says how many of each group were chosen, of how many; none where the data set has no groups."""
    if dataset is None or dataset.group_column is None:
        return []
    groups = np.array(dataset.others[dataset.group_column])
    names, counts = np.unique(groups, return_counts=True)
    chosen = groups[np.searchsorted(dataset.index.numpy(), index)]
    found = (f"{name} {(chosen == name).sum()} of {count}" for name, count in zip(names, counts))
    return ["of each group: " + ", ".join(found)]


if __name__ == "__main__":
    run_script(build_parser(), main)
