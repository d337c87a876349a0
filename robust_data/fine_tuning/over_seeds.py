"""The figures of one command's fine-tunings over seeds: mean and sample standard deviation."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from registry import warn_once
from robust_data.fine_tuning import results_file, summary
from robust_data.fine_tuning.finished import model_folder
from robust_data.measuring.over_seeds import mean_and_deviation, title

ON_WORDS = {"accuracy under attack": "accuracy_under_attack", "success rate": "attack_success_rate"}


def print_results(runs: Sequence[argparse.Namespace]) -> None:
    """The lines of a run's summary, with means and deviations; runs: the arguments of each seed's run, resolved."""
    rows = [results_file.last_row(run.results_file, str(model_folder(run))) for run in runs]
    known = [run for run, row in zip(runs, rows, strict=True) if row is not None]
    for run in runs:
        if run not in known:
            warn_once(f"--results_file {run.results_file} has no row of {model_folder(run)}, which the means leave out")
    if not known:
        return
    print(f"{title(known)}, mean and standard deviation")
    for label, fields in (summary.summary_fields(known[0]) | {"attack on words": ON_WORDS}).items():
        columns = {short: [row[field] for row in rows if row is not None] for short, field in fields.items()}
        cells = [f"{short} {mean_and_deviation(list(map(float, v)))}" for short, v in columns.items() if all(v)]
        if cells:
            print(f"{label}: {'  '.join(cells)}")
