"""What a model is judged under: nothing, attacks, perturbations, published corruptions."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import perturbations
from registry import InputError

# The test corruptions of Hendrycks & Dietterich (ICLR 2019), over which a mean corruption error is taken.
COMMON_CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
DEFAULT_LINF_EPS = (2 / 255, 4 / 255, 8 / 255)


@dataclass(frozen=True)
class Condition:
    """One thing that is done to the inputs; what it has no use for is None.

    kind: "clean", "attack", "perturbation" or "published". name: of the attack or corruption. severity: 1..5.
    eps, norm: of an attack, "l2" or "linf", for images with values in [0,1].
    """

    kind: str
    name: str
    severity: int | None = None
    eps: float | None = None
    norm: str | None = None


CLEAN = Condition("clean", "clean")


@dataclass(frozen=True)
class AttackSettings:
    """How hard PGD tries: steps, the length of one (None for 2.5 eps / steps) and random starts."""

    steps: int = 20
    step_size: float | None = None
    restarts: int = 1

    def options(self, condition: Condition) -> perturbations.PgdOptions:
        """The attack of a condition as PGD, as Madry et al. (ICLR 2018) evaluate with it.

        It starts uniformly inside the ball of radius eps, takes sign steps for linf and steps along the
        l2-normalised gradient for l2, and stays in the ball. FGSM is one such step of length eps from the
        input itself.
        """
        if condition.name == "fgsm":
            return perturbations.PgdOptions(1, condition.eps, 0.0, condition.eps, "linf", sign=True)
        lr = self.step_size or 2.5 * condition.eps / self.steps
        return perturbations.PgdOptions(
            self.steps, lr, condition.eps, condition.eps, condition.norm, sign=condition.norm == "linf"
        )

    def draws(self, condition: Condition) -> int:
        """How many times the attack is tried; FGSM has nothing random."""
        return 1 if condition.name == "fgsm" else self.restarts


def settings(args: argparse.Namespace) -> AttackSettings:
    """Those of the arguments that say how hard PGD tries."""
    return AttackSettings(args.pgd_step, args.pgd_lr, args.restarts)


def plan(args: argparse.Namespace) -> list[Condition]:
    """The conditions the arguments ask for, but for published corruptions; sets the arguments' own canonical form.

    Raises InputError for a perturbation that is unknown or an attack.
    """
    args.perturbations = resolve(args.perturbations or [])
    args.severities = sorted(set(args.severities))
    args.linf_eps = sorted(set(DEFAULT_LINF_EPS if args.linf_eps is None else args.linf_eps))
    args.l2_eps = sorted(set(args.l2_eps))
    under = [c for name in args.perturbations for c in perturbation_conditions(name, args.severities)]
    return [CLEAN, *attack_conditions(args.attack_method, args.linf_eps, args.l2_eps), *under]


def resolve(requested: Iterable[str]) -> list[str]:
    """Canonical names as `perturbations.resolve` gives them, and of `common`; attacks are left out of groups.

    Raises InputError for an unknown name, and for an attack that is asked for by its own.
    """
    found: list[str] = []
    for request in requested:
        names = COMMON_CORRUPTIONS if request == "common" else perturbations.resolve([request])
        kept = [name for name in names if not perturbations.CATALOGUE[name].needs_gradient]
        if not kept:
            raise InputError(f"-t {request}: it follows the model's gradient; use --attack_method {names[0]}")
        found += kept
    return list(dict.fromkeys(found))


def attack_conditions(methods: Sequence[str], linf_eps: Sequence[float], l2_eps: Sequence[float]) -> list[Condition]:
    """FGSM and PGD at every linf size, and PGD at every l2 size. Raises InputError for an attack besides none."""
    if "none" in methods:
        if set(methods) != {"none"}:
            raise InputError(f"--attack_method {' '.join(methods)}: give attacks, or none")
        return []
    found = []
    for method in dict.fromkeys(methods):
        found += [Condition("attack", method, eps=eps, norm="linf") for eps in linf_eps]
        if method == "pgd":
            found += [Condition("attack", method, eps=eps, norm="l2") for eps in l2_eps]
    return found


def perturbation_conditions(name: str, severities: Sequence[int]) -> list[Condition]:
    """A perturbation at every severity; one that has none, such as a flip, once."""
    if perturbations.CATALOGUE[name].severities is None:
        return [Condition("perturbation", name)]
    return [Condition("perturbation", name, severity) for severity in severities]


def family(name: str) -> str:
    """The family of a perturbation, "other" for a name that is not in the catalogue."""
    return perturbations.CATALOGUE[name].family if name in perturbations.CATALOGUE else "other"
