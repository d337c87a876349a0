"""What a fine-tuning run says when it is done: its name, its row for the results file, and its last lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from robust_data import datasets, models, settings, tables
from robust_data.analysis.choice import Choice
from robust_data.analysis.metadata import severities
from robust_data.collect.outputs import over_seeds
from robust_data.fine_tune import results_file
from robust_data.fine_tune.finished import model_folder
from robust_data.judge.conditions import describe_pgd
from robust_data.judge.curve import EpochJudge
from robust_data.registry import warn_once
from robust_data.selection import in_names
from robust_data.settings import FineTune
from robust_data.train.identity import timestamp
from robust_data.words.results import describe

# Options of the training that a run's name leaves out where they are these.
USUAL = {"optimizer": "adamw", "lr_schedule": "linear", "augment": "none", "label_smoothing": 0.0}
# Columns of the attacks on words, by their short names.
ON_WORDS = {"accuracy under attack": "accuracy_under_attack", "success rate": "attack_success_rate"}


def run_name(job: FineTune, chosen: Choice, script: str) -> str:
    """The name of this run in the log; the names of runs that differ only in their seed differ only in the seed."""
    group = getattr(job, "group", None)
    parts = [
        script,
        f"model{models.short_name(job.model_name)}",
        f"dataset{datasets.short_name(job.dataset_name)}",
        f"task{job.task_name}",
    ]
    parts.append(f"seed{job.seed}")
    if "perturbation" in chosen.statistics.metadata:
        parts.append(f"{chosen.statistics.metadata['perturbation']}{severity_name(chosen)}")
    parts.append(f"{group}{job.set_percentage}" if group else f"{in_names(job.select_metric)}{job.select_ratio}")
    if getattr(job, "cycle_train", 0):
        turns = job.cycle_train if job.cycle_train > 1 else ""
        parts.append(f"turns{turns}{in_names(job.select_metric2)}{job.select_ratio2}")
    parts += [f"{name}{getattr(job, name)}" for name in ("b", "beta", "soft_label") if hasattr(job, name)]
    parts += ["flooding_batch"] if getattr(job, "flooding", None) == "batch" else []
    switches = ("within_class", "only_original_pred", "use_untrained_model", "do_balance_labels")
    switches += ("select_from_two_end", "permute_statistics", "do_pgd_training")
    parts += [f"augment_chosen_{'_'.join(job.augment_chosen)}"] if job.augment_chosen else []
    parts += [f"{name}1" for name in switches if getattr(job, name, 0)]
    parts += [f"epoch{job.epochs}", f"lr{job.lr}"]
    parts += [f"{name}{getattr(job, name)}" for name, usual in USUAL.items() if getattr(job, name) != usual]
    return "_".join(parts)


def severity_name(chosen: Choice) -> str:
    """The severity of the statistics: "3", or "1to5" where it rose during the training, or "" where there is none."""
    levels = severities(chosen.statistics.metadata)
    return "to".join(map(str, dict.fromkeys([levels[0], levels[-1]]))) if levels else ""


def row(
    job: FineTune, chosen: Choice, script: str, name: str, instances: int, figures: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """The run's row for the results file.

    script: the name of the method; name: of the run; instances: how many there are to train on; figures: of the last
    epoch and of the attacks on words; seconds: how long the run took.
    """
    explained = chosen.explained.values()
    known = {
        "finished": timestamp(),
        "script": script,
        "run": name,
        "instances": instances,
        "statistics": chosen.statistics.path.name,
        "perturbation": chosen.statistics.metadata.get("perturbation"),
        "severity": severity_name(chosen) or None,
        "chosen": len(chosen.index),
        "class_share": "+".join(str(round(by.class_share, 4)) for by in explained),
        "clean_loss_correlation": "+".join(str(round(by.clean_loss, 4)) for by in explained),
        "wall_seconds": round(seconds, 1),
        "model_folder": str(model_folder(job)),
        "attack_method": figures.get("attack_method"),
    }
    # The arguments stand before the figures: the lr of the figures is what the schedule left of it at the end.
    values = {**figures, **dataclasses.asdict(job), **known}
    return {field: values.get(field) for field in results_file.FIELDS}


def print_summary(job: FineTune, chosen: Choice, name: str, told: Sequence[str], row: Mapping[str, Any]) -> None:
    """Print what was chosen, how the model does, and where it is; told: lines about the attacks on words."""
    for line in (*told, name, *chosen.describe(job)):
        print(line)
    if row["stopped_at_epoch"]:
        print(f"stopped: epoch {row['stopped_at_epoch']} reached --stop_at_train_loss {job.stop_at_train_loss:g}")
    for label, fields in summary_fields(job).items():
        values = "  ".join(f"{short} {row[field]:.4f}" for short, field in fields.items() if row[field] is not None)
        if values:
            print(f"{label}: {values}")
    print(f"saved {row['model_folder']}")
    print(f"added a row to {job.results_file}")


def summary_fields(job: FineTune) -> dict[str, dict[str, str]]:
    """The lines of the summary by their first words; each has fields of the results file by a short name."""
    pgd = f"under pgd ({describe_pgd(settings.of(EpochJudge, job).pgd_options())})"
    return {
        "train": {
            "minimised": "train_loss",
            "cross-entropy of chosen": "train_loss_robust",
            "of others": "train_loss_other",
        },
        "at the end": {"cross-entropy of chosen": "eval_loss_robust", "of others": "eval_loss_other"},
        "dose": {"visits to chosen below b": "visits_below_b", "loss of chosen as a share of b": "loss_share_of_b"},
        "held out": {"loss": "val_loss", "accuracy": "val_accuracy"},
        "test": {"loss": "test_loss", "accuracy": "test_accuracy"},
        "test accuracy": {pgd: "pgd_accuracy", "under the statistics' perturbation": "perturbed_accuracy"},
    }


def print_over_seeds(runs: Sequence[FineTune]) -> None:
    """The lines of a run's summary, with means and deviations; runs: those of each seed, complete."""
    rows = [results_file.last_row(run.results_file, str(model_folder(run))) for run in runs]
    known = [run for run, row in zip(runs, rows, strict=True) if row is not None]
    for run in runs:
        if run not in known:
            warn_once(f"--results_file {run.results_file} has no row of {model_folder(run)}, which the means leave out")
    if not known:
        return
    print(f"{over_seeds(known)}, mean and standard deviation")
    rows = [row for row in rows if row is not None]
    for label, fields in summary_fields(known[0]).items():
        _print_line(label, {short: [row[field] for row in rows] for short, field in fields.items()})
    # The values of several attacks are joined by +.
    attacks = rows[0]["attack_method"].split("+") if rows[0]["attack_method"] else []
    for place, attack in enumerate(attacks):
        columns = {short: [row[field].split("+")[place] for row in rows] for short, field in ON_WORDS.items()}
        _print_line(f"attack on words by {attack}", columns)


