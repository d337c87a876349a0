"""The hidden layers of a model as classifiers of their own, which an attack can follow where the logits mislead it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from robust_data.datasets.base import Batch, Dataset
from robust_data.train.inference import evaluation_mode
from robust_data.train.large import blocks

# So many instances, spread over the data, tell where a class lies in a layer.
SAMPLE = 512
# Where in the row of a model's blocks layers are looked at.
DEPTHS = (1 / 2, 5 / 6)


class NearestMean(nn.Module):
    """Classifies by the class whose mean is nearest in a hidden layer of a model.

    Its logits, [B, C], are minus the squared distances, so that an attack on it leads towards the mean of another
    class in that layer. layer: a module of the model; means: [C, D], as `layer_output` has them, NaN for a
    class that is not known.
    """

    def __init__(self, model: nn.Module, layer: nn.Module, means: torch.Tensor):
        super().__init__()
        self.model, self.layer, self.means = model, layer, means

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        with outputs_of([self.layer]) as found:
            self.model(inputs)
        features = layer_output(found[self.layer], inputs)
        distances = (features[:, None] - self.means.nan_to_num()).square().sum(dim=2)
        return (-distances).masked_fill(self.means.isnan().any(dim=1), -torch.inf)

    def embed(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The model's own word embeddings."""
        return self.model.embed(inputs)


@contextlib.contextmanager
def outputs_of(layers: Sequence[nn.Module]) -> Iterator[dict[nn.Module, torch.Tensor]]:
    """What these modules give in the passes within this block; of several passes the last."""
    found: dict[nn.Module, torch.Tensor] = {}

    def keep(layer: nn.Module, _: tuple, output: torch.Tensor | tuple) -> None:
        found[layer] = output if isinstance(output, torch.Tensor) else output[0]

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def layer_output(values: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """A layer's output as one vector for each instance, float32 [B, D]: the mean over places, or over words.

    values: [B, D], [B, D, H, W] of images, or [B, L, D] of tokens.
    """
    values = values.float()
    if values.ndim == 4:
        return values.mean(dim=(2, 3))
    if values.ndim == 2:
        return values
    mask = inputs.get("attention_mask")
    if mask is None or mask.shape[1] != values.shape[1]:
        return values.mean(dim=1)
    mask = mask[..., None].to(values.dtype)
    return (values * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)


def nearest_means(model: nn.Module, dataset: Dataset, batch_size: int = 64) -> list[NearestMean]:
    """The classifiers of a model's layers, by means over instances spread over a data set; [] where it has none."""
    row = blocks(model)
    layers = list(dict.fromkeys(row[max(0, round(depth * len(row)) - 1)] for depth in DEPTHS if row))
    order, device = dataset.collection_order(), next(model.parameters()).device
    chosen = order[:: max(1, len(order) // SAMPLE)].split(batch_size)
    sums = dict.fromkeys(layers, 0.0)
    with evaluation_mode(model), torch.no_grad():
        for batch in dataset.batches(list(chosen), device) if layers else ():
            with outputs_of(layers) as found:
                model(batch.inputs)
            if not all(_is_of(found.get(layer), batch) for layer in layers):
                return []
            member = nn.functional.one_hot(batch.labels, len(dataset.label_names)).float()
            for layer in layers:
                vectors = layer_output(found[layer], batch.inputs)
                sums[layer] += member.T @ torch.cat([vectors, torch.ones_like(vectors[:, :1])], dim=1)
    return [NearestMean(model, layer, total[:, :-1] / total[:, -1:]) for layer, total in sums.items()]


def _is_of(values: torch.Tensor | None, batch: Batch) -> bool:
    """Whether these are vectors, maps or tokens of the batch's instances."""
    return values is not None and len(values) == len(batch) and values.ndim in (2, 3, 4)
