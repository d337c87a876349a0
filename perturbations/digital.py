"""Losses of processing and display: compression, coarse pixels, exposure, stretching."""

from __future__ import annotations

import functools

import numpy as np

from robust_data.perturbations.catalogue import COMMON_CORRUPTIONS, PUBLISHED_SIDE, perturbation
from robust_data.perturbations.filters import cached_parts
from robust_data.perturbations.sampling import InstanceRandom
from robust_data.registry import LazyModule

torch = LazyModule("torch")

# Side of what JPEG codes as one unit with 4:2:0 chroma: four blocks of luma, one each of Cb and Cr.
MCU = 16
# Width of the strips in which a banded matrix is applied on the CPU; wider ones multiply more zeros.
STRIP = 16

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
def jpeg_compression(images: torch.Tensor, quality: float, random: InstanceRandom) -> torch.Tensor:
    """Encode as baseline JPEG with 4:2:0 chroma and decode again, as libjpeg does.

    The published one goes through Pillow and so through 8 bits before and after. Here nothing but the
    DCT coefficients is rounded, which lies 42 to 44 dB from Pillow's result on 8-bit images.
    """
    height, width = images.shape[-2:]
    out = images.new_empty(images.shape)
    for part, part_out in zip(cached_parts(images), cached_parts(out)):
        luma, chroma = _split_luma_chroma(_extend_to_multiple(part, MCU))
        luma = _requantise_luma(luma, quality).clamp_(0.0, 1.0)
        chroma = _requantise_chroma(chroma, quality)
        _join_luma_chroma(luma[:, :height, :width], chroma[..., :height, :width], part_out)
    return out


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


@perturbation(
    "brightness",
    family="digital",
    severities=(0.1, 0.2, 0.3, 0.4, 0.5),
    small=(0.05, 0.1, 0.15, 0.2, 0.3),
    unit="added to V of HSV, in [0,1]",
    source=COMMON_CORRUPTIONS,
)
def brightness(images: torch.Tensor, amount: float, random: InstanceRandom) -> torch.Tensor:
    """Raise V of HSV, the largest of the three channels, up to 1 at most.

    Hue and saturation stay, so the pixel is scaled by new V / V and need not be taken to HSV; the
    published one does that, with the same result.
    """
    # Takes black, which has no ratio, to the grey it becomes; elsewhere its effect is below 1e-5.
    tiny = 1e-6
    value = _largest_channel(images)
    ratio = value.add(amount).clamp_(max=1.0).div_(value.add_(tiny))
    return torch.addcmul(ratio * tiny, images, ratio)


def _largest_channel(images):
    red, green, blue = images.split(1, dim=1)
    return torch.maximum(torch.maximum(red, green), blue)


def _smallest_channel(images):
    red, green, blue = images.split(1, dim=1)
    return torch.minimum(torch.minimum(red, green), blue)


@perturbation(
    "contrast",
    family="digital",
    severities=(0.4, 0.3, 0.2, 0.1, 0.05),
    small=(0.75, 0.5, 0.4, 0.3, 0.15),
    unit="factor about the mean of each channel",
    source=COMMON_CORRUPTIONS,
)
def contrast(images: torch.Tensor, factor: float, random: InstanceRandom) -> torch.Tensor:
    """Draw every pixel towards the mean of its channel, as published."""
    means = images.mean((-2, -1), keepdim=True)
    return torch.add(means.mul_(1 - factor), images, alpha=factor)


