"""The control: no perturbation at all."""

from __future__ import annotations

from perturbations.catalogue import perturbation


@perturbation("identity", family="control", severities=None, source="this project")
def identity(images, _, random):
    """The images themselves; through a correct collection the loss difference is exactly 0."""
    return images
