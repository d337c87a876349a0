"""The CSV to which every fine-tuning run adds one row, also when several runs finish at once."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_data import files, tables
from robust_data.reading import check_regular, reason
from robust_data.registry import InputError

# The columns, for all scripts alike so that they can share a file.
FIELDS = (
    *("finished", "script", "run", "model_name", "dataset_name", "task_name", "dataset_len", "val_len", "instances"),
    *("seed", "epochs", "bsz", "optimizer", "lr", "lr_schedule", "augment"),
    *("statistics", "perturbation", "severity", "group", "set_percentage", "select_metric", "select_ratio"),
    *("cycle_train", "select_metric2", "select_ratio2", "within_class", "only_original_pred"),
    *("use_untrained_model", "do_balance_labels", "select_from_two_end", "ratio_proportion"),
    *("chosen", "class_share", "clean_loss_correlation", "b", "beta", "soft_label", "do_pgd_training"),
    *("adv_steps", "adv_lr", "pgd_step", "pgd_lr", "adv_init_mag", "adv_max_norm", "adv_norm_type"),
    *("attack_special_tokens", "train_loss", "train_loss_robust", "train_loss_other", "train_accuracy"),
    *("val_loss", "val_accuracy", "test_loss", "test_accuracy", "pgd_accuracy", "perturbed_accuracy"),
    *("wall_seconds", "model_folder"),
    *("attack_method", "attacked_instances", "attacked_accuracy", "accuracy_under_attack", "attack_success_rate"),
    *("words_changed", "queries", "flooding", "eval_loss_robust", "eval_loss_other"),
    *("stop_at_train_loss", "stopped_at_epoch", "permute_statistics", "visits_below_b", "loss_share_of_b"),
)


def check(path: str | os.PathLike, fields: Sequence[str] = FIELDS) -> None:
    """Refuse, before a run, a file that its row cannot be added to; writes nothing."""
    path = Path(path)
    try:
        check_regular(path)
        with open(path, newline="", encoding="utf-8") as file:
            _check_header(file.read(), path, fields)
        # A row is added by putting a new file in this one's place.
        writable = os.access(path, os.W_OK) and os.access(os.path.dirname(os.path.realpath(path)), os.W_OK)
    except FileNotFoundError:
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        writable = parent.is_dir() and os.access(parent, os.W_OK)
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"--results_file {path} cannot be read ({reason(error)}); name another") from None
    if not writable:
        raise InputError(f"--results_file {path} cannot be written; name another")


def append(path: str | os.PathLike, row: Mapping[str, Any]) -> None:
    """Add a row, and before the first one the header, which are the row's keys; None and NaN become an empty field.

    A row that is there already is not added again, so that a run killed while it adds its row may do so once more.
    Raises InputError if the file has another header or cannot be written; see `files.rewrite`.
    """
    path = Path(path)

    def with_row(text: str) -> str:
        _check_header(text, path, list(row))
        text = text or tables.line(row)
        text += "" if text.endswith("\n") else "\n"
        line = tables.line(None if value != value else value for value in row.values())
        return text if "\n" + line in text else text + line

    try:
        files.rewrite(path, with_row)
    except OSError as error:
        raise InputError(f"--results_file {path} cannot be written: {error.strerror or error}") from None


def last_row(path: str | os.PathLike, model_folder: str) -> dict[str, str] | None:
    """The last row of a run, known by the folder of its model; None without a row. An empty field is ""."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [row for row in tables.read(file) if row.get("model_folder") == model_folder]
    except FileNotFoundError:
        return None
    return rows[-1] if rows else None


def _check_header(text: str, path: Path, fields: Sequence[str]) -> None:
    if text and next(csv.reader([text.splitlines()[0]])) != list(fields):
        raise InputError(f"--results_file {path} has another header than this run's; name another file")