def _print_line(label: str, columns: Mapping[str, Sequence[str]]) -> None:
    """A line of means; columns: the fields of all rows, of which an empty one leaves its column out."""
    cells = [
        f"{short} {tables.mean_and_deviation(list(map(float, values)))}"
        for short, values in columns.items()
        if all(values)
    ]
    if cells:
        print(f"{label}: {'  '.join(cells)}")


def attack_lines(attacked: dict[str, dict[str, Any]]) -> list[str]:
    """The results of the attacks on words, by their names, as lines for the terminal."""
    results = ((describe(name, figures), figures["sentences"]) for name, figures in attacked.items())
    return [line for described, sentences in results for line in (described, f"saved {sentences}")]


def attack_columns(attacked: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The columns of the results file for the attacks on words; the values of several attacks are joined by +."""
    if not attacked:
        return {}
    measured = ("accuracy_under_attack", "attack_success_rate", "words_changed", "queries")
    fields = {"attacked_instances": "instances", "attacked_accuracy": "accuracy"} | {name: name for name in measured}
    columns = {field: [figures[name] for figures in attacked.values()] for field, name in fields.items()}
    return {"attack_method": _joined(list(attacked))} | {field: _joined(values) for field, values in columns.items()}


def _joined(values: list[Any]) -> Any:
    """A single value as it is, several as text, joined by +."""
    return values[0] if len(values) == 1 else "+".join("" if value is None else str(value) for value in values)
