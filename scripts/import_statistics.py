#!/usr/bin/env python3
"""Make a statistics file of what another training loop measured.

Either of logits over checkpoints, clean and perturbed, in .npy files of checkpoints x instances x classes, or of the
dynamics_epoch_*.jsonl of dataset cartography. Every script reads the file; without logits of perturbed inputs those
that need none: the map is then that of dataset cartography, and instances are chosen by metrics of clean inputs.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_data import datasets, files, settings, tables
from robust_data.analysis import dynamics
from robust_data.command_line import arguments
from robust_data.command_line.parser import Parser, run_script
from robust_data.registry import InputError, LazyModule
from robust_data.settings import natural_int

importing = LazyModule("robust_data.analysis.importing")  # imports torch

OF_ARRAYS = ("perturbed_logits", "labels", "index")


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--logits", metavar="FILE", help=".npy of clean inputs, floating point, checkpoints x instances x classes"
    )
    what.add_argument(
        "--dynamics", metavar="FOLDER", help="dynamics_epoch_*.jsonl as dataset cartography writes them; clean inputs"
    )
    parser.add_argument("--perturbed_logits", metavar="FILE", help=".npy of the same shape, of perturbed inputs")
    parser.add_argument(
        "--labels", metavar="FILE", help=".npy of whole numbers, the classes; by default those of the data set"
    )
    parser.add_argument(
        "--index",
        metavar="FILE",
        help=".npy of whole numbers, where each instance stands in the training split; by default in its order",
    )
    parser.add_argument(
        "--steps",
        nargs="+",
        type=natural_int,
        metavar="STEP",
        help="of each checkpoint the training steps before it, ascending; 0 is the untrained model, which metrics "
        "leave out; by default 1, 2, 3, ...",
    )
    parser.add_argument(
        "--label_names",
        nargs="+",
        metavar="NAME",
        help="of the classes, in order; by default those of the data set, else their numbers",
    )
    parser.add_argument("--perturbation", metavar="NAME", help="what titles call the perturbation")
    parser.add_argument("--model_name", metavar="NAME", help="what titles call the model")
    parser.add_argument(
        "--seed",
        type=natural_int,
        default=42,
        help="of the training that was measured, and of --dataset_len, --val_len; files of the same --perturbation or "
        "--model_name and of different seeds are replicates",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="the statistics file; its name ends in .npy")
    arguments.add(parser, settings.Data)
    # Without it the file knows no data set, and what needs the images or texts is left out.
    parser.set_defaults(dataset_name=None)
    return parser


def main(args: argparse.Namespace) -> None:
    target = Path(args.output)
    check(args, target)
    files.output_folder(str(target.parent), "--output")
    dataset = load_dataset(args)
    measured, classes, guids = (from_dynamics if args.logits is None else from_arrays)(args, dataset)
    names = label_names(args, dataset, classes)
    if dataset is not None:
        importing.check_dataset(dataset, measured.index, measured.labels, measured.source)
    last = importing.write(target, measured, about(args, dataset, names))
    saved = [target]
    if guids is not None:
        saved.append(tables.write(target.with_name(f"{target.stem}_guids.csv"), [("index", "guid"), *enumerate(guids)]))
    perturbed = f", {last['after_perturb_pred'].mean():.4f} perturbed" if measured.perturbed else ""
    print(f"instances: {len(last)}, checkpoints: {len(measured.steps)}, classes: {classes}")
    print(f"accuracy at the last checkpoint: {last['original_pred'].mean():.4f} clean{perturbed}")
    if not measured.perturbed:
        print("clean inputs alone: maps and choices by metrics that need no perturbation")
    for path in saved:
        print(f"saved {path}")


def check(args: argparse.Namespace, target: Path) -> None:
    """Refuse arguments that exclude each other or would have no effect, and an output that is none."""
    if target.suffix != ".npy":
        raise InputError(f"--output {target} must end in .npy")
    for name in ("logits", *OF_ARRAYS):
        path = getattr(args, name)
        if path is not None and args.dynamics is not None:
            raise InputError(f"--{name} has no effect with --dynamics, which has all of its own; leave one of them out")
        if path is not None and target.exists() and Path(path).exists() and target.samefile(path):
            raise InputError(f"--output {target} is --{name}; name another file")
    if args.perturbation is not None and args.perturbed_logits is None:
        raise InputError(f"--perturbation {args.perturbation} needs --perturbed_logits FILE")
    if args.steps is not None and any(later <= step for step, later in zip(args.steps, args.steps[1:])):
        raise InputError(f"--steps {' '.join(map(str, args.steps))} do not ascend; give each checkpoint's own")
    if args.dataset_name is None:
        parser = build_parser()
        for name in settings.names(settings.Data):
            if getattr(args, name) != parser.get_default(name):
                raise InputError(f"--{name} has no effect without --dataset_name")
        if args.logits is not None and args.labels is None:
            raise InputError("--labels FILE is missing; give the class of each instance, or --dataset_name")


def load_dataset(args: argparse.Namespace) -> datasets.Dataset | None:
    """The training split that --dataset_name names, or None without it."""
    if args.dataset_name is None:
        return None
    loading = dataclasses.asdict(settings.of(settings.Data, args))
    return datasets.load(loading.pop("dataset_name"), "train", seed=args.seed, **loading)


def from_arrays(args: argparse.Namespace, dataset: datasets.Dataset | None) -> tuple[Any, int, None]:
    """The `Measurements` in the .npy files, the number of classes, and no guids."""
    clean = importing.open_logits(args.logits, "--logits")
    perturbed = None
    if args.perturbed_logits is not None:
        perturbed = importing.open_logits(args.perturbed_logits, "--perturbed_logits")
        if perturbed.shape != clean.shape:
            raise InputError(
                f"--perturbed_logits {args.perturbed_logits} has the shape {perturbed.shape}, --logits {args.logits} "
                f"{clean.shape}; give logits of the same checkpoints and instances"
            )
    checkpoints, instances, classes = clean.shape
    if args.index is not None:
        index = importing.open_index(args.index, instances)
    elif dataset is None:
        index = np.arange(instances)
    elif len(dataset) != instances:
        raise InputError(
            f"--logits {args.logits} holds {instances} instances, the training split of {args.dataset_name} "
            f"{len(dataset)}; give --index FILE, or the --dataset_len, --val_len and --seed of your training"
        )
    else:
        index = dataset.index.numpy()
    if args.labels is not None:
        labels = importing.open_numbers(args.labels, "--labels", instances, classes)
    else:
        labels = importing.labels_of(dataset, index)
        if labels.max() >= classes:
            raise InputError(
                f"--logits {args.logits} are of {classes} classes, --dataset_name {args.dataset_name} has "
                f"{len(dataset.label_names)}; give a logit for each class"
            )
    passes = zip(clean, [None] * checkpoints if perturbed is None else perturbed)
    steps = checked_steps(args, checkpoints)
    source = Path(args.logits).name
    return importing.Measurements(index, labels, steps, passes, source, perturbed is not None), classes, None


def from_dynamics(args: argparse.Namespace, dataset: datasets.Dataset | None) -> tuple[Any, int, list[str] | None]:
    """The `Measurements` in cartography's files, the number of classes, and the guids where they are no index."""
    paths = dynamics.epoch_files(Path(args.dynamics))
    epochs = dynamics.read_epochs(paths)
    first = next(epochs)
    texts = isinstance(first.guids[0], str)
    if texts and dataset is not None:
        raise InputError(
            f"--dataset_name {args.dataset_name}: the guids of {args.dynamics}, such as {first.guids[0][:40]}, are no "
            "positions in the training split; leave the option out, or write whole numbers as guids"
        )

    def passes() -> Iterator[tuple[np.ndarray, None]]:
        yield first.logits, None
        for epoch in epochs:
            yield epoch.logits, None

    index = np.arange(len(first.guids)) if texts else np.array(first.guids, dtype=np.int64)
    steps = checked_steps(args, len(paths))
    measured = importing.Measurements(index, first.labels, steps, passes(), Path(args.dynamics).name, False)
    return measured, first.logits.shape[1], first.guids if texts else None


