"""The CSV to which every fine-tuning run adds one row, also when several runs finish at once."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from registry import InputError

# The columns, for all scripts alike so that they can share a file.
FIELDS = (
    *("finished", "script", "run", "model_name", "dataset_name", "task_name", "dataset_len", "instances"),
    *("seed", "epochs", "bsz", "lr"),
    *("statistics", "perturbation", "severity", "group", "set_percentage", "select_metric", "select_ratio"),
    *("cycle_train", "select_metric2", "select_ratio2", "within_class", "only_original_pred"),
    *("do_balance_labels", "select_from_two_end", "ratio_proportion"),
    *("chosen", "class_share", "b", "beta", "soft_label", "do_pgd_training", "adv_steps", "adv_lr", "pgd_step", "pgd_lr", "adv_init_mag"),
    *("adv_max_norm", "adv_norm_type", "train_loss", "train_loss_robust", "train_loss_other", "train_accuracy"),
    *("test_loss", "test_accuracy", "pgd_accuracy", "perturbed_accuracy", "wall_seconds", "model_folder"),
    *("attack_method", "attacked_instances", "attacked_accuracy", "accuracy_under_attack", "attack_success_rate"),
    *("words_changed", "queries"),
)


def check(path: str | os.PathLike, fields: Sequence[str] = FIELDS) -> None:
    """Refuse, before a run, a file that its row cannot be added to; writes nothing."""
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            _check_header(file.read(), path, fields)
        # A row is added by putting a new file in this one's place.
        writable = os.access(path, os.W_OK) and os.access(os.path.dirname(os.path.realpath(path)), os.W_OK)
    except FileNotFoundError:
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        writable = parent.is_dir() and os.access(parent, os.W_OK)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--results_file {path} cannot be read ({error})") from None
    if not writable:
        raise InputError(f"--results_file {path} cannot be written; name another")


def append(path: str | os.PathLike, row: Mapping[str, Any]) -> None:
    """Add a row, and before the first one the header, which are the row's keys; None becomes an empty field.

    A row that is there already is not added again, so that a run killed while it adds its row may do so once more.
    The file is replaced as a whole, under a lock, so that a reader sees it with the row or without, and no
    row is lost among several writers. Raises InputError if the file has another header or cannot be written.
    """
    path = Path(os.path.realpath(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path) as file:
            text = file.read()
            _check_header(text, path, list(row))
            text = text or _line(row.keys())
            if not text.endswith("\n"):
                text += "\n"
            line = _line(row.values())
            if "\n" + line not in text:
                _replace(path, text + line)
    except OSError as error:
        raise InputError(f"--results_file {path} cannot be written: {error.strerror or error}") from None


def _check_header(text: str, path: Path, fields: Sequence[str]) -> None:
    if text and next(csv.reader([text.splitlines()[0]])) != list(fields):
        raise InputError(f"--results_file {path} has another header than this run's; name another file")


def _line(values) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _replace(path: Path, text: str) -> None:
    """Put a new file in the place of one whose lock is held.

    Nothing may be tidied up after the renaming: the next writer has the new file's lock by then.
    """
    temporary = path.with_name(f".{path.name[-100:]}.partial")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    """Open the file, made if missing, and hold its lock; whoever else appends waits here."""
    while True:
        with open(path, "a+", newline="", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Who had the lock before us put another file in this one's place.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                file.seek(0)
                yield file
                return
