"""The chosen instances treated differently in a training loop of one's own: flooding, soft labels, subsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import data

from robust_data import complete, losses
from robust_data.analysis.choice import choose as choose_as_settings_say
from robust_data.analysis.held_out import index_list
from robust_data.collection import are_probabilities, refuse_probabilities
from robust_data.reading import open_array, readable
from robust_data.registry import InputError
from robust_data.settings import Choose


class Chosen:
    """Some instances of a data set, asked for by their index. index: int64 [K], the best first."""

    def __init__(self, index: Sequence[int] | np.ndarray | torch.Tensor):
        self.index = torch.as_tensor(np.asarray(index))
        if self.index.ndim != 1 or _is_no_index(self.index) or not len(self.index):
            raise InputError(f"chosen is {self.index.dtype} of shape {list(self.index.shape)}; give a list of indices")
        self.index = self.index.long()

    def __len__(self) -> int:
        return len(self.index)

    def among(self, index: torch.Tensor | Sequence[int], count: int) -> torch.Tensor:
        """Which of a batch of `count` instances are chosen: bool [B]. Raises InputError unless each has its index."""
        index = torch.as_tensor([] if index is None else index)
        if index.shape != (count,) or count and _is_no_index(index):
            got = f"{index.dtype} of shape {list(index.shape)}"
            raise InputError(f"index is {got} for {count} instances; give the position of each, as Indexed adds it")
        if self.index.device != index.device:
            self.index = self.index.to(index.device)
        return torch.isin(index, self.index)


def _is_no_index(values: torch.Tensor) -> bool:
    """Whether these are no whole numbers; True and False of a mask would be taken as instances 1 and 0."""
    return values.dtype.is_floating_point or values.dtype == torch.bool


def choose(source: Any, select_metric: str | None = None, select_ratio: float | None = None, **options: Any) -> Chosen:
    """Choose instances as `scripts/select_instances.py` does, or take those that it, or anyone, has listed.

    source: a statistics file, or indices: an .npy of them, an array or a list. select_metric, select_ratio, options:
    fields of `settings.Choose`; by default the most robust 30 % by perturbed_loss_mean_r. Raises InputError for a file
    or a choice that cannot be used.
    """
    if not isinstance(source, str | Path):
        return Chosen(source)
    with readable(f"source {source}", "give a statistics file, or an .npy of indices"):
        is_list = open_array(source).dtype.names is None
    if is_list:
        return Chosen(index_list(f"source {source}", str(source)))
    asked = {"select_metric": select_metric, "select_ratio": select_ratio} | options
    return Chosen(choose_as_settings_say(complete.selection(Choose(statistics_source=str(source), **asked))).index)


def flooding(
    losses_of_batch: torch.Tensor, index: torch.Tensor, chosen: Chosen, b: float = 0.2, beta: float = 1.0
) -> torch.Tensor:
    """Keep the losses of the chosen instances near `b`: [B], to be averaged; see `losses.flooding`.

    losses_of_batch: float [B], cross-entropy with reduction="none"; index: int64 [B], which instances these are;
    chosen: what `choose` gives.
    """
    if losses_of_batch.ndim != 1:
        raise InputError(f"losses have shape {list(losses_of_batch.shape)}; give one each, with reduction='none'")
    selected = _selected(chosen, index, losses_of_batch)
    return losses.flooding(losses_of_batch, selected, b, beta)


def soft_label(
    logits: torch.Tensor,
    labels: torch.Tensor,
    index: torch.Tensor,
    chosen: Chosen,
    golden_weight: float = 0.8,
    beta: float = 1.0,
) -> torch.Tensor:
    """Train the chosen instances towards soft labels: losses [B], to be averaged; see `losses.soft_label`.

    logits: float [B, C]; labels, index: int64 [B]. Raises InputError for probabilities in the place of logits.
    """
    if len(logits) and bool(are_probabilities(logits).all()):
        refuse_probabilities("logits: the model")
    return losses.soft_label(logits, labels, _selected(chosen, index, logits), golden_weight, beta)


def _selected(chosen: Chosen, index: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """Which rows of a batch, [B, ...], are of chosen instances: bool [B], beside the batch."""
    if not isinstance(chosen, Chosen):
        raise InputError(f"chosen is a {type(chosen).__name__}; give what treat.choose makes of a file or of indices")
    return chosen.among(index, len(batch)).to(batch.device)


class Indexed(data.Dataset):
    """A map-style data set whose items have their position, too: last in a tuple, as `index` in a dict."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Any:
        item = self.dataset[position]
        if isinstance(item, Mapping):
            return {**item, "index": position}
        return (*item, position) if isinstance(item, tuple | list) else (item, position)


def subset(dataset: Any, chosen: Chosen) -> data.Subset:
    """The chosen instances alone, for a DataLoader. Raises InputError for one that the data set does not have."""
    strange = chosen.index[(chosen.index < 0) | (chosen.index >= len(dataset))].tolist()
    if strange:
        raise InputError(
            f"chosen: instance {strange[0]} is not in a data set of {len(dataset)}; choose from its statistics"
        )
    return data.Subset(dataset, chosen.index.tolist())


class Treating:
    """A mixin for the Trainer of Hugging Face, before it: `class Flooding(Treating, Trainer)` with a method `treat`.

    `treat(logits, labels, index)` gives the losses [B] of a training step, which are averaged. The training data have
    the column `index` (see `Indexed`), which `TrainingArguments(remove_unused_columns=False)` keeps.
    """

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        # The mean below is that of a micro-batch; the Trainer then divides by how many of them are accumulated.
        self.model_accepts_loss_kwargs = False

    def treat(self, logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The losses [B] to minimise."""
        raise NotImplementedError

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **others: Any
    ) -> Any:
        inputs = dict(inputs)
        index = inputs.pop("index", None)
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, **others)
        if index is None:
            remedy = "give Indexed(data) and TrainingArguments(remove_unused_columns=False)"
            raise InputError(f"the batch has no column 'index'; {remedy}")
        outputs = model(**inputs)
        loss = self.treat(outputs.logits, inputs["labels"], index).mean()
        return (loss, outputs) if return_outputs else loss
