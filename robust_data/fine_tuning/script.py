"""The main function of the scripts that fine-tune."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from robust_data.command_line import resolve
from robust_data.fine_tuning import results_file
from robust_data.fine_tuning.finished import already_finished
from robust_data.fine_tuning.methods import Method
from robust_data.measuring import choice
from robust_data.running import launch


def main(args: argparse.Namespace, method_of: Callable[[argparse.Namespace], Method]) -> None:
    """Choose instances, and fine-tune on the data of the statistics; see `run.fine_tune`.

    args: as the script parsed them. method_of: makes the method from the arguments once they are resolved.
    """
    args = resolve.selection(args)
    chosen = choice.choose(args)
    args = resolve.fine_tuning(args, chosen.statistics.data_arguments(args))
    results_file.check(args.results_file)
    # Several processes must first agree.
    if launch.process_count() == 1 and already_finished(args, chosen):
        return
    # Torch takes seconds to import; a mistake in the arguments is told before.
    from robust_data.fine_tuning import run
    from robust_data.running import distributed

    with distributed.processes():
        run.fine_tune(args, chosen, method_of(args))
