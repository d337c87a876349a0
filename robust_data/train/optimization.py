"""The optimizer of a training and the schedule of its learning rate, both torch's own."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from robust_data.settings import Training

MOMENTUM = 0.9


def make_optimizer(model: nn.Module, options: Training) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov's momentum; biases and the weights of norms, of one dimension, are not decayed."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=MOMENTUM, nesterov=True)
    # Fused, a step of MiniLM's 22 M weights takes a tenth of the time on a CPU.
    return torch.optim.AdamW(groups, lr=options.lr, eps=options.adam_epsilon, fused=True)


def make_schedule(optimizer: torch.optim.Optimizer, options: Training, total_steps: int) -> LRScheduler:
    """The learning rate of each of the steps: it rises over the warm-up, then falls to 0 at the end.

    "linear" and "cosine" say how it falls; the warm-up is linear. "onecycle" (Smith & Topin 2019) rises from a 25th
    and falls along cosines, and leaves the momentum as it is.
    """
    if options.lr_schedule == "onecycle":
        # One more step than there are, so that the last of them is still above the end. Torch divides by the length of
        # the rise less one.
        steps = total_steps + 1
        rise = min(1.0, max(options.warmup_ratio, 2 / steps))
        return OneCycleLR(optimizer, options.lr, total_steps=steps, pct_start=rise, cycle_momentum=False)
    warmup = math.ceil(options.warmup_ratio * total_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        left = (total_steps - step) / max(1, total_steps - warmup)
        return left if options.lr_schedule == "linear" else (1 - math.cos(math.pi * left)) / 2

    return LambdaLR(optimizer, factor)
