"""Adversarial training: the trainer that learns from the ascent steps of an attack."""

from __future__ import annotations

import torch

import perturbations
from robust_data.collection import movable
from robust_data.packages import Batch
from robust_data.train import distributed
from robust_data.train.training import Trainer


class AdversarialTrainer(Trainer):
    """Trains on the ascent steps of an attack instead of on the clean inputs (FreeLB, Zhu et al., ICLR 2020).

    Each of the `pgd_options.steps` backward passes that move the perturbation also adds its share, one over
    their number, to the gradients of the parameters. The epoch's loss is the mean over these passes, its
    accuracy that of the first, at the random start.
    """

    def __init__(self, *parts, pgd_options: perturbations.PgdOptions, **options):
        super().__init__(*parts, **options)
        self.pgd_options = pgd_options

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
