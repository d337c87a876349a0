"""Batches that do not fit in the memory at once: passed in parts, to the same result up to rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from robust_data.datasets.base import Batch
from robust_data.registry import one_line, warn_once
from robust_data.train.by_length import part

T = TypeVar("T")


class InParts(nn.Module):
    """A model that is shown a batch in `count` parts, of which only one keeps its activations at a time.

    Its logits [B, C] and all that is computed from them, such as a loss that looks at the whole batch, are those of
    the batch at once. More than one part costs one more pass forward: the backward pass computes each of them anew.
    """

    def __init__(self, model: nn.Module, count: int):
        super().__init__()
        self.model, self.count = model, count

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        size = len(next(iter(inputs.values())))
        if self.count == 1 or size == 1:
            return self.model(inputs)
        rows = torch.arange(size).chunk(self.count)
        shown = (part(inputs, slice(int(some[0]), int(some[-1]) + 1)) for some in rows)
        return torch.cat([checkpoint(self.model, inputs, use_reentrant=False) for inputs in shown])


def has_batch_norm(model: nn.Module) -> bool:
    """Whether some layer of a model takes statistics over the instances of a batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def worked(batches: Iterable[Batch], work: Callable[[Batch], T], splits: bool = True) -> Iterator[tuple[Batch, T]]:
    """Each batch, and what the work gives of it; in halves from where one does not fit in the memory on.

    splits: raise torch.OutOfMemoryError instead, as where other processes wait for a pass over a batch each.
    """
    most: int | None = None
    for batch in batches:
        waiting = [batch]
        while waiting:
            this = waiting.pop()
            if most is not None and len(this) > most:
                parts = torch.arange(len(this), device=this.labels.device).split(most)
                waiting += [this.take(rows) for rows in reversed(parts)]
                continue
            try:
                found = work(this)
            except torch.OutOfMemoryError as error:
                if not splits or len(this) == 1:
                    raise
                reason = one_line(error, 200)
            else:
                yield this, found
                continue
            # Here, as the error's traceback keeps all that the work has made.
            most = (len(this) + 1) // 2
            warn_once(f"{len(this)} instances at once do not fit in the memory ({reason}); going on with {most}")
            waiting.append(this)
