"""How a statistics file was made, read from the JSON beside it: `metadata`, or {} where there is no JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_data import models, perturbations
from robust_data.metrics import counted_checkpoints, instance_metrics, summarise
from robust_data.registry import InputError

# The user's own data: a title names its folder or file, not the format.
OWN_DATA = ("imagefolder", "npz", "csv", "tsv")
# Every title names these, in this order; all other settings are named only where files differ in them.
HEADLINE = ("data", "model", "perturbation", "severity")
# A title leaves these out: the headline says them, or the records do not depend on them.
UNTOLD = (
    *("dataset_name", "task_name", "data_dir", "model_name", "perturbations", "severity", "severity_schedule"),
    *("record_input_gradient", "collect_on", "eval_size"),
    *("output_dir", "overwrite", "save_every", "num_workers", "cache", "download", "device", "rendezvous_timeout"),
    *("tensorboard", "skip_corrupt", "judge_every_epoch", "judge_instances", "pgd_step", "pgd_lr"),
)


def class_name(names: Sequence[Any] | None, label: int) -> str:
    """The name of a class, or its number where the names, those of all classes in order, do not tell it."""
    return str(names[label]) if names and 0 <= label < len(names) else str(label)


def severities(metadata: Mapping[str, Any]) -> list[int]:
    """The severities of the checkpoints, ascending; none where the perturbation has no severity."""
    if metadata.get("parameter") is None:
        return []
    levels = {checkpoint.get("severity") for checkpoint in metadata.get("checkpoints") or []} - {None}
    return sorted(levels or {metadata.get("severity")} - {None})


def last_perturbation(metadata: Mapping[str, Any], checkpoints: int) -> dict[str, Any] | None:
    """How the last checkpoint was perturbed, as arguments of `evaluate_perturbed`; None if unknown.

    checkpoints: how many the file has. The arguments are name, severity, seed, draw and pgd_options.
    """
    used = metadata.get("arguments", {})
    if metadata.get("perturbation") not in perturbations.CATALOGUE or "severity" not in metadata:
        return None
    last = (metadata.get("checkpoints") or [{}])[-1]
    sizes = ("adv_steps", "adv_lr", "adv_init_mag", "adv_max_norm", "adv_norm_type")
    options = [used[name] for name in sizes] if all(name in used for name in sizes) else []
    return {
        "name": metadata["perturbation"],
        "severity": last.get("severity", metadata["severity"]),
        "seed": used.get("seed", 0),
        "draw": checkpoints - 1 if used.get("resample_perturbation") else 0,
        "pgd_options": perturbations.PgdOptions(
            *options,
            sign=bool(used.get("adv_sign", False)),
            special_tokens=bool(used.get("attack_special_tokens", False)),
            loss=used.get("adv_loss", "ce"),
            temperature=used.get("adv_temperature", 1.0),
        ),
    }


def data_name(metadata: Mapping[str, Any]) -> str | None:
    """The data set (and task), also of a judged model; data of one's own by its folder or file."""
    used = metadata.get("arguments", {})
    name = metadata.get("dataset_name")
    if name in OWN_DATA:
        name = Path(used.get("data_dir") or "").name or name
    return " ".join(str(part) for part in (name, used.get("task_name")) if part) or None


def facts(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What is known of how the file was made, in words: first what `HEADLINE` names, then the settings."""
    used = metadata.get("arguments", {})
    levels = severities(metadata)
    over_training = f"severity {levels[0]} to {levels[-1]} over training" if len(levels) > 1 else None
    data = data_name(metadata)
    if data and not metadata.get("trained_on", True):
        split = metadata.get("split", "train")
        data += " held out of training" if split == "train" else f" {split} split"
    headline = {
        "data": data,
        "model": models.short_name(used.get("model_name") or ""),
        "perturbation": metadata.get("perturbation"),
        "severity": over_training or (f"severity {levels[0]}" if levels else None),
    }
    settings = {name: f"{name} {value}" for name, value in used.items() if name not in UNTOLD and value is not None}
    if "epochs" in settings:
        settings["epochs"] = f"{used['epochs']} epochs"
    return {name: str(text) for name, text in headline.items() if text} | settings


def describe(metadata: Mapping[str, Any], otherwise: str) -> str:
    """Data set, model and perturbation in a few words, or `otherwise` where none is known."""
    known = facts(metadata)
    text = ", ".join(known[name] for name in HEADLINE[:-1] if name in known) or otherwise
    return f"{text} at {known['severity']}" if "severity" in known else text


def accuracies(row: np.ndarray, name: str = "train_accuracy", perturbed: bool = True) -> dict[str, float]:
    """What the JSON says of a checkpoint's records (N,): the accuracy by this name, clean and perturbed."""
    found = {name: float(row["original_pred"].mean())}
    return found | ({f"{name}_perturbed": float(row["after_perturb_pred"].mean())} if perturbed else {})


def summary(rows: np.ndarray, use_untrained_model: bool = False) -> dict[str, Any] | None:
    """The figures of a file, see `metrics.summarise`, and over which checkpoints they were taken.

    rows: the records (T, N). None if no checkpoint counts, as after a training that diverged at once.
    """
    try:
        counted = counted_checkpoints(rows, use_untrained_model)
    except InputError:
        return None
    figures = summarise(instance_metrics(rows, use_untrained_model=use_untrained_model))
    return {"checkpoints": len(counted), "use_untrained_model": int(use_untrained_model), **figures}
