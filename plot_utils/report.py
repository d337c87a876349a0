#!/usr/bin/env python3
"""Write one HTML page about a statistics file: the robust data map to explore, samples, classes and settings.

Further files of the same data add a section that plots any two of them against each other and says how far they agree.
The page needs nothing but itself: no network, no other file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robust_data import files, settings
from robust_data.analysis.statistics_file import StatisticsFile, open_as_asked
from robust_data.command_line import arguments
from robust_data.command_line.arguments import metric_suffix
from robust_data.command_line.parser import Parser, run_script
from robust_data.datasets.base import Dataset
from robust_data.plot_utils import instances
from robust_data.plot_utils.figures import fitted, joined_name
from robust_data.plot_utils.page.build import build_page
from robust_data.plot_utils.page.files import COMPARED, Comparison, compare
from robust_data.registry import warn_once
from robust_data.settings import positive_int

# Of more instances a page holds so many.
MOST_INSTANCES = 100_000
# What an instance takes of it at most, without pictures and texts, in bytes; and what a browser may not open.
INSTANCE_BYTES, LARGE_PAGE = 230, 2**27


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--statistics",
        required=True,
        nargs="+",
        metavar="FILE",
        help="a file that data_statistics.py wrote; further files of the same data are compared with it",
    )
    parser.add_argument("--output", metavar="FILE.html", help="the page; by default beside the first statistics file")
    parser.add_argument(
        "--max_instances",
        type=positive_int,
        default=MOST_INSTANCES,
        help="of a larger file the page holds so many instances, drawn at random",
    )
    arguments.add(parser, settings.Metrics)
    arguments.add_source(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    first, *others = args.statistics
    opened = [open_as_asked(settings.of(settings.Metrics, args), first)]
    # Of the further ones memory need not hold all metrics.
    opened += (open_as_asked(settings.of(settings.Metrics, args), other).with_metrics(COMPARED) for other in others)
    path = page_path(args, [statistics.path for statistics in opened])
    instances.check_folder(path)
    comparison = compare(opened) if len(opened) > 1 else None
    dataset = opened[0].find_dataset(settings.of(settings.Data, args), "the page will show no images or texts")
    write_page(path, opened[0], dataset, comparison, args.max_instances)
    print(f"saved {path}")


def write_page(
    path: Path,
    statistics: StatisticsFile,
    dataset: Dataset | None,
    comparison: Comparison | None = None,
    max_instances: int = MOST_INSTANCES,
) -> None:
    """Write the page of a statistics file; without a data set it shows no images or texts."""
    page = build_page(statistics, dataset, drawn_rows(len(statistics), max_instances), comparison)
    with files.atomic_write(path) as file:
        # A JSON may name half of a character, which no encoding has.
        file.write(page.encode(errors="replace"))


def page_path(args: argparse.Namespace, paths: Sequence[Path]) -> Path:
    """Where the page goes."""
    if args.output:
        return Path(args.output)
    stem = paths[0].stem if len(paths) == 1 else joined_name("robust_data_report", paths)
    return paths[0].with_name(f"{fitted(stem + metric_suffix(args))}.html")


def drawn_rows(count: int, most: int) -> np.ndarray:
    """Which of `count` instances the page holds: int64, ascending; all, or `most` drawn at random."""
    if INSTANCE_BYTES * min(count, most) > LARGE_PAGE:
        size = INSTANCE_BYTES * min(count, most) / 2**20
        warn_once(f"--max_instances {most}: a page of up to {size:,.0f} MiB, which a browser may not open")
    if count <= most:
        return np.arange(count)
    warn_once(f"drawing {most} of {count} instances at random; --max_instances takes more")
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


if __name__ == "__main__":
    run_script(build_parser(), main)