def checked_steps(args: argparse.Namespace, checkpoints: int) -> Sequence[int]:
    """The global step of each checkpoint."""
    if args.steps is not None and len(args.steps) != checkpoints:
        raise InputError(f"--steps gives {len(args.steps)} numbers for {checkpoints} checkpoints; give one for each")
    return args.steps or range(1, checkpoints + 1)


def label_names(args: argparse.Namespace, dataset: datasets.Dataset | None, classes: int) -> list[str]:
    """The names of the classes. Raises InputError where there are more or fewer than logits."""
    names = args.label_names if dataset is None else list(dataset.label_names)
    if dataset is not None and args.label_names is not None:
        raise InputError("--label_names has no effect with --dataset_name, whose classes have names")
    if names is None:
        return [str(number) for number in range(classes)]
    if len(names) != classes:
        whose = "--label_names gives" if dataset is None else f"--dataset_name {args.dataset_name} has"
        raise InputError(f"{whose} {len(names)} classes, the logits are of {classes}; give a logit for each class")
    return names


def about(args: argparse.Namespace, dataset: datasets.Dataset | None, names: list[str]) -> dict[str, Any]:
    """The circumstances, as the JSON beside a collected file has them."""
    used: dict[str, Any] = {"seed": args.seed}
    if args.model_name is not None:
        used["model_name"] = args.model_name
    told: dict[str, Any] = {"perturbation": args.perturbation} if args.perturbation is not None else {}
    if dataset is not None:
        given = dataclasses.asdict(settings.of(settings.Data, args)) | {"dataset_name": dataset.name}
        used |= {name: value for name, value in given.items() if value}
        told["dataset_name"] = dataset.name
    return {**told, "label_names": names, "split": "train", "trained_on": True, "arguments": used}


if __name__ == "__main__":
    run_script(build_parser(), main)
