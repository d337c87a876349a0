"""The options of perturbations, data sets and models, taken from the arguments."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import perturbations
from registry import InputError
from robust_data.packages import datasets, models
from robust_data.train import saved_models

if TYPE_CHECKING:
    from datasets.base import Dataset

# The arguments that every data set takes, ...
DATA_ARGUMENTS = ("data_dir", "download", "image_size", "dataset_len", "val_len", "num_workers", "skip_corrupt")
# ... and those that a data set of texts takes, too.
TEXT_ARGUMENTS = ("task_name", "max_seq_length", "text_column", "text_pair_column", "label_column", "encoding")
# What is taken from the run that made a statistics file or a model, where the command line does not say it.
LOADED_BY = ("dataset_name", *DATA_ARGUMENTS, *TEXT_ARGUMENTS)
BUILT_BY = ("model_name", "pretrained", "keep_stem", "reinit_classifier", "freeze_encoder")


def pgd_options(args: argparse.Namespace) -> perturbations.PgdOptions:
    """The --adv_* arguments as one object."""
    return perturbations.PgdOptions(
        args.adv_steps,
        args.adv_lr,
        args.adv_init_mag,
        args.adv_max_norm,
        args.adv_norm_type,
        special_tokens=bool(args.attack_special_tokens),
    )


def judging_pgd_options(args: argparse.Namespace) -> perturbations.PgdOptions:
    """The size of the pgd that judges a fine-tuned model."""
    return perturbations.PgdOptions(
        args.pgd_step,
        args.pgd_lr,
        args.adv_init_mag,
        args.adv_max_norm,
        args.adv_norm_type,
        sign=args.adv_norm_type == "linf",
        special_tokens=bool(args.attack_special_tokens),
    )


def data_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `datasets.load`; see `text_options`."""
    found = {name: getattr(args, name) for name in (*DATA_ARGUMENTS, "seed")} | text_options(args)
    if datasets.modality(args.dataset_name) == "image":
        trained = saved_models.trained_with(args.model_name)
        found["default_size"] = trained.get("image_size") or models.image_side(args.model_name)
    return found


def text_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `datasets.load` for texts: their tokenizer, and their columns in a file.

    Raises InputError for texts and a model that is known to classify images.
    """
    if datasets.modality(args.dataset_name) == "text" and args.model_name in models.names():
        raise InputError(
            f"--model_name {args.model_name} classifies images, --dataset_name {args.dataset_name} holds texts; "
            "give a Hugging Face text classifier, such as bert-base-uncased, or a folder"
        )
    return {"tokenizer": args.model_name} | {name: getattr(args, name) for name in TEXT_ARGUMENTS}


def model_options(args: argparse.Namespace, dataset: Dataset) -> dict[str, Any]:
    """The options of `models.build` for a data set."""
    return {
        "modality": dataset.modality,
        "image_size": dataset.image_size,
        "max_seq_length": getattr(dataset, "max_seq_length", None),
        "vocabulary": getattr(dataset, "vocabulary", None),
        "label_names": dataset.label_names,
        "pretrained": None if args.pretrained is None else bool(args.pretrained),
        "keep_stem": bool(args.keep_stem),
        "memory_format": args.memory_format,
        "reinit_classifier": bool(args.reinit_classifier),
        "freeze_encoder": bool(args.freeze_encoder),
    }
