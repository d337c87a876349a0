"""What lets a large model fit, or run faster, and leaves what it computes as it is, up to rounding."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from robust_data.registry import InputError
from robust_data.settings import Run
from robust_data.train.parts import has_batch_norm


def prepared(model: nn.Module, run: Run) -> nn.Module:
    """The model itself, changed as the settings say: the type of its weights, what its blocks keep, whether compiled.

    Raises InputError for a model without a row of blocks, or with batch norm, whose activations cannot be left out.
    """
    if run.precision == "bf16_weights":
        getattr(model, "takes_embeddings", None)  # found out by a trial, in full precision
        _to_bfloat16(model)
    if run.checkpoint_activations:
        _checkpoint(model)
    if run.compile:
        for module in [model] if has_batch_norm(model) else blocks(model) or [model]:
            module.compile()
    return model


def blocks(model: nn.Module) -> list[nn.Module]:
    """The largest row of modules in a model that follow one another, but for its last where that is a linear layer."""
    rows = [module for module in model.modules() if isinstance(module, nn.ModuleList | nn.Sequential)]
    largest = max((list(row) for row in rows if len(row) > 1), key=_weights, default=[])
    return largest[:-1] if largest and isinstance(largest[-1], nn.Linear) else largest


def _weights(row: Sequence[nn.Module]) -> int:
    return sum(weight.numel() for module in row for weight in module.parameters())


def _to_bfloat16(model: nn.Module) -> None:
    """Keep weights in bfloat16: the frozen ones, or where all are trained all; batch norms stay as they are."""
    frozen = not all(weight.requires_grad for weight in model.parameters())
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            if not isinstance(module, nn.modules.batchnorm._BatchNorm) and not (frozen and weight.requires_grad):
                weight.data = weight.data.to(torch.bfloat16)


def _checkpoint(model: nn.Module) -> None:
    """Keep of each block its inputs alone; a backward pass, of training or of an attack, computes the rest anew."""
    row = blocks(model)
    if not row or has_batch_norm(model):
        why = "has batch norm, whose statistics would move twice" if row else "has no row of blocks"
        raise InputError(f"--checkpoint_activations 1: the model {why}; leave it out, or give --accumulate")
    for block in row:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
