"""Linear filters that several families share. Nothing is registered here."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from robust_data.perturbations.catalogue import SMALL_SIDE
from robust_data.perturbations.sampling import InstanceRandom, finest_float
from robust_data.registry import LazyModule

torch = LazyModule("torch")

# The names that torch.nn.functional.pad has for the borders of numpy.pad.
_TORCH_BORDERS = {"reflect": "reflect", "edge": "replicate", "zeros": "constant"}
# Above this ratio of image side to kernel, taps cost less than the products with mostly empty matrices.
_TAPS_PAY = 4
# Pixels that a CPU filters at once.
_PART = 1 << 21
# Values of a batch that a CPU keeps in its cache while it works on them.
_CACHED = 1 << 19


def cached_parts(images: torch.Tensor) -> Sequence[torch.Tensor]:
    """The batch in parts whose intermediates stay in the cache of a CPU; on a GPU, the batch itself."""
    if images.device.type != "cpu":
        return (images,)
    return images.split(max(1, _CACHED // images[0].numel()))


def separable_filter(images: torch.Tensor, kernel: Sequence[float], border: str = "reflect") -> torch.Tensor:
    """Correlate rows and columns with one odd-length 1-d kernel.

    images: [..., H, W]; kernel: tuple of floats; border: a mode of numpy.pad (`reflect`, `symmetric`,
    `edge`) or `zeros`. Written as two matrix products with the border folded into the matrices, which at
    small sizes is several times faster than pooling or convolution; on a CPU, larger images go tap by tap.
    """
    height, width = images.shape[-2:]
    kernel = tuple(kernel)
    if len(kernel) == 1:
        return images * kernel[0]
    if border in _TORCH_BORDERS and images.device.type == "cpu" and min(height, width) >= _TAPS_PAY * len(kernel):
        return _separable_taps(images, kernel, border)
    rows = _filter_matrix(kernel, height, border, images.device)
    columns = rows if width == height else _filter_matrix(kernel, width, border, images.device)
    return rows @ (images @ columns.T)


def _separable_taps(images, kernel, border):
    """The same as two depthwise convolutions, one per axis."""
    radius = len(kernel) // 2
    taps = torch.tensor(kernel, dtype=images.dtype, device=images.device)

    def rows_and_columns(planes):
        planes = _depthwise(_pad(planes, (radius, radius, 0, 0), border), taps[None, :])
        return _depthwise(_pad(planes, (0, 0, radius, radius), border), taps[:, None])

    return _in_parts(images, rows_and_columns)


def filter2d(images: torch.Tensor, kernel: torch.Tensor, border: str = "reflect") -> torch.Tensor:
    """Correlate every channel with one 2-d kernel of odd sides.

    images: [..., H, W]; kernel: [h, w] tensor on any device; border: `reflect`, `edge` or `zeros`.
    """
    kernel = kernel.to(images)
    vertical, horizontal = kernel.shape[0] // 2, kernel.shape[1] // 2
    margins = (horizontal, horizontal, vertical, vertical)
    return _in_parts(images, lambda planes: _depthwise(_pad(planes, margins, border), kernel))


def _in_parts(images, apply):
    """Apply a filter of [1, N, H, W] to all planes of [..., H, W], on a CPU a few MB at a time.

    Planes side by side as channels are the layout in which a CPU filters fastest. The temporary tensors
    of a whole batch would go back to the system after each use, and fetching them anew costs more than
    the filter itself.
    """
    height, width = images.shape[-2:]
    planes = images.reshape(1, -1, height, width)
    if images.device.type != "cpu" or planes.numel() <= _PART:
        return apply(planes).reshape(images.shape)
    filtered = torch.empty_like(planes)
    count = max(1, _PART // (height * width))
    for part, target in zip(planes.split(count, dim=1), filtered.split(count, dim=1), strict=True):
        target.copy_(apply(part))
    return filtered.reshape(images.shape)


def _depthwise(planes, kernel):
    """Correlate every channel of [1, N, H, W] with one [h, w] kernel, without padding."""
    channels = planes.shape[1]
    if channels == 1:
        # On a GPU one channel alone would go to cuDNN, which may round to TF32; several do not.
        return _depthwise(planes.expand(-1, 2, -1, -1), kernel)[:, :1]
    return torch.nn.functional.conv2d(planes, kernel.expand(channels, 1, *kernel.shape), groups=channels)


def _pad(planes, margins, border):
    """Pad [1, C, H, W] by margins (left, right, top, bottom), also where a mirrored margin exceeds the image."""
    left, right, top, bottom = margins
    height, width = planes.shape[-2:]
    if border != "reflect" or (max(left, right) < width and max(top, bottom) < height):
        return torch.nn.functional.pad(planes, margins, mode=_TORCH_BORDERS[border])
    rows = torch.from_numpy(np.pad(np.arange(height), (top, bottom), mode=border)).to(planes.device)
    columns = torch.from_numpy(np.pad(np.arange(width), (left, right), mode=border)).to(planes.device)
    return planes.index_select(-2, rows).index_select(-1, columns)


@functools.lru_cache(maxsize=64)
def _filter_matrix(kernel: tuple[float, ...], length: int, border: str, device: torch.device) -> torch.Tensor:
    """float32 [length, length]: row i holds the weights with which the inputs enter output i."""
    radius = len(kernel) // 2
    if border == "zeros":
        sources = np.pad(np.arange(length), radius, constant_values=-1)
    else:
        sources = np.pad(np.arange(length), radius, mode=border)
    matrix = np.zeros((length, length + 1))
    for offset, weight in enumerate(kernel):
        # The extra column collects what falls outside and is dropped; several taps may meet at one input.
        matrix[np.arange(length), sources[offset : offset + length]] += weight
    return torch.from_numpy(matrix[:, :length]).float().to(device)


@functools.lru_cache(maxsize=64)
def gaussian_kernel(sigma: float) -> tuple[float, ...]:
    """A sampled normal density that sums to 1, cut off at four standard deviations (px)."""
    radius = int(4 * sigma + 0.5)
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)]
    return tuple(weight / sum(weights) for weight in weights)


def gaussian_filter(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur [..., H, W] with a normal kernel of standard deviation `sigma` px; the border is repeated."""
    return separable_filter(images, gaussian_kernel(sigma), border="edge")


