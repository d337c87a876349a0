"""Perturbations of images, [B,3,H,W] float32 in [0,1], and of texts, strings; one file per family."""

import importlib
import pkgutil
import sys

from robust_data.perturbations.adversarial import ATTACK_LOSSES, GradientTally, PgdOptions, ascent_losses, attack
from robust_data.perturbations.catalogue import CATALOGUE, check_size, families, names, perturb, perturb_texts, resolve
from robust_data.perturbations.text import changed_characters, edit_distances

__all__ = [
    "ATTACK_LOSSES",
    "CATALOGUE",
    "GradientTally",
    "PgdOptions",
    "ascent_losses",
    "attack",
    "changed_characters",
    "check_size",
    "edit_distances",
    "families",
    "names",
    "perturb",
    "perturb_texts",
    "resolve",
]

# Every file in this folder registers what it defines, so a new one needs no mention here.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"robust_data.perturbations.{_module.name}")

sys.modules[__name__] = sys.modules["robust_data.perturbations"]  # also for `import perturbations` in a checkout
