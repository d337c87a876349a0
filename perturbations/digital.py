"""Losses of processing and display: compression, coarse pixels, exposure, stretching."""

from __future__ import annotations

import functools

import numpy as np

from perturbations.catalogue import perturbation
from registry import LazyModule

torch = LazyModule("torch")

COMMON_CORRUPTIONS = "Hendrycks & Dietterich, ICLR 2019"
# Width of the strips in which a banded matrix is applied on the CPU; wider ones multiply more zeros.
STRIP = 32

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
    luma, chroma = _split_luma_chroma(images)
    luma = _requantised(luma, quality, height, width, chroma=False).clamp_(0.0, 1.0)
    chroma = _requantised(chroma, quality, height, width, chroma=True)
    return _join_luma_chroma(luma, chroma)


def _split_luma_chroma(images):
    """Y [B,H,W] in [0,1], and Cb and Cr [2B,H,W] in [-0.5,0.5], all Cb first (JFIF, BT.601)."""
    red, green, blue = images.unbind(1)
    luma = red * 0.299
    luma.add_(green, alpha=0.587).add_(blue, alpha=0.114)
    chroma = images.new_empty(2, *luma.shape)
    # The factors 1 / 1.772 and 1 / 1.402 are left to the quantisation, which multiplies anyhow.
    torch.sub(blue, luma, out=chroma[0])
    torch.sub(red, luma, out=chroma[1])
    return luma, chroma.flatten(0, 1)


def _join_luma_chroma(luma, chroma):
    """Back to images [B,3,H,W]; `chroma` holds B - Y, then R - Y."""
    blue_less_luma, red_less_luma = chroma.view(2, *luma.shape)
    images = luma.new_empty(len(luma), 3, *luma.shape[1:])
    torch.add(luma, red_less_luma, out=images[:, 0])
    torch.add(luma, red_less_luma, alpha=-0.299 / 0.587, out=images[:, 1])
    images[:, 1].add_(blue_less_luma, alpha=-0.114 / 0.587)
    torch.add(luma, blue_less_luma, out=images[:, 2])
    return images


def _requantised(planes, quality, height, width, chroma):
    """Round the DCT coefficients of planes [N,H,W] to the multiples that the quality allows."""
    rows_in, rows_out = _jpeg_axis(height, chroma, planes.device)
    columns_in, columns_out = _jpeg_axis(width, chroma, planes.device)
    coefficients = _along_columns(columns_in, _along_rows(rows_in, planes))
    table, inverse, shift = _quantisation(quality, *coefficients.shape[1:], chroma, planes.device)
    if chroma:
        coefficients = coefficients.view(2, -1, *coefficients.shape[1:]).mul_(inverse).round_().mul_(table).flatten(0, 1)
    else:
        coefficients = coefficients.sub_(shift).mul_(inverse).round_().mul_(table).add_(shift)
    return _along_columns(columns_out, _along_rows(rows_out, coefficients))


@functools.lru_cache(maxsize=32)
def _quantisation(quality: int, height: int, width: int, chroma: bool, device: torch.device):
    """Step of every coefficient in units of [0,1] pixels, its inverse, and the level shift."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = np.array(_CHROMA_TABLE if chroma else _LUMA_TABLE)
    steps = np.clip((base * scale + 50) // 100, 1, 255) / 255
    steps = np.tile(steps, (height // 8, width // 8))
    shift = np.zeros_like(steps)
    shift[::8, ::8] = 8 * 128 / 255
    if chroma:
        steps = np.stack([steps * 1.772, steps * 1.402])[:, None]
    return [torch.from_numpy(array).float().to(device) for array in (steps, 1 / steps, shift)]


@functools.lru_cache(maxsize=32)
def _jpeg_axis(length: int, chroma: bool, device: torch.device):
    """One axis of JPEG as banded matrices: pixels to coefficients, and coefficients to pixels."""
    if not chroma:
        blocks = -(-length // 8)
        pixels = np.minimum(np.arange(8 * blocks), length - 1)
        extend = np.eye(length)[pixels]
        transform = np.kron(np.eye(blocks), _dct())
        return _strips(transform @ extend, device), _strips(transform.T[:length], device)
    samples = -(-length // 2)
    blocks = -(-samples // 8)
    pixels = np.minimum(np.arange(16 * blocks), length - 1)
    halve = np.eye(length)[pixels].reshape(8 * blocks, 2, length).mean(1)
    transform = np.kron(np.eye(blocks), _dct())
    return _strips(transform @ halve, device), _strips(_fancy_upsampling(length) @ transform.T[:samples], device)


def _dct():
    """The orthonormal 8-point DCT-II, one frequency a row."""
    frequency, position = np.mgrid[:8, :8]
    basis = np.cos((2 * position + 1) * frequency * np.pi / 16) / 2
    basis[0] /= np.sqrt(2)
    return basis


def _fancy_upsampling(length):
    """[length, ceil(length / 2)]: libjpeg's triangle filter, 3/4 nearer sample, 1/4 further one."""
    samples = -(-length // 2)
    output = np.arange(length)
    nearer = output // 2
    further = np.clip(nearer + np.where(output % 2, 1, -1), 0, samples - 1)
    identity = np.eye(samples)
    return 0.75 * identity[nearer] + 0.25 * identity[further]


def _strips(matrix, device):
    """Cut a banded matrix into strips of rows, each with the range of columns it needs.

    Returns (first row, last row, first column, last column, float32 block) of each strip. Small
    matrices stay whole, and so do all on a GPU, where one large product is faster than many small.
    """
    rows = len(matrix)
    strip = STRIP if torch.device(device).type == "cpu" and max(matrix.shape) > 2 * STRIP else rows
    strips = []
    for first in range(0, rows, strip):
        last = min(first + strip, rows)
        used = np.flatnonzero(matrix[first:last].any(0))
        low, high = used[0], used[-1] + 1
        block = torch.from_numpy(np.ascontiguousarray(matrix[first:last, low:high])).float().to(device)
        strips.append((first, last, int(low), int(high), block))
    return strips


def _along_rows(strips, planes):
    """matrix @ plane for planes [N,H,W], by strips of the matrix."""
    out = planes.new_empty(len(planes), strips[-1][1], planes.shape[2])
    for first, last, low, high, block in strips:
        torch.bmm(block.expand(len(planes), -1, -1), planes[:, low:high], out=out[:, first:last])
    return out


def _along_columns(strips, planes):
    """plane @ matrix.T for planes [N,H,W], by strips of the matrix."""
    out = planes.new_empty(*planes.shape[:2], strips[-1][1])
    flat, flat_out = planes.flatten(0, 1), out.flatten(0, 1)
    for first, last, low, high, block in strips:
        torch.mm(flat[:, low:high], block.T, out=flat_out[:, first:last])
    return out
