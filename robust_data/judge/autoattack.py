"""AutoAttack (Croce & Hein, ICML 2020) as its authors' package pyautoattack has it."""

from __future__ import annotations

import importlib.util

import torch
from torch import nn

from robust_data.registry import InputError

NORMS = {"linf": "Linf", "l2": "L2"}
FEWEST_CLASSES = 4  # APGD-T's loss looks at the four largest logits


def check(classes: int) -> None:
    """Raise InputError where the package is missing or there are too few classes."""
    if importlib.util.find_spec("pyautoattack") is None:
        raise InputError("--attack_method autoattack needs the package pyautoattack; pip install pyautoattack")
    if classes < FEWEST_CLASSES:
        raise InputError(
            f"--attack_method autoattack needs {FEWEST_CLASSES} classes, the dataset has {classes}; give pgd and spsa"
        )


class _OfPixels(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model({"pixel_values": images}).float()


def attacked(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, norm: str, eps: float, seed: int
) -> torch.Tensor:
    """The images as the standard version leaves them, [B,3,H,W] in [0,1]: APGD-CE, APGD-T, FAB-T and Square.

    Each goes on with the images that withstood the ones before. images: [B,3,H,W] in [0,1]; labels: int64 [B];
    norm: "linf" or "l2". No generator of torch is left in another state.
    """
    from pyautoattack import AutoAttack

    with torch.random.fork_rng(), torch.enable_grad():
        attack = AutoAttack(_OfPixels(model).eval(), norm=NORMS[norm], eps=eps, seed=seed, device=images.device)
        with torch.no_grad():
            others = model({"pixel_values": images[:1]}).shape[1] - 1
        for part in (attack.apgd_targeted, attack.fab):
            part.n_target_classes = min(part.n_target_classes, others)
        found, _ = attack.run_standard_evaluation(images, labels, batch_size=len(images))
    return found.detach()
