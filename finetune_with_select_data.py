#!/usr/bin/env python3
"""Train on some of the instances alone: those a metric chooses, or the robust, swing, non-robust or random ones.

python finetune_with_select_data.py --statistics_source FILE.npy
python finetune_with_select_data.py --statistics_source FILE.npy --select_metric swing --select_ratio 0.5
"""

from __future__ import annotations

import argparse

from robust_data import settings
from robust_data.command_line import arguments, fine_tuning
from robust_data.command_line.older import add_older_arguments
from robust_data.command_line.parser import Parser, run_script
from robust_data.fine_tune.methods import SubsetTraining


def build_parser() -> Parser:
    parser = Parser(("statistics_source", "select_metric", "select_ratio", "epochs", "output_dir"), description=__doc__)
    arguments.add(parser, settings.TwoSubsets, settings.Group)
    arguments.add_fine_tuning(parser)
    add_older_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    fine_tuning.main(args, settings.TrainSubset, lambda job: SubsetTraining(job.cycle_train or 1, job.set_percentage))


if __name__ == "__main__":
    run_script(build_parser(), main)
