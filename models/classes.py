"""The classes of a trained model, brought to the numbers that a data set gives them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from robust_data.registry import InputError

# The largest share of the logits by which two ways of classifying the same input may differ, from rounding.
ROUNDING = 1e-4

# What helps with a classifier of images whose classes cannot be brought to those of the data set.
FROM_RANDOM = "start from random weights by --pretrained 0"


def order_classes(
    model: nn.Module,
    theirs: Sequence[Any],
    label_names: Sequence[str],
    batch: dict[str, torch.Tensor],
    name: str,
    remedy: str,
) -> bool:
    """Give the classes of the last layer the numbers that they have in `label_names`; whether that moved any.

    theirs: the names by which the model knows its classes, in its order. batch: inputs for a trial. Raises InputError,
    with the model's name and the remedy, where a name that both have has another number and the others cannot be told
    by theirs.
    """
    theirs, ours = ([_plain_name(label) for label in labels] for labels in (theirs, label_names))
    shared = set(ours) & set(theirs)
    if all(ours.index(label) == theirs.index(label) for label in shared):
        return False
    order = [theirs.index(label) for label in ours] if shared == set(ours) else []
    if sorted(order) != list(range(len(theirs))) or not _reordered(model, order, batch):
        raise InputError(
            f"--model_name {name} numbers its classes {', '.join(theirs)}, the dataset {', '.join(ours)}; name a model "
            f"of the dataset's classes, or {remedy}"
        )
    return True


def trial_images(image_size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Two images of noise, always the same, for a trial."""
    return {"pixel_values": torch.rand(2, 3, *image_size, generator=torch.Generator().manual_seed(0))}


def note_classes(config: Any, label_names: Sequence[str]) -> None:
    """Write the names of the classes into a configuration of transformers."""
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: number for number, name in enumerate(label_names)}


def _reordered(model: nn.Module, order: list[int], batch: dict[str, torch.Tensor]) -> bool:
    """Put the rows of the last layer in another order; False where that is not all it takes."""
    heads = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    head = next((module for module in reversed(heads) if module.weight.shape[0] == len(order)), None)
    if head is None:
        return False
    with trial(model):
        expected = model(batch)[:, order]
        for values in filter(torch.is_tensor, (head.weight, head.bias)):
            values.copy_(values[order])
        return agree(model(batch), expected)


@contextlib.contextmanager
def trial(model: nn.Module) -> Iterator[None]:
    """In eval mode, without gradients, in full precision, whatever that of the run."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for module in training:
            module.training = True


def agree(logits: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether logits differ by no more than rounding explains."""
    if logits.shape != expected.shape:
        return False
    return bool((logits - expected).abs().max() <= ROUNDING * expected.abs().max())


def _plain_name(label: Any) -> str:
    """The name of a class without what models and data sets write differently."""
    return str(label).strip().lower().replace("-", "_").replace(" ", "_")
