"""The figures of a run's log once more for TensorBoard, an optional package: scalars over the global step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robust_data.files import fitting
from robust_data.judge.curve import ATTACK_SIZE
from robust_data.judge.epoch_log import epochs_of
from robust_data.registry import InputError, one_line
from robust_data.selection import SENSITIVITY_GROUPS
from robust_data.train import launch

# What is no curve: the axis itself, and the arguments that stand beside an accuracy under attack.
NO_POINTS = {"global_step", *ATTACK_SIZE}
PATTERN = "events.out.tfevents.*"
UNDER_PERTURBATION = ("pgd_accuracy", "perturbed_accuracy")
OF_A_GROUP = ("_robust", "_other")
CLEAN = ("_loss", "_accuracy", "_cross_entropy")


class Points:
    """The points of one run, in event files of its own: `tensorboard/<run>/` beside the log.

    Within a `with` block every epoch of the log is in them exactly once: to enter it writes them anew from the log, and
    `add` adds an epoch. So nothing is lost and nothing is there twice, whenever an earlier process was killed. Only the
    main process writes, and where they are not wanted none does. Raises InputError if the package cannot be used.
    """

    def __init__(self, wanted: bool, log: Path, run: str):
        self.log, self.run = log, run
        self.folder = log.parent / "tensorboard" / fitting(run.replace("/", "_"))
        self._wanted = wanted and launch.rank() == 0
        self._writer: Any = None

    def __enter__(self) -> Points:
        if not self._wanted:
            return self
        try:
            from torch.utils.tensorboard import SummaryWriter
        except Exception as error:  # a package that does not fit to the others raises almost anything
            raise InputError(
                f"--tensorboard 1: the package tensorboard cannot be imported ({one_line(error, 200)}); "
                "pip install --upgrade tensorboard, or leave it out"
            ) from None
        for earlier in self.folder.glob(PATTERN):
            earlier.unlink()
        # A TensorBoard that looks on forgets what it has read in the earlier files.
        self._writer = SummaryWriter(self.folder, purge_step=0)
        for figures in epochs_of(self.log, self.run):
            self._write(figures)
        self._writer.flush()
        return self

    def add(self, figures: Mapping[str, Any]) -> None:
        """Add the figures of an epoch that has just been logged, and put them on the disk."""
        if self._writer is not None:
            self._write(figures)
            self._writer.flush()

    def write_if_missing(self) -> None:
        """Write the points of a run that was found finished, and had none yet."""
        if self._wanted and not any(self.folder.glob(PATTERN)):
            with self:
                pass

    def __exit__(self, *failure: object) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, figures: Mapping[str, Any]) -> None:
        for name, value in points(figures):
            self._writer.add_scalar(f"{section(name)}/{name}", value, figures["global_step"])


def points(figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Those figures of an epoch that make a curve: numbers, finite ones, that belong to the epoch."""
    for name, value in figures.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and math.isfinite(value) and name not in NO_POINTS:
            yield name, value


def section(name: str) -> str:
    """Where TensorBoard shows a figure: with those of clean inputs, of perturbed ones, of groups, or of the run."""
    if name.endswith(OF_A_GROUP) or name in {f"{group}_loss" for group in SENSITIVITY_GROUPS}:
        return "groups"
    if name.endswith(UNDER_PERTURBATION):
        return "perturbed"
    return "clean" if name.endswith(CLEAN) else "run"
