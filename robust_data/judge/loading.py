"""What is judged: the instances, the published corruptions and the model that the arguments name."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from robust_data import datasets, records
from robust_data.datasets.base import Dataset
from robust_data.judge import published
from robust_data.judge.conditions import Condition
from robust_data.registry import InputError, hub_options, warn_once
from robust_data.settings import Judgement
from robust_data.train import building

# How far the word embeddings of a source model may lie from ours, as a share of ours: so much may fine-tuning change.
MOST_DIFFERENT = 0.1


def load_instances(job: Judgement, device: torch.device) -> Dataset:
    """The images or texts to judge the model on, on the device if they fit."""
    if job.dataset_len is not None and job.split != "train":
        raise InputError(f"--dataset_len {job.dataset_len} reduces the training split; give --max_instances instead")
    if job.val_len is not None and job.split == "test":
        raise InputError(f"--val_len {job.val_len} reduces the training split; give --split val to judge on it")
    try:
        dataset = building.load_split(job, job.model_name, job.data_seed, job.split)
    except datasets.MissingSplit as error:
        raise InputError(f"{error}; or judge on the training instances with --split train") from None
    if job.max_instances is not None:
        dataset = dataset.subset(torch.from_numpy(drawn(dataset.labels.numpy(), job)))
    return dataset.to(device)


def drawn(labels: np.ndarray, job: Judgement) -> np.ndarray:
    """The positions that --max_instances keeps, int64 [M], as many of each class."""
    if (count := job.max_instances) < (classes := len(np.unique(labels))):
        raise InputError(f"--max_instances {count} is below the number of classes; give at least {classes}")
    return datasets.balance.balanced_subset(labels, job.max_instances, job.seed)


def open_corruptions(job: Judgement, dataset: Dataset) -> published.PublishedCorruptions | None:
    """The folder of --corruptions_dir, reduced as the data set is, or None without one."""
    if job.corruptions_dir is None:
        return None
    corruptions = published.open_folder(job.corruptions_dir, len(dataset.label_names), dataset.image_size)
    if job.max_instances is None:
        return corruptions
    # The same labels in the same order give the same draw, so these are the instances that are judged clean.
    return corruptions.subset(drawn(corruptions.labels, job))


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


def load_model(job: Judgement, dataset: Dataset, device: torch.device) -> nn.Module:
    """The trained model the arguments name. Raises InputError for one without weights or of another class count."""
    _check_class_count(job.model_name, len(dataset.label_names), dataset.modality)
    model = building.build_model(job, dataset, job.seed, device)
    if not model.pretrained:
        raise InputError(f"--model_name {job.model_name} has random weights; give the folder of a trained model")
    ours = model.architecture is not None
    if not Path(job.model_name).is_dir() if ours else model.new_head:
        warn_once(f"the last layer of {job.model_name} is new and untrained; expect the accuracy of chance")
    return model


def check_attack_loss(job: Judgement, dataset: Dataset) -> None:
    """Refuse a loss that needs more classes than there are."""
    if "dlr" in job.attack_loss and (classes := len(dataset.label_names)) < 3:
        raise InputError(f"--attack_loss dlr needs three classes, the dataset has {classes}; give ce or margin")


@contextlib.contextmanager
def _source_arguments(job: Judgement, name: str) -> Iterator[Judgement]:
    """The arguments with a model of --source_model as the judged one; what is wrong with it is said of that one."""
    try:
        yield dataclasses.replace(job, model_name=name)
    except InputError as error:
        message = str(error).replace("--model_name", "--source_model")
        known = "--source_model" in message
        raise InputError(message if known else f"--source_model {name}: {message}") from None


def load_for_source(job: Judgement, name: str, dataset: Dataset, device: torch.device) -> Dataset:
    """The same instances as a model of --source_model reads them: texts by its own tokenizer."""
    if dataset.modality != "text":
        return dataset
    with _source_arguments(job, name) as of_source:
        return load_instances(of_source, device)


def load_source(job: Judgement, name: str, dataset: Dataset, device: torch.device) -> nn.Module:
    """A model of --source_model, in eval mode; raises what `load_model` does, about that argument.

    dataset: the instances as this model reads them.
    """
    with _source_arguments(job, name) as of_source:
        return load_model(of_source, dataset, device).eval()


def check_same_words(name: str, dataset: Dataset, of_source: Dataset, model: nn.Module, source: nn.Module) -> None:
    """Refuse to carry changes of word embeddings to a model with other tokens or embeddings.

    Two models that were fine-tuned from the same encoder share both, up to what fine-tuning changed. name: of the
    source.
    """
    ours, theirs = (each.word_embeddings().weight.float() for each in (model, source))
    same = dataset.tokenizer.get_vocab() == of_source.tokenizer.get_vocab() and ours.shape == theirs.shape
    if not same or (ours - theirs).norm() > MOST_DIFFERENT * ours.norm():
        raise InputError(
            f"--source_model {name} has other word embeddings than the judged model, so pgd and fgsm on one say "
            "nothing of the other; give one fine-tuned from the same encoder, or attacks on words"
        )


def _check_class_count(name: str, num_labels: int, modality: str) -> None:
    """Refuse a Hugging Face model of another class count, which `models.build` would give a new last layer."""
    # Names of the hub's own text models, such as bert-base-uncased, are without an owner.
    if not Path(name).is_dir() and name.count("/") != 1 and modality != "text":
        return
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(name, **hub_options(name)).num_labels
    except Exception:
        return  # a model of our own, or none at all, which `models.build` tells better
    if found != num_labels:
        raise InputError(f"--model_name {name} tells {found} classes apart, the dataset has {num_labels}")
