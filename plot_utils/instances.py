"""What figures show of single instances: the group, the input, and the perturbed input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robust_data import perturbations, selection
from robust_data.analysis.statistics_file import StatisticsFile
from robust_data.datasets.base import Dataset
from robust_data.datasets.tokens import PAIR_SEPARATOR
from robust_data.registry import InputError, LazyModule, printable

torch = LazyModule("torch")

GROUPS = {name: name.replace("_", "-") for name in selection.SENSITIVITY_GROUPS}
IMAGES_PER_BATCH = 256


@dataclass(frozen=True)
class Perturber:
    """The perturbation of a statistics file, with the random draws of its last checkpoint."""

    name: str
    severity: int
    seed: int
    draw: int

    def __call__(self, images: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Perturbed images, float32 [B,3,H,W] in [0,1], of instances with these indices, int64 [B]."""
        return perturbations.perturb(self.name, images, self.severity, indices, self.seed, self.draw)


def perturber(statistics: StatisticsFile) -> Perturber | None:
    """Makes the perturbed inputs again; None if that needs the model, or the perturbation is unknown."""
    how = statistics.perturbation()
    if how is None or perturbations.CATALOGUE[how["name"]].needs_gradient:
        return None
    return Perturber(how["name"], how["severity"], how["seed"], how["draw"])


def pictures(
    dataset: Dataset, index: np.ndarray, perturb: Perturber | None, batch_size: int = IMAGES_PER_BATCH
) -> Iterator[list[np.ndarray]]:
    """The images of instances with these indices (int64 [K], any order), batch by batch.

    Yields the clean images, uint8 [B,H,W,3], and with a `perturb` the perturbed ones.
    """
    # Not from_numpy: the indices may lie in a memory map that must not be written to.
    positions = torch.tensor(np.searchsorted(dataset.index.numpy(), index))
    with torch.inference_mode():
        for batch in dataset.batches(positions.split(batch_size), "cpu"):
            clean = batch.inputs["pixel_values"]
            yield [pixels(images) for images in ([clean] if perturb is None else [clean, perturb(clean, batch.index)])]


def pixels(images: torch.Tensor) -> np.ndarray:
    """Images, float [B,3,H,W] in [0,1], as uint8 [B,H,W,3]."""
    return images.mul(255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def texts(dataset: Dataset, index: np.ndarray) -> list[str]:
    """The texts (or files) of instances with these indices, int64 [K]."""
    return [printable(dataset.sources[position]) for position in np.searchsorted(dataset.index.numpy(), index)]


def rankable(metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The metrics with a very large number for every value that is not finite, so that a run that diverged is shown."""
    large = np.finfo(np.float64).max
    return {name: np.nan_to_num(values, nan=large, posinf=large) for name, values in metrics.items()}


def perturbed_texts(dataset: Dataset, index: np.ndarray, perturb: Perturber) -> list[str]:
    """The texts of instances with these indices, int64 [K], as the perturbation rewrites them."""
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


@dataclass(frozen=True)
class Sample:
    """One instance as it is shown: names of classes, correctness at the last checkpoint, sensitivity in nats."""

    index: int
    label: int
    label_name: str
    group: str
    clean_class: str
    perturbed_class: str
    clean_correct: bool
    perturbed_correct: bool
    sensitivity: float


def choose_samples(statistics: StatisticsFile, labels: Sequence[int], count: int) -> list[Sample]:
    """Up to `count` instances of each class in each group, by class, then group, best first."""
    last, metrics = statistics.rows[-1], statistics.metrics
    chosen = examples(metrics, labels, count)
    samples = []
    for label in labels:
        for group in GROUPS:
            for row in chosen[label, group]:
                record = last[statistics.columns[row]]
                samples.append(
                    Sample(
                        int(metrics["index"][row]),
                        label,
                        statistics.label_name(label),
                        group,
                        statistics.label_name(int(record["original_class"])),
                        statistics.label_name(int(record["after_perturb_class"])),
                        bool(record["original_pred"]),
                        bool(record["after_perturb_pred"]),
                        float(metrics["perturbed_loss_mean"][row]),
                    )
                )
    return samples


def predictions(sample: Sample, length: int) -> tuple[str, str]:
    """The class predicted for the clean and for the perturbed input, each with a mark that says if it is right."""
    marks = {True: "\N{CHECK MARK}", False: "\N{BALLOT X}"}
    return (
        f"{marks[sample.clean_correct]} {shortened(sample.clean_class, length)}",
        f"{marks[sample.perturbed_correct]} {shortened(sample.perturbed_class, length)}",
    )


def shortened(text: str, length: int) -> str:
    """The text, or as much of it as fits with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def check_folder(path: Path) -> None:
    """Refuse, before the work starts, an output whose folder does not exist."""
    if not path.parent.is_dir():
        raise InputError(f"--output {path} cannot be written: the folder {path.parent} does not exist; make it")
