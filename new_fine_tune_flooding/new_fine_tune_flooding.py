#!/usr/bin/env python3
"""Fine-tune on everything while the losses of the chosen, robust instances are kept near a flood level.

The loss of a chosen instance is |loss - b| + b, that of any other beta * loss; with --flooding batch it is the mean
over the chosen instances of a batch that is flooded.
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
from robust_data.command_line.option_types import natural_float
from robust_data.command_line.parser import Parser, run_script
from robust_data.fine_tuning import script
from robust_data.fine_tuning.methods import Flooding


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    group = parser.add_argument_group("flooding")
    group.add_argument("--b", type=natural_float, default=0.2, help="flood level of the chosen instances, in nats")
    group.add_argument(
        "--flooding",
        choices=("instance", "batch"),
        default="instance",
        help="what is kept near b: the loss of each chosen instance (iFlood, Xie et al., ICLR 2022), or the mean over "
        "those of a batch (flooding, Ishida et al., ICML 2020)",
    )
    group.add_argument(
        "--beta",
        type=natural_float,
        default=1.0,
        help="weight of the losses that are NOT chosen (for soft labels it is that of the chosen ones)",
    )
    selection_arguments.add_fine_tuning_script_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    script.main(args, lambda args: Flooding(args.b, args.beta, args.flooding))


if __name__ == "__main__":
    run_script(build_parser(), main)
