"""What the axes and colours of a map show, by what was measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

from robust_data.analysis.statistics_file import StatisticsFile


@dataclass(frozen=True)
class Plane:
    """What a map shows: the metrics to the right and upwards, the share that its colours tell, and their names.

    thirds: whether lines part the thirds of the instances upwards.
    """

    x: str
    y: str
    share: str
    x_name: str
    y_name: str
    x_meaning: str
    y_meaning: str
    unit: str
    thirds: bool

    @property
    def x_label(self) -> str:
        return f"{self.x_name}: {self.x_meaning}{self.unit}"

    @property
    def y_label(self) -> str:
        return f"{self.y_name}: {self.y_meaning}{self.unit}"


ROBUST_DATA_MAP = Plane(
    *("perturbed_loss_std", "perturbed_loss_mean", "flip_rate", "variability", "sensitivity"),
    *("standard deviation of the perturbed loss", "mean perturbed loss", " (nats)"),
    thirds=True,
)
DATA_MAP = Plane(
    *("cartography_variability", "confidence", "correctness", "variability", "confidence"),
    *("standard deviation of the golden label's probability", "mean probability of the golden label", ""),
    thirds=False,
)


# Over one checkpoint there is no variability.
LOSS_ON_CLEAN = {"x": "original_loss_mean", "x_name": "clean loss", "x_meaning": "loss on the clean input"}


def plane(statistics: StatisticsFile) -> Plane:
    """The map of a file: the robust data map, or of clean inputs alone that of dataset cartography."""
    shown = DATA_MAP if statistics.clean_only else ROBUST_DATA_MAP
    return shown if len(statistics.counted) > 1 else replace(shown, **LOSS_ON_CLEAN)
