"""Texts of a batch that are of a length pass through a model together, so that little of the work is padding."""

from __future__ import annotations

import torch
from torch import nn

# What a part of a batch costs beside its tokens, as many as this; measured on BERTs of 2 and 4 layers.
PART_COST = 12


class ByLength(nn.Module):
    """A text classifier that is shown a batch in parts, each padded to its own longest text.

    Its logits [B, C] are in the order of the batch, and so is all that is computed from them: losses and gradients
    are those of the whole batch, to rounding. Dropout draws part by part.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        tables = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
        learned = sum(table.numel() for table in tables if table.requires_grad)
        others = sum(weight.numel() for weight in model.parameters()) - sum(table.numel() for table in tables)
        # A token costs by the other weights, but the gradient of each part fills the tables of embeddings anew.
        self._part_cost = PART_COST * (1 + learned / max(1, others))

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        parts = parts_by_length(inputs["attention_mask"].sum(dim=1), self._part_cost)
        logits = torch.cat([self.model(part(inputs, rows)) for rows in parts])
        return logits[torch.cat(parts).argsort()]


def parts_by_length(lengths: torch.Tensor, cost: float) -> list[torch.Tensor]:
    """The rows of a batch, int64 each, in the parts that cost least.

    lengths: int64 [B], tokens of each text. A part costs `cost` tokens and its texts times its longest one.
    """
    order = lengths.argsort(stable=True)
    ordered = lengths[order].tolist()
    # The least cost of the first texts, by their number, and where the last of their parts begins.
    least, begins = [0.0], [0]
    for end, longest in enumerate(ordered, start=1):
        total, begin = min((least[begin] + (end - begin) * longest + cost, begin) for begin in range(end))
        least.append(total)
        begins.append(begin)
    parts, end = [], len(ordered)
    while end:
        parts.append(order[begins[end] : end])
        end = begins[end]
    return parts[::-1]


def part(inputs: dict[str, torch.Tensor], rows: torch.Tensor | slice) -> dict[str, torch.Tensor]:
    """Some instances of a batch; texts without the padding that only others of the batch need."""
    chosen = {name: values[rows] for name, values in inputs.items()}
    if "attention_mask" not in chosen:
        return chosen
    filled = chosen["attention_mask"].any(dim=0).nonzero().flatten().tolist() or [0]
    return {name: values[:, filled[0] : filled[-1] + 1] for name, values in chosen.items()}
