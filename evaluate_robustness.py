#!/usr/bin/env python3
"""Judge a trained classifier: accuracy and loss, clean, under attack, under perturbations and published corruptions.

Writes a CSV, a JSON and a figure, and prints a table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from robust_data import arguments, conditions, corruption_error, files


def build_parser() -> arguments.Parser:
    parser = arguments.Parser(description=__doc__)
    arguments.add_data_arguments(parser)
    arguments.add_model_arguments(parser)
    arguments.add_judging_arguments(parser)
    arguments.add_word_attack_arguments(parser)
    arguments.add_run_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    planned = conditions.plan(args)
    reference = None if args.reference is None else corruption_error.load_reference(args.reference)
    # Torch takes seconds to import; a mistake in the arguments is told before.
    from robust_data import distributed, judging

    with distributed.processes():
        report = judging.judge(args, planned, reference)
        if distributed.is_main():
            judging.print_report(report)
            for path in save(report, judging.file_stem(args)):
                print(f"saved {path}")


def save(report, stem: Path) -> list[Path]:
    """Write figure, CSV and JSON, each atomically; returns their paths."""
    from plot_utils.plotting import save_figure
    from plot_utils.robustness import draw_report
    from robust_data import judging

    # Not with_suffix, which would cut a model's name at a point.
    table, details = (stem.with_name(f"{stem.name}.{suffix}") for suffix in ("csv", "json"))
    figures = save_figure(draw_report(report), stem)
    judging.write_csv(table, report["results"])
    files.write_json(details, report)
    return [table, details, *figures, *(figures_of["sentences"] for figures_of in report["word_attacks"].values())]


if __name__ == "__main__":
    arguments.run_script(build_parser(), main)
