"""Blurs: local means under a kernel."""

from __future__ import annotations

import functools
import math
import warnings

from robust_data.perturbations.catalogue import COMMON_CORRUPTIONS, ROBUST_DATA_IMAGES, perturbation, steps
from robust_data.perturbations.filters import (
    filter2d,
    gaussian_filter,
    motion_filter,
    separable_filter,
    shift_distance,
    shifted,
    zoom_window,
    zoomed_middle,
)
from robust_data.perturbations.sampling import InstanceRandom
from robust_data.registry import LazyModule

torch = LazyModule("torch")

# Above this number of pixels the matrix of zoom blur would take longer to make than it saves.
LARGEST_MIXING = 256 * 256


SMALLEST_BOX = 3


def _box_side(side_at_224, height, width):
    """px: what exceeds the smallest box grows with the shorter side of the image, above 224 px all of it does."""
    scale = min(height, width) / 224
    return round(max(side_at_224 * scale, SMALLEST_BOX + (side_at_224 - SMALLEST_BOX) * scale), 3)


@perturbation(
    "blur",
    family="blur",
    # The odd sides next to five equal steps from 3 to 15.
    severities=(5, 7, 11, 13, 15),
    at_size=_box_side,
    unit="side of the box, px",
    source=ROBUST_DATA_IMAGES,
)
def blur(images: torch.Tensor, side: float, random: InstanceRandom) -> torch.Tensor:
    """Replace every pixel by the mean of the box around it; the border is mirrored.

    The box has 5 to 15 px a side at 224 px and more than 3 px at any size. Its side need not be whole: pixels that it
    covers in part, the outermost, enter the mean with that part as their weight.
    """
    radius = int((side - 1) / 2)
    covered = (side - 1) / 2 - radius
    border = (covered / side,) if covered else ()
    return separable_filter(images, (*border, *(1 / side,) * (2 * radius + 1), *border))


@perturbation(
    "gaussian_blur",
    family="blur",
    severities=(1, 2, 3, 4, 6),
    small=(0.4, 0.6, 0.7, 0.8, 1.0),
    lengths=(0,),
    unit="standard deviation, px",
    source=COMMON_CORRUPTIONS,
)
def gaussian_blur(images: torch.Tensor, sigma: float, random: InstanceRandom) -> torch.Tensor:
    """Blur with a normal kernel, cut off at four standard deviations; the border is repeated."""
    return gaussian_filter(images, sigma)


