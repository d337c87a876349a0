#!/usr/bin/env python3
"""Put judged models beside one another: accuracy in percent, mean and standard deviation over the seeds.

Reads what evaluate_robustness.py wrote into the folders of --results_dir, and writes comparison.csv there, and the same
table as comparison.md and comparison.tex. Folders <method>_seed<seed> or <method>/seed<seed> are replicates; any
other folder is a method of its own. With --baseline also the paired differences from it: paired.csv and a figure.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable
from pathlib import Path

from robust_data import files, tables
from robust_data.command_line.parser import Parser, run_script
from robust_data.registry import InputError, LazyModule
from robust_data.settings import folder_name, positive_float

# numpy is imported once the arguments are right.
comparison = LazyModule("robust_data.judge.comparison")
paired = LazyModule("robust_data.judge.paired")
comparisons = LazyModule("robust_data.plot_utils.comparisons")
figures = LazyModule("robust_data.plot_utils.figures")

Table = list[list[str]]
# Stands behind what rests on an attack that a judgement doubts.
DOUBTED = " (!)"


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--results_dir",
        type=folder_name,
        required=True,
        metavar="FOLDER",
        help="holds a folder for each model, of replicates <method>_seed<seed>",
    )
    parser.add_argument(
        "--baseline",
        metavar="METHOD",
        help="also compares every other method with it, seed by seed: difference, 95%% interval by a bootstrap over "
        "seeds and then instances, exact sign-flip p (from 6 seeds on), Holm's adjustment over the methods",
    )
    parser.add_argument(
        "--equivalence",
        type=positive_float,
        metavar="POINTS",
        help="with --baseline: says where the whole interval lies within so many points of accuracy",
    )
    return parser


def main(args: argparse.Namespace) -> None:
    if args.equivalence is not None and args.baseline is None:
        raise InputError("--equivalence has no effect without --baseline; name the method to compare with")
    folder = Path(args.results_dir)
    judged = comparison.read_all(folder)
    found = [] if args.baseline is None else comparison.compare(judged, args.baseline, args.equivalence)
    table = means(judged)
    paths = write_tables(folder / "comparison", table)
    if found:
        pairs = differences(found, args)
        figure = comparisons.draw_differences(found, args.baseline, args.equivalence)
        paths += [tables.write(folder / "paired.csv", pairs), *figures.save_figure(figure, folder / "paired")]
    tables.show(table)
    if found:
        print()
        tables.show(pairs)
    if any(DOUBTED in cell for line in [*table, *(pairs if found else ())] for cell in line):
        print(f"{DOUBTED.strip()}: a judgement found signs that its attack failed; see believable in its JSON")
    for path in paths:
        print(f"saved {path}")


def means(judged: comparison.Judged) -> Table:
    """A line for each method: how many seeds, and the mean under each condition."""
    conditions = next(iter(next(iter(judged.values())).values())).accuracies
    table = [["method", "seeds", *conditions]]
    for method, seeds in judged.items():
        accuracies = zip(*(model.accuracies.values() for model in seeds.values()))
        doubted = frozenset().union(*(model.doubted for model in seeds.values()))
        cells = [cell(each) + DOUBTED * (name in doubted) for name, each in zip(conditions, accuracies)]
        table.append([method, str(len(seeds)), *cells])
    return table


def cell(accuracies: tuple[float, ...]) -> str:
    """Percent; of several seeds the mean and the sample standard deviation."""
    text = f"{100 * statistics.mean(accuracies):.1f}"
    return text + (f" ± {100 * statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else "")


def differences(found: Iterable[comparison.PairedDifference], args: argparse.Namespace) -> Table:
    """A line for each method and condition: the difference from the baseline, and what it is worth."""
    table = [["condition", f"minus {args.baseline}", "pairs", "difference", "95 % interval", "p", "p (Holm)"]]
    if args.equivalence is not None:
        table[0].append(f"equivalent within ±{args.equivalence:g}")
    for difference in found:
        low, high = difference.interval
        # One pair without instances has nothing to draw from.
        drawn = len(difference.seeds) > 1 or low < high
        p_values = [f"{p:.4f}" if p is not None else "-" for p in (difference.p, difference.p_holm)]
        if difference.p is None:
            p_values[0] = f"{len(difference.seeds)} pairs, at least {paired.FEWEST_PAIRS} needed"
        mean = f"{difference.mean:+.2f}{DOUBTED * difference.doubted}"
        line = [difference.condition, difference.method, str(len(difference.seeds)), mean]
        line += [f"[{low:+.2f}, {high:+.2f}]" if drawn else "-", *p_values]
        if difference.equivalent is not None:
            line.append("yes" if difference.equivalent else "not shown")
        table.append(line)
    return table


def write_tables(stem: Path, table: Table) -> list[Path]:
    """The table as CSV, Markdown and LaTeX."""
    paths = [tables.write(stem.with_suffix(".csv"), table)]
    for suffix, text in ((".md", tables.markdown(table) + "\n"), (".tex", latex(table))):
        with files.atomic_write(stem.with_suffix(suffix), "w") as file:
            file.write(text)
        paths.append(stem.with_suffix(suffix))
    return paths


def latex(table: Table) -> str:
    """A tabular of the package booktabs."""
    special = {character: f"\\{character}" for character in "&%$#_{}"} | {"\\": r"\textbackslash{}", "±": r"$\pm$"}
    special |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    head, *lines = (
        " & ".join("".join(special.get(character, character) for character in cell) for cell in line) + r" \\"
        for line in table
    )
    columns = "l" + "r" * (len(table[0]) - 1)
    body = [r"\toprule", head, r"\midrule", *lines, r"\bottomrule"]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"]) + "\n"


if __name__ == "__main__":
    run_script(build_parser(), main)
