"""The instances that stand for each group and class, and how a figure words them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plot_utils import instances
from plot_utils.instances import GROUPS
from robust_data.analysis.statistics_file import StatisticsFile


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
    chosen = instances.examples(metrics, labels, count)
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