def exact_gaussian_filter(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """The Gaussian filter in so few bits that no sum is rounded; for what is compared with a threshold next.

    A rounding that depends on the batch or the device would now and then move a pixel across. Values
    within (-2, 2) are held in steps of 2**-12 and weights in steps of 2**-11, which makes 24 bits.
    """
    weights = [round(weight * 2**11) / 2**11 for weight in gaussian_kernel(sigma)]
    weights[len(weights) // 2] += 1 - sum(weights)
    taps = torch.tensor(weights)
    for kernel in (taps[None, :], taps[:, None]):
        images = filter2d((images * 2**12).round_().clamp_(1 - 2**13, 2**13 - 1).mul_(2**-12), kernel, border="edge")
    return images


def shift_distance(share: float, side: int) -> float:
    """A share of a side in px: whole ones, but up to 64 px, where they would be too few, thousandths of a pixel."""
    return round(share * side, 3) if side <= SMALL_SIDE else round(share * side)


def shifted(images: torch.Tensor, axis: int, distance: float, border: str) -> torch.Tensor:
    """Move along one axis by `distance` px, to the right or down where it is positive; parts of a pixel are bilinear.

    border: what comes in from outside, `edge`, `zeros` or, to the right or down only, `reflect` (the image mirrored
    at its outermost pixels).
    """
    whole = math.floor(distance)
    moved = _shifted_by_whole(images, axis, whole, border)
    part = distance - whole
    return torch.lerp(moved, _shifted_by_whole(images, axis, whole + 1, border), part) if part else moved


def _shifted_by_whole(images, axis, distance, border):
    side = images.shape[axis]
    # A mirror has no more to show than what lies behind the outermost pixel.
    count = min(abs(distance), side - 1 if border == "reflect" else side)
    if count == 0:
        return images
    kept = images.narrow(axis, 0 if distance > 0 else count, side - count)
    if border == "reflect":
        entering = images.narrow(axis, 1, count).flip(axis)
    else:
        outermost = images.narrow(axis, 0 if distance > 0 else side - 1, 1)
        sizes = [count if dimension == axis % images.ndim else -1 for dimension in range(images.ndim)]
        entering = (torch.zeros_like(outermost) if border == "zeros" else outermost).expand(sizes)
    return torch.cat((entering, kept) if distance > 0 else (kept, entering), dim=axis)


def motion_filter(
    images: torch.Tensor, radius: int, sigma: float, angle_range: tuple[float, float], random: InstanceRandom
) -> torch.Tensor:
    """Average each instance along a line of its own direction, weights falling off on one side.

    images: [B, C, H, W]; the line starts at the pixel and is 2 * radius + 1 px long, its weights follow
    half a normal density of standard deviation `sigma` px; angle_range: degrees, drawn uniformly, 0 to the
    right and 90 downwards. The border is repeated. Directions differ within the batch, so the lines are
    convolved in the frequency domain, where all directions cost the same; on a CPU, small images with lines
    to the right take a third of that time by a convolution of each instance with its own kernel.
    """
    # In float64 a step so near to the middle of two pixels that rounding decides is next to impossible.
    angle = torch.deg2rad(random.uniform(*angle_range).to(finest_float(images.device)))[:, None]
    to_the_right = -45 <= angle_range[0] and angle_range[1] <= 45
    if to_the_right and images.device.type == "cpu" and max(images.shape[-2:]) <= SMALL_SIDE:
        # Weights below 2**-26 of the largest are lost in the rounding of the sum.
        return _lines_by_kernels(images, _line_weights(min(2 * radius, int(6 * sigma)), sigma, images), angle)
    weights = _line_weights(2 * radius, sigma, images)
    return _lines_by_spectra(images, weights, angle, _reach(2 * radius, *angle_range))


def _line_weights(length, sigma, images):
    steps = torch.arange(length + 1, device=images.device)
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    return weights / weights.sum()


def _line_steps(count, angle):
    """int64 [B, count] twice: how far down and to the right each pixel of a line lies from its first."""
    steps = torch.arange(count, device=angle.device)
    return torch.ceil(steps * angle.sin() - 0.5).long(), torch.ceil(steps * angle.cos() - 0.5).long()


def _lines_by_kernels(images, weights, angle):
    """Lines at -45 to 45 degrees, by one small convolution for each image; those that rise are taken upside down."""
    batch, channels, height, width = images.shape
    down, right = _line_steps(len(weights), angle)
    reach_right = len(weights) - 1
    reach_down = math.ceil(reach_right * math.sin(math.pi / 4))
    kernels = torch.zeros(batch, (reach_down + 1) * (reach_right + 1))
    kernels.scatter_add_(1, down.abs() * (reach_right + 1) + right, weights.expand(down.shape))
    kernels = kernels.view(batch, 1, reach_down + 1, reach_right + 1).repeat_interleave(channels, dim=0)

    def rows_from_first(planes, count):
        """[B * C * count, W]: the first rows of each plane, or its last ones upwards; the outermost is repeated."""
        rows = torch.arange(count).clamp_(max=height - 1)
        rows = torch.where(angle < 0, height - 1 - rows, rows)[:, None]
        firsts = torch.arange(batch * channels).view(batch, channels, 1) * height
        return planes.reshape(-1, width).index_select(0, (firsts + rows).view(-1))

    rows = rows_from_first(images, height + reach_down)
    padded = torch.cat((rows, rows[:, -1:].expand(-1, reach_right)), dim=1)
    planes = padded.view(1, batch * channels, height + reach_down, width + reach_right)
    blurred = torch.nn.functional.conv2d(planes, kernels, groups=batch * channels)
    return rows_from_first(blurred, height).view(images.shape)


def _lines_by_spectra(images, weights, angle, reach):
    """Lines in any direction, by products of Fourier transforms; reach: of `_reach`."""
    height, width = images.shape[-2:]
    down, right = _line_steps(len(weights), angle)
    left_reach, right_reach, up_reach, down_reach = reach
    padded_height = _fast_length(height + up_reach + down_reach)
    padded_width = _fast_length(width + left_reach + right_reach)
    # A pixel ahead on the line moves back onto this one: hence the negative places of the kernel.
    places = (-down % padded_height) * padded_width + (-right % padded_width)
    kernels = torch.zeros(len(images), padded_height * padded_width, dtype=images.dtype, device=images.device)
    kernels.scatter_add_(1, places, weights.expand(places.shape))
    kernel_spectrum = torch.fft.rfft2(kernels.view(-1, padded_height, padded_width))
    margins = (left_reach, padded_width - width - left_reach, up_reach, padded_height - height - up_reach)
    blurred = torch.empty_like(images)
    # One channel at a time: large temporary tensors cost more than the transforms.
    for channel in range(images.shape[1]):
        spectrum = torch.fft.rfft2(torch.nn.functional.pad(images[:, channel], margins, mode="replicate"))
        spectrum *= kernel_spectrum
        whole = torch.fft.irfft2(spectrum, s=(padded_height, padded_width))
        blurred[:, channel] = whole[:, up_reach : up_reach + height, left_reach : left_reach + width]
    return blurred


def _reach(length, low, high):
    """How far, in px, lines of this length at angles low..high degrees go left, right, up and down."""
    angles = np.deg2rad(np.linspace(low, high, 181))
    horizontal, vertical = length * np.cos(angles), length * np.sin(angles)
    return tuple(math.ceil(max(0.0, extent.max())) for extent in (-horizontal, horizontal, -vertical, vertical))


@functools.lru_cache(maxsize=256)
def _fast_length(length: int) -> int:
    """The next even length whose prime factors are 2, 3 and 5, for which the transform is fastest."""
    while length % 2 or math.gcd(length, 30 ** length.bit_length()) != length:
        length += 1
    return length


def zoomed_middle(images: torch.Tensor, factor: float) -> torch.Tensor:
    """The middle of the images [B, C, H, W], enlarged bilinearly to their size."""
    height, width = images.shape[-2:]
    (top, rows, _), (left, columns, _) = zoom_window(height, factor), zoom_window(width, factor)
    return enlarged(images[..., top : top + rows, left : left + columns], factor, height, width)


def enlarged(images: torch.Tensor, factor: float, height: int, width: int) -> torch.Tensor:
    """The images enlarged bilinearly by a factor and cut to a height and width; outer pixels meet outer pixels."""
    size = tuple(round(side * factor) for side in images.shape[-2:])
    return torch.nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=True)[..., :height, :width]


def zoom_window(length: int, factor: float) -> tuple[int, int, int]:
    """Of one axis: where the enlarged middle begins, its length before, and its length after (at least `length`)."""
    window = math.ceil(length / factor)
    return (length - window) // 2, window, round(window * factor)
