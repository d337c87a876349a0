#!/usr/bin/env python3
"""Draw the robust data map: every instance by variability and sensitivity, coloured by its flip rate or class.

Statistics of clean inputs alone give the map of dataset cartography: variability, confidence and correctness.

  python plot_utils/plotting.py --statistics FILE.npy
  python plot_utils/plotting.py --exp blur --output_dir results
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from robust_data import settings
from robust_data.analysis import export
from robust_data.analysis.statistics_file import open_as_asked
from robust_data.collect.outputs import NOT_TRAINED_ON
from robust_data.command_line import arguments
from robust_data.command_line.arguments import metric_suffix
from robust_data.command_line.parser import Parser, run_script
from robust_data.plot_utils.figures import fitted, joined_name, save_figure
from robust_data.plot_utils.maps import draw_grid, draw_map
from robust_data.registry import InputError
from robust_data.settings import file_stem, folder_name

# How many folders deep a statistics file is looked for.
DEEPEST = 4


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--statistics",
        nargs="+",
        metavar="FILE",
        help="statistics files; several give a grid with shared axes. By default the newest under --output_dir",
    )
    what.add_argument("--exp", metavar="NAME", help="all statistics files under --output_dir whose name contains NAME")
    parser.add_argument(
        "--output_dir",
        type=folder_name,
        default=".",
        metavar="FOLDER",
        help=f"where files are looked for, up to {DEEPEST} folders deep; by default in the working folder",
    )
    parser.add_argument(
        "--output", type=file_stem, metavar="STEM", help="write STEM.png and STEM.pdf; by default beside the first file"
    )
    parser.add_argument(
        "--colour",
        choices=("flip_rate", "correctness", "class"),
        help="what the colour of an instance shows; by default the flip rate, of clean inputs alone correctness, the "
        "share of checkpoints at which the golden label was predicted",
    )
    parser.add_argument("--csv", action="store_true", help="also write index, label and all metrics of every instance")
    arguments.add(parser, settings.Metrics)
    return parser


def main(args: argparse.Namespace) -> None:
    paths = find_statistics(args)
    opened = [open_as_asked(settings.of(settings.Metrics, args), path, clean_only_too=True) for path in paths]
    saved = []
    for statistics in opened if args.csv else ():
        name = fitted(f"{statistics.path.stem}_metrics{metric_suffix(args)}")
        path, names = statistics.path.with_name(f"{name}.csv"), statistics.metadata.get("label_names")
        saved.append(export.write_csv(path, statistics.metrics, statistics.metrics["index"], names))
    figure = draw_map(opened[0], args.colour) if len(opened) == 1 else draw_grid(opened, args.colour)
    for path in [*save_figure(figure, output_stem(args, paths)), *saved]:
        print(f"saved {path}")


def find_statistics(args: argparse.Namespace) -> list[Path]:
    """The files that the arguments mean. Raises InputError if there are none."""
    if args.statistics:
        return [Path(path) for path in args.statistics]
    # Instances that were not trained on are drawn where they are asked for.
    others = () if args.exp else tuple(end for end in NOT_TRAINED_ON.values() if end)
    found = [path for path in statistics_under(args.output_dir) if not path.stem.endswith(others)]
    if args.exp:
        found = sorted(path for path in found if args.exp in path.name)
    if not found:
        what = f"--exp {args.exp}: no statistics file" if args.exp else "no statistics file"
        raise InputError(
            f"{what} under --output_dir {args.output_dir}; make one with data_statistics.py, or give --statistics FILE"
        )
    if args.exp:
        return found
    newest = max(found, key=lambda path: (path.stat().st_mtime_ns, path.name))
    print(f"drawing the newest statistics file under {args.output_dir}: {newest}", file=sys.stderr)
    return [newest]


def statistics_under(folder: str) -> Iterator[Path]:
    """The statistics files in a folder and in those within it that are not hidden, `DEEPEST` levels down."""
    top = len(Path(folder).parts)
    for place, within, names in os.walk(folder):
        deep = len(Path(place).parts) - top
        within[:] = [] if deep == DEEPEST else sorted(name for name in within if not name.startswith("."))
        yield from (Path(place) / name for name in names if fnmatch(name, "robust_statistics_*.npy"))


def output_stem(args: argparse.Namespace, paths: Sequence[Path]) -> Path:
    """Where the figure goes, without suffix."""
    if args.output:
        return Path(args.output)
    stem = paths[0].stem if len(paths) == 1 else joined_name("robust_data_maps", paths)
    by = "" if args.colour in (None, "flip_rate") else f"_by_{args.colour}"
    return paths[0].with_name(fitted(stem + metric_suffix(args) + by))


if __name__ == "__main__":
    run_script(build_parser(), main)
