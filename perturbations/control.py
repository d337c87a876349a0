"""The control: no perturbation at all."""

from __future__ import annotations

from typing import Any

from robust_data.perturbations.catalogue import perturbation
from robust_data.perturbations.sampling import InstanceRandom


@perturbation("identity", family="control", severities=None, source="this project", modality="any")
def identity(inputs: Any, _: None, random: InstanceRandom) -> Any:
    """The images or texts themselves; through a correct collection the loss difference is exactly 0."""
    return inputs
