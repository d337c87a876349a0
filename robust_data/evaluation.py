"""How well a model does on a dataset, clean, perturbed or attacked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from typing import NamedTuple

import torch
from torch import nn

from robust_data import perturbations
from robust_data.collection import Draws, movable, perturb_batch
from robust_data.datasets.base import Batch, Dataset
from robust_data.perturbations.sampling import finest_float
from robust_data.train import distributed
from robust_data.train.inference import inference, own_share, predict, warn_of_zero_gradients
from robust_data.train.parts import worked


class Outcome(NamedTuple):
    """How a model does on each instance of a batch.

    losses: float32 [B], nats. correct: bool [B], was the golden label predicted? margins: float32 [B], its logit minus
    the largest other one. changes: float32 [B], how far a perturbation moved the input, see `perturb_batch`.
    """

    losses: torch.Tensor
    correct: torch.Tensor
    margins: torch.Tensor
    changes: torch.Tensor | None = None


def outcome(model: nn.Module, inputs: dict[str, torch.Tensor], labels: torch.Tensor, precision: str) -> Outcome:
    """How a model does on these inputs; labels: int64 [B]."""
    return outcome_of(predict(model, inputs, precision), labels)


def outcome_of(logits: torch.Tensor, labels: torch.Tensor) -> Outcome:
    """What logits [B, C] say of these labels, int64 [B]."""
    losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    # Of logits that are no numbers argmax still names a class, which would be right now and then.
    return Outcome(losses, (logits.argmax(dim=1) == labels) & losses.isfinite(), margins_of(logits, labels))


def margins_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The golden label's logit minus the largest other one, float32 [B]."""
    logits, column = logits.float(), labels[:, None]
    return (logits.gather(1, column) - logits.scatter(1, column, -torch.inf).amax(dim=1, keepdim=True)).squeeze(1)


class Means(NamedTuple):
    """The accuracy, 0..1, and the mean loss, in nats, of many instances."""

    accuracy: float
    loss: float


class Attempt(NamedTuple):
    """One try of an attack: how, and the model that it follows, by default the attacked one.

    onwards: then the attacked model is followed, too, from half of the change that another one led to.
    """

    draws: Draws
    source: nn.Module | None = None
    onwards: bool = False


def under_attack(
    model: nn.Module,
    batch: Batch,
    clean: Outcome,
    name: str,
    attempts: Iterable[Attempt],
    steps: Sequence[int],
    precision: str = "fp32",
) -> list[Outcome]:
    """The worst of the clean input and of every attempt of an attack, instance by instance, after so many steps each.

    clean: what `outcome` says of the batch's own inputs. An instance that is classified wrongly there counts as
    wrong under attack: an attack of any size may also leave its input alone. Of an attempt that the model itself passes
    every step counts, and an instance that is wrong after the fewest steps of an attempt is left out of the next.
    steps: ascending, in the place of those of the attempts; one attack takes them all, and is looked at after each of
    these numbers.
    """
    attempts = iter(attempts)
    # Of all instances: to ask which are right on the clean input would make a GPU wait.
    worst = [worse(clean, found) for found in _attempt(model, batch, name, next(attempts), steps, precision)]
    for attempt in attempts:
        rows = worst[0].correct.nonzero().squeeze(1)
        if len(rows):
            found = _attempt(model, batch.take(rows), name, attempt, steps, precision)
            worst = [_with_rows(whole, rows, worse(_rows(whole, rows), part)) for whole, part in zip(worst, found)]
    return worst


def _attempt(
    model: nn.Module, batch: Batch, name: str, attempt: Attempt, steps: Sequence[int], precision: str
) -> list[Outcome]:
    """The worst that one attempt came by until each of these numbers of steps."""
    draws, source, onwards = attempt
    found, shown = _walk(model, batch, name, draws, source, steps, precision)
    if onwards and source is not None:
        key, inputs, _, _ = movable(batch, model)
        halfway = shown | {key: (inputs + shown[key]) / 2}
        more, _ = _walk(model, batch, name, draws, None, steps, precision, halfway)
        found = [worse(one, other) for one, other in zip(found, more)]
    return found