@perturbation(
    "saturate",
    family="digital",
    severities=((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    small=((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    unit="(factor, summand) of S of HSV; the first two fade, the others deepen",
    source=COMMON_CORRUPTIONS,
)
def saturate(images: torch.Tensor, factor_and_summand: tuple[float, float], random: InstanceRandom) -> torch.Tensor:
    """Scale S of HSV and add to it, up to 1 at most.

    At equal hue and V the distances of the channels to V are proportional to S, so the pixel is moved
    along its line to (V, V, V) and need not be taken to HSV. As in the published one, hue 0 makes
    grey red where something is added.
    """
    factor, summand = factor_and_summand
    out = images.new_empty(images.shape)
    for part, part_out in zip(cached_parts(images), cached_parts(out)):
        value = _largest_channel(part)
        spread = _smallest_channel(part).neg_().add_(value)
        inverse_saturation = value / spread.clamp(min=1e-6)
        ratio = torch.minimum(inverse_saturation * summand + factor, inverse_saturation)
        torch.lerp(value, part, ratio, out=part_out)
        if summand:
            part_out[:, 1:].addcmul_(value, spread == 0, value=-summand)
    return out


def _coarse_size(scale, height, width):
    """As published, whole pixels; but parts of them below 32 px, where there are too few for five severities."""
    sides = max(1, height * scale), max(1, width * scale)
    return sides if max(height, width) < PUBLISHED_SIDE else tuple(map(int, sides))


@perturbation(
    "pixelate",
    family="digital",
    severities=(0.6, 0.5, 0.4, 0.3, 0.25),
    small=(0.95, 0.9, 0.85, 0.75, 0.65),
    at_size=_coarse_size,
    unit="height and width before enlarging again, px",
    source=COMMON_CORRUPTIONS,
)
def pixelate(images: torch.Tensor, coarse_size: tuple[float, float], random: InstanceRandom) -> torch.Tensor:
    """Shrink by Pillow's box filter and enlarge again by the nearest pixel.

    The published one rounds to 8 bits in between. Below 32 px, pixels that lie in several coarse ones take from each by
    area, and between two whole numbers of coarse pixels both results are mixed.
    """
    height, width = images.shape[-2:]
    if max(height, width) < PUBLISHED_SIDE:
        rows, columns = (_coarse_mixing(*axis, images.device) for axis in zip((height, width), coarse_size))
        return rows @ images @ columns.T
    row_taps, _, coarse_row = _pixelation(height, coarse_size[0], images.device)
    _, columns, _ = _pixelation(width, coarse_size[1], images.device)
    coarse = _times_strips(_weighted_rows(row_taps, images.flatten(0, 1)), columns)
    return coarse.index_select(1, coarse_row).view(images.shape)


@functools.lru_cache(maxsize=32)
def _coarse_mixing(length: int, coarse: float, device: torch.device) -> torch.Tensor:
    """float32 [length, length]: along one axis, the weight of every pixel in each pixel after coarsening."""
    mixing = np.zeros((length, length))
    for whole, share in ((int(coarse), 1 - coarse % 1), (int(coarse) + 1, coarse % 1)):
        first, pixel = np.arange(whole)[:, None] * length / whole, np.arange(length)
        covered = np.clip(np.minimum(pixel + 1, first + length / whole) - np.maximum(pixel, first), 0, 1)
        mixing += share * covered.T @ covered * whole / length
    return torch.from_numpy(mixing).float().to(device)


@functools.lru_cache(maxsize=32)
def _pixelation(length: int, coarse: int, device: torch.device):
    """Along one axis: taps that shrink, strips that shrink and enlarge, and the coarse pixel of every pixel."""
    step = length / coarse
    centre = (np.arange(coarse)[:, None] + 0.5) * step
    pixel = np.arange(length)
    # Pillow's box filter takes whole pixels, those between these bounds whose centre lies in the box.
    inside = (pixel >= np.floor(centre - step / 2 + 0.5)) & (pixel < np.floor(centre + step / 2 + 0.5))
    distance = (pixel + 0.5 - centre) / step
    shrink = (inside & (distance > -0.5) & (distance <= 0.5)).astype(float)
    shrink /= shrink.sum(1, keepdims=True)
    nearest = ((pixel + 0.5) / step).astype(np.int64)
    return _taps(shrink, device), _strips(shrink[nearest], device), torch.from_numpy(nearest).to(device)


def _taps(matrix, device):
    """The non-zero entries of a banded matrix: the first of every row, the second, ... as (column, weight) [rows]."""
    order = np.argsort(matrix == 0, axis=1, kind="stable")[:, : (matrix != 0).sum(1).max()]
    weights = np.take_along_axis(matrix, order, axis=1)
    columns, weights = torch.from_numpy(order).to(device), torch.from_numpy(weights).float().to(device)
    return list(zip(columns.T.contiguous(), weights.T[..., None]))


def _weighted_rows(taps, planes):
    """matrix @ plane for planes [N,H,W], given the matrix as taps."""
    (row, weight), *others = taps
    out = planes.index_select(1, row).mul_(weight)
    for row, weight in others:
        out.addcmul_(planes.index_select(1, row), weight)
    return out


def _strips(matrix, device):
    """Cut a banded matrix into strips of rows, each with the columns it needs.

    Returns (rows, columns, float32 block) of each strip. Small matrices stay whole, and so do all on a
    GPU, where one large product is faster than many small ones.
    """
    whole = torch.device(device).type != "cpu" or max(matrix.shape) <= 2 * STRIP
    height = len(matrix) if whole else STRIP
    strips = []
    for first in range(0, len(matrix), height):
        rows = slice(first, min(first + height, len(matrix)))
        used = np.flatnonzero(matrix[rows].any(0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        strips.append((rows, columns, torch.from_numpy(matrix[rows, columns].copy()).float().to(device)))
    return strips


def _times_strips(planes, strips):
    """plane @ matrix.T for planes [N,H,W]."""
    out = planes.new_empty(*planes.shape[:2], strips[-1][0].stop)
    for rows, columns, block in strips:
        torch.mm(planes.flatten(0, 1)[:, columns], block.T, out=out.flatten(0, 1)[:, rows])
    return out


@perturbation(
    "elastic_transform",
    family="digital",
    severities=tuple(
        (244 * strength, 244 * sigma, 244 * jitter)
        for strength, sigma, jitter in (
            (2, 0.7, 0.1),
            (2, 0.08, 0.2),
            (0.05, 0.01, 0.02),
            (0.07, 0.01, 0.02),
            (0.12, 0.01, 0.02),
        )
    ),
    small=tuple(
        (32 * strength, 32 * sigma, 32 * jitter)
        for strength, sigma, jitter in (
            (0, 0, 0.08),
            (0.05, 0.2, 0.07),
            (0.08, 0.06, 0.06),
            (0.1, 0.04, 0.05),
            (0.1, 0.03, 0.03),
        )
    ),
    lengths=(0, 1, 2),
    unit="(strength, smoothing sigma, jitter of the affine map), px",
    source=COMMON_CORRUPTIONS,
)
def elastic_transform(
    images: torch.Tensor, strength_sigma_jitter: tuple[float, float, float], random: InstanceRandom
) -> torch.Tensor:
    """Move three points at random, the image with them, and then every pixel by a smooth random field.

    The published one smooths uniform noise by a Gaussian and resamples twice. Here the field is drawn
    as the cosine coefficients which that smoothing leaves, normal by the central limit theorem, and the
    image is resampled once (bilinear, mirrored at the border) through both maps.
    """
    strength, sigma, jitter = strength_sigma_jitter
    height, width = images.shape[-2:]
    linear, offset = _inverse_jitter_map(height, width, jitter, random, images)
    rows, waves_down = _smooth_basis(height, sigma, images.device)
    columns, waves_across = _smooth_basis(width, sigma, images.device)
    # Coordinates are products rows @ weights @ columns.T: 1 and the ramp first, then the cosine waves.
    weights = images.new_zeros(len(images), 2, 2 + waves_down, 2 + waves_across)
    weights[:, :, 0, 0] = offset
    weights[:, :, 0, 1] = linear[..., 0]
    weights[:, :, 1, 0] = linear[..., 1]
    if waves_down:
        # A uniform draw from [-1,1) has the standard deviation sqrt(1/3).
        field = random.normal_field(2, waves_down * waves_across).mul_(strength / 3**0.5)
        weights[:, :, 2:, 2:] = (linear @ field).view(-1, 2, waves_down, waves_across)
    pixels_to_grid = weights.new_tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)]).view(2, 1, 1)
    grid = rows @ (weights.mul_(pixels_to_grid) @ columns.T)
    return torch.nn.functional.grid_sample(
        images, grid.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=True
    )


def _inverse_jitter_map(height, width, jitter, random, images):
    """The affine map back, in (x, y) px from the centre: linear part [B,2,2] and offset [B,2].

    Forwards, the points (1,1), (1,-1) and (-1,-1), in units of a third of the shorter side, are
    each moved by up to `jitter` px in x and in y.
    """
    moves = random.uniform(-jitter, jitter, (3, 2))
    unit = max(1, min(height, width) // 3)
    across = (moves[:, 1] - moves[:, 2]) / (2 * unit)
    down = (moves[:, 0] - moves[:, 1]) / (2 * unit)
    linear = torch.stack([across, down], dim=-1) + torch.eye(2, device=images.device)
    a, b, c, d = linear.flatten(1).unbind(1)
    determinant = a * d - b * c
    # Three points nearly in line would draw the image out without end.
    determinant = torch.where(determinant < 0, -1.0, 1.0) * determinant.abs().clamp(min=0.05)
    inverse = torch.stack([d, -b, -c, a], dim=1).div(determinant[:, None]).view(-1, 2, 2)
    middle = (moves[:, 0] + moves[:, 2]) / 2
    return inverse, -(inverse @ middle[..., None])[..., 0]


@functools.lru_cache(maxsize=32)
def _smooth_basis(length: int, sigma: float, device: torch.device):
    """float32 [length, 2 + waves]: 1, px from the centre, and the cosine waves; and the number of waves.

    A Gaussian with a mirrored border multiplies the k-th orthonormal cosine by exp(-(pi k sigma / length)^2 / 2);
    waves that it leaves less than 1 % of are dropped, and without a sigma there are none.
    """
    ramp = np.arange(length) - (length - 1) / 2
    basis = [np.ones(length), ramp]
    if sigma > 0:
        waves = min(length, 1 + int(3.03 * length / (np.pi * sigma)))
        for k in range(waves):
            wave = np.cos(np.pi * k * (np.arange(length) + 0.5) / length) * np.sqrt((1 if k == 0 else 2) / length)
            basis.append(wave * np.exp(-((np.pi * k * sigma / length) ** 2) / 2))
    return torch.from_numpy(np.stack(basis, axis=1)).float().to(device), len(basis) - 2
