"""Moves, turns and distortions of the pixel grid."""

from __future__ import annotations

import math

from perturbations.catalogue import perturbation, steps
from registry import LazyModule

torch = LazyModule("torch")

ROBUST_DATA_IMAGES = "zahragolpa/robust_data"


@perturbation("rotate", family="geometric", severities=steps(0, 180), unit="degrees", source=ROBUST_DATA_IMAGES)
def rotate(images, degrees, random):
    """Turn counter-clockwise about the centre, bilinear; what comes in from outside is black."""
    height, width = images.shape[-2:]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # grid_sample's coordinates run over [-1,1] on both axes, so the aspect ratio enters the matrix.
    matrix = torch.tensor([[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]])
    return _sample(images, matrix.to(images))


def _sample(images, matrix, padding_mode="zeros"):
    """Resample the whole batch through one 2x3 affine matrix in grid_sample's coordinates."""
    batch, channels, height, width = images.shape
    # One grid serves all: as channels of a single image its weights are computed once.
    stacked = images.reshape(1, batch * channels, height, width)
    grid = torch.nn.functional.affine_grid(matrix[None], stacked.shape, align_corners=False)
    moved = torch.nn.functional.grid_sample(stacked, grid, padding_mode=padding_mode, align_corners=False)
    return moved.reshape(images.shape)


@perturbation("horizontal_flip", family="geometric", severities=None, source=ROBUST_DATA_IMAGES)
def horizontal_flip(images, _, random):
    """Mirror left and right."""
    return images.flip(-1)


@perturbation(
    "translate_horizontal",
    family="geometric",
    severities=steps(0.20, 0.25),
    unit="share of the width",
    source=ROBUST_DATA_IMAGES,
)
def translate_horizontal(images, share, random):
    """Move to the right; what comes in from outside is black."""
    distance = round(share * images.shape[-1])
    return torch.nn.functional.pad(images[..., : images.shape[-1] - distance], (distance, 0))
