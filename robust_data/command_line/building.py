"""The parts of a run, built from the arguments: data sets, model, options of the training."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from registry import warn_once
from robust_data.command_line.options import data_options, model_options
from robust_data.packages import datasets, models
from robust_data.train import distributed, launch
from robust_data.train.training import TrainingOptions

if TYPE_CHECKING:
    from datasets.base import Dataset


def prepare_device(args: argparse.Namespace) -> torch.device:
    """This process's device of --device, set to compute as the arguments say."""
    device = distributed.own_device(args.device)
    # Images of a data set are of one size; a batch of texts is as long as its longest.
    distributed.set_arithmetic(device, bool(args.tf32), datasets.modality(args.dataset_name) == "image")
    return device


def load_split(args: argparse.Namespace, split: str, **changed: Any) -> Dataset:
    """The split "train", "val" or "test" of the data set that the arguments name.

    changed: options of `datasets.load` that replace the arguments'. Raises MissingSplit if there is no such split.
    """
    # The main process goes first: it downloads, and the others find the data there.
    options = data_options(args) | changed
    return datasets.load(args.dataset_name, split, in_turn=distributed.main_first, **options)


def load_splits(args: argparse.Namespace, device: torch.device) -> tuple[Dataset, Dataset | None]:
    """The training split, and the test split or None (with a warning), on the device if they fit."""
    train_set = load_split(args, "train").to(device)
    try:
        # The same resolution, even if the files of the two splits differ in size.
        test_set = load_split(args, "test", image_size=train_set.image_size).to(device)
    except datasets.MissingSplit as error:
        warn_once(f"{error}; going on without test accuracy")
        test_set = None
    return train_set, test_set


def load_validation(args: argparse.Namespace, train_set: Dataset, device: torch.device) -> Dataset | None:
    """What --val_len holds out of the training split, on the device if it fits; None without --val_len."""
    if args.val_len is None:
        return None
    return load_split(args, "val", image_size=train_set.image_size).to(device)


def build_model(args: argparse.Namespace, dataset: Dataset, device: torch.device) -> nn.Module:
    """The model that the arguments name, on the device, its random weights drawn by --seed."""
    torch.manual_seed(args.seed)
    return models.build(args.model_name, len(dataset.label_names), **model_options(args, dataset)).to(device)


def training_options(args: argparse.Namespace) -> TrainingOptions:
    """The options of the training."""
    return TrainingOptions(**{name: getattr(args, name) for name in TrainingOptions.__dataclass_fields__})


def announce(args: argparse.Namespace, dataset: Dataset, device: torch.device) -> None:
    """Print one line on the device, the processes, the model, the data and the settings; the main process prints it.

    args: of a script that trains or judges. dataset: the one to train on or to judge with.
    """
    count = distributed.world_size()
    precision = f"{args.precision} in TF32" if args.tf32 and device.type == "cuda" else args.precision
    parts = [
        f"{_device_name(device)}, {count} process{'es' if count > 1 else ''}, {precision}",
        f"model {models.short_name(args.model_name)}",
        f"{dataset.name} {dataset.split}, {len(dataset)} instances of {len(dataset.label_names)} classes",
    ]
    if "epochs" in args:
        parts.append(f"epochs {args.epochs}, batches of {args.bsz}, learning rate {args.lr:g}")
    launch.say("; ".join([*parts, f"seed {args.seed}", f"results in {args.output_dir}"]))


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"GPU {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "GPU of Apple"
    threads = torch.get_num_threads()
    return f"CPU with {threads} thread{'s' if threads > 1 else ''}"
