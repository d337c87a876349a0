"""What is judged: the instances, the published corruptions and the model that the arguments name."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import datasets
from datasets.balance import balanced_subset
from datasets.base import Dataset
from registry import InputError, hub_options, warn_once
from robust_data import records
from robust_data.command_line import building
from robust_data.command_line.conditions import Condition
from robust_data.judging import published


def load_instances(args: argparse.Namespace, device: torch.device) -> Dataset:
    """The images or texts to judge the model on, on the device if they fit."""
    if args.dataset_len is not None and args.split != "train":
        raise InputError(f"--dataset_len {args.dataset_len} reduces the training split; give --max_instances instead")
    if args.val_len is not None and args.split == "test":
        raise InputError(f"--val_len {args.val_len} reduces the training split; give --split val to judge on it")
    try:
        dataset = building.load_split(args, args.split)
    except datasets.MissingSplit as error:
        raise InputError(f"{error}; or judge on the training instances with --split train") from None
    if args.max_instances is not None:
        dataset = dataset.subset(torch.from_numpy(drawn(dataset.labels.numpy(), args)))
    return dataset.to(device)


def drawn(labels: np.ndarray, args: argparse.Namespace) -> np.ndarray:
    """The positions that --max_instances keeps, int64 [M], as many of each class."""
    if (count := args.max_instances) < (classes := len(np.unique(labels))):
        raise InputError(f"--max_instances {count} is below the number of classes; give at least {classes}")
    return balanced_subset(labels, args.max_instances, args.seed)


def open_corruptions(args: argparse.Namespace, dataset: Dataset) -> published.PublishedCorruptions | None:
    """The folder of --corruptions_dir, reduced as the data set is, or None without one."""
    if args.corruptions_dir is None:
        return None
    corruptions = published.open_folder(args.corruptions_dir, len(dataset.label_names), dataset.image_size)
    if args.max_instances is None:
        return corruptions
    # The same labels in the same order give the same draw, so these are the instances that are judged clean.
    return corruptions.subset(drawn(corruptions.labels, args))


def published_conditions(
    corruptions: published.PublishedCorruptions | None, severities: Iterable[int]
) -> list[Condition]:
    """Every corruption of the folder at every severity."""
    names = [] if corruptions is None else corruptions.names
    return [Condition("published", name, severity) for name in names for severity in severities]


def identity(dataset: Dataset, corruptions: published.PublishedCorruptions | None) -> dict[str, Any]:
    """What identifies these instances, for the report and for the comparison with a reference."""
    known_by = {
        "instances": len(dataset),
        "labels_sha256": records.labels_hash(dataset.labels.numpy()),
        # A balanced draw from a data set that is sorted by class has the same labels, whichever it is.
        "index_sha256": records.labels_hash(dataset.index.numpy()),
    }
    if corruptions is not None:
        known_by["published_labels_sha256"] = records.labels_hash(corruptions.labels[corruptions.positions])
        known_by["published_index_sha256"] = records.labels_hash(corruptions.positions)
    return known_by


def same_instances(known_by: dict[str, Any], split: str) -> bool:
    """Whether the published corruptions are of the very instances that are judged clean; known_by: see `identity`."""
    same = (known_by[name] == known_by.get(f"published_{name}") for name in ("labels_sha256", "index_sha256"))
    return split == "test" and all(same)


def load_model(args: argparse.Namespace, dataset: Dataset, device: torch.device) -> nn.Module:
    """The trained model the arguments name. Raises InputError for one without weights or of another class count."""
    _check_class_count(args.model_name, len(dataset.label_names), dataset.modality)
    model = building.build_model(args, dataset, device)
    if not model.pretrained:
        raise InputError(f"--model_name {args.model_name} has random weights; give the folder of a trained model")
    ours = model.architecture is not None
    if not Path(args.model_name).is_dir() if ours else model.new_head:
        warn_once(f"the last layer of {args.model_name} is new and untrained; expect the accuracy of chance")
    elif not ours:
        _check_class_order(args.model_name, model.backbone.config, list(dataset.label_names))
    return model


def _check_class_order(name: str, config: Any, label_names: list[str]) -> None:
    """Refuse a Hugging Face model that knows the same classes by other numbers."""
    theirs = [str(config.id2label[number]).lower() for number in range(len(label_names))]
    ours = [label.lower() for label in label_names]
    if theirs != ours and sorted(theirs) == sorted(ours):
        raise InputError(
            f"--model_name {name} numbers its classes {', '.join(theirs)}, the dataset {', '.join(ours)}; "
            "name a model that was trained on the dataset's numbers"
        )


def _check_class_count(name: str, num_labels: int, modality: str) -> None:
    """Refuse a Hugging Face model of another class count, which `models.build` would give a new last layer."""
    # Names of the hub's own text models, such as bert-base-uncased, are without an owner.
    if not Path(name).is_dir() and name.count("/") != 1 and modality != "text":
        return
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(name, **hub_options(name)).num_labels
    except (OSError, ValueError):
        return  # a model of our own, or none at all, which `models.build` tells better
    if found != num_labels:
        raise InputError(f"--model_name {name} tells {found} classes apart, the dataset has {num_labels}")
