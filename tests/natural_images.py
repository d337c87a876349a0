"""Natural images for tests: crops of photographs that installed packages bring along."""

import functools

import numpy as np
import torch
from sklearn.datasets import load_sample_images


@functools.lru_cache(maxsize=16)
def natural_images(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """float32 [count, 3, height, width] in [0,1], 8-bit values, from scikit-learn's two photographs.

    The tensor is shared between tests and must not be modified.
    """
    return crops(load_sample_images().images, count, height, width, seed)


def crops(photographs, count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """float32 [count, 3, height, width] in [0,1], 8-bit values: seeded crops of varied size, scaled down.

    photographs: uint8 arrays [H, W, 3], taken in turns.
    """
    tensors = [torch.tensor(photograph).permute(2, 0, 1) for photograph in photographs]
    draw = np.random.default_rng(seed)
    return torch.stack([_crop(tensors[number % len(tensors)], height, width, draw) for number in range(count)])


def _crop(photograph, height, width, draw):
    """A random part of the photograph with the wanted aspect ratio, scaled to the wanted size."""
    full_height, full_width = photograph.shape[-2:]
    largest = min(full_height / height, full_width / width)
    scale = draw.uniform(min(1.0, largest), largest)
    crop_height, crop_width = round(height * scale), round(width * scale)
    top = draw.integers(0, full_height - crop_height + 1)
    left = draw.integers(0, full_width - crop_width + 1)
    part = photograph[None, :, top : top + crop_height, left : left + crop_width].float()
    scaled = torch.nn.functional.interpolate(part, (height, width), mode="bilinear", antialias=True)
    return scaled[0].round().clamp(0, 255) / 255
