"""Judging at the end of some epochs of a training: the points of a curve of accuracy and robustness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from robust_data import datasets, perturbations
from robust_data.datasets.base import Dataset
from robust_data.evaluation import evaluate, evaluate_perturbed
from robust_data.settings import Curve, PgdSize, Run

# The arguments that say how strong the PGD is that judges a model.
ATTACK_SIZE = ("pgd_step", "pgd_lr", "adv_init_mag", "adv_max_norm", "adv_norm_type", "attack_special_tokens")
# The instances do not depend on --seed, so that the curves of several seeds are of the same ones.
DRAWN_BY = 0


@dataclass(frozen=True)
class EpochJudge(Curve, PgdSize, Run):
    """Judges a model at the end of epochs, and of its training."""

    def is_due(self, epoch: int) -> bool:
        """Whether --judge_every_epoch has the model judged after this epoch, counted from 1."""
        return bool(self.judge_every_epoch) and epoch % self.judge_every_epoch == 0

    def instances(self, test_set: Dataset | None) -> Dataset | None:
        """What the curve is judged on: --judge_instances of the test split, as many of each class, or all of it.

        None where there is no test split.
        """
        count = self.judge_instances
        if test_set is None or count is None:
            return test_set
        kept = datasets.balance.balanced_subset(test_set.labels.numpy(), count, DRAWN_BY, "judge_instances")
        return test_set.subset(torch.from_numpy(kept))

    def pgd_options(self) -> perturbations.PgdOptions:
        """The size of the PGD that judges."""
        return perturbations.PgdOptions(
            self.pgd_step,
            self.pgd_lr,
            self.adv_init_mag,
            self.adv_max_norm,
            self.adv_norm_type,
            sign=self.adv_norm_type == "linf",
            special_tokens=bool(self.attack_special_tokens),
        )

    def perturbed(
        self, model: nn.Module, dataset: Dataset, how: Mapping[str, Any], worst: bool = False
    ) -> dict[str, float]:
        """Accuracy and mean loss under a perturbation; how, worst: see `evaluate_perturbed`."""
        sizes = {"batch_size": self.eval_size, "precision": self.precision}
        return evaluate_perturbed(model, dataset, **sizes, worst=worst, **how)

    def perturbed_accuracies(
        self, model: nn.Module, dataset: Dataset, how: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """`pgd_accuracy` and the settings of the attack's size, unless --pgd_step is 0; `perturbed_accuracy`.

        how: the perturbation of that, see `evaluate_perturbed`; None for none.
        """
        figures = {}
        if self.pgd_step:
            pgd = {"name": "pgd", "seed": self.seed, "pgd_options": self.pgd_options()}
            figures["pgd_accuracy"] = self.perturbed(model, dataset, pgd, True)["accuracy"]
            figures |= {name: getattr(self, name) for name in ATTACK_SIZE}
        if how is not None:
            figures["perturbed_accuracy"] = self.perturbed(model, dataset, how, True)["accuracy"]
        return figures

    def point(self, model: nn.Module, dataset: Dataset | None, how: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The figures of one point of the curve; {} where there is nothing to judge on.

        dataset: of `instances`. how: as `perturbed_accuracies` has it.
        """
        if dataset is None:
            return {}
        clean = evaluate(model, dataset, self.eval_size, self.precision)
        figures = {"accuracy": clean["accuracy"]} | self.perturbed_accuracies(model, dataset, how)
        # The accuracies on the whole test split go by the plain names.
        named = {name if name in ATTACK_SIZE else f"judged_{name}": value for name, value in figures.items()}
        return {"judged_instances": len(dataset)} | named
