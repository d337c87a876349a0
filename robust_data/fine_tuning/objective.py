"""What a fine-tuning run minimises, and what it logs of the losses on the way."""

from __future__ import annotations

import numpy as np
import torch

from datasets.base import Dataset
from robust_data.fine_tuning.methods import Method
from robust_data.running import distributed
from robust_data.running.training import cross_entropy


class Objective:
    """The losses that a run minimises; it also sums up the cross-entropy of chosen and of other instances in an epoch.

    method: says what is minimised. chosen: bool, by the index of the instance; the log calls the chosen ones robust.
    """

    def __init__(self, method: Method, chosen: torch.Tensor):
        self.method = method
        self.chosen = chosen
        self._sums = torch.zeros(4, dtype=torch.float64)

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        chosen = self.chosen[index].to(logits.device, non_blocking=True)
        losses = cross_entropy(logits, labels, index)
        values, both = losses.detach().double(), torch.stack([chosen, ~chosen]).double()
        self._sums = self._sums.to(values.device) + torch.cat([both @ values, both.sum(dim=1)])
        return self.method.losses(logits, labels, losses, chosen)

    def end_epoch(self) -> dict[str, float | None]:
        """The mean cross-entropy of the epoch, and that of chosen and of other instances; the next epoch starts at 0.

        The last two only where all are trained on: of a subset they are what the log has of the subset itself. None
        stands for no instance.
        """
        robust, other, robust_count, other_count = self.state().tolist()
        self._sums = torch.zeros_like(self._sums)
        count = robust_count + other_count
        figures = {"train_cross_entropy": (robust + other) / count if count else None}
        if not self.method.trains_on_all:
            return figures
        return figures | {
            "train_loss_robust": robust / robust_count if robust_count else None,
            "train_loss_other": other / other_count if other_count else None,
        }

    def state(self) -> torch.Tensor:
        """The sums of the epoch so far, float64 [4], the same on every process; every process must call it."""
        return distributed.sum_over_processes(self._sums.clone()).cpu()

    def load_state(self, sums: torch.Tensor) -> None:
        """Go on from such sums: the main process takes them, the others start at 0."""
        self._sums = sums if distributed.is_main() else torch.zeros_like(sums)


def chosen_flags(dataset: Dataset, index: np.ndarray) -> torch.Tensor:
    """Whether an instance is one of these: bool, by the index of the instance in the training split."""
    flags = torch.zeros(int(dataset.index.max()) + 1, dtype=torch.bool)
    flags[torch.from_numpy(index)] = True
    return flags
