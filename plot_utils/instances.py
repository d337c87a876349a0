"""What the figures show of single instances: their group, the input itself and its perturbed version."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import datasets
import perturbations
from datasets.tokens import PAIR_SEPARATOR
from plot_utils.naming import describe
from registry import InputError
from robust_data import records
from robust_data.command_line import arguments
from robust_data.measuring import choice
from robust_data.metrics import counted_checkpoints, instance_metrics, within_class

GROUPS = {"robust": "robust", "swing": "swing", "non_robust": "non-robust"}
IMAGES_PER_BATCH = 256


@dataclass
class Statistics:
    """A statistics file, opened.

    rows: structured array (T, N) of `records.DTYPE`; counted: those of its checkpoints that the metrics are taken
    over; metadata: the JSON beside it, or {}; metrics: see `instance_metrics`, of the M <= N instances that are
    left; columns: int64 [M], their columns in `rows`.
    absolute: the same metrics before they became, if `relative`, differences from the mean of the class
    (all but the flip rate).
    """

    path: Path
    rows: np.ndarray
    counted: np.ndarray
    metadata: dict[str, Any]
    metrics: dict[str, np.ndarray]
    columns: np.ndarray
    absolute: dict[str, np.ndarray]
    relative: bool

    def __len__(self) -> int:
        return len(self.columns)

    def label_name(self, label: int) -> str:
        """The name of a class, or its number where the names are not known."""
        names = self.metadata.get("label_names") or []
        return str(names[label]) if 0 <= label < len(names) else str(label)

    @property
    def reference(self) -> str:
        """What to add to the name of a measure that is relative."""
        return ", above the mean of the class" if self.relative else ""

    @property
    def dropped(self) -> str:
        """What to add to a title where --only_original_pred 1 leaves instances out."""
        count = self.rows.shape[1] - len(self)
        return f"; {count:,} of {self.rows.shape[1]:,} instances never classified correctly left out" if count else ""

    def describe(self) -> str:
        """Dataset (and task), model and perturbation in a few words."""
        return describe(self.metadata, self.path.stem)


def open_statistics(
    path: str | os.PathLike,
    only_original_pred: bool | int = False,
    relative: bool | int = False,
    use_untrained_model: bool | int = False,
) -> Statistics:
    """Open a statistics file and summarise its instances. Raises InputError if it is none, or none is left.

    relative: give every metric but the flip rate as its difference from the mean of the class.
    """
    rows, metadata = records.load(path)
    counted = counted_checkpoints(rows, bool(use_untrained_model))
    metrics = instance_metrics(rows, bool(only_original_pred), bool(use_untrained_model))
    if not len(metrics["index"]):
        raise InputError(f"--only_original_pred 1: {path} has no instance that was ever classified correctly")
    columns = np.searchsorted(rows["index"][0], metrics["index"])
    shown = within_class(metrics) | {"flip_rate": metrics["flip_rate"]} if relative else metrics
    return Statistics(Path(path), rows, counted, metadata, shown, columns, metrics, bool(relative))


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the dataset, which are by default the ones that the statistics were collected with."""
    arguments.add_data_arguments(parser)
    # None stands for "not given": then the value comes from the JSON beside the statistics file.
    parser.set_defaults(dataset_name=None, download=None, num_workers=None, skip_corrupt=None)


def load_dataset(args: argparse.Namespace, statistics: Statistics):
    """The instances that the statistics were collected on, in the dataset that the arguments or the JSON name.

    Raises InputError if it cannot be loaded or is another one.
    """
    used = statistics.metadata.get("arguments", {})

    def option(name: str, default: Any = None) -> Any:
        given = getattr(args, name)
        return used.get(name, default) if given is None else given

    name = option("dataset_name")
    if name is None:
        raise InputError(f"--dataset_name is missing: there is no JSON beside {statistics.path} that names the dataset")
    dataset = datasets.load(
        name,
        statistics.metadata.get("split", "train"),
        data_dir=option("data_dir"),
        download=option("download", 0),
        image_size=option("image_size"),
        dataset_len=option("dataset_len"),
        seed=used.get("seed", 0),
        num_workers=option("num_workers", 0),
        skip_corrupt=option("skip_corrupt", 0),
        **{name: option(name) for name in arguments.TEXT_ARGUMENTS},
    )
    records.check_dataset(statistics.rows, statistics.metadata, dataset, statistics.path)
    return dataset


@dataclass(frozen=True)
class Perturber:
    """The perturbation of a statistics file as its last checkpoint drew it."""

    name: str
    severity: int
    seed: int
    draw: int

    def __call__(self, images, indices):
        """Perturbed images, float32 [B,3,H,W] in [0,1], of instances with these indices, int64 [B]."""
        return perturbations.perturb(self.name, images, self.severity, indices, self.seed, self.draw)


