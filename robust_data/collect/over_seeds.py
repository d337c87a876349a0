"""The figures of one command's runs over seeds: mean and sample standard deviation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from robust_data import records, tables
from robust_data.collect import outputs
from robust_data.metrics import instance_metrics, summarise
from robust_data.settings import Run

TITLES = ("sensitivity", "variability", "flip rate", "class explains", "rank corr. clean loss")


def mean_and_deviation(values: Sequence[float]) -> str:
    """In words: "0.8540 ± 0.0123", and of a single value the mean alone."""
    deviation = f" ± {tables.number(statistics.stdev(values))}" if len(values) > 1 else ""
    return f"{tables.number(statistics.fmean(values))}{deviation}"


def title(runs: Sequence[Run]) -> str:
    """What the figures are over."""
    return f"over {len(runs)} seed{'s' if len(runs) > 1 else ''} ({' '.join(str(run.seed) for run in runs)})"


def print_statistics(runs: Sequence[outputs.Collect]) -> None:
    """A table of what was recorded, a line each; runs: those of each seed, complete."""
    of_all = [list(outputs.file_paths(run).items()) for run in runs]
    lines = []
    for files in zip(*of_all, strict=True):
        figures = [
            summarise(instance_metrics(records.load(path)[0], use_untrained_model=bool(run.use_untrained_model)))
            for run, (_, path) in zip(runs, files, strict=True)
        ]
        cells = map(mean_and_deviation, zip(*(each.values() for each in figures), strict=True))
        lines.append((str(files[0][0]), *cells))
    tables.show([(title(runs), *TITLES), *lines], widths=(32, *[19] * len(TITLES)))
