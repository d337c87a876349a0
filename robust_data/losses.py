"""The losses that keep the robust instances from being learned too well (Zheng et al. 2023)."""

from __future__ import annotations

import torch
from torch import nn


def flooding(losses: torch.Tensor, selected: torch.Tensor, b: float, beta: float) -> torch.Tensor:
    """Keep the selected instances' losses near `b`; weight the others' by `beta`.

    losses: float [B], cross-entropy in nats; selected: bool [B]; b: the flood level, in nats, 0 or above;
    beta: weight of the losses that are **not** selected.
    Returns [B]: |loss - b| + b where selected, beta * loss elsewhere. Each instance is flooded on its own, as in iFlood
    (Xie et al., ICLR 2022).
    """
    return torch.where(selected, (losses - b).abs() + b, beta * losses)


def flooding_of_mean(
    losses: torch.Tensor, selected: torch.Tensor, mean: torch.Tensor | float, b: float, beta: float
) -> torch.Tensor:
    """Keep the mean loss of the selected instances of a batch near `b` (flooding, Ishida et al., ICML 2020).

    mean: of the losses of the selected instances of the batch, with other processes' where there are several; it takes
    no gradient. The others: see `flooding`.
    Returns [B]: (loss - b) * sign(mean - b) + b where selected, beta * loss elsewhere. The mean of the first is
    |mean - b| + b, and its gradient is that of |mean - b| + b.
    """
    sign = torch.as_tensor(mean - b, device=losses.device).detach().sign()
    return torch.where(selected, (losses - b) * sign + b, beta * losses)


def soft_label(
    logits: torch.Tensor, labels: torch.Tensor, selected: torch.Tensor, golden_weight: float, beta: float
) -> torch.Tensor:
    """Train the selected instances, weighted by `beta`, towards soft labels; the others towards their golden label.

    logits: float [B, C]; labels: int64 [B]; selected: bool [B]; golden_weight: what a soft label puts on the
    golden class, in (0, 1]; the rest is shared equally among the other classes. beta: weight of the losses
    that **are** selected.
    Returns [B]: beta * soft cross-entropy where selected, cross-entropy elsewhere.
    """
    log_probabilities = logits.float().log_softmax(dim=1)
    losses = nn.functional.nll_loss(log_probabilities, labels, reduction="none")
    other_weight = (1 - golden_weight) / (logits.shape[1] - 1)
    # The golden class is in the sum over all classes, so its weight there is taken off again.
    soft = (golden_weight - other_weight) * losses - other_weight * log_probabilities.sum(dim=1)
    return torch.where(selected, beta * soft, losses)