@perturbation(
    "defocus_blur",
    family="blur",
    severities=((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    small=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    lengths=(0, 1),
    unit="(radius of the disk, standard deviation of its soft edge), px",
    source=COMMON_CORRUPTIONS,
)
def defocus_blur(
    images: torch.Tensor, radius_and_softness: tuple[float, float], random: InstanceRandom
) -> torch.Tensor:
    """Blur with a disk whose edge is softened, as a lens out of focus does; the border is mirrored.

    Below a radius of 1 px the disk is one pixel and the softening alone blurs. As published, the
    softening mirrors the disks of 8 and 10 px at their edges, so that those brighten by 1 %.
    """
    return filter2d(images, _disk(*radius_and_softness))


@functools.lru_cache(maxsize=32)
def _disk(radius: float, softness: float) -> torch.Tensor:
    """float32 [k, k]: the pixels within `radius` of the centre, softened over 3 px (5 px above radius 8)."""
    softening = 1 if radius <= 8 else 2
    reach = math.floor(radius)
    # The published kernel ends at 8 px, or at the radius where that is larger, with the edge mirrored.
    limit = max(8, reach)
    offsets = torch.arange(-limit, limit + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).float()
    weights = torch.exp(-0.5 * (torch.arange(-softening, softening + 1) / softness) ** 2)
    soft_edge = torch.outer(weights, weights)
    softened = filter2d(disk / disk.sum(), soft_edge / soft_edge.sum())
    margin = limit - min(limit, reach + softening)
    return softened[margin : len(softened) - margin, margin : len(softened) - margin].float()


@perturbation(
    "glass_blur",
    family="blur",
    severities=((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    small=((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    lengths=(0, 1),
    unit="(standard deviation of the blur px, farthest move px, rounds of moves)",
    source=COMMON_CORRUPTIONS,
)
def glass_blur(
    images: torch.Tensor, sigma_reach_rounds: tuple[float, float, float], random: InstanceRandom
) -> torch.Tensor:
    """Blur, let every pixel take the value of a random near one, some rounds over, and blur again.

    As published, a round visits the pixels from the last to the first and overwrites them in place, so
    a value may travel on; here the whole chain is followed at once. The blurred image is not rounded to
    8 bits between the steps.
    """
    sigma, reach, rounds = sigma_reach_rounds
    batch, channels, height, width = images.shape
    sources = _moved_pixels(height, width, reach, random)
    for _ in range(rounds - 1):
        sources = sources.gather(1, _moved_pixels(height, width, reach, random))
    blurred = gaussian_filter(images, sigma).reshape(batch, channels, -1)
    moved = blurred.gather(2, sources[:, None].expand(-1, channels, -1))
    return gaussian_filter(moved.reshape(images.shape), sigma)


def _moved_pixels(height, width, reach, random):
    """int64 [B, H*W]: after one round of moves, where each pixel's value stood before it.

    Pixels as near to the border as they could reach stay. Places are counted in float32, exactly.
    """
    draws = random.uniform_field(height, width).mul_(2 * reach)
    down = draws.floor()
    right = draws.sub_(down).mul_(2 * reach).floor_().sub_(reach)
    down.sub_(reach)
    rows = torch.arange(height, dtype=draws.dtype, device=draws.device)[:, None]
    columns = torch.arange(width, dtype=draws.dtype, device=draws.device)
    first, last_row, last_column = reach + 1, height - reach, width - reach
    inner = ((rows >= first) & (rows <= last_row)) & ((columns >= first) & (columns <= last_column))
    moves = (down * width).add_(right).mul_(inner)
    sources = moves + (rows * width + columns)
    if reach == 1:
        # Moves lead up and left only, to pixels not yet overwritten.
        return sources.flatten(1).long()
    new_rows, new_columns = down.add_(rows), right.add_(columns)
    overwritten = (moves > 0) & (new_rows >= first) & (new_rows <= last_row)
    overwritten &= (new_columns >= first) & (new_columns <= last_column)
    return _follow(sources.flatten(1).long(), overwritten.flatten(1))


def _follow(sources, overwritten, doublings=4):
    """Replace every source that had itself been overwritten by its own source, and so on.

    Each doubling follows twice as many links; a chain goes on with a chance below one half, so after 16
    links next to none is left.
    """
    pixels = sources.shape[1]
    # Links below `pixels` go on; the others, to the same places further up, lead to themselves.
    ends = torch.arange(pixels, 2 * pixels, device=sources.device).expand_as(sources)
    links = torch.cat((torch.where(overwritten, sources, sources + pixels), ends), dim=1)
    for _ in range(doublings):
        links[:, :pixels] = links.gather(1, links[:, :pixels])
    reached = links[:, :pixels]
    return torch.where(reached < pixels, reached, reached - pixels)


@perturbation(
    "motion_blur",
    family="blur",
    severities=((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    small=((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
    lengths=(0, 1),
    unit="(radius, standard deviation) of the line, px",
    source=COMMON_CORRUPTIONS,
    aliases=("motion_blur_2",),
)
def motion_blur(images: torch.Tensor, radius_and_sigma: tuple[float, float], random: InstanceRandom) -> torch.Tensor:
    """Average along a line at most 45 degrees off the horizontal, weights falling off along it.

    Where the line is longer than the image, it goes on in the repeated border; the published one stops.
    """
    return motion_filter(images, *radius_and_sigma, (-45, 45), random)


@perturbation(
    "zoom_blur",
    family="blur",
    severities=((12, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03)),
    small=((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)),
    lengths=(),
    unit="(number of zooms, step between them), the first zoom being 1",
    source=COMMON_CORRUPTIONS,
)
def zoom_blur(images: torch.Tensor, zooms_and_step: tuple[float, float], random: InstanceRandom) -> torch.Tensor:
    """The mean of the image and its bilinear zooms about the centre, the image itself counted twice."""
    zooms, step = zooms_and_step
    factors = tuple(1 + step * zoom for zoom in range(1, zooms))
    batch, channels, height, width = images.shape
    if height * width > LARGEST_MIXING:
        return (2 * images + sum(zoomed_middle(images, factor) for factor in factors)) / (zooms + 1)
    mixing = _zoom_mixing(height, width, factors, images.device)
    return (mixing @ images.reshape(batch * channels, -1).T).T.reshape(images.shape)


@functools.lru_cache(maxsize=6)
def _zoom_mixing(height: int, width: int, factors: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """[H*W, H*W], sparse: the weight of every pixel in each pixel of the mean.

    As one product with the whole batch, the mean takes a small part of the time of the single zooms.
    """
    targets = torch.arange(height * width).view(height, 1, width, 1).expand(-1, 2, -1, 2).flatten()
    shape = (height * width, height * width)
    with torch.sparse.check_sparse_tensor_invariants(False):
        mixing = torch.sparse_coo_tensor(size=shape)
        for factor in (1.0, 1.0, *factors):
            rows, row_weights = _bilinear_sources(height, factor)
            columns, column_weights = _bilinear_sources(width, factor)
            sources = (rows[:, :, None, None] * width + columns).flatten()
            weights = (row_weights[:, :, None, None] * column_weights).flatten()
            entries = torch.stack((targets, sources))[:, weights > 0]
            mixing = mixing + torch.sparse_coo_tensor(entries, weights[weights > 0], shape)
        return _compressed((mixing / (len(factors) + 2)).coalesce(), device)


def _bilinear_sources(length, factor):
    """int64 and float32 [length, 2]: of one axis, the two pixels that enter each enlarged one, and their weights."""
    start, window, enlarged = zoom_window(length, factor)
    places = torch.arange(length) * ((window - 1) / max(1, enlarged - 1))
    near = places.floor().clamp_(max=window - 1)
    share = places - near
    sources = torch.stack((near, (near + 1).clamp_(max=window - 1)), dim=1).long() + start
    return sources, torch.stack((1 - share, share), dim=1)


def _compressed(matrix, device):
    """A coalesced sparse matrix by rows, with the 32-bit indices that the products need."""
    rows, columns = matrix.indices()
    starts = torch.searchsorted(rows, torch.arange(len(matrix) + 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        compressed = torch.sparse_csr_tensor(starts.int(), columns.int(), matrix.values(), matrix.shape)
        return compressed.to(device)


CAMERA_SHAKE_DIRECTIONS = {
    "upper_left": (-1, -1),
    "up": (-1, 0),
    "upper_right": (-1, 1),
    "right": (0, 1),
    "lower_right": (1, 1),
    "down": (1, 0),
    "lower_left": (1, -1),
    "left": (0, -1),
}
SHAKEN_SHARE = 0.3


def _shake_distances(share, height, width):
    return shift_distance(share, height), shift_distance(share, width)


SHAKE = {
    "family": "blur",
    "severities": steps(0.02, 0.10),
    "at_size": _shake_distances,
    "unit": "shift by 2 to 10 % of the height and of the width, px",
    "source": ROBUST_DATA_IMAGES,
}


def _register_camera_shake(direction, down, right):
    @perturbation(f"camera_shake_{direction}", **SHAKE)
    def camera_shake(images, distances, random):
        """Mix 0.7 of the image with 0.3 of itself moved in the direction named; the border is repeated.

        Up to 64 px the move is bilinear and need not be whole pixels.
        """
        vertical, horizontal = distances
        moved = shifted(shifted(images, -2, down * vertical, "edge"), -1, right * horizontal, "edge")
        return torch.lerp(images, moved, SHAKEN_SHARE)

    return camera_shake


for _direction, (_down, _right) in CAMERA_SHAKE_DIRECTIONS.items():
    _register_camera_shake(_direction, _down, _right)


@perturbation("camera_shake_all_directions", **SHAKE)
def camera_shake_all_directions(
    images: torch.Tensor, distances: tuple[float, float], random: InstanceRandom
) -> torch.Tensor:
    """The mean of the eight camera shakes: 0.7 of the image and 0.3 of the mean of its eight moved copies."""
    vertical, horizontal = distances
    rows = images + shifted(images, -2, vertical, "edge") + shifted(images, -2, -vertical, "edge")
    nine = rows + shifted(rows, -1, horizontal, "edge") + shifted(rows, -1, -horizontal, "edge")
    return torch.lerp(images, (nine - images) / len(CAMERA_SHAKE_DIRECTIONS), SHAKEN_SHARE)
