"""How well a model does on a dataset, clean, perturbed or attacked."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

import perturbations
from robust_data import distributed
from robust_data.collection import Draws, evaluation_mode, own_share, perturb_batch, predict, progress_bar


def evaluate(
    model: nn.Module,
    dataset,
    batch_size: int = 256,
    precision: str = "fp32",
    device: torch.device | str | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Accuracy and mean cross-entropy on a dataset, `{"accuracy": 0..1, "loss": nats}`, in eval mode."""
    with torch.inference_mode():
        return _evaluate(model, dataset, lambda batch: batch.inputs, batch_size, precision, device, progress)


def evaluate_perturbed(
    model: nn.Module,
    dataset,
    name: str,
    severity: int = 3,
    batch_size: int = 256,
    precision: str = "fp32",
    *,
    seed: int = 0,
    draw: int = 0,
    pgd_options: perturbations.PgdOptions = perturbations.PgdOptions(),
    device: torch.device | str | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Accuracy and mean cross-entropy under a perturbation or an attack, as `evaluate` gives them for clean inputs.

    name: of the catalogue; "pgd" and "fgsm" lead away from the golden label. severity: 1..5, which "pgd"
    has no use for. seed, draw: see `perturbations.perturb`; another draw is another random start.
    pgd_options: the size of "pgd". Every instance is perturbed as a collection with the same seed, severity
    and draw perturbs the instance of that index. No parameter gathers a gradient.
    Raises InputError for an unknown name or severity.
    """
    name = perturbations.CATALOGUE.canonical(name)
    draws = Draws(severity, seed, draw, pgd_options)

    def perturbed(batch) -> dict[str, torch.Tensor]:
        return perturb_batch(name, batch, batch.labels, model, precision, draws)[0]

    # Tensors made in inference mode can never enter a gradient, so an attack needs the weaker no_grad.
    attacks = perturbations.CATALOGUE[name].needs_gradient
    with torch.no_grad() if attacks else torch.inference_mode():
        return _evaluate(model, dataset, perturbed, batch_size, precision, device, progress)


def _evaluate(
    model: nn.Module, dataset, inputs_of: Callable, batch_size: int, precision: str, device, progress: bool
) -> dict[str, float]:
    """Accuracy and mean loss on what `inputs_of` makes of each batch, over all processes."""
    device = torch.device(device) if device is not None else next(model.parameters()).device
    share = own_share(dataset, batch_size)
    totals = torch.zeros(2, dtype=torch.float64)
    with evaluation_mode(model), progress_bar("evaluate", sum(map(len, share)), "inst", progress) as bar:
        for batch in dataset.batches(share, device):
            inputs = inputs_of(batch)
            logits = predict(model, inputs, precision)
            losses = nn.functional.cross_entropy(logits.float(), batch.labels, reduction="sum")
            correct = (logits.argmax(dim=1) == batch.labels).sum()
            totals += torch.stack([correct.double(), losses.double()]).cpu()
            bar.update(len(batch.labels))
    correct, loss = (distributed.sum_over_processes(totals) / len(dataset)).tolist()
    return {"accuracy": correct, "loss": loss}