def perturber(statistics: Statistics) -> Perturber | None:
    """How to make the perturbed inputs again; None where that takes the model, or nothing tells how."""
    how = choice.last_perturbation(statistics.metadata, len(statistics.rows))
    if how is None or perturbations.CATALOGUE[how["name"]].needs_gradient:
        return None
    return Perturber(how["name"], how["severity"], how["seed"], how["draw"])


def pictures(
    dataset, index: np.ndarray, perturb: Perturber | None, batch_size: int = IMAGES_PER_BATCH
) -> Iterator[list[np.ndarray]]:
    """The images of instances with these indices (int64 [K], any order), batch by batch.

    Yields the clean images, uint8 [B,H,W,3], and with a `perturb` the perturbed ones.
    """
    import torch

    # Not from_numpy: the indices may lie in a memory map that must not be written to.
    positions = torch.tensor(np.searchsorted(dataset.index.numpy(), index))
    with torch.inference_mode():
        for batch in dataset.batches(positions.split(batch_size), "cpu"):
            clean = batch.inputs["pixel_values"]
            yield [_pixels(images) for images in ([clean] if perturb is None else [clean, perturb(clean, batch.index)])]


def _pixels(images) -> np.ndarray:
    """float [B,3,H,W] in [0,1] to uint8 [B,H,W,3]."""
    return images.mul(255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def texts(dataset, index: np.ndarray) -> list[str]:
    """The texts (or files) of instances with these indices, int64 [K]."""
    return [str(dataset.sources[position]) for position in np.searchsorted(dataset.index.numpy(), index)]


def rankable(metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The metrics with what is not finite as a very large number: a run that diverged can be looked at, too."""
    large = np.finfo(np.float64).max
    return {name: np.nan_to_num(values, nan=large, posinf=large) for name, values in metrics.items()}


def perturbed_texts(dataset, index: np.ndarray, perturb: Perturber) -> list[str]:
    """As `texts`, as the perturbation rewrites them."""
    import torch

    positions = np.searchsorted(dataset.index.numpy(), index)
    columns = [
        perturbations.perturb_texts(
            perturb.name,
            [texts[position] for position in positions],
            perturb.severity,
            torch.as_tensor(index),
            perturb.seed,
            perturb.draw,
            number,
        )
        for number, texts in enumerate(dataset.columns)
    ]
    return [PAIR_SEPARATOR.join(texts) for texts in zip(*columns)]


def group_numbers(metrics: Mapping[str, np.ndarray]) -> np.ndarray:
    """The group of each instance, uint8 [M], a position in `GROUPS`: the thirds of all instances by sensitivity."""
    from robust_data import selection

    names = list(GROUPS)
    numbers = np.full(len(metrics["index"]), names.index("swing"), dtype=np.uint8)
    if len(numbers) > 1:
        for group in ("robust", "non_robust"):
            chosen = selection.group(rankable(metrics), group, 1 / len(names))
            numbers[np.searchsorted(metrics["index"], chosen)] = names.index(group)
    return numbers


def examples(metrics: Mapping[str, np.ndarray], labels: Sequence[int], count: int) -> dict[tuple[int, str], np.ndarray]:
    """By class and group of `group_numbers`: up to `count` rows of `metrics` (int64) that stand for it, best first.

    The most robust of the robust, the least robust of the non-robust, of the swing those nearest to the middle rank
    of all instances. None where the class has none in the group; never one instance for two groups.
    """
    from robust_data import selection

    order = np.searchsorted(metrics["index"], selection.group(rankable(metrics), "robust", 1.0))
    from_middle = np.argsort(np.abs(np.arange(len(order)) - (len(order) - 1) / 2), kind="stable")
    orders = {"robust": order, "swing": order[from_middle], "non_robust": order[::-1]}
    numbers = group_numbers(metrics)
    chosen = {}
    for number, group in enumerate(GROUPS):
        of_group = orders[group][numbers[orders[group]] == number]
        for label in labels:
            chosen[label, group] = of_group[metrics["golden_label"][of_group] == label][:count]
    return chosen


def check_folder(path: Path) -> None:
    """Refuse an output that has no folder to lie in, before any work is done for it."""
    if not path.parent.is_dir():
        raise InputError(f"--output {path} cannot be written: there is no folder {path.parent}; make it")


def warn(message: str) -> None:
    """One line on stderr."""
    print(f"warning: {message}", file=sys.stderr)
