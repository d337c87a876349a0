"""The main function of the scripts that fine-tune, for one seed or several."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from robust_data import complete, settings
from robust_data.analysis import choice
from robust_data.command_line import seeds
from robust_data.fine_tune import results_file
from robust_data.fine_tune.finished import already_finished
from robust_data.fine_tune.methods import Method
from robust_data.settings import FineTune
from robust_data.train import launch


def main(args: argparse.Namespace, kind: type[FineTune], method_of: Callable[[FineTune], Method]) -> None:
    """Choose instances, and fine-tune on the data of the statistics, once for each seed; see `job.fine_tune`.

    args: as the script parsed them. kind: what they are the settings of. method_of: makes the method of these once they
    are complete.
    """
    seeds.each(args, functools.partial(fine_tune, kind=kind, method_of=method_of), _print_over_seeds)


def fine_tune(args: argparse.Namespace, kind: type[FineTune], method_of: Callable[[FineTune], Method]) -> FineTune:
    """One run, unless it is finished; returns its settings, complete."""
    job = complete.selection(settings.of(kind, args))
    chosen = choice.choose(job)
    job = complete.fine_tuning(job, chosen.statistics)
    results_file.check(job.results_file)
    # Several processes must first agree.
    if launch.process_count() > 1 or not already_finished(job, chosen):
        _train(job, chosen, method_of(job))
    if job.tensorboard:
        from robust_data.fine_tune.summary import run_name
        from robust_data.judge.event_files import Points

        name = run_name(job, chosen, method_of(job).name)
        Points(True, Path(job.output_dir) / "log.jsonl", name).write_if_missing()
    return job


def _train(job: FineTune, chosen: choice.Choice, method: Method) -> None:
    """Do what is left of a run, in all its processes."""
    # Torch takes seconds to import; a mistake in the arguments is told before.
    from robust_data.fine_tune.job import fine_tune
    from robust_data.train import distributed

    with distributed.processes(job.device, job.rendezvous_timeout):
        fine_tune(job, chosen, method)


def _print_over_seeds(runs: Sequence[FineTune]) -> None:
    from robust_data.fine_tune import summary

    summary.print_over_seeds(runs)
