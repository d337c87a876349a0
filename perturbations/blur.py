"""Blurs: local means under a kernel."""

from __future__ import annotations

from perturbations.catalogue import perturbation, steps
from perturbations.filters import separable_filter


@perturbation(
    "blur",
    family="blur",
    severities=steps(3, 15),
    unit="side of the box in px at 224 px, scaled with the shorter side, odd, at least 3",
    source="zahragolpa/robust_data",
)
def blur(images, kernel_at_224, random):
    """Replace every pixel by the mean of the box around it; the border is mirrored.

    Up to 64 px the box is 3 px at every severity.
    """
    radius = max(1, round((kernel_at_224 * min(images.shape[-2:]) / 224 - 1) / 2))
    side = 2 * radius + 1
    return separable_filter(images, (1 / side,) * side)
