"""Noise, drawn per pixel and channel."""

from __future__ import annotations

import functools

from robust_data.perturbations.catalogue import COMMON_CORRUPTIONS, perturbation
from robust_data.perturbations.sampling import InstanceRandom
from robust_data.registry import LazyModule

torch = LazyModule("torch")


@perturbation(
    "gaussian_noise",
    family="noise",
    severities=(0.08, 0.12, 0.18, 0.26, 0.38),
    small=(0.04, 0.06, 0.08, 0.09, 0.10),
    unit="standard deviation, pixels in [0,1]",
    source=COMMON_CORRUPTIONS,
    aliases=("gaussian_noise_2",),
)
def gaussian_noise(images: torch.Tensor, sigma: float, random: InstanceRandom) -> torch.Tensor:
    """Add independent normal noise to every pixel and channel."""
    return torch.add(images, random.normal_field(*images.shape[1:]), alpha=sigma)


@perturbation(
    "shot_noise",
    family="noise",
    severities=(60, 25, 12, 5, 3),
    small=(500, 250, 100, 75, 50),
    unit="photons at full brightness",
    source=COMMON_CORRUPTIONS,
)
def shot_noise(images: torch.Tensor, photons: float, random: InstanceRandom) -> torch.Tensor:
    """Replace every pixel by a Poisson count of photons, divided by the count expected at brightness 1.

    Pixels are rounded to 8 bits first, as the published one has them, and counts come from a table of
    1024 Poisson quantiles to each level.
    """
    quantiles = _poisson_quantiles(photons, images.device)
    levels, draws = quantiles.shape
    chance = random.uniform_field(*images.shape[1:])
    # Row of the table plus chance, times its width. The factor keeps a sum from being rounded up to the next row.
    entry = images.mul(levels - 1).round_().add_(chance, alpha=1 - 2**-14).mul_(draws)
    return quantiles.view(-1).take(entry.long())


@functools.lru_cache(maxsize=16)
def _poisson_quantiles(photons: int, device: torch.device, levels: int = 256, draws: int = 1024) -> torch.Tensor:
    """float32 [levels, draws]: Poisson quantiles at (j + 0.5) / draws and rate photons * level, over photons."""
    largest = int(photons + 6 * photons**0.5 + 10)
    counts = torch.arange(largest + 1, dtype=torch.float64)
    rates = torch.linspace(0, photons, levels, dtype=torch.float64)[:, None]
    log_mass = torch.special.xlogy(counts, rates) - rates - torch.lgamma(counts + 1)
    cumulative = log_mass.exp().cumsum(dim=1)
    chances = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    quantiles = torch.searchsorted(cumulative, chances.expand(levels, draws).contiguous())
    return quantiles.clamp_(max=largest).div(photons).float().to(device)


@perturbation(
    "impulse_noise",
    family="noise",
    severities=(0.03, 0.06, 0.09, 0.17, 0.27),
    small=(0.01, 0.02, 0.03, 0.05, 0.07),
    unit="share of values replaced",
    source=COMMON_CORRUPTIONS,
)
def impulse_noise(images: torch.Tensor, share: float, random: InstanceRandom) -> torch.Tensor:
    """Set a share of the values, in each channel by itself, to 0 or to 1 with equal chance."""
    chance = random.uniform_field(*images.shape[1:]).sub_(0.5)
    # The two ends of the chances become offsets beyond +-1, which the clipping to [0,1] turns into 0 and 1.
    impulses = torch.nn.functional.hardshrink(chance, 0.5 - share / 2)
    return torch.add(images, impulses, alpha=4)


@perturbation(
    "speckle_noise",
    family="noise",
    severities=(0.15, 0.20, 0.35, 0.45, 0.60),
    small=(0.06, 0.10, 0.12, 0.16, 0.20),
    unit="standard deviation, relative to the pixel",
    source=COMMON_CORRUPTIONS,
)
def speckle_noise(images: torch.Tensor, sigma: float, random: InstanceRandom) -> torch.Tensor:
    """Add independent normal noise in proportion to every value."""
    return torch.addcmul(images, images, random.normal_field(*images.shape[1:]), value=sigma)
