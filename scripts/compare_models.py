#!/usr/bin/env python3
"""Print how several judged models do beside one another: accuracy in percent, mean and deviation over the seeds.

Reads what evaluate_robustness.py wrote into <results_dir>/<method>_seed<seed>/, and writes comparison.csv there.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import sys
from pathlib import Path

# The script also starts from its own folder, where the packages beside it would not be found.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from registry import InputError
from robust_data import files
from robust_data.command_line.conditions import Condition
from robust_data.command_line.parser import Parser, run_script

RUN = re.compile(r"(?P<method>.+)_seed\d+")

FIELDS = tuple(Condition.__dataclass_fields__)
# How hard an attack by gradient tried; older files do not say it.
EFFORT = ("steps", "step_size", "restarts", "special_tokens")

# Accuracy by condition, a dict for each seed, by method.
Judged = dict[str, list[dict[str, float]]]


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--results_dir", required=True, metavar="FOLDER", help="holds a folder <method>_seed<seed> for each model"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    judged = read_all(Path(args.results_dir))
    table = [["method", "seeds", *next(iter(judged.values()))[0]]]
    for method, seeds in judged.items():
        table.append([method, str(len(seeds)), *map(cell, zip(*(seed.values() for seed in seeds)))])
    path = Path(args.results_dir) / "comparison.csv"
    with files.atomic_write(path, "w") as file:
        csv.writer(file, lineterminator="\n").writerows(table)
    print_table(table)
    print(f"saved {path}")


def read_all(folder: Path) -> Judged:
    """Every judged model in the folder. Raises InputError if there is none, or they were judged differently."""
    judged: Judged = {}
    under, seen = set(), set()
    for path in sorted(folder.glob("*_seed*/robustness_*.json")):
        match = RUN.fullmatch(path.parent.name)
        if match is None:
            continue
        if path.parent in seen:
            raise InputError(f"{path.parent} holds several robustness_*.json; leave the one that counts")
        seen.add(path.parent)
        accuracies, conditions = read(path)
        judged.setdefault(match["method"], []).append(accuracies)
        under.add(conditions)
    if not judged:
        raise InputError(f"--results_dir {folder} holds no <method>_seed<seed>/robustness_*.json; judge a model first")
    if len(under) > 1:
        raise InputError(f"--results_dir {folder}: the models were judged under different conditions; judge them alike")
    return judged


def read(path: Path) -> tuple[dict[str, float], tuple]:
    """Accuracy by condition, 0 to 1, perturbations as the mean over their severities; and all that was judged under."""
    try:
        report = json.loads(path.read_text())
        rows = report["results"]
        conditions = [
            (*(row[field] for field in FIELDS), row["instances"], *(row.get(field) for field in EFFORT)) for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}); judge the model again") from None
    by_condition: dict[str, list[float]] = {}
    for row in rows:
        by_condition.setdefault(condition(row), []).append(row["accuracy"])
    accuracies = {name: statistics.mean(values) for name, values in by_condition.items()}
    return accuracies, (report.get("index_sha256"), *conditions)


def condition(row: dict) -> str:
    """What a model was judged under, in a word or two."""
    if row["kind"] == "published":
        return f"published {row['name']}"
    if row["eps"] is None:
        size = f" {row['steps']} x {row['step_size']:.3g}" if row.get("steps") else ""
        return row["name"] + size
    return f"{row['name']} {row['norm']} {row['eps']:.3g}"


def cell(accuracies: tuple[float, ...]) -> str:
    """Percent; of several seeds the mean and the sample standard deviation."""
    text = f"{100 * statistics.mean(accuracies):.1f}"
    return text + (f" ± {100 * statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else "")


def print_table(table: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*table)]
    for first, *others in table:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:])]
        print("  ".join([first.ljust(widths[0]), *cells]))


if __name__ == "__main__":
    run_script(build_parser(), main)
