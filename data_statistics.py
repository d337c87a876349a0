#!/usr/bin/env python3
"""Train a classifier and record how every training instance reacts to perturbations along the way.

Writes one robust_statistics_*.npy per perturbation, with a JSON of its circumstances beside it.

  python data_statistics.py --output_dir results/digits
  python data_statistics.py --dataset_name imagefolder --data_dir photos --model_name resnet18 -t blur shot_noise
"""

from __future__ import annotations

import argparse
from pathlib import Path

from robust_data import complete, files, settings
from robust_data.collect import outputs
from robust_data.command_line import arguments, seeds
from robust_data.command_line.older import add_older_arguments
from robust_data.command_line.parser import Parser, run_script
from robust_data.train import launch


def build_parser() -> Parser:
    parser = Parser(("dataset_name", "data_dir", "model_name", "perturbations", "output_dir"), description=__doc__)
    arguments.add_list(parser)
    arguments.add(parser, *settings.Collect.__bases__)
    arguments.add_repetition(parser)
    add_older_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    seeds.each(args, collect, outputs.print_over_seeds)


def collect(args: argparse.Namespace) -> settings.Collect:
    """One run, unless it is finished; returns its settings, complete."""
    job = complete.collection(settings.of(settings.Collect, args))
    files.output_folder(job.output_dir)
    if outputs.is_finished_without_data(job):
        launch.say(outputs.SAID)
        outputs.print_summary(job)
    else:
        train(job)
    if job.tensorboard:
        from robust_data.judge.event_files import Points

        Points(True, Path(job.output_dir) / "log.jsonl", outputs.run_name(job)).write_if_missing()
    return job


def train(job: settings.Collect) -> None:
    """Do what is left of a run, in all its processes."""
    # Torch takes seconds to import; a mistake in the arguments is told before.
    from robust_data.collect import job as recording
    from robust_data.train import distributed

    with distributed.processes(job.device, job.rendezvous_timeout):
        recording.train_and_record(job)
        if distributed.is_main():
            outputs.print_summary(job)


if __name__ == "__main__":
    run_script(build_parser(), main)
