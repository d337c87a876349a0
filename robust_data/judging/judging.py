"""Judging a model: accuracy and loss, clean, under attacks, perturbations and published corruptions."""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import datasets
import models
import perturbations
from datasets.balance import balanced_subset
from datasets.base import Batch, Dataset
from registry import InputError, hub_options, warn_once
from robust_data import files, records
from robust_data.collection import Draws, perturb_batch
from robust_data.command_line import building
from robust_data.command_line.conditions import WORD_ATTACKS, AttackSettings, Condition, settings
from robust_data.judging import corruption_error, published
from robust_data.measuring.evaluation import Outcome, mean_outcomes, outcome, under_attack
from robust_data.running import distributed
from robust_data.running.versions import timestamp, versions
from robust_data.word_attacks import text_attacks

# Those of the second line are of attacks by gradient, those of the third of attacks on words.
COLUMNS = (
    *("kind", "name", "severity", "eps", "norm", "accuracy", "loss", "instances"),
    *("steps", "step_size", "restarts", "special_tokens"),
    *("accuracy_before", "attack_success_rate", "words_changed", "queries"),
)
Row = dict[str, Any]


def judge(
    args: argparse.Namespace, conditions: Sequence[Condition], reference: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Judge the model of the arguments under these conditions and the published corruptions; returns the report.

    args: of `evaluate_robustness.py`. reference: the report of another model, for the corruption error.
    Raises InputError for a data set, model, folder or reference that cannot be used.
    """
    started = time.perf_counter()
    device = distributed.default_device()
    dataset = load_instances(args, device)
    corruptions = open_corruptions(args, dataset)
    of_published = published_conditions(corruptions, args.severities)
    known_by = identity(dataset, corruptions)
    if reference is not None:
        corruption_error.check_reference(args.reference, reference, [*conditions, *of_published], known_by)
    perturbed = [(condition.name, condition.severity) for condition in conditions if condition.kind == "perturbation"]
    perturbations.check_size(perturbed, dataset.image_size)
    on_words = [condition.name for condition in conditions if condition.name in WORD_ATTACKS]
    planned = text_attacks.plan(args, dataset, on_words) if on_words else None
    model = load_model(args, dataset, device)
    files.output_folder(args.output_dir)
    building.announce(args, dataset, device)
    measure = Judge(model, args.eval_size, args.precision, args.seed, settings(args), distributed.is_main()).rows
    rows = measure(dataset, [condition for condition in conditions if condition.name not in on_words])
    for condition in of_published:
        rows += measure(corruptions.load(condition.name, condition.severity, dataset.label_names), [condition])
    word_attacks = planned.run(model, file_stem(args)) if planned else {}
    rows += [_word_row(name, figures) for name, figures in word_attacks.items()]
    errors = None if reference is None else corruption_error.corruption_errors(rows, reference["results"])
    return {
        "model_name": args.model_name,
        "dataset_name": dataset.name,
        "split": dataset.split,
        "label_names": list(dataset.label_names),
        **known_by,
        "results": rows,
        "checks": {"pgd_at_least_as_strong_as_fgsm": compare_attacks(rows)},
        "corruption_error": errors,
        "word_attacks": word_attacks,
        "arguments": dict(vars(args)),
        "versions": versions(),
        "device": str(device),
        "processes": distributed.world_size(),
        "finished": timestamp(),
        "wall_seconds": round(time.perf_counter() - started, 1),
    }


def load_instances(args: argparse.Namespace, device: torch.device):
    """The images or texts to judge the model on, on the device if they fit."""
    if args.dataset_len is not None and args.split != "train":
        raise InputError(f"--dataset_len {args.dataset_len} reduces the training split; give --max_instances instead")
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


def open_corruptions(args: argparse.Namespace, dataset) -> published.PublishedCorruptions | None:
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


def identity(dataset, corruptions: published.PublishedCorruptions | None) -> dict[str, Any]:
    """What tells these instances from others, for the report and for a reference to be compared with."""
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


def load_model(args: argparse.Namespace, dataset, device: torch.device) -> nn.Module:
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


@dataclass(frozen=True)
class Judge:
    """A model and how to measure it; `rows` does so."""

    model: nn.Module
    batch_size: int = 256
    precision: str = "fp32"
    seed: int = 0
    attack: AttackSettings = AttackSettings()
    progress: bool = False

    def rows(self, dataset: Dataset, conditions: Sequence[Condition]) -> list[Row]:
        """One row of `COLUMNS` per condition, all of them measured in one pass over the data set.

        accuracy: 0..1. loss: mean cross-entropy in nats. The instances of every process are counted.
        """

        def outcomes(batch: Batch) -> Iterator[Outcome]:
            clean = self._outcome(batch, batch.inputs)
            return (self._under(condition, batch, clean) for condition in conditions)

        means = mean_outcomes(
            self.model,
            dataset,
            outcomes,
            len(conditions),
            "judge",
            batch_size=self.batch_size,
            progress=self.progress,
            attacks=any(condition.kind == "attack" for condition in conditions),
        )
        return [
            _row(condition, *mean, len(dataset)) | self.attack.size(condition)
            for condition, mean in zip(conditions, means)
        ]

    def _outcome(self, batch: Batch, inputs: dict[str, torch.Tensor]) -> Outcome:
        return outcome(self.model, inputs, batch.labels, self.precision)

    def _under(self, condition: Condition, batch: Batch, clean: Outcome) -> Outcome:
        """What comes out under a condition; published corruptions come corrupted, so to them nothing is done."""
        if condition.kind == "attack":
            options, restarts = self.attack.options(condition), self.attack.draws(condition)
            attempts = [Draws(seed=self.seed, draw=draw, pgd_options=options) for draw in range(restarts)]
            return under_attack(self.model, batch, clean, "pgd", attempts, self.precision)
        if condition.kind != "perturbation":
            return clean
        # Without a severity any will do; it only tells the random draws apart.
        draws = Draws(condition.severity or 1, self.seed)
        inputs, _ = perturb_batch(condition.name, batch, batch.labels, self.model, self.precision, draws)
        return self._outcome(batch, inputs)


def _row(condition: Condition, accuracy: float, loss: float, instances: int) -> Row:
    if not math.isfinite(loss):
        raise InputError(f"--model_name: the loss is {loss} on {condition.kind} input; the weights are unusable")
    return asdict(condition) | {"accuracy": accuracy, "loss": loss, "instances": instances}


def _word_row(name: str, figures: Mapping[str, Any]) -> Row:
    row = {"accuracy": figures["accuracy_under_attack"], "accuracy_before": figures["accuracy"]}
    shared = ("loss", "instances", "attack_success_rate", "words_changed", "queries")
    return asdict(Condition("attack", name)) | row | {field: figures[field] for field in shared}


def compare_attacks(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """For each linf size at which both were tried: is PGD at least as strong as FGSM? Warns where it is not."""
    accuracies = {(row["name"], row["eps"]): row["accuracy"] for row in rows if row["norm"] == "linf"}
    checks = []
    for eps in sorted({eps for _, eps in accuracies}):
        fgsm, pgd = accuracies.get(("fgsm", eps)), accuracies.get(("pgd", eps))
        if fgsm is None or pgd is None:
            continue
        checks.append({"eps": eps, "fgsm_accuracy": fgsm, "pgd_accuracy": pgd, "holds": pgd <= fgsm})
        if pgd > fgsm:
            warn_once(
                f"PGD leaves an accuracy of {pgd:.4f} at linf eps {eps:.4f}, FGSM {fgsm:.4f}: PGD is not at its best; "
                "raise --pgd_step or --restarts, or mistrust the gradients"
            )
    return checks


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write one line per row, atomically; what a row has no use for is empty."""
    with files.atomic_write(path, "w") as file:
        lines = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        lines.writeheader()
        lines.writerows(rows)


def file_stem(args: argparse.Namespace) -> Path:
    """Where a run's files go, without suffix."""
    data = args.dataset_name if args.task_name is None else f"{args.dataset_name}_task{args.task_name}"
    name = f"robustness_model{models.short_name(args.model_name)}_dataset{data}_split{args.split}_seed{args.seed}"
    return Path(args.output_dir) / files.fitting(name)


def print_report(report: Mapping[str, Any]) -> None:
    """The accuracies in percent: a line each for clean and attacks, and one with all severities per corruption."""
    rows = report["results"]
    print(f"{'':<48}{'accuracy (%)':>13}{'loss':>9}")
    for row in rows:
        if row["kind"] in ("clean", "attack"):
            print(f"{_label(row):<48}{100 * row['accuracy']:>13.2f}{row['loss']:>9.4f}")
    for name, figures in report["word_attacks"].items():
        print(text_attacks.describe(name, figures))
    for kind in corruption_error.KINDS:
        _print_corruptions(kind, [row for row in rows if row["kind"] == kind])
    for kind, errors in (report["corruption_error"] or {}).items():
        means = [_mean_error("mCE", errors["mce"], errors["mean_over"])]
        means.append(_mean_error("relative mCE", errors["relative_mce"], errors["relative_mean_over"]))
        print(f"\n{kind} against the reference: {', '.join(means)}")


def _mean_error(name: str, value: float | None, over: Sequence[str]) -> str:
    return f"{name} undefined" if value is None else f"{name} {value:.2f} % over {len(over)} corruptions"


def _label(row: Row) -> str:
    if row["kind"] == "clean":
        return f"clean, {row['instances']:,} instances"
    hard = f", {row['steps']} steps of {row['step_size']:.3g} x {row['restarts']}" if row["name"] == "pgd" else ""
    hard += ", special tokens too" if row.get("special_tokens") else ""
    if row["eps"] is None:
        return f"{row['name']}{hard}" if hard else f"{row['name']}, {row['instances']:,} instances"
    return f"{row['name']}, {row['norm']} eps {_size(row['eps'], row['norm'])}{hard}"


def _size(eps: float, norm: str) -> str:
    """An attack's size as people write it: 8/255 rather than 0.03137."""
    levels = round(255 * eps)
    return f"{levels}/255" if norm == "linf" and levels and abs(255 * eps - levels) < 1e-6 else f"{eps:.4g}"


def _print_corruptions(kind: str, rows: Sequence[Row]) -> None:
    """A line per corruption: its accuracy at each severity, and their mean."""
    if not rows:
        return
    severities = sorted({row["severity"] for row in rows if row["severity"] is not None})
    heads = [*(f"severity {severity}" for severity in severities), "mean"]
    print(f"\n{kind + ', accuracy (%)':<48}" + "".join(f"{head:>12}" for head in heads))
    for name in dict.fromkeys(row["name"] for row in rows):
        found = {row["severity"]: 100 * row["accuracy"] for row in rows if row["name"] == name}
        cells = [found.get(severity) for severity in severities] + [sum(found.values()) / len(found)]
        print(f"{name:<48}" + "".join(f"{'-' if cell is None else format(cell, '.2f'):>12}" for cell in cells))
