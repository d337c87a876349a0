"""How well a model does on a dataset, clean, perturbed or attacked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

import perturbations
from robust_data.collection import Draws, perturb_batch
from robust_data.running import distributed
from robust_data.running.inference import evaluation_mode, own_share, predict, progress_bar

# Of each instance of a batch the loss in nats, float32 [B], and whether the golden label was predicted, bool [B].
Outcome = tuple[torch.Tensor, torch.Tensor]


def outcome(model: nn.Module, inputs: dict[str, torch.Tensor], labels: torch.Tensor, precision: str) -> Outcome:
    """How a model does on these inputs; labels: int64 [B]."""
    logits = predict(model, inputs, precision)
    losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    # Of logits that are no numbers argmax still names a class, which would be right now and then.
    return losses, (logits.argmax(dim=1) == labels) & losses.isfinite()


def under_attack(
    model: nn.Module, batch, clean: Outcome, name: str, attempts: Iterable[Draws], precision: str = "fp32"
) -> Outcome:
    """The worst of the clean input and of every attempt of an attack, instance by instance.

    clean: what `outcome` says of the batch's own inputs. An instance that is classified wrongly there counts as
    wrong under attack: an attack of any size may also leave its input alone.
    """
    losses, correct = clean
    for draws in attempts:
        inputs, _ = perturb_batch(name, batch, batch.labels, model, precision, draws)
        more_losses, still_correct = outcome(model, inputs, batch.labels, precision)
        losses, correct = torch.maximum(losses, more_losses), correct & still_correct
    return losses, correct


def evaluate(
    model: nn.Module,
    dataset,
    batch_size: int = 256,
    precision: str = "fp32",
    device: torch.device | str | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Accuracy and mean cross-entropy on a dataset, `{"accuracy": 0..1, "loss": nats}`, in eval mode."""

    def clean(batch) -> Outcome:
        return outcome(model, batch.inputs, batch.labels, precision)

    with torch.inference_mode():
        return _evaluate(model, dataset, clean, batch_size, device, progress)


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
    worst: bool = False,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Accuracy and mean cross-entropy under a perturbation or an attack, as `evaluate` gives them for clean inputs.

    name: of the catalogue; "pgd" and "fgsm" lead away from the golden label. severity: 1..5, which "pgd"
    has no use for. seed, draw: see `perturbations.perturb`; another draw is another random start.
    pgd_options: the size of "pgd". Every instance is perturbed as a collection with the same seed, severity
    and draw perturbs the instance of that index. worst: of an attack, count each instance as the worse of clean and
    attacked; that is a model's accuracy under attack. No parameter gathers a gradient.
    Raises InputError for an unknown name or severity.
    """
    name = perturbations.CATALOGUE.canonical(name)
    draws = Draws(severity, seed, draw, pgd_options)

    attacks = perturbations.CATALOGUE[name].needs_gradient

    def perturbed(batch) -> Outcome:
        if worst and attacks:
            clean = outcome(model, batch.inputs, batch.labels, precision)
            return under_attack(model, batch, clean, name, [draws], precision)
        inputs, _ = perturb_batch(name, batch, batch.labels, model, precision, draws)
        return outcome(model, inputs, batch.labels, precision)

    # Tensors made in inference mode can never enter a gradient, so an attack needs the weaker no_grad.
    with torch.no_grad() if attacks else torch.inference_mode():
        return _evaluate(model, dataset, perturbed, batch_size, device, progress)


def _evaluate(
    model: nn.Module, dataset, outcome_of: Callable[..., Outcome], batch_size: int, device, progress: bool
) -> dict[str, float]:
    """Accuracy and mean loss of what `outcome_of` says of each batch, over all processes."""
    device = torch.device(device) if device is not None else next(model.parameters()).device
    share = own_share(dataset, batch_size)
    totals = torch.zeros(2, dtype=torch.float64)
    with evaluation_mode(model), progress_bar("evaluate", sum(map(len, share)), "inst", progress) as bar:
        for batch in dataset.batches(share, device):
            losses, correct = outcome_of(batch)
            totals += torch.stack([correct.double().sum(), losses.double().sum()]).cpu()
            bar.update(len(batch.labels))
    correct, loss = (distributed.sum_over_processes(totals) / len(dataset)).tolist()
    return {"accuracy": correct, "loss": loss}
