"""Shifts of colour and tone, the same for every pixel."""

from __future__ import annotations

from perturbations.catalogue import perturbation, steps
from registry import LazyModule

torch = LazyModule("torch")

ROBUST_DATA_IMAGES = "zahragolpa/robust_data"


@perturbation(
    "red_shift",
    family="colour",
    severities=steps(1 / 255, 64 / 255),
    unit="added to red, pixels in [0,1]",
    source=ROBUST_DATA_IMAGES,
)
def red_shift(images, shift, random):
    """Add a constant to the red channel."""
    return _shift_channels(images, shift, (1, 0, 0))


def _shift_channels(images, shift, channels):
    """Add `shift` to the channels marked 1."""
    return images + shift * torch.tensor(channels, dtype=images.dtype, device=images.device).view(3, 1, 1)


@perturbation(
    "brightness_raise",
    family="colour",
    severities=steps(0.2, 0.5),
    unit="added to every channel, pixels in [0,1]",
    source=ROBUST_DATA_IMAGES,
)
def brightness_raise(images, shift, random):
    """Add a constant to every channel."""
    return images + shift
