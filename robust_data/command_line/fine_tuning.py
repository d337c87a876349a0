"""The main function of the scripts that fine-tune, for one seed or several."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

from robust_data import complete, settings
from robust_data.analysis import choice
from robust_data.command_line import seeds
from robust_data.fine_tune import results_file
from robust_data.fine_tune.finished import already_finished
from robust_data.fine_tune.methods import Method
from robust_data.registry import LazyModule
from robust_data.settings import FineTune
from robust_data.train import launch

# Torch takes seconds to import; a mistake in the arguments is told before.
distributed = LazyModule("robust_data.train.distributed")
engine = LazyModule("robust_data.fine_tune.job")
summary = LazyModule("robust_data.fine_tune.summary")
event_files = LazyModule("robust_data.judge.event_files")


def main(args: argparse.Namespace, kind: type[FineTune], method_of: Callable[[FineTune], Method]) -> None:
    """Choose instances, and fine-tune on the data of the statistics, once for each seed; see `job.fine_tune`.

    args: as the script parsed them. kind: what they are the settings of. method_of: makes the method of these once they
    are complete.
    """
    seeds.each(
        args, functools.partial(fine_tune, kind=kind, method_of=method_of), lambda runs: summary.print_over_seeds(runs)
    )


def fine_tune(args: argparse.Namespace, kind: type[FineTune], method_of: Callable[[FineTune], Method]) -> FineTune:
    """One run, unless it is finished; returns its settings, complete."""
    job = complete.selection(settings.of(kind, args))
    chosen = choice.choose(job)
    job = complete.fine_tuning(job, chosen.statistics)
    results_file.check(job.results_file)
    # Several processes must first agree.
    if launch.process_count() > 1 or not already_finished(job, chosen):
        with distributed.processes(job.device, job.rendezvous_timeout):
            engine.fine_tune(job, chosen, method_of(job))
    if job.tensorboard:
        name = summary.run_name(job, chosen, method_of(job).name)
        event_files.Points(True, Path(job.output_dir) / "log.jsonl", name).write_if_missing()
    return job
