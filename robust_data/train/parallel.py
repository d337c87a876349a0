"""A model that several processes train together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from robust_data.train import distributed
from robust_data.train.inference import evaluation_mode


class SynchronisedBatchNorm(nn.SyncBatchNorm):
    """Batch norm over all processes; what merely stands in for an empty share stays out of the statistics."""

    stands_in = False

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not (self.training and self.stands_in):
            return super().forward(input)
        # With nothing to add the process still takes part in the exchange, forward and backward; in float32, in which
        # the others exchange theirs whatever the precision.
        nothing = super().forward(input[:0].float())
        normed = nn.functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )
        return torch.cat([nothing.to(normed.dtype), normed])


def over_processes(
    model: nn.Module, device: torch.device, one_input: Callable[[], dict[str, torch.Tensor]]
) -> nn.Module:
    """The model itself, or with several processes the model in DistributedDataParallel.

    On GPUs its batch norms then take their statistics over the global batch; on CPUs, for which torch has no
    such layer, each process takes its own, and the running ones are the main process's. one_input: gives the
    inputs of one instance.
    """
    if distributed.world_size() == 1:
        return model
    unused = unused_parameters(model, one_input())
    if device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place, with the same parameters
        for module in model.modules():
            if isinstance(module, nn.SyncBatchNorm):
                module.__class__ = SynchronisedBatchNorm
    return nn.parallel.DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        # It would wait for their gradients for ever; to look for them costs a walk through the graph at every step.
        find_unused_parameters=bool(unused),
    )


def is_sharded(model: nn.Module) -> bool:
    """Whether the weights are spread over the processes, by FSDP."""
    return any(isinstance(weight, DTensor) for weight in model.parameters())


def unused_parameters(model: nn.Module, inputs: dict[str, torch.Tensor]) -> list[str]:
    """The names of the trainable parameters that have no part in the logits of these inputs, in eval mode.

    DINOv2's mask token is one: it serves another task than classification.
    """
    with evaluation_mode(model), torch.enable_grad():
        waiting = [model(inputs).grad_fn]
    reached = set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in reached:
            reached.add(node)
            waiting += [source for source, _ in node.next_functions]
    used = {id(node.variable) for node in reached if hasattr(node, "variable")}
    trainable = ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
    return [name for name, parameter in trainable if id(parameter) not in used]
