"""The log of a training: one line of figures per epoch, in a file and on the terminal."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from robust_data import files
from robust_data.datasets.base import Dataset
from robust_data.evaluation import evaluate
from robust_data.registry import InputError
from robust_data.settings import Run
from robust_data.train import distributed


def epoch_logger(
    path: Path,
    run: str,
    model: nn.Module,
    test_set: Dataset | None,
    settings: Run,
    more: Callable[[dict[str, Any]], dict[str, Any]] = lambda figures: {},
    val_set: Dataset | None = None,
    logged: Callable[[dict[str, Any]], None] = lambda figures: None,
) -> Callable[[dict[str, Any]], None]:
    """A function that adds test accuracy to an epoch's figures and appends them to a log, one JSON object a line.

    val_set: instances held out of the training split, whose accuracy and loss are added, too.
    more: gives further figures of an epoch, from those of its training, to be logged with the others.
    logged: takes the figures once they are in the log, on the main process.
    """

    def log_epoch(figures: dict[str, Any]) -> None:
        tested = {"accuracy": None, "loss": None}
        if test_set is not None:
            tested = evaluate(model, test_set, settings.eval_size, settings.precision)
        if val_set is not None:
            held_out = evaluate(model, val_set, settings.eval_size, settings.precision)
            figures |= {"val_loss": held_out["loss"], "val_accuracy": held_out["accuracy"]}
        figures |= {"test_loss": tested["loss"], "test_accuracy": tested["accuracy"]} | more(figures)
        figures["peak_memory_mib"] = round(distributed.peak_memory_mib(next(model.parameters()).device), 1)
        if distributed.is_main():
            line = files.to_json({"run": run, **figures}) + "\n"
            _rewrite(path, lambda text: text + line)
            logged(figures)
            print(epoch_line(figures), file=sys.stderr)

    return log_epoch


def forget_epochs(path: Path, run: str, after_step: int) -> None:
    """Remove from a log the lines of this run after a step; the run is about to make them again."""
    if not distributed.is_main() or not path.exists():
        return
    _rewrite(
        path, lambda text: "".join(f"{line}\n" for line in text.splitlines() if not _is_after(line, run, after_step))
    )


def epochs_of(path: Path, run: str) -> list[dict[str, Any]]:
    """The figures of every epoch of a run that are in a log; a damaged line is of none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    epochs = []
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            figures = json.loads(line)
            epochs += [figures] if figures["run"] == run and figures["global_step"] >= 0 else []
    return epochs


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Replace a log by `change(text)`; other runs may be writing to it. Raises InputError if it cannot be written."""
    try:
        files.rewrite(path, change)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


def _is_after(line: str, run: str, step: int) -> bool:
    """Whether a line of a log is of this run and of a later step; a line cut short by a crash counts as one."""
    try:
        figures = json.loads(line)
        return figures["run"] == run and figures["global_step"] > step
    except (ValueError, KeyError, TypeError, RecursionError):
        return True


def epoch_line(figures: dict[str, Any]) -> str:
    """One epoch's figures for the terminal."""
    stopped = "  stopped at --stop_at_train_loss" if "stopped_at_epoch" in figures else ""
    validation = f"  val accuracy {figures['val_accuracy']:.4f}" if "val_accuracy" in figures else ""
    test_accuracy = "-" if figures["test_accuracy"] is None else f"{figures['test_accuracy']:.4f}"
    return (
        f"epoch {figures['epoch']}  train loss {figures['train_loss']:.4f}"
        f"  train accuracy {figures['train_accuracy']:.4f}"
        f"{validation}  test accuracy {test_accuracy}  {figures['seconds']:.1f} s{stopped}"
    )
