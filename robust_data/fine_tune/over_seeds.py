"""The figures of one command's fine-tunings over seeds: mean and sample standard deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from registry import warn_once
from robust_data.collect.over_seeds import mean_and_deviation, title
from robust_data.fine_tune import results_file, summary
from robust_data.fine_tune.finished import model_folder
from robust_data.settings import FineTune

ON_WORDS = {"accuracy under attack": "accuracy_under_attack", "success rate": "attack_success_rate"}


def print_results(runs: Sequence[FineTune]) -> None:
    """The lines of a run's summary, with means and deviations; runs: those of each seed, complete."""
    rows = [results_file.last_row(run.results_file, str(model_folder(run))) for run in runs]
    known = [run for run, row in zip(runs, rows, strict=True) if row is not None]
    for run in runs:
        if run not in known:
            warn_once(f"--results_file {run.results_file} has no row of {model_folder(run)}, which the means leave out")
    if not known:
        return
    print(f"{title(known)}, mean and standard deviation")
    rows = [row for row in rows if row is not None]
    for label, fields in summary.summary_fields(known[0]).items():
        _print_line(label, {short: [row[field] for row in rows] for short, field in fields.items()})
    # The values of several attacks are joined by +.
    attacks = rows[0]["attack_method"].split("+") if rows[0]["attack_method"] else []
    for place, attack in enumerate(attacks):
        columns = {short: [row[field].split("+")[place] for row in rows] for short, field in ON_WORDS.items()}
        _print_line(f"attack on words by {attack}", columns)


def _print_line(label: str, columns: Mapping[str, Sequence[str]]) -> None:
    """A line of means; columns: the fields of all rows, of which an empty one leaves its column out."""
    cells = [
        f"{short} {mean_and_deviation(list(map(float, values)))}" for short, values in columns.items() if all(values)
    ]
    if cells:
        print(f"{label}: {'  '.join(cells)}")
