"""The progress of a fine-tuning run, kept on the disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from robust_data.fine_tune.objective import Objective
from robust_data.settings import FineTune
from robust_data.train import distributed, launch
from robust_data.train.resume import RunState, StopRequest, follow
from robust_data.train.training import Trainer


class Progress:
    """How far a fine-tuning run has come, kept on the disk so that the same command goes on from there.

    figures: of the last epoch. row: the run's row for the results file, None until all is measured. told: lines
    about the attacks on words.
    """

    def __init__(self, job: FineTune, state: RunState):
        self.job, self.state = job, state
        self.figures: dict[str, Any] = {}
        self.row: dict[str, Any] | None = None
        self.told: list[str] = []
        self._started = time.perf_counter()
        self._seconds_before = 0.0
        if job.overwrite and distributed.is_main():
            state.remove_foreign()
        self._saved = state.load()

    def follow(
        self, trainer: Trainer, objective: Objective, log: Callable[[dict[str, Any]], None], stop: StopRequest
    ) -> None:
        """Go on from the saved state, if there is one, and save from now on.

        log: completes the figures of an epoch and logs them.
        """
        self.trainer, self.objective, self.log = trainer, objective, log
        follow(trainer, self.state, stop, self.save, self.job.save_every, self._end_epoch)
        if self._saved is None:
            return
        with self.state.restoring():
            trainer.load_state(self._saved["trainer"])
            objective.load_state(self._saved["objective"])
            self.figures, self.told = dict(self._saved["figures"]), list(self._saved["told"])
            self.row = None if self._saved["row"] is None else dict(self._saved["row"])
            self._seconds_before = float(self._saved["seconds"])
        self._saved = None  # as large as the model and its optimizer
        launch.say(f"going on at step {trainer.step} of {trainer.total_steps}")

    def seconds(self) -> float:
        """How long the run has taken; of its earlier parts, what they took up to their last save."""
        return self._seconds_before + time.perf_counter() - self._started

    def save(self) -> None:
        """Write the state; every process must call it."""
        self.state.save(
            {
                "trainer": self.trainer.state(),
                "objective": self.objective.state(),
                "figures": self.figures,
                "row": self.row,
                "told": self.told,
                "seconds": self.seconds(),
            }
        )

    def _end_epoch(self, figures: dict[str, Any]) -> None:
        self.log(figures)
        self.figures = figures
        self.save()
