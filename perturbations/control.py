"""The control: no perturbation at all."""

from __future__ import annotations

from perturbations.catalogue import perturbation


@perturbation("identity", family="control", severities=None, source="this project", modality="any")
def identity(inputs, _, random):
    """The images or texts themselves; through a correct collection the loss difference is exactly 0."""
    return inputs
