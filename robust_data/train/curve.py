"""Judging at the end of some epochs of a training: the points of a curve of accuracy and robustness."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from robust_data.command_line.options import judging_pgd_options
from robust_data.evaluation import evaluate, evaluate_perturbed
from robust_data.packages import datasets

if TYPE_CHECKING:
    from datasets.base import Dataset

# The arguments that say how strong the PGD is that judges a model.
ATTACK_SIZE = ("pgd_step", "pgd_lr", "adv_init_mag", "adv_max_norm", "adv_norm_type", "attack_special_tokens")
# The instances do not depend on --seed, so that the curves of several seeds are of the same ones.
DRAWN_BY = 0


def is_due(args: argparse.Namespace, epoch: int) -> bool:
    """Whether --judge_every_epoch has the model judged after this epoch, counted from 1."""
    return bool(args.judge_every_epoch) and epoch % args.judge_every_epoch == 0


def instances(test_set: Dataset | None, args: argparse.Namespace) -> Dataset | None:
    """What the curve is judged on: --judge_instances of the test split, as many of each class, or all of it.

    None where there is no test split.
    """
    if test_set is None or args.judge_instances is None:
        return test_set
    kept = datasets.balance.balanced_subset(test_set.labels.numpy(), args.judge_instances, DRAWN_BY, "judge_instances")
    return test_set.subset(torch.from_numpy(kept))


def perturbed(
    model: nn.Module,
    dataset: Dataset,
    how: Mapping[str, Any],
    args: argparse.Namespace,
    worst: bool = False,
) -> dict[str, float]:
    """Accuracy and mean loss under a perturbation; how, worst: see `evaluate_perturbed`."""
    options = {"batch_size": args.eval_size, "precision": args.precision, "worst": worst}
    return evaluate_perturbed(model, dataset, **options, **how)


def perturbed_accuracies(
    model: nn.Module,
    dataset: Dataset,
    args: argparse.Namespace,
    how: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """`pgd_accuracy` and the arguments of the attack's size, unless --pgd_step is 0; `perturbed_accuracy`.

    how: the perturbation of that, see `evaluate_perturbed`; None for none.
    """
    figures = {}
    if args.pgd_step:
        figures["pgd_accuracy"] = perturbed(model, dataset, _pgd(args), args, True)["accuracy"]
        figures |= {name: getattr(args, name) for name in ATTACK_SIZE}
    if how is not None:
        figures["perturbed_accuracy"] = perturbed(model, dataset, how, args, True)["accuracy"]
    return figures


def _pgd(args: argparse.Namespace) -> dict[str, Any]:
    """The PGD that judges, as `evaluate_perturbed` has it."""
    return {"name": "pgd", "seed": args.seed, "pgd_options": judging_pgd_options(args)}


def point(
    model: nn.Module,
    dataset: Dataset | None,
    args: argparse.Namespace,
    how: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The figures of one point of the curve; {} where there is nothing to judge on.

    dataset: of `instances`. how: as `perturbed_accuracies` has it.
    """
    if dataset is None:
        return {}
    clean = evaluate(model, dataset, args.eval_size, args.precision)
    figures = {"accuracy": clean["accuracy"]} | perturbed_accuracies(model, dataset, args, how)
    # The accuracies on the whole test split go by the plain names.
    named = {name if name in ATTACK_SIZE else f"judged_{name}": value for name, value in figures.items()}
    return {"judged_instances": len(dataset)} | named
