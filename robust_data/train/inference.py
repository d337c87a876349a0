"""Passes of a model over a data set without training: eval mode, gradients off, each process its own batches."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import torch
from torch import nn
from tqdm import tqdm

from robust_data.datasets.base import Dataset
from robust_data.perturbations import GradientTally
from robust_data.registry import warn_once
from robust_data.train import distributed, launch
from robust_data.train.by_length import part

# On a CPU, batches of 64 images of 32 px pass through ResNet-20 twice as fast as 256 at once.
CPU_BATCH = 64


def progress_bar(what: str, instances: int) -> tqdm:
    """A bar that counts instances: of the main process, on a terminal, once the work has lasted a second."""
    shown = launch.rank() == 0 and sys.stderr is not None
    # None leaves it to tqdm to ask whether there is a terminal.
    return tqdm(
        total=instances,
        desc=what,
        unit="inst",
        leave=False,
        dynamic_ncols=True,
        delay=1,
        disable=None if shown else True,
    )


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Run the model in bfloat16 where it can, with `precision` "bf16" or "bf16_weights"; "fp32" changes nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision.startswith("bf16"))


def predict(model: nn.Module, inputs: dict[str, torch.Tensor], precision: str) -> torch.Tensor:
    """Logits [B, C] of a batch of any size; a CPU works through it in parts that stay in its cache."""
    some_input = next(iter(inputs.values()))
    with autocast(some_input.device, precision):
        if some_input.device.type != "cpu":
            return model(inputs)
        starts = range(0, len(some_input), CPU_BATCH)
        return torch.cat([model(part(inputs, slice(start, start + CPU_BATCH))) for start in starts])


@contextlib.contextmanager
def inference(model: nn.Module, what: str, instances: int) -> Iterator[tqdm]:
    """Switch the model to eval mode and gradients off in this block; yields the `progress_bar` of the instances.

    what: its title. instances: those that this process visits.
    """
    # Not inference mode: what a model keeps of a pass, as a table of positions, must enter a gradient later.
    with evaluation_mode(model), torch.no_grad(), progress_bar(what, instances) as counted:
        yield counted


def warn_of_zero_gradients(tally: GradientTally, what: str) -> None:
    """Warn of attacked inputs whose gradient was 0 at every step, over all processes, which must all call this."""
    flat, attacked = distributed.sum_over_processes(tally.counts()).tolist()
    if flat:
        warn_once(
            f"{what}: the gradient was 0 at every step for {flat} of {attacked} attacked inputs, so the attack did not "
            "move them; their robustness is not shown"
        )


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch every module to eval mode, and each back to what it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def own_share(dataset: Dataset, batch_size: int) -> list[torch.Tensor]:
    """The batches of positions that this process works on: whole batches of the common order, dealt in turn.

    Whole batches, so that the arithmetic of a batch is the same however many processes there are.
    """
    return list(dataset.collection_order().split(batch_size))[distributed.rank() :: distributed.world_size()]


def extra_batches(dataset: Dataset, batch_size: int) -> list[torch.Tensor]:
    """What this process passes after its share, for nothing, so that every process has equally many batches.

    A model whose weights are spread over the processes (FSDP) makes them wait for one another in every pass.
    """
    order = dataset.collection_order().split(batch_size)
    most = -(-len(order) // distributed.world_size())
    return list(order[: most - len(own_share(dataset, batch_size))])
