"""Random flips and crops of training images, a whole batch at once."""

from __future__ import annotations

import torch
from torch.nn import functional

from robust_data.perturbations.sampling import InstanceRandom

AUGMENTATIONS = ("none", "flip", "crop", "flip_crop")
# Of an image of 32 px; of others in proportion.
PADDING_AT_32 = 4


def augment(images: torch.Tensor, kind: str, index: torch.Tensor, seed: int, epoch: int) -> torch.Tensor:
    """Flip half of the images from left to right, and cut each from its own place in the padded image.

    The images of CIFAR-10 are augmented so by He et al. (2016): 4 px of zeros on every side, then a cut of the
    image's size. What happens to an instance depends on the seed, the epoch and its index alone, and so on no batch,
    process or device.

    images: float [B,3,H,W]; kind: one of `AUGMENTATIONS`; index: int64 [B]; epoch: from 0. Returns a tensor like
    images, or images themselves where there is nothing to do.
    """
    if kind == "none":
        return images
    random = InstanceRandom(seed, "augmentation", 0, epoch, index, images.device)
    flipped, down, right = random.integers(0, 2), random.uniform(), random.uniform()
    height, width = images.shape[-2:]
    if "crop" in kind:
        pads = [round(PADDING_AT_32 * side / 32) for side in (height, width)]
        images = functional.pad(images, (pads[1], pads[1], pads[0], pads[0]))
        starts = [(place * (2 * pad + 1)).long() for place, pad in zip((down, right), pads)]
    else:
        starts = [torch.zeros_like(flipped)] * 2
    rows = starts[0][:, None] + torch.arange(height, device=images.device)
    columns = starts[1][:, None] + torch.arange(width, device=images.device)
    if "flip" in kind:
        columns = torch.where(flipped[:, None] == 1, columns.flip(1), columns)
    instances = torch.arange(len(images), device=images.device)
    # Of indices with a slice between them the indexed axes come first: [B,H,W,3].
    cut = images[instances[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2).contiguous()
