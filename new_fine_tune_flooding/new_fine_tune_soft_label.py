#!/usr/bin/env python3
"""Fine-tune on everything while the chosen, robust instances are learned from soft labels.

A soft label puts --soft_label on the golden class and shares the rest equally among the others.

  python new_fine_tune_flooding/new_fine_tune_soft_label.py --statistics_source FILE.npy
  python new_fine_tune_flooding/new_fine_tune_soft_label.py --statistics_source FILE.npy --soft_label 0.9
"""

from __future__ import annotations

import argparse

from robust_data import settings
from robust_data.command_line import arguments, fine_tuning
from robust_data.command_line.older import add_older_arguments
from robust_data.command_line.parser import Parser, run_script
from robust_data.fine_tune.methods import SoftLabels, SoftLabelsRun


def build_parser() -> Parser:
    parser = Parser(("statistics_source", "select_metric", "select_ratio", "epochs", "output_dir"), description=__doc__)
    arguments.add(parser, SoftLabels)
    arguments.add_fine_tuning(parser)
    add_older_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    fine_tuning.main(args, SoftLabelsRun, lambda job: settings.of(SoftLabels, job))


if __name__ == "__main__":
    run_script(build_parser(), main)
