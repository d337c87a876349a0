"""How well a model does on a dataset."""

from __future__ import annotations

import torch
from torch import nn
from tqdm import tqdm

from robust_data import distributed
from robust_data.collection import autocast, evaluation_mode, own_share


def evaluate(
    model: nn.Module,
    dataset,
    batch_size: int = 256,
    precision: str = "fp32",
    device: torch.device | str | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Accuracy and mean cross-entropy on a dataset, `{"accuracy": 0..1, "loss": nats}`, in eval mode."""
    device = torch.device(device) if device is not None else next(model.parameters()).device
    share = own_share(dataset, batch_size)
    totals = torch.zeros(2, dtype=torch.float64)
    with evaluation_mode(model), torch.inference_mode():
        bar = tqdm(total=sum(map(len, share)), desc="evaluate", unit="inst", leave=False, disable=not progress)
        for batch in dataset.batches(share, device):
            with autocast(device, precision):
                logits = model(batch.inputs)
            losses = nn.functional.cross_entropy(logits.float(), batch.labels, reduction="sum")
            correct = (logits.argmax(dim=1) == batch.labels).sum()
            totals += torch.stack([correct.double(), losses.double()]).cpu()
            bar.update(len(batch.labels))
        bar.close()
    correct, loss = (distributed.sum_over_processes(totals) / len(dataset)).tolist()
    return {"accuracy": correct, "loss": loss}
