"""Shifts of colour and tone, the same for every pixel."""

from __future__ import annotations

from robust_data.perturbations.catalogue import perturbation, steps
from robust_data.perturbations.filters import separable_filter
from robust_data.perturbations.sampling import InstanceRandom
from robust_data.registry import LazyModule

torch = LazyModule("torch")

ROBUST_DATA_IMAGES = "zahragolpa/robust_data"


SHIFT = {"family": "colour", "severities": steps(1 / 255, 64 / 255), "source": ROBUST_DATA_IMAGES}


@perturbation("red_shift", unit="added to red, pixels in [0,1]", **SHIFT)
def red_shift(images: torch.Tensor, shift: float, random: InstanceRandom) -> torch.Tensor:
    """Add a constant to the red channel."""
    return _shift_channels(images, shift, (1, 0, 0))


@perturbation("green_shift", unit="added to green, pixels in [0,1]", **SHIFT)
def green_shift(images: torch.Tensor, shift: float, random: InstanceRandom) -> torch.Tensor:
    """Add a constant to the green channel."""
    return _shift_channels(images, shift, (0, 1, 0))


@perturbation("blue_shift", unit="added to blue, pixels in [0,1]", **SHIFT)
def blue_shift(images: torch.Tensor, shift: float, random: InstanceRandom) -> torch.Tensor:
    """Add a constant to the blue channel."""
    return _shift_channels(images, shift, (0, 0, 1))


@perturbation("yellow_shift", unit="added to red and green, pixels in [0,1]", **SHIFT)
def yellow_shift(images: torch.Tensor, shift: float, random: InstanceRandom) -> torch.Tensor:
    """Add a constant to the red and green channels."""
    return _shift_channels(images, shift, (1, 1, 0))


@perturbation("magenta_shift", unit="added to red and blue, pixels in [0,1]", **SHIFT)
def magenta_shift(images: torch.Tensor, shift: float, random: InstanceRandom) -> torch.Tensor:
    """Add a constant to the red and blue channels."""
    return _shift_channels(images, shift, (1, 0, 1))


@perturbation("cyan_shift", unit="added to green and blue, pixels in [0,1]", **SHIFT)
def cyan_shift(images: torch.Tensor, shift: float, random: InstanceRandom) -> torch.Tensor:
    """Add a constant to the green and blue channels."""
    return _shift_channels(images, shift, (0, 1, 1))


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
def brightness_raise(images: torch.Tensor, shift: float, random: InstanceRandom) -> torch.Tensor:
    """Add a constant to every channel."""
    return images + shift


@perturbation(
    "brightness_reduce",
    family="colour",
    severities=steps(0.2, 0.5),
    unit="taken from every channel, pixels in [0,1]",
    source=ROBUST_DATA_IMAGES,
)
def brightness_reduce(images: torch.Tensor, shift: float, random: InstanceRandom) -> torch.Tensor:
    """Take a constant from every channel."""
    return images - shift


@perturbation(
    "contrast_raise",
    family="colour",
    severities=steps(0.2, 0.5),
    unit="share by which the distance to the channel's mean grows",
    source=ROBUST_DATA_IMAGES,
)
def contrast_raise(images: torch.Tensor, share: float, random: InstanceRandom) -> torch.Tensor:
    """Push every pixel away from the mean of its channel; the opposite of `contrast`."""
    means = images.mean((-2, -1), keepdim=True)
    return torch.add(means.mul_(-share), images, alpha=1 + share)


@perturbation(
    "gamma_bright",
    family="colour",
    severities=(0.8, 0.65, 0.5, 0.4, 0.3),
    unit="exponent of the pixel in [0,1]",
    source=ROBUST_DATA_IMAGES,
)
def gamma_bright(images: torch.Tensor, gamma: float, random: InstanceRandom) -> torch.Tensor:
    """Raise pixels to a power below 1: the shadows lighten most."""
    return images**gamma


@perturbation(
    "gamma_dark",
    family="colour",
    severities=(1.25, 1.6, 2, 2.5, 3.2),
    unit="exponent of the pixel in [0,1]",
    source=ROBUST_DATA_IMAGES,
)
def gamma_dark(images: torch.Tensor, gamma: float, random: InstanceRandom) -> torch.Tensor:
    """Raise pixels to a power above 1: the middle tones darken most."""
    return images**gamma


@perturbation(
    "sharpen_and_darken",
    family="colour",
    severities=steps(0, 1),
    unit="share of the sharpened, half as bright image in the blend",
    source=ROBUST_DATA_IMAGES,
)
def sharpen_and_darken(images: torch.Tensor, share: float, random: InstanceRandom) -> torch.Tensor:
    """Blend with an image that has three times its difference from the 3x3 mean added to half of it.

    Flat areas darken to 1 - share / 2, edges stand out.
    """
    detail = separable_filter(images, (1 / 3,) * 3).neg_().add_(images)
    return detail.mul_(3 * share).add_(images, alpha=1 - share / 2)


@perturbation(
    "solarize",
    family="colour",
    severities=(0.85, 0.7, 0.55, 0.4, 0.25),
    unit="brightness from which values are inverted, in [0,1]",
    bounded=True,
    source=ROBUST_DATA_IMAGES,
)
def solarize(images: torch.Tensor, threshold: float, random: InstanceRandom) -> torch.Tensor:
    """Invert the values that are bright enough, in each channel by itself."""
    # |1 - value| where it is bright enough, |0 - value| elsewhere.
    return torch.ge(images, threshold, out=torch.empty_like(images)).sub_(images).abs_()