def _walk(
    model: nn.Module,
    batch: Batch,
    name: str,
    draws: Draws,
    source: nn.Module | None,
    steps: Sequence[int],
    precision: str,
    inputs: dict[str, torch.Tensor] | None = None,
) -> tuple[list[Outcome], dict[str, torch.Tensor]]:
    """The worst until each of these numbers of steps, and the inputs after the last; inputs: where it starts."""
    found: list[Outcome] = []
    taken = 0
    for number in steps:
        # Without a gradient at its first steps an attack stands where it stood, so these tell of the later ones.
        further = replace(
            draws,
            pgd_options=replace(draws.pgd_options, steps=number - taken),
            tally=draws.tally if inputs is None else None,
        )
        with _watched(model, batch.labels) as seen:
            inputs, _ = perturb_batch(name, batch, batch.labels, source or model, precision, further, inputs)
        taken, shown = number, inputs
        if source is not None and "inputs_embeds" in inputs:
            # The same change of the words, as this model has them.
            change = inputs["inputs_embeds"] - source.embed(batch.inputs)
            shown = inputs | {"inputs_embeds": model.embed(batch.inputs) + change}
        found.append(reduce(worse, [*found[-1:], *seen, outcome(model, shown, batch.labels, precision)]))
    return found, shown


@contextlib.contextmanager
def _watched(model: nn.Module, labels: torch.Tensor) -> Iterator[list[Outcome]]:
    """The worst outcome of all passes of a model over a batch within this block: one, or none if there were none."""
    seen: list[Outcome] = []

    def look(_: nn.Module, inputs: tuple, logits: torch.Tensor) -> None:
        seen[:] = [reduce(worse, [*seen, outcome_of(logits.detach(), labels)])]

    if hasattr(model, "word_embeddings"):
        model.word_embeddings()  # of some models it makes a trial, once, which is no pass of the attack's
    hook = model.register_forward_hook(look)
    try:
        yield seen
    finally:
        hook.remove()


def _rows(whole: Outcome, rows: torch.Tensor) -> Outcome:
    return Outcome(whole.losses[rows], whole.correct[rows], whole.margins[rows])


def _with_rows(whole: Outcome, rows: torch.Tensor, of_rows: Outcome) -> Outcome:
    return Outcome(*(values.index_copy(0, rows, part) for values, part in zip(whole[:3], of_rows[:3])))


def worse(one: Outcome, other: Outcome) -> Outcome:
    """The worse of two outcomes, instance by instance."""
    return Outcome(
        torch.maximum(one.losses, other.losses), one.correct & other.correct, torch.minimum(one.margins, other.margins)
    )


def evaluate(
    model: nn.Module,
    dataset: Dataset,
    batch_size: int = 256,
    precision: str = "fp32",
    device: torch.device | str | None = None,
) -> dict[str, float]:
    """Accuracy and mean cross-entropy on a dataset, `{"accuracy": 0..1, "loss": nats}`, in eval mode."""

    def clean(batch: Batch) -> list[Outcome]:
        return [outcome(model, batch.inputs, batch.labels, precision)]

    (figures,) = mean_outcomes(model, dataset, clean, 1, "evaluate", batch_size=batch_size, device=device)
    return figures._asdict()


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
    draws = Draws(severity, seed, draw, pgd_options, perturbations.GradientTally())

    def perturbed(batch: Batch) -> list[Outcome]:
        if worst and perturbations.CATALOGUE[name].needs_gradient:
            clean = outcome(model, batch.inputs, batch.labels, precision)
            return under_attack(model, batch, clean, name, [Attempt(draws)], [pgd_options.steps], precision)
        inputs, _ = perturb_batch(name, batch, batch.labels, model, precision, draws)
        return [outcome(model, inputs, batch.labels, precision)]

    (figures,) = mean_outcomes(model, dataset, perturbed, 1, name, batch_size=batch_size, device=device)
    warn_of_zero_gradients(draws.tally, f"{name} on {len(dataset)} instances")
    return figures._asdict()


def mean_outcomes(
    model: nn.Module,
    dataset: Dataset,
    outcomes_of: Callable[[Batch], Iterable[Outcome]],
    count: int,
    what: str,
    *,
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> list[Means]:
    """Accuracy and mean loss of each of `count` outcomes, all of them from one pass over the data set.

    outcomes_of: gives these outcomes of a batch, always in the same order. what: see `inference`.
    The instances of every process are counted.
    """
    device = torch.device(device) if device is not None else next(model.parameters()).device
    share = own_share(dataset, batch_size)
    # They stay on the device: to look at them would make a GPU wait at every batch.
    finest = finest_float(device)
    totals = torch.zeros(count, 2, dtype=finest, device=device)
    with inference(model, what, count * sum(map(len, share))) as counted:

        def sums(batch: Batch) -> torch.Tensor:
            of_batch = []
            for found in outcomes_of(batch):
                of_batch.append(torch.stack([found.correct.to(finest).sum(), found.losses.to(finest).sum()]))
                counted.update(len(batch))
            return torch.stack(of_batch)

        for _, of_batch in worked(dataset.batches(share, device), sums):
            totals += of_batch
    means = distributed.sum_over_processes(totals.cpu()) / len(dataset)
    return [Means(*pair) for pair in means.tolist()]
