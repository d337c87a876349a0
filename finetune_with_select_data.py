#!/usr/bin/env python3
"""Train on some of the instances alone: those a metric chooses, or the robust, swing, non-robust or random ones."""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C while the imports below take their moment ends the script without a traceback; see `run_script`.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse

from registry import InputError
from robust_data.command_line import perturbation_arguments, selection_arguments
from robust_data.command_line.option_types import natural_int, share
from robust_data.command_line.parser import Parser, run_script
from robust_data.fine_tuning import script
from robust_data.fine_tuning.methods import SubsetTraining


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    group = parser.add_argument_group("two subsets")
    group.add_argument(
        "--cycle_train",
        type=natural_int,
        nargs="?",
        const=1,
        default=0,
        metavar="N",
        help="trains on two subsets in turn, N epochs each: the chosen one, then that of --select_metric2; 0 on one",
    )
    group.add_argument("--select_metric2", metavar="METRIC", help="of the other subset; as --select_metric")
    group.add_argument(
        "--select_ratio2",
        type=share,
        metavar="SHARE",
        help="of the other subset; by default as --select_ratio",
    )
    selection_arguments.add_group_arguments(parser)
    perturbation_arguments.add_adversarial_training_arguments(parser)
    selection_arguments.add_fine_tuning_script_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    if args.do_pgd_training and not args.adv_steps:
        raise InputError("--do_pgd_training 1 learns from the ascent steps; give --adv_steps of at least 1")
    script.main(args, lambda args: SubsetTraining(args.cycle_train or 1, args.set_percentage))


if __name__ == "__main__":
    run_script(build_parser(), main)
