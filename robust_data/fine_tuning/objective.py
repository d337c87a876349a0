"""What a fine-tuning run minimises, and what it logs of the losses on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from perturbations.sampling import finest_float
from robust_data.fine_tuning.methods import Method
from robust_data.running import distributed
from robust_data.running.training import cross_entropy

if TYPE_CHECKING:
    from datasets.base import Dataset


class Objective:
    """The losses that a run minimises; it also sums up the cross-entropy of chosen and of other instances in an epoch.

    method: says what is minimised. chosen: bool, by the index of the instance; the log calls the chosen ones robust.
    """

    def __init__(self, method: Method, chosen: torch.Tensor):
        self.method = method
        self.chosen = chosen
        self._sums = torch.zeros(4, dtype=torch.float64)
        self._lowest = torch.tensor(torch.inf, dtype=torch.float64)

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        chosen = self.chosen[index].to(logits.device, non_blocking=logits.device.type == "cuda")
        losses = cross_entropy(logits, labels, index)
        finest = finest_float(logits.device)
        values, both = losses.detach().to(finest), torch.stack([chosen, ~chosen]).to(finest)
        self._sums = self._sums.to(finest).to(values.device) + torch.cat([both @ values, both.sum(dim=1)])
        self._lowest = torch.minimum(self._lowest.to(finest).to(values.device), self.method.level(values, chosen))
        return self.method.losses(logits, labels, losses, chosen)

    def end_epoch(self) -> dict[str, float | None]:
        """The mean cross-entropy of the epoch, and that of chosen and of other instances; the next epoch starts at 0.

        The last two only where all are trained on: of a subset they are what the log has of the subset itself. None
        stands for no instance.
        """
        robust, other, robust_count, other_count = self._all_sums().tolist()
        self._sums = torch.zeros_like(self._sums)
        count = robust_count + other_count
        figures = {"train_cross_entropy": (robust + other) / count if count else None}
        if not self.method.trains_on_all:
            return figures
        return figures | {
            "train_loss_robust": robust / robust_count if robust_count else None,
            "train_loss_other": other / other_count if other_count else None,
        }

    def lowest(self) -> float:
        """How low the losses of the chosen instances have come, see `Method.level`; every process must call it."""
        return distributed.least_over_processes(float(self._lowest))

    def _all_sums(self) -> torch.Tensor:
        return distributed.sum_over_processes(self._sums).cpu()

    def state(self) -> dict[str, Any]:
        """What the epoch has summed up so far, the same on every process; every process must call it."""
        return {"sums": self._all_sums(), "lowest": self.lowest()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from such sums: the main process takes them, the others start at 0."""
        self._sums = state["sums"] if distributed.is_main() else torch.zeros_like(state["sums"])
        self._lowest = torch.tensor(state["lowest"], dtype=torch.float64)


def chosen_flags(dataset: Dataset, index: np.ndarray) -> torch.Tensor:
    """Whether an instance is one of these: bool, by the index of the instance in the training split."""
    flags = torch.zeros(int(dataset.index.max()) + 1, dtype=torch.bool)
    flags[torch.from_numpy(index)] = True
    return flags
