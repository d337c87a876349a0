"""Random flips and crops of training images."""

from __future__ import annotations

import math

import torch
from torch.nn import functional
from torchvision.transforms.v2.functional import resized_crop

from robust_data.perturbations.sampling import InstanceRandom

# Of an image of 32 px; of others in proportion.
PADDING_AT_32 = 4
# torchvision's: the share of an image's area that a cut may have, its width by its height, and how many are tried.
AREA, ASPECT, TRIALS = (0.08, 1.0), (3 / 4, 4 / 3), 10


def augment(images: torch.Tensor, kind: str, index: torch.Tensor, seed: int, epoch: int) -> torch.Tensor:
    """Flip half of the images from left to right, and cut each from its own place in the padded image.

    The images of CIFAR-10 are augmented so by He et al. (2016): 4 px of zeros on every side, then a cut of the
    image's size. "rrc" is torchvision's RandomResizedCrop and flip, as for ImageNet: a cut of 8 to 100 % of the area,
    3:4 to 4:3, resized to the image's size in levels of bytes. What happens to an instance depends on the seed, the
    epoch and its index alone, and so on no batch, process or device.

    images: float [B,3,H,W]; kind: as `settings.Training.augment`; index: int64 [B]; epoch: from 0. Returns a tensor
    like images, or images themselves where there is nothing to do.
    """
    if kind == "none":
        return images
    random = InstanceRandom(seed, "augmentation", 0, epoch, index, images.device)
    flipped, down, right = random.integers(0, 2), random.uniform(), random.uniform()
    height, width = images.shape[-2:]
    if kind == "rrc":
        return _resized_cuts(images, random, flipped, down, right)
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


def _resized_cuts(
    images: torch.Tensor, random: InstanceRandom, flipped: torch.Tensor, down: torch.Tensor, right: torch.Tensor
) -> torch.Tensor:
    """The "rrc" of `augment`; flipped, down, right: [B], the draws of the flip and of the place in [0,1)."""
    side = images.shape[-2:]
    heights, widths = _sizes_of_cuts(side, random)
    tops = (down.cpu() * (side[0] - heights + 1)).long()
    lefts = (right.cpu() * (side[1] - widths + 1)).long()
    cuts = torch.stack([tops, lefts, heights, widths, flipped.cpu()], dim=1).tolist()
    shown = torch.empty_like(images)
    for image, cut, (*where, mirrored) in zip(images, shown, cuts):
        # Of bytes it takes a third of the time, and gives what images that are kept in bytes would give.
        levels = image.mul(255).round_().to(torch.uint8)
        resized = resized_crop(levels, *where, list(side), antialias=True)
        torch.div(resized.flip(-1) if mirrored else resized, 255, out=cut)
    return shown


def _sizes_of_cuts(side: tuple[int, int], random: InstanceRandom) -> tuple[torch.Tensor, torch.Tensor]:
    """Heights and widths, int64 [B]: of the first trial that fits into the image, as torchvision draws them.

    Where none fits it is the largest that has an aspect of those allowed.
    """
    height, width = side
    area = height * width * random.uniform(*AREA, (TRIALS,)).double().cpu()
    root = random.uniform(*map(math.log, ASPECT), (TRIALS,)).double().cpu().exp().sqrt()
    widths, heights = ((area.sqrt() * factor).round().long().clamp(min=1) for factor in (root, 1 / root))
    aspect = min(max(width / height, ASPECT[0]), ASPECT[1])
    largest = (min(height, round(width / aspect)), min(width, round(height * aspect)))
    fits = (heights <= height) & (widths <= width)
    first = fits.int().argmax(dim=1, keepdim=True)
    return tuple(
        torch.where(fits.any(dim=1), sizes.gather(1, first)[:, 0], instead)
        for sizes, instead in zip((heights, widths), largest)
    )
