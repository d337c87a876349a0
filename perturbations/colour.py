"""Shifts of colour and tone, the same for every pixel."""

from __future__ import annotations

from robust_data.perturbations.catalogue import ROBUST_DATA_IMAGES, perturbation, steps
from robust_data.perturbations.filters import separable_filter
from robust_data.perturbations.sampling import InstanceRandom
from robust_data.registry import LazyModule

torch = LazyModule("torch")


# By the name of the shift the channels that it moves.
SHIFTED_CHANNELS = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
    "magenta": (1, 0, 1),
    "cyan": (0, 1, 1),
}


def _register_shift(colour, channels):
    moved = " and ".join(name for name, marked in zip(("red", "green", "blue"), channels) if marked)

    @perturbation(
        f"{colour}_shift",
        family="colour",
        severities=steps(1 / 255, 64 / 255),
        unit=f"added to {moved}, pixels in [0,1]",
        source=ROBUST_DATA_IMAGES,
    )
    def shift(images, amount, random):
        """Add a constant to one or two channels."""
        return images + amount * torch.tensor(channels, dtype=images.dtype, device=images.device).view(3, 1, 1)

    return shift


for _colour, _channels in SHIFTED_CHANNELS.items():
    _register_shift(_colour, _channels)


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


# Below 1 the shadows lighten most, above 1 the middle tones darken most.
GAMMAS = {"gamma_bright": (0.8, 0.65, 0.5, 0.4, 0.3), "gamma_dark": (1.25, 1.6, 2, 2.5, 3.2)}
for _name, _gammas in GAMMAS.items():

    @perturbation(
        _name, family="colour", severities=_gammas, unit="exponent of the pixel in [0,1]", source=ROBUST_DATA_IMAGES
    )
    def gamma(images: torch.Tensor, exponent: float, random: InstanceRandom) -> torch.Tensor:
        """Raise pixels to a power."""
        return images**exponent


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
