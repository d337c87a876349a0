"""Noise, drawn per pixel and channel."""

from __future__ import annotations

import functools

from perturbations.catalogue import perturbation
from registry import LazyModule

torch = LazyModule("torch")

COMMON_CORRUPTIONS = "Hendrycks & Dietterich, ICLR 2019"


@perturbation(
    "gaussian_noise",
    family="noise",
    severities=(0.08, 0.12, 0.18, 0.26, 0.38),
    small=(0.04, 0.06, 0.08, 0.09, 0.10),
    unit="standard deviation, pixels in [0,1]",
    source=COMMON_CORRUPTIONS,
    aliases=("gaussian_noise_2",),
)
def gaussian_noise(images, sigma, random):
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
def shot_noise(images, photons, random):
    """Replace every pixel by a Poisson count of photons, divided by the count expected at brightness 1.

    Counts come from a table of Poisson quantiles, 4 brightness levels to each of an 8-bit image, so
    pixels of 8-bit images have their exact rate and others one off by at most 1/2040.
    """
    quantiles = _poisson_quantiles(photons, images.device)
    levels, draws = quantiles.shape
    level = images.mul(levels - 1).round_().long()
    chance = random.uniform_field(*images.shape[1:]).mul_(draws).long()
    return quantiles.view(-1).take(level.mul_(draws).add_(chance)).div(photons)


@functools.lru_cache(maxsize=16)
def _poisson_quantiles(photons: int, device: torch.device, levels: int = 1021, draws: int = 2048) -> torch.Tensor:
    """float32 [levels, draws]: the Poisson quantiles at probability (j + 0.5) / draws and rate photons * l / (levels - 1)."""
    largest = int(photons + 6 * photons**0.5 + 10)
    counts = torch.arange(largest + 1, dtype=torch.float64)
    rates = torch.linspace(0, photons, levels, dtype=torch.float64)[:, None]
    log_mass = torch.special.xlogy(counts, rates) - rates - torch.lgamma(counts + 1)
    cumulative = log_mass.exp().cumsum(dim=1)
    chances = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    quantiles = torch.searchsorted(cumulative, chances.expand(levels, draws).contiguous())
    return quantiles.clamp_(max=largest).float().to(device)
