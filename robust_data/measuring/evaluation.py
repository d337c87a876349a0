"""How well a model does on a dataset, clean, perturbed or attacked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

import perturbations
from datasets.base import Batch, Dataset
from robust_data.collection import Draws, perturb_batch
from robust_data.running import distributed
from robust_data.running.inference import inference, own_share, predict

# Of each instance of a batch the loss in nats, float32 [B], and whether the golden label was predicted, bool [B].
Outcome = tuple[torch.Tensor, torch.Tensor]


def outcome(model: nn.Module, inputs: dict[str, torch.Tensor], labels: torch.Tensor, precision: str) -> Outcome:
    """How a model does on these inputs; labels: int64 [B]."""
    logits = predict(model, inputs, precision)
    losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    # Of logits that are no numbers argmax still names a class, which would be right now and then.
    return losses, (logits.argmax(dim=1) == labels) & losses.isfinite()


def under_attack(
    model: nn.Module, batch: Batch, clean: Outcome, name: str, attempts: Iterable[Draws], precision: str = "fp32"
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
    dataset: Dataset,
    batch_size: int = 256,
    precision: str = "fp32",
    device: torch.device | str | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Accuracy and mean cross-entropy on a dataset, `{"accuracy": 0..1, "loss": nats}`, in eval mode."""

    def clean(batch: Batch) -> Outcome:
        return outcome(model, batch.inputs, batch.labels, precision)

    return _evaluate(model, dataset, clean, batch_size, device, progress)


def evaluate_perturbed(
    model: nn.Module,
    dataset: Dataset,
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

    def perturbed(batch: Batch) -> Outcome:
        if worst and attacks:
            clean = outcome(model, batch.inputs, batch.labels, precision)
            return under_attack(model, batch, clean, name, [draws], precision)
        inputs, _ = perturb_batch(name, batch, batch.labels, model, precision, draws)
        return outcome(model, inputs, batch.labels, precision)

    return _evaluate(model, dataset, perturbed, batch_size, device, progress, attacks)


def _evaluate(
    model: nn.Module,
    dataset: Dataset,
    outcome_of: Callable[[Batch], Outcome],
    batch_size: int,
    device: torch.device | str | None,
    progress: bool,
    attacks: bool = False,
) -> dict[str, float]:
    ((accuracy, loss),) = mean_outcomes(
        model,
        dataset,
        lambda batch: [outcome_of(batch)],
        1,
        "evaluate",
        batch_size=batch_size,
        device=device,
        progress=progress,
        attacks=attacks,
    )
    return {"accuracy": accuracy, "loss": loss}


def mean_outcomes(
    model: nn.Module,
    dataset: Dataset,
    outcomes_of: Callable[[Batch], Iterable[Outcome]],
    count: int,
    what: str,
    *,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    progress: bool = False,
    attacks: bool = False,
) -> list[tuple[float, float]]:
    """Accuracy, 0..1, and mean loss, in nats, of each of `count` outcomes, all of them from one pass over the data set.

    outcomes_of: gives these outcomes of a batch, always in the same order. what, attacks: see `inference`. The
    instances of every process are counted.
    """
    device = torch.device(device) if device is not None else next(model.parameters()).device
    share = own_share(dataset, batch_size)
    # They stay on the device: to look at them would make a GPU wait at every batch.
    totals = torch.zeros(count, 2, dtype=torch.float64, device=device)
    with inference(model, what, count * sum(map(len, share)), progress, attacks) as bar:
        for batch in dataset.batches(share, device):
            for total, (losses, correct) in zip(totals, outcomes_of(batch), strict=True):
                total += torch.stack([correct.double().sum(), losses.double().sum()])
                bar.update(len(batch))
    means = distributed.sum_over_processes(totals.cpu()) / len(dataset)
    return [(accuracy, loss) for accuracy, loss in means.tolist()]
