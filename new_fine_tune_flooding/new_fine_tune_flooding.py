#!/usr/bin/env python3
"""Fine-tune on everything while the losses of the chosen, robust instances are kept near a flood level.

The loss of a chosen instance is |loss - b| + b, that of any other beta * loss; with --flooding batch it is the mean
over the chosen instances of a batch that is flooded.

  python new_fine_tune_flooding/new_fine_tune_flooding.py --statistics_source FILE.npy
  python new_fine_tune_flooding/new_fine_tune_flooding.py --statistics_source FILE.npy --select_ratio 0.5 --b 0.2
"""

from __future__ import annotations

import argparse

from robust_data import settings
from robust_data.command_line import arguments, fine_tuning
from robust_data.command_line.older import add_older_arguments
from robust_data.command_line.parser import Parser, run_script
from robust_data.fine_tune.methods import Flooding, FloodingRun


def build_parser() -> Parser:
    parser = Parser(("statistics_source", "select_metric", "select_ratio", "epochs", "output_dir"), description=__doc__)
    arguments.add(parser, Flooding)
    arguments.add_fine_tuning(parser)
    add_older_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    fine_tuning.main(args, FloodingRun, lambda job: settings.of(Flooding, job))


if __name__ == "__main__":
    run_script(build_parser(), main)
