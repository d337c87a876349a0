#!/usr/bin/env python3
"""Train a classifier and record how every training instance reacts to perturbations along the way.

Writes one robust_statistics_*.npy per perturbation, with a JSON of its circumstances beside it.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C while the imports below take their moment ends the script without a traceback; see `run_script`.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
from pathlib import Path

from robust_data import files, settings
from robust_data.collect import outputs as finished
from robust_data.collect import over_seeds
from robust_data.command_line import arguments, resolve, seeds
from robust_data.command_line.older import add_older_arguments
from robust_data.command_line.parser import Parser, run_script
from robust_data.train import launch


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    arguments.add(parser, settings.Data, settings.Model, settings.Perturbed, settings.Pgd, settings.Collection)
    arguments.add(parser, settings.Training, settings.Curve, settings.Run, settings.Log)
    arguments.add_repetition(parser)
    arguments.add(parser, settings.Resume)
    add_older_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    seeds.each(args, collect, over_seeds.print_statistics)


def collect(args: argparse.Namespace) -> argparse.Namespace:
    """One run, unless it is finished; returns its arguments, resolved."""
    args = resolve.collection(args)
    files.output_folder(args.output_dir)
    if finished.is_finished_without_data(args):
        launch.say(finished.SAID)
        finished.print_summary(args)
    else:
        train(args)
    if args.tensorboard:
        from robust_data.train.event_files import Points

        Points(args, Path(args.output_dir) / "log.jsonl", finished.run_name(args)).write_if_missing()
    return args


def train(args: argparse.Namespace) -> None:
    """Do what is left of a run, in all its processes."""
    # Torch takes seconds to import; a mistake in the arguments is told before.
    from robust_data.collect import job as recording
    from robust_data.train import distributed

    with distributed.processes(args.device, args.rendezvous_timeout):
        recording.train_and_record(args)
        if distributed.is_main():
            finished.print_summary(args)


if __name__ == "__main__":
    run_script(build_parser(), main)
