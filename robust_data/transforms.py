"""The perturbations as transforms of torchvision, for anyone's data set or DataLoader."""

from __future__ import annotations

from typing import Any

import torch
from torchvision.transforms import v2

from robust_data import perturbations
from robust_data.perturbations.catalogue import fitting
from robust_data.registry import InputError


class Perturb(v2.Transform):
    """Perturb images, one or a batch, each by a draw of its own from torch's generator, as other transforms do.

    name, severity: of the catalogue, 1..5. The transform takes images of Pillow, uint8 or float tensors in [0,1],
    [3,H,W] or [B,3,H,W], and returns what it got, of the same kind and type; labels and the like pass through. For
    draws that belong to the instance whatever the order, see `perturbations.perturb`. Raises InputError for an unknown
    name, or one that follows a model's gradient.
    """

    def __init__(self, name: str, severity: int = 3):
        super().__init__()
        entry = fitting(name, "image")
        if entry.needs_gradient:
            raise InputError(f"perturbation '{entry.name}' follows a model's gradient; name one that needs no model")
        self.name, self.severity = entry.name, severity

    def extra_repr(self) -> str:
        return f"{self.name}, severity={self.severity}"

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, torch.Tensor):
            pixels = v2.functional.pil_to_tensor(inpt)
            return v2.functional.to_pil_image(self.transform(pixels, params))
        images = v2.functional.to_dtype(inpt, torch.float32, scale=True)
        batch = images.reshape(-1, *images.shape[-3:])
        index = torch.randint(2**62, (len(batch),))
        perturbed = perturbations.perturb(self.name, batch, self.severity, index).reshape(images.shape)
        return v2.functional.to_dtype(perturbed, inpt.dtype, scale=True).to(inpt.device)
