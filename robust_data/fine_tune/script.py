"""The main function of the scripts that fine-tune, for one seed or several."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from robust_data.analysis import choice
from robust_data.command_line import resolve, seeds
from robust_data.fine_tune import results_file
from robust_data.fine_tune.finished import already_finished
from robust_data.fine_tune.methods import Method
from robust_data.train import launch


def main(args: argparse.Namespace, method_of: Callable[[argparse.Namespace], Method]) -> None:
    """Choose instances, and fine-tune on the data of the statistics, once for each seed; see `run.fine_tune`.

    args: as the script parsed them. method_of: makes the method from the arguments once they are resolved.
    """
    seeds.each(args, functools.partial(fine_tune, method_of=method_of), _print_over_seeds)


def fine_tune(args: argparse.Namespace, method_of: Callable[[argparse.Namespace], Method]) -> argparse.Namespace:
    """One run, unless it is finished; returns its arguments, resolved."""
    args = resolve.selection(args)
    chosen = choice.choose(args)
    made = chosen.statistics
    args = resolve.fine_tuning(args, made.data_arguments(args), made.model_arguments(args))
    results_file.check(args.results_file)
    # Several processes must first agree.
    if launch.process_count() > 1 or not already_finished(args, chosen):
        _train(args, chosen, method_of(args))
    if args.tensorboard:
        from robust_data.fine_tune.summary import run_name
        from robust_data.train.event_files import Points

        name = run_name(args, chosen, method_of(args).name)
        Points(args, Path(args.output_dir) / "log.jsonl", name).write_if_missing()
    return args


def _train(args: argparse.Namespace, chosen: choice.Choice, method: Method) -> None:
    """Do what is left of a run, in all its processes."""
    # Torch takes seconds to import; a mistake in the arguments is told before.
    from robust_data.fine_tune import job as run
    from robust_data.train import distributed

    with distributed.processes(args.device, args.rendezvous_timeout):
        run.fine_tune(args, chosen, method)


def _print_over_seeds(runs: Sequence[argparse.Namespace]) -> None:
    from robust_data.fine_tune import over_seeds

    over_seeds.print_results(runs)
