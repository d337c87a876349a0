#!/usr/bin/env python3
"""Judge a trained classifier: accuracy and loss, clean, under attack, under perturbations and published corruptions.

Writes a CSV, a JSON, what was found of every instance, and a figure, and prints a table.

  python evaluate_robustness.py --model_name results/robust/model
  python evaluate_robustness.py --model_name results/robust/model -t common --attack_method pgd --linf_eps 8/255
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_data import complete, settings
from robust_data.command_line import arguments
from robust_data.command_line.older import add_older_arguments
from robust_data.command_line.parser import Parser, run_script
from robust_data.judge import conditions, corruption_error
from robust_data.judge.instances import Found
from robust_data.judge.report import check_not_replaced, file_stem, print_report, save
from robust_data.registry import InputError


def build_parser() -> Parser:
    parser = Parser(
        ("model_name", "perturbations", "attack_method", "max_instances", "output_dir"), description=__doc__
    )
    # What is left out is as the model was trained.
    arguments.add(parser, settings.Data, dataset_name=None, download=None, skip_corrupt=None)
    arguments.add(parser, settings.Model, settings.Judging)
    arguments.add(parser, settings.SpecialTokens, title=settings.Judging.title)
    arguments.add(parser, settings.WordAttacks, settings.Run)
    add_older_arguments(parser, others=False)
    return parser


def main(args: argparse.Namespace) -> None:
    job = complete.as_trained(settings.of(settings.Judgement, args))
    planned = conditions.plan(job)
    job = complete.judging(job)
    check_not_replaced(job)
    reference = None if job.reference is None else corruption_error.load_reference(job.reference)
    # Torch takes seconds to import; a mistake in the arguments is told before.
    from robust_data.judge.judge import judge
    from robust_data.train import distributed

    with distributed.processes(job.device, job.rendezvous_timeout):
        report, found = judge(job, planned, reference)
        if distributed.is_main():
            finish(report, file_stem(job), found)


def finish(report: Mapping[str, Any], stem: Path, found: Found | None = None) -> None:
    """Save the data, then draw the figure, then print: what fails last takes nothing with it.

    Raises InputError where the figure cannot be drawn, once all else is done.
    """
    saved, failure = save(report, stem, found), None
    try:
        saved += draw(report, stem)
    except Exception as error:  # matplotlib raises almost anything at a name that it cannot set
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        failure = f"{stem}.png could not be drawn ({reason}); the CSV and the JSON beside it are complete"
    print_report(report)
    for path in saved:
        print(f"saved {path}")
    if failure is not None:
        raise InputError(failure)


def draw(report: Mapping[str, Any], stem: Path) -> list[Path]:
    """Write the figure; returns its paths."""
    from robust_data.plot_utils.figures import save_figure
    from robust_data.plot_utils.robustness import draw_report

    return save_figure(draw_report(report), stem)


if __name__ == "__main__":
    run_script(build_parser(), main)
