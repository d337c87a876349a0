"""The parts of a run, built from settings: data sets, model, trainer."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from robust_data import datasets, models, settings
from robust_data.datasets.base import Dataset
from robust_data.models import lora
from robust_data.registry import InputError, warn_once
from robust_data.settings import Data, Model, Run, Training
from robust_data.train import distributed, large, launch, saved_models


def prepare_device(run: Run, dataset_name: str) -> torch.device:
    """This process's device, set to compute as the settings say."""
    device = distributed.own_device(run.device)
    # Images of a data set are of one size; a batch of texts is as long as its longest.
    distributed.set_arithmetic(device, run.precision == "tf32", datasets.modality(dataset_name) == "image")
    return device


def load_split(data: Data, model_name: str, seed: int, split: str, **changed: Any) -> Dataset:
    """The split "train", "val" or "test" of a data set; texts are read by the tokenizer of the model.

    seed: draws the subset of `dataset_len` and what `val_len` holds out. changed: options of `datasets.load` that
    replace the settings'. Raises MissingSplit if there is no such split, InputError for texts and a model that is known
    to classify images.
    """
    if datasets.modality(data.dataset_name) == "text" and model_name in models.names():
        raise InputError(
            f"--model_name {model_name} classifies images, --dataset_name {data.dataset_name} holds texts; "
            "give a Hugging Face text classifier, such as bert-base-uncased, or a folder"
        )
    options = dataclasses.asdict(settings.of(Data, data)) | {"seed": seed, "tokenizer": model_name} | changed
    if datasets.modality(data.dataset_name) == "image":
        trained_at = saved_models.trained_with(model_name).get("image_size")
        options["default_size"] = trained_at or models.image_side(model_name)
    # The main process goes first: it downloads, and the others find the data there.
    return datasets.load(options.pop("dataset_name"), split, in_turn=distributed.main_first, **options)


def load_splits(data: Data, model_name: str, seed: int, device: torch.device) -> tuple[Dataset, Dataset | None]:
    """The training split, and the test split or None (with a warning), on the device if they fit."""
    train_set = load_split(data, model_name, seed, "train").to(device)
    try:
        # The same resolution, even if the files of the two splits differ in size.
        test_set = load_split(data, model_name, seed, "test", image_size=train_set.image_size).to(device)
    except datasets.MissingSplit as error:
        warn_once(f"{error}; going on without test accuracy")
        test_set = None
    return train_set, test_set


def load_validation(data: Data, model_name: str, seed: int, train_set: Dataset, device: torch.device) -> Dataset | None:
    """What `val_len` holds out of the training split, on the device if it fits; None without it."""
    if data.val_len is None:
        return None
    return load_split(data, model_name, seed, "val", image_size=train_set.image_size).to(device)


def build_model(model: Model, dataset: Dataset, seed: int, device: torch.device) -> nn.Module:
    """The model for a data set, on the device, its random weights drawn by the seed; see also `large.prepared`.

    model: with those settings of the run that are about it.
    """
    torch.manual_seed(seed)
    options = dataclasses.asdict(settings.of(Model, model))
    name, rank = options.pop("model_name"), options.pop("lora_rank")
    for switch in ("keep_stem", "reinit_classifier", "freeze_encoder"):
        options[switch] = bool(options[switch])
    built = models.build(
        name,
        len(dataset.label_names),
        **options | {"pretrained": None if model.pretrained is None else bool(model.pretrained)},
        modality=dataset.modality,
        image_size=dataset.image_size,
        max_seq_length=getattr(dataset, "max_seq_length", None),
        vocabulary=getattr(dataset, "vocabulary", None),
        label_names=dataset.label_names,
    )
    if rank:
        lora.add(built, rank, name)
    return large.prepared(built.to(device), settings.of(Run, model))


def announce(run: Run, model: Model, dataset: Dataset, device: torch.device, training: Training | None = None) -> None:
    """Print one line on the device, the processes, the model, the data and the settings; the main process prints it.

    dataset: the one to train on or to judge with. training: where the model is trained.
    """
    count = distributed.world_size()
    parts = [
        f"{_device_name(device)}, {count} process{'es' if count > 1 else ''}, {run.precision}",
        f"model {models.short_name(model.model_name)}",
        f"{dataset.name} {dataset.split}, {len(dataset)} instances of {len(dataset.label_names)} classes",
    ]
    if training is not None:
        parts.append(f"epochs {training.epochs}, batches of {training.bsz}, learning rate {training.lr:g}")
    launch.say("; ".join([*parts, f"seed {run.seed}", f"results in {run.output_dir}"]))


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"GPU {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "GPU of Apple"
    threads = torch.get_num_threads()
    return f"CPU with {threads} thread{'s' if threads > 1 else ''}"
