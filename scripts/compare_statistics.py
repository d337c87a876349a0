#!/usr/bin/env python3
"""Compare statistics files of the same data: runs of other seeds, models, perturbations or severities.

Of every two files: the rank correlation of a metric, over all instances and inside the classes, and how much of the
robust, the swing and the non-robust group of the first is in that of the second, beside what chance would give. Of
files that differ in the seed alone: what sensitivity is made of (class, clean loss, rest), and how much of it another
seed repeats. Writes STEM_pairs.csv, STEM_parts.csv, and a matrix as STEM.png and STEM.pdf.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_data import files, settings, tables
from robust_data.analysis import several
from robust_data.analysis.agreement import decompose, rank_correlations, reliability
from robust_data.analysis.statistics_file import StatisticsFile, open_as_asked
from robust_data.command_line import arguments
from robust_data.command_line.arguments import metric_suffix
from robust_data.command_line.parser import Parser, run_script
from robust_data.metrics import IDENTITY
from robust_data.plot_utils.comparisons import draw_matrix
from robust_data.plot_utils.figures import fitted, joined_name, panel_titles, save_figure
from robust_data.registry import InputError
from robust_data.selection import GROUP_ORDER, metric_name
from robust_data.settings import file_stem, share

# What is made of parts, and what one part is.
OF_PARTS = ("perturbed_loss_mean", "original_loss_mean")
# Columns of numbers; a table has no number where it would need another seed.
Line = dict[str, Any]


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("statistics", nargs="+", metavar="FILE", help="files that data_statistics.py wrote, 2 or more")
    parser.add_argument(
        "--metric",
        type=metric_name,
        default="perturbed_loss_mean",
        metavar="NAME",
        help="the metric that is correlated between files, and whose reliability is given; by default sensitivity",
    )
    parser.add_argument(
        "--set_percentage",
        type=share,
        default=0.3,
        metavar="SHARE",
        help="size of the groups whose overlap is given, in (0, 1]; default 0.3",
    )
    parser.add_argument(
        "--output",
        type=file_stem,
        metavar="STEM",
        help="where the tables and the figure go; by default beside the first file",
    )
    arguments.add(parser, settings.Metrics)
    return parser


def main(args: argparse.Namespace) -> None:
    if len(args.statistics) < 2:
        raise InputError(f"{args.statistics[0]} is the only file; give at least 2 to compare")
    opened = [open_one(args, path) for path in args.statistics]
    rows = several.common_rows(opened)
    metrics = [several.at_rows(statistics.metrics, own) for statistics, own in zip(opened, rows)]
    absolute = [several.at_rows(statistics.absolute, own) for statistics, own in zip(opened, rows)]
    several.check_finite(opened, (args.metric, *OF_PARTS))
    stem = output_stem(args, opened)
    files.output_folder(str(stem.parent), "--output")
    common, titles = panel_titles([(statistics.path, statistics.metadata) for statistics in opened])
    correlations = rank_correlations([own[args.metric] for own in metrics], metrics[0]["golden_label"])
    pairs = pair_lines(metrics, correlations, args.set_percentage)
    parts = [part_line(own, metrics, absolute, args.metric) for own in several.replicates(opened)]

    print(", ".join(filter(None, [common, f"{len(rows[0]):,} instances, {args.metric}"])))
    for number, title in enumerate(titles, 1):
        print(f"{number}: {title}")
    print(f"\nrank correlation of every two files, and overlap of their groups of {args.set_percentage:.0%}")
    tables.show(as_texts(pairs))
    several_seeds = any(len(line["files"]) > 1 for line in parts)
    alone = (
        "files that differ in the seed alone are one line" if several_seeds else "no two files differ in the seed alone"
    )
    print(f"\nshares of the variance of sensitivity, and reliability over seeds; {alone}")
    tables.show(as_texts(parts))
    paths = [write_csv(stem, "pairs", pairs, opened), write_csv(stem, "parts", parts, opened)]
    heading = "\n".join(filter(None, [common, args.metric + opened[0].reference]))
    for path in [*paths, *save_figure(draw_matrix(correlations, titles, heading), stem)]:
        print(f"saved {path}")


def open_one(args: argparse.Namespace, path: str) -> StatisticsFile:
    """A file with the metrics that are compared alone. Raises InputError where it lacks --metric."""
    statistics = open_as_asked(settings.of(settings.Metrics, args), path)
    known = [metric for metric in statistics.metrics if metric not in IDENTITY]
    if args.metric not in known:
        raise InputError(f"--metric {args.metric} is not among the metrics of {path}: {', '.join(known)}")
    return statistics.with_metrics({args.metric, *OF_PARTS, *GROUP_ORDER})


def output_stem(args: argparse.Namespace, opened: Sequence[StatisticsFile]) -> Path:
    """Where the tables and the figure go, without suffix."""
    if args.output:
        return Path(args.output)
    paths = [statistics.path for statistics in opened]
    return paths[0].with_name(fitted(joined_name(f"compared_{args.metric}", paths) + metric_suffix(args)))


def pair_lines(metrics: Sequence[Mapping[str, np.ndarray]], correlations: np.ndarray, fraction: float) -> list[Line]:
    """A line for every two files."""
    return [
        {"files": files, "correlation": float(correlations[files]), "within_class": float(correlations[files[::-1]])}
        | {f"{name}_overlap": shared.share for name, shared in found.items()}
        | {"by_chance": found["robust"].chance}
        for files, found in several.group_overlaps(metrics, fraction).items()
    ]


def part_line(
    own: Sequence[int],
    metrics: Sequence[Mapping[str, np.ndarray]],
    absolute: Sequence[Mapping[str, np.ndarray]],
    name: str,
) -> Line:
    """What sensitivity is made of in these files, which are replicates, and how reliable a metric is over them."""
    labels = metrics[0]["golden_label"]
    sensitivity, clean_loss = (np.stack([absolute[number][quantity] for number in own]) for quantity in OF_PARTS)
    parts = decompose(sensitivity, clean_loss, labels)
    line = {
        "files": tuple(own),
        "class": parts.class_share,
        "class_by_chance": parts.class_chance,
        "clean_loss": parts.clean_loss,
        "rest": parts.rest,
        "rest_reliable": parts.reliable,
        "rest_noise": parts.noise,
    }
    values = np.stack([metrics[number][name] for number in own])
    overall = reliability(values) if len(own) > 1 else None
    within = reliability(values, labels) if len(own) > 1 else None
    return line | {
        "reliability": overall and overall.single,
        "reliability_of_mean": overall and overall.mean,
        "reliability_within_class": within and within.single,
    }


def as_texts(lines: Sequence[Line]) -> list[list[str]]:
    """Files by their numbers from 1; no number is a dash."""
    table = [[name.replace("_", " ") for name in lines[0]]]
    for line in lines:
        numbers = " ".join(str(number + 1) for number in line["files"])
        table.append([numbers, *("-" if value is None else f"{value:.3f}" for value in list(line.values())[1:])])
    return table


def write_csv(stem: Path, kind: str, lines: Sequence[Line], opened: Sequence[StatisticsFile]) -> Path:
    """The table with the paths of the files, and an empty cell for no number."""
    named = (line | {"files": " | ".join(str(opened[number].path) for number in line["files"])} for line in lines)
    return tables.write(stem.with_name(f"{stem.name}_{kind}.csv"), [list(lines[0]), *(line.values() for line in named)])


if __name__ == "__main__":
    run_script(build_parser(), main)
