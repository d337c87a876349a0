"""Trainers that show a model other inputs than the clean ones: attacked, or perturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from robust_data import perturbations
from robust_data.collection import Draws, movable, perturb_batch, perturbed_rows
from robust_data.datasets.base import Batch
from robust_data.perturbations.sampling import InstanceRandom
from robust_data.train import distributed
from robust_data.train.inference import evaluation_mode
from robust_data.train.training import Trainer


class ChosenTrainer(Trainer):
    """Trains on the chosen instances perturbed, attacked, or both, and on all others as they are.

    chosen: bool, by the index of the instance; by default all are. perturbed_by: names of perturbations; at each visit
    a chosen instance meets one of them at a severity of 1 to 5, both drawn by the seed, the epoch and its index alone.
    pgd_options: of the attack on the chosen ones, which follows the model in eval mode; one pass of the mixed batch
    then learns.
    """

    def __init__(
        self,
        *parts: Any,
        chosen: torch.Tensor | None = None,
        perturbed_by: Sequence[str] = (),
        pgd_options: perturbations.PgdOptions | None = None,
        **options: Any,
    ):
        super().__init__(*parts, **options)
        everyone = torch.ones(int(self.dataset.index.max()) + 1, dtype=torch.bool)
        self.chosen = everyone if chosen is None else chosen
        self.perturbed_by, self.pgd_options = perturbed_by, pgd_options

    def shown(self, batch: Batch, epoch: int) -> Batch:
        batch, chosen = super().shown(batch, epoch), self.chosen[batch.index]
        if not self.perturbed_by or not chosen.any():
            return batch
        random = InstanceRandom(self.seed, "augment_chosen", 0, epoch, batch.index, torch.device("cpu"))
        drawn = torch.stack([random.integers(0, len(self.perturbed_by)), random.integers(1, 6)], dim=1)
        groups = []
        for both in drawn[chosen].unique(dim=0):
            number, severity = both.tolist()
            rows = (chosen & (drawn == both).all(dim=1)).nonzero().flatten()
            groups.append((rows, self.perturbed_by[number], severity))
        return perturbed_rows(batch, groups, self.seed, epoch)

    def gradients(self, batch: Batch, counted: int, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
        return super().gradients(self._attacked(batch), counted, batch_size)

    def _attacked(self, batch: Batch) -> Batch:
        """The batch with its chosen instances as the attack leaves them."""
        rows = self.chosen[batch.index].nonzero().flatten()
        if self.pgd_options is None or not len(rows):
            return batch
        part, how = batch.take(rows), Draws(seed=self.seed, draw=self.step, pgd_options=self.pgd_options)
        with evaluation_mode(self.model):
            # In as many parts as the batch is passed in.
            some = [part.take(some) for some in torch.arange(len(part), device=rows.device).chunk(self.parts)]
            attacked = [perturb_batch("pgd", one, one.labels, self.model, self.precision, how)[0] for one in some]
        # Of word embeddings the trained ones plus a perturbation, so that those learn too.
        key, values, _, _ = movable(batch, self.model)
        moved = torch.zeros_like(values)
        moved[rows] = torch.cat([inputs[key] for inputs in attacked]) - values.detach()[rows]
        return replace(batch, inputs=batch.inputs | {key: values + moved})


class AdversarialTrainer(ChosenTrainer):
    """Trains on the ascent steps of an attack instead of on the clean inputs (FreeLB, Zhu et al., ICLR 2020).

    Each of the `pgd_options.steps` backward passes that move the perturbation also adds its share, one over
    their number, to the gradients of the parameters. All are attacked, chosen or not. The epoch's loss is the
    mean over these passes, its accuracy that of the first, at the random start.
    """

    def gradients(self, batch: Batch, counted: int, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
        weight = distributed.world_size() / (batch_size * self.pgd_options.steps)
        key, clean, mask, bounds = movable(batch, self.model, self.pgd_options.special_tokens)
        passes: list[tuple[torch.Tensor, torch.Tensor]] = []

        def losses_of(values: torch.Tensor) -> torch.Tensor:
            inputs = batch.inputs | {key: self._trainable(values, clean, batch)}
            logits, losses = self.logits_and_losses(inputs, batch, counted)
            (losses.sum() * weight).backward()
            passes.append((logits.detach(), losses.detach()))
            # Stands for the losses: the attack differentiates it, and finds the gradient that is already there.
            return (values * values.grad).flatten(1).sum(dim=1)

        perturbations.attack(
            "pgd",
            clean,
            losses_of,
            3,
            batch.index,
            self.seed,
            self.step,
            options=self.pgd_options,
            mask=mask,
            bounds=bounds,
        )
        return passes[0][0], torch.stack([losses for _, losses in passes]).mean(dim=0)

    def _trainable(self, values: torch.Tensor, clean: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The perturbed values; of word embeddings as the trained ones plus a perturbation, so that those learn too."""
        if not clean.requires_grad:
            return values
        return movable(batch, self.model)[1] + (values - clean.detach())
