"""From the command line's arguments to the parts of a run."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
import torchvision
import transformers
from torch import nn

import datasets
import models
from registry import InputError
from robust_data import files
from robust_data.command_line.options import model_options, text_options
from robust_data.measuring.evaluation import evaluate
from robust_data.running import distributed
from robust_data.running.training import TrainingOptions


def load_splits(args: argparse.Namespace, device: torch.device):
    """The training split, and the test split or None (with a warning), on the device if they fit."""
    options = {
        name: getattr(args, name)
        for name in ("data_dir", "download", "image_size", "dataset_len", "seed", "num_workers", "skip_corrupt")
    }
    options |= text_options(args)
    # The main process first: it downloads, the others find the data there.
    options["in_turn"] = distributed.main_first
    train_set = datasets.load(args.dataset_name, "train", **options).to(device)
    # At the same resolution, also where the files of the two splits differ in size.
    options["image_size"] = train_set.image_size
    try:
        test_set = datasets.load(args.dataset_name, "test", **options).to(device)
    except datasets.MissingSplit as error:
        warn(f"{error}; going on without test accuracy")
        test_set = None
    return train_set, test_set


def build_model(args: argparse.Namespace, dataset, device: torch.device) -> nn.Module:
    """The model the arguments ask for, its random weights drawn by --seed; sets --lr where the user did not."""
    torch.manual_seed(args.seed)
    model = models.build(args.model_name, len(dataset.label_names), **model_options(args, dataset))
    if args.lr is None:
        args.lr = 2e-5 if model.pretrained else 1e-3
    return model.to(device)


def announce(args: argparse.Namespace, dataset, device: torch.device) -> None:
    """Say, from the main process alone, where the run happens, and with what: one line for the terminal or a log.

    args: of a script that trains or judges. dataset: what it trains on or judges with.
    """
    count = distributed.world_size()
    parts = [
        f"{_device_name(device)}, {count} process{'es' if count > 1 else ''}, {args.precision}",
        f"model {models.short_name(args.model_name)}",
        f"{dataset.name} {dataset.split}, {len(dataset)} instances of {len(dataset.label_names)} classes",
    ]
    if "epochs" in args:
        parts.append(f"epochs {args.epochs}, batches of {args.bsz}, learning rate {args.lr:g}")
    say("; ".join([*parts, f"seed {args.seed}", f"results in {args.output_dir}"]))


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"GPU {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"CPU with {threads} thread{'s' if threads > 1 else ''}"


def training_options(args: argparse.Namespace) -> TrainingOptions:
    """Those of the arguments that say how to train."""
    return TrainingOptions(**{name: getattr(args, name) for name in TrainingOptions.__dataclass_fields__})


def epoch_logger(
    path: Path,
    run: str,
    model: nn.Module,
    test_set,
    args: argparse.Namespace,
    more: Callable[[int], dict[str, Any]] = lambda epoch: {},
) -> Callable[[dict[str, Any]], None]:
    """A function that adds test accuracy to an epoch's figures and appends them to a log, one JSON object a line.

    more: gives further figures of an epoch (counted from 1), to be logged with the others.
    """

    def log_epoch(figures: dict[str, Any]) -> None:
        tested = {"accuracy": None, "loss": None}
        if test_set is not None:
            tested = evaluate(model, test_set, args.eval_size, args.precision)
        figures |= {"test_loss": tested["loss"], "test_accuracy": tested["accuracy"]} | more(figures["epoch"])
        figures["peak_memory_mib"] = round(distributed.peak_memory_mib(), 1)
        if distributed.is_main():
            line = files.to_json({"run": run, **figures}) + "\n"
            rewrite_log(path, lambda text: text + line)
            print(epoch_line(figures), file=sys.stderr)

    return log_epoch


def forget_epochs(path: Path, run: str, after_step: int) -> None:
    """Drop from a log the lines of this run that lie after a step, as they are about to be made again."""
    if not distributed.is_main() or not path.exists():
        return
    rewrite_log(
        path, lambda text: "".join(f"{line}\n" for line in text.splitlines() if not _is_after(line, run, after_step))
    )


def rewrite_log(path: Path, change: Callable[[str], str]) -> None:
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
    except (ValueError, KeyError, TypeError):
        return True


def epoch_line(figures: dict[str, Any]) -> str:
    """One epoch's figures for the terminal."""
    test_accuracy = "-" if figures["test_accuracy"] is None else f"{figures['test_accuracy']:.4f}"
    return (
        f"epoch {figures['epoch']}  train loss {figures['train_loss']:.4f}"
        f"  train accuracy {figures['train_accuracy']:.4f}"
        f"  test accuracy {test_accuracy}  {figures['seconds']:.1f} s"
    )


def say(message: str) -> None:
    """One line on stderr, from the main process alone."""
    if distributed.is_main():
        print(message, file=sys.stderr)


def warn(message: str) -> None:
    """One line on stderr that says it is a warning, from the main process alone."""
    say(f"warning: {message}")


def versions() -> dict[str, str]:
    """What the run ran on, for the metadata."""
    libraries = {"torch": torch, "torchvision": torchvision, "transformers": transformers, "numpy": numpy}
    return {"python": platform.python_version()} | {name: module.__version__ for name, module in libraries.items()}


def timestamp() -> str:
    """The time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
