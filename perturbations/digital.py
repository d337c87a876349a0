"""Losses of processing and display: compression, coarse pixels, exposure, stretching."""

from __future__ import annotations

import functools

import numpy as np

from perturbations.catalogue import perturbation
from registry import LazyModule

torch = LazyModule("torch")

COMMON_CORRUPTIONS = "Hendrycks & Dietterich, ICLR 2019"
# Side of what JPEG codes as one unit with 4:2:0 chroma: four blocks of luma, one each of Cb and Cr.
MCU = 16
# Values of an image batch that are worked on at a time on the CPU (see `_parts`).
PART = 1 << 19

# The example tables of the JPEG standard (ITU-T T.81, annex K.1), which libjpeg scales by the quality.
_LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


@perturbation(
    "jpeg_compression",
    family="digital",
    severities=(25, 18, 15, 10, 7),
    small=(80, 65, 58, 50, 40),
    unit="JPEG quality as Pillow counts it",
    source=COMMON_CORRUPTIONS,
)
def jpeg_compression(images, quality, random):
    """Encode as baseline JPEG with 4:2:0 chroma and decode again, as libjpeg does.

    The published one goes through Pillow and so through 8 bits before and after. Here nothing but the
    DCT coefficients is rounded, which lies 42 to 44 dB from Pillow's result on 8-bit images.
    """
    height, width = images.shape[-2:]
    out = torch.empty_like(images)
    for part, part_out in zip(_parts(images), _parts(out)):
        luma, chroma = _split_luma_chroma(_extend_to_multiple(part, MCU))
        luma = _requantise_luma(luma, quality).clamp_(0.0, 1.0)
        chroma = _requantise_chroma(chroma, quality)
        _join_luma_chroma(luma[:, :height, :width], chroma[..., :height, :width], part_out)
    return out


def _parts(images):
    """The batch in parts whose intermediates stay in the cache of a CPU; on a GPU, the batch itself."""
    if images.device.type != "cpu":
        return (images,)
    return images.split(max(1, PART // images[0].numel()))


def _extend_to_multiple(images, multiple):
    """Repeat the last row and column until both sides are multiples."""
    below, right = -images.shape[-2] % multiple, -images.shape[-1] % multiple
    if below == right == 0:
        return images
    return torch.nn.functional.pad(images, (0, right, 0, below), mode="replicate")


def _split_luma_chroma(images):
    """Y [B,H,W] in [0,1], and B - Y and R - Y as [2,B,H,W]; Cb and Cr are these over 1.772 and 1.402 (JFIF)."""
    red, green, blue = images.unbind(1)
    luma = red * 0.299
    luma.add_(green, alpha=0.587).add_(blue, alpha=0.114)
    chroma = images.new_empty(2, *luma.shape)
    torch.sub(blue, luma, out=chroma[0])
    torch.sub(red, luma, out=chroma[1])
    return luma, chroma


def _join_luma_chroma(luma, chroma, out):
    """The inverse of `_split_luma_chroma`, written to `out`."""
    blue_less_luma, red_less_luma = chroma
    red, green, blue = out.unbind(1)
    torch.add(luma, red_less_luma, out=red)
    torch.add(luma, red_less_luma, alpha=-0.299 / 0.587, out=green).add_(blue_less_luma, alpha=-0.114 / 0.587)
    torch.add(luma, blue_less_luma, out=blue)


def _requantise_luma(luma, quality):
    """Round the DCT coefficients of planes [B,H,W] to the steps of the quality."""
    transform, _, _ = _block_transforms(luma.device)
    coefficients = _columnwise(transform, _rowwise(transform, luma))
    step, inverse = _quantisation_steps(quality, *coefficients.shape[1:], luma.device)[0]
    # JPEG codes differences from mid-grey, which only moves the mean of a block.
    level_shift = coefficients[:, ::8, ::8].sub_(8 * 128 / 255)
    coefficients.mul_(inverse).round_().mul_(step)
    level_shift.add_(8 * 128 / 255)
    return _columnwise(transform.T, _rowwise(transform.T, coefficients))


def _requantise_chroma(chroma, quality):
    """The same for planes [2,B,H,W], at half resolution and back."""
    _, halving, doubling = _block_transforms(chroma.device)
    coefficients = _columnwise(halving, _rowwise(halving, chroma.flatten(0, 1)))
    step, inverse = _quantisation_steps(quality, *coefficients.shape[1:], chroma.device)[1]
    coefficients.view(2, -1, *coefficients.shape[1:]).mul_(inverse).round_().mul_(step)
    rows = _rowwise(doubling, coefficients)
    _blend_block_borders(rows[:, MCU - 1 : -1 : MCU], rows[:, MCU::MCU])
    planes = _columnwise(doubling, rows)
    _blend_block_borders(planes[..., MCU - 1 : -1 : MCU], planes[..., MCU::MCU])
    return planes.view(chroma.shape)


def _blend_block_borders(last, first):
    """Let the triangle filter reach across the borders of blocks that were doubled one by one.

    There, each block's outermost pixel is still the outermost sample itself.
    """
    difference = (first - last).mul_(0.25)
    last.add_(difference)
    first.sub_(difference)


@functools.lru_cache(maxsize=32)
def _quantisation_steps(quality: int, height: int, width: int, device: torch.device):
    """(step, 1 / step) of every coefficient of a plane [H,W], for luma and for chroma, in units of [0,1] pixels."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luma, chroma = (
        np.tile(np.clip((np.array(table) * scale + 50) // 100, 1, 255) / 255, (height // 8, width // 8))
        for table in (_LUMA_TABLE, _CHROMA_TABLE)
    )
    # The planes are B - Y and R - Y rather than Cb and Cr.
    chroma = np.stack([chroma * 1.772, chroma * 1.402])[:, None]
    return [[torch.from_numpy(array).float().to(device) for array in (steps, 1 / steps)] for steps in (luma, chroma)]


@functools.lru_cache(maxsize=8)
def _block_transforms(device: torch.device):
    """What JPEG does along one axis of 16 pixels, as matrices.

    [16,16]: the DCT of two blocks of luma; [8,16]: chroma averaged by pairs, then its DCT; [16,8]: the
    inverse DCT and libjpeg's "fancy" upsampling, 3/4 of the nearer sample and 1/4 of the further one.
    """
    frequency, position = np.mgrid[:8, :8]
    dct = np.cos((2 * position + 1) * frequency * np.pi / 16) / 2
    dct[0] /= np.sqrt(2)
    pixel = np.arange(MCU)
    nearer = pixel // 2
    further = np.clip(nearer + np.where(pixel % 2, 1, -1), 0, 7)
    upsampling = 0.75 * np.eye(8)[nearer] + 0.25 * np.eye(8)[further]
    matrices = np.kron(np.eye(2), dct), dct @ (np.eye(8)[nearer] / 2).T, upsampling @ dct.T
    return [torch.from_numpy(matrix).float().to(device) for matrix in matrices]


def _rowwise(matrix, planes):
    """Multiply every group of rows of planes [N,H,W] by a matrix: [N,H*out/in,W]."""
    groups = planes.reshape(-1, matrix.shape[1], planes.shape[2])
    return torch.bmm(matrix.expand(len(groups), -1, -1), groups).view(len(planes), -1, planes.shape[2])


def _columnwise(matrix, planes):
    """Multiply every group of columns of planes [N,H,W] by a matrix: [N,H,W*out/in]."""
    return torch.mm(planes.view(-1, matrix.shape[1]), matrix.T).view(*planes.shape[:2], -1)
