#!/usr/bin/env python3
"""Fine-tune on everything while the chosen, robust instances are learned from soft labels.

A soft label puts --soft_label on the golden class and shares the rest equally among the others.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C while the imports below take their moment ends the script without a traceback; see `run_script`.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import sys
from pathlib import Path

# The script also starts from its own folder, where the packages beside it would not be found.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from robust_data.command_line import selection_arguments
from robust_data.command_line.option_types import natural_float, share
from robust_data.command_line.parser import Parser, run_script
from robust_data.fine_tuning import script
from robust_data.fine_tuning.methods import SoftLabels


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    group = parser.add_argument_group("soft labels")
    group.add_argument("--soft_label", type=share, default=0.8, metavar="SHARE", help="of the golden class, in (0, 1]")
    group.add_argument(
        "--beta",
        type=natural_float,
        default=1.0,
        help="weight of the losses that ARE chosen (in flooding it is that of the others)",
    )
    selection_arguments.add_fine_tuning_script_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    script.main(args, lambda args: SoftLabels(args.soft_label, args.beta))


if __name__ == "__main__":
    run_script(build_parser(), main)
