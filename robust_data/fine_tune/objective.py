"""What a fine-tuning run minimises, and what it logs of the losses on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from robust_data.datasets.base import Dataset
from robust_data.fine_tune.methods import Method
from robust_data.perturbations.sampling import finest_float
from robust_data.train import distributed
from robust_data.train.training import cross_entropy


class Objective:
    """The losses that a run minimises; it also sums up the cross-entropy of chosen and of other instances in an epoch.

    method: says what is minimised, of losses with this label smoothing; what is summed up has none. chosen: bool, by
    the index of the instance; the log calls the chosen ones robust.
    """

    def __init__(self, method: Method, chosen: torch.Tensor, label_smoothing: float = 0.0):
        self.method = method
        self.label_smoothing = label_smoothing
        self.chosen = chosen
        self._sums = torch.zeros(4, dtype=torch.float64)
        # Over the whole run: visits to chosen instances, and those of them below the flood level.
        self._visits = torch.zeros(2, dtype=torch.float64)

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        chosen = self.chosen[index].to(logits.device, non_blocking=logits.device.type == "cuda")
        losses = cross_entropy(logits, labels, index)
        finest = finest_float(logits.device)
        values, both = losses.detach().to(finest), torch.stack([chosen, ~chosen]).to(finest)
        self._sums = self._sums.to(finest).to(values.device) + torch.cat([both @ values, both.sum(dim=1)])
        smoothed = cross_entropy(logits, labels, index, self.label_smoothing) if self.label_smoothing else losses
        below = self.method.below_level(smoothed.detach().to(finest), chosen)
        visits = torch.stack([chosen, below]).to(finest).sum(dim=1)
        self._visits = self._visits.to(finest).to(values.device) + visits
        return self.method.losses(logits, labels, smoothed, chosen)

    def end_epoch(self) -> dict[str, float | None]:
        """The mean cross-entropy of the epoch, and that of chosen and of other instances; the next epoch starts at 0.

        With flooding also the share of the visits to chosen instances, since the run began, that came below b.
        The last two only where all are trained on: of a subset they are what the log has of the subset itself. None
        stands for no instance.
        """
        robust, other, robust_count, other_count = self._all(self._sums).tolist()
        self._sums = torch.zeros_like(self._sums)
        count = robust_count + other_count
        figures = {"train_cross_entropy": (robust + other) / count if count else None}
        if self.method.flood_level:
            visits, below = self._all(self._visits).tolist()
            figures["visits_below_b"] = below / visits if visits else None
        if not self.method.trains_on_all:
            return figures
        return figures | {
            "train_loss_robust": robust / robust_count if robust_count else None,
            "train_loss_other": other / other_count if other_count else None,
        }

    def _all(self, sums: torch.Tensor) -> torch.Tensor:
        return distributed.sum_over_processes(sums).cpu()

    def state(self) -> dict[str, Any]:
        """What the epoch has summed up so far, the same on every process; every process must call it."""
        return {"sums": self._all(self._sums), "visits": self._all(self._visits)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from such sums: the main process takes them, the others start at 0."""
        self._sums, self._visits = (
            sums if distributed.is_main() else torch.zeros_like(sums) for sums in (state["sums"], state["visits"])
        )


def chosen_flags(dataset: Dataset, index: np.ndarray) -> torch.Tensor:
    """Whether an instance is one of these: bool, by the index of the instance in the training split."""
    flags = torch.zeros(int(dataset.index.max()) + 1, dtype=torch.bool)
    flags[torch.from_numpy(index)] = True
    return flags
