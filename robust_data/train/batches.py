"""Which instances share a step of training, and which of them each process takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from robust_data.registry import InputError
from robust_data.train import distributed
from robust_data.train.inference import evaluation_mode


class Batches:
    """Cuts an epoch's instances into batches of `size`, the last of them smaller.

    Where a batch norm of the model would see one value per channel of a single instance, which it refuses, a last
    batch of one instance joins the one before it, and no process takes a single instance. Batches do not depend on
    how many processes there are. counts: the instances of each subset to train on. one_input: gives the inputs of one
    instance. Raises InputError where such a model would always get a single instance.
    """

    def __init__(
        self, model: nn.Module, size: int, counts: Sequence[int], one_input: Callable[[], Mapping[str, torch.Tensor]]
    ):
        sizes = {min(size, count) for count in counts} | {count % size for count in counts} - {0}
        may_be_alone = any(batch < 2 * distributed.world_size() for batch in sizes)
        self.size = size
        self._least = 2 if may_be_alone and _needs_two(model, one_input) else 1
        if self._least > min(size, *counts):
            given, remedy = ("--bsz 1", "--bsz 2") if size == 1 else ("one instance to train on", "two instances")
            raise InputError(f"{given}: the model's batch norm needs more; give {remedy} or more, or another model")

    def count(self, instances: int) -> int:
        """How many batches so many instances are cut into."""
        whole, rest = divmod(instances, self.size)
        return whole + (rest >= self._least or (rest > 0 and whole == 0))

    def cut(self, positions: torch.Tensor) -> list[torch.Tensor]:
        """The batches of an epoch's positions, int64, in order."""
        batches = list(positions.split(self.size))
        if len(batches) > self.count(len(positions)):
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def share(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The positions of a batch that count for this process, and those that it shows the model.

        A process left without any still takes part, with some that count for nothing.
        """
        taking_part = min(distributed.world_size(), max(1, len(batch) // self._least))
        share = batch[distributed.rank() :: taking_part] if distributed.rank() < taking_part else batch[:0]
        return share, share if len(share) else batch[: self._least]


def _needs_two(model: nn.Module, one_input: Callable[[], Mapping[str, torch.Tensor]]) -> bool:
    """Whether a batch norm would see one value per channel if the model were trained on one instance."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return False
    alone = []

    def look(norm: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        alone.append(inputs[0].numel() == inputs[0].shape[1])

    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    try:
        # In eval mode, so that the running statistics stay as they are.
        with evaluation_mode(model), torch.no_grad():
            model(one_input())
    finally:
        for hook in hooks:
            hook.remove()
    return any(alone)
