#!/usr/bin/env python3
"""Write all metrics of all instances of statistics files as a table or as plain arrays, for other tools to use.

The .npz also has what cleanlab takes: labels, and of two classes their probabilities. With the data set both name the
image's file, by which FiftyOne knows a sample, or the text.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from robust_data import files, records, settings
from robust_data.analysis import export
from robust_data.analysis.statistics_file import StatisticsFile, open_as_asked
from robust_data.command_line import arguments
from robust_data.command_line.arguments import SWITCH, metric_suffix
from robust_data.command_line.parser import Parser, run_script
from robust_data.registry import InputError
from robust_data.settings import file_stem


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--statistics", nargs="+", required=True, metavar="FILE", help="statistics files; each gives a file of its own"
    )
    parser.add_argument("--format", choices=("csv", "npz"), default="csv", help="a table, or arrays by name")
    parser.add_argument(
        "--per_checkpoint",
        **SWITCH,
        default=0,
        help="with --format npz, 1 also writes the loss, the prediction and so on at each checkpoint that counts",
    )
    parser.add_argument(
        "--output",
        type=file_stem,
        metavar="STEM",
        help="write STEM.csv or STEM.npz; by default <name of the statistics>_instances beside them",
    )
    arguments.add(parser, settings.Metrics)
    arguments.add_source(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    if args.per_checkpoint and args.format == "csv":
        raise InputError("--per_checkpoint 1 has no effect with --format csv; give --format npz")
    if args.output and len(args.statistics) > 1:
        raise InputError(
            f"--output {args.output} names one file for {len(args.statistics)} statistics files; leave it out"
        )
    # All of them before the first is written, but the metrics of one at a time.
    for path in args.statistics:
        records.load(path)
    for path in args.statistics:
        statistics = open_as_asked(settings.of(settings.Metrics, args), path, clean_only_too=True)
        export.check_probabilities(statistics)
        print(f"saved {write(args, statistics)}")


def write(args: argparse.Namespace, statistics: StatisticsFile) -> Path:
    """Write the instances of one file; returns where."""
    path = output_path(args, statistics)
    statistics.check_output(path, settings.of(settings.Data, args))
    dataset = statistics.find_dataset(settings.of(settings.Data, args), "no files or texts are named")
    label_names = statistics.metadata.get("label_names") if dataset is None else dataset.label_names
    index = statistics.metrics["index"]
    texts = export.texts_of(dataset, index)
    files.output_folder(str(path.parent), "--output")
    if args.format == "csv":
        export.write_csv(path, statistics.metrics, index, label_names, texts)
    else:
        export.write_npz(path, statistics, label_names, texts, bool(args.per_checkpoint))
    return path


def output_path(args: argparse.Namespace, statistics: StatisticsFile) -> Path:
    """Where the instances of a file go."""
    default = files.fitting(f"{statistics.path.stem}_instances{metric_suffix(args)}")
    stem = Path(args.output) if args.output else statistics.path.with_name(default)
    # Not with_suffix, which would cut a name at a point.
    return stem.with_name(f"{stem.name}.{args.format}")


if __name__ == "__main__":
    run_script(build_parser(), main)
