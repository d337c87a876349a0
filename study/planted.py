"""Training images with planted faults: wrong labels, blurred images, and images that are there twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robust_data import files

# As shares of the images; no image has two of them.
FLIPPED, BLURRED, DOUBLED = 0.10, 0.10, 0.05
FAULTS = ("flipped", "blurred", "doubled")
BLUR_SEVERITY = 3


def write(images: Path, output: Path, seed: int) -> None:
    """Write the training images with faults; the copies come last, so that the others keep their indices.

    Beside the arrays of the data stands one for each of `FAULTS`, bool [N]: of what is there twice both are told.
    """
    with np.load(images, allow_pickle=False) as found:
        arrays = dict(found)
    draws = np.random.default_rng(seed)
    count, classes = len(arrays["labels"]), len(np.unique(arrays["labels"]))
    ends = np.cumsum([round(share * count) for share in (FLIPPED, BLURRED, DOUBLED)])
    flipped, blurred, doubled, _ = map(np.sort, np.split(draws.permutation(count), ends))
    arrays["labels"][flipped] = (arrays["labels"][flipped] + draws.integers(1, classes, len(flipped))) % classes
    arrays["images"][blurred] = _blurred(arrays["images"][blurred], blurred, seed)
    for name in ("images", "labels"):
        arrays[name] = np.concatenate([arrays[name], arrays[name][doubled]])
    copies = np.arange(count, count + len(doubled))
    for name, places in zip(FAULTS, (flipped, blurred, np.concatenate([doubled, copies]))):
        arrays[name] = np.isin(np.arange(len(arrays["labels"])), places)
    with files.atomic_write(output) as file:
        np.savez(file, **arrays)


def _blurred(images: np.ndarray, index: np.ndarray, seed: int) -> np.ndarray:
    """uint8 [B,H,W,3], blurred as the catalogue's defocus blur does."""
    import torch

    from robust_data import perturbations

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    blurred = perturbations.perturb("defocus_blur", pixels, BLUR_SEVERITY, torch.from_numpy(index), seed)
    return (255 * blurred).round().byte().permute(0, 2, 3, 1).numpy()
