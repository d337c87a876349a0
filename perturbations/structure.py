"""The outlines of what is in the image, without its surfaces or without its surroundings."""

from __future__ import annotations

import functools
import math

import numpy as np

from robust_data.perturbations.catalogue import ROBUST_DATA_IMAGES, perturbation, steps
from robust_data.perturbations.sampling import InstanceRandom
from robust_data.registry import LazyModule

torch = LazyModule("torch")

# A grey step of this size is a white edge; few in a photograph are stronger.
FULL_EDGE = 0.4
# Lines that bound a hull, evenly turned; half a step off the axes, so that none is horizontal.
DIRECTIONS = 32
# Cells to a side, at most, on which the position of the lines is found.
CELLS = 48


@perturbation(
    "edge",
    family="structure",
    severities=steps(0.5, 1),
    unit="share of the edge map in the blend",
    source=ROBUST_DATA_IMAGES,
)
def edge(images: torch.Tensor, share: float, random: InstanceRandom) -> torch.Tensor:
    """Fade the image into its edge map, white on black.

    The map is the Sobel gradient of the grey image; at severity 5 it is all that remains.
    """
    return torch.lerp(images, _edge_map(images), share)


@perturbation(
    "inverted_edge",
    family="structure",
    severities=steps(0.5, 1),
    unit="share of the edge map in the blend",
    source=ROBUST_DATA_IMAGES,
)
def inverted_edge(images: torch.Tensor, share: float, random: InstanceRandom) -> torch.Tensor:
    """Fade the image into its edge map, black on white (see `edge`)."""
    return torch.lerp(images, 1 - _edge_map(images), share)


def _edge_map(images):
    """[B,1,H,W] in [0,1]: the length of the Sobel gradient, 1 from a step of `FULL_EDGE` on."""
    red, green, blue = images.split(1, dim=1)
    grey = torch.nn.functional.pad(0.299 * red + 0.587 * green + 0.114 * blue, (1, 1, 1, 1), mode="replicate")
    smooth_down = grey[..., :-2, :] + 2 * grey[..., 1:-1, :] + grey[..., 2:, :]
    smooth_across = grey[..., :-2] + 2 * grey[..., 1:-1] + grey[..., 2:]
    across = smooth_down[..., 2:] - smooth_down[..., :-2]
    down = smooth_across[..., 2:, :] - smooth_across[..., :-2, :]
    # The kernels answer a step of 1 by 4.
    return torch.hypot(across, down).div_(4 * FULL_EDGE).clamp_(max=1.0)


HULL = {
    "family": "structure",
    "severities": (0.01, 0.03, 0.06, 0.1, 0.15),
    "unit": "share of the image's edges that each bounding line may cut off",
    "source": ROBUST_DATA_IMAGES,
}


@perturbation("convex_hull_black", **HULL)
def convex_hull_black(images: torch.Tensor, share: float, random: InstanceRandom) -> torch.Tensor:
    """Paint what is outside the convex hull of the image's edges black.

    Photographs have edges up to their borders, so the hull is that of all but the outermost edges: in
    each of 32 directions, a line moves inwards until it cuts off the given share of the edge map.
    Whatever lies beyond any line is painted. A larger share gives a smaller hull within the first.
    """
    return images * _inside_hull(images, share)


@perturbation("convex_hull_white", **HULL)
def convex_hull_white(images: torch.Tensor, share: float, random: InstanceRandom) -> torch.Tensor:
    """Paint what is outside the convex hull of the image's edges white (see `convex_hull_black`)."""
    return torch.where(_inside_hull(images, share), images, 1.0)


def _inside_hull(images, share):
    """bool [B,1,H,W]: whether a pixel is on the inner side of every bounding line."""
    height, width = images.shape[-2:]
    reach = _reach_of_edges(_edge_map(images), share)
    cosines, sines = _directions(images.device)
    y = torch.arange(height, device=images.device) - (height - 1) / 2
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    # Where row y crosses the line x * cosine + y * sine = reach.
    crossing = (reach[..., None] - sines[:, None] * y) / cosines[:, None]
    right = crossing[:, cosines > 0].amin(1)[:, None, :, None]
    left = crossing[:, cosines < 0].amax(1)[:, None, :, None]
    return (x <= right) & (x >= left)


def _reach_of_edges(edges, share):
    """float32 [B, DIRECTIONS]: how far from the centre, in px, the line stands that cuts off `share` of the edges."""
    height, width = edges.shape[-2:]
    cells = (min(height, CELLS), min(width, CELLS))
    # An image without any edge counts as having them everywhere.
    mass = torch.nn.functional.adaptive_avg_pool2d(edges, cells).flatten(1) + 1e-4
    beyond, distances = _half_planes(height, width, *cells, edges.device)
    cut_off = (mass / mass.sum(1, keepdim=True) @ beyond).view(len(edges), DIRECTIONS, -1)
    # Cut-off shares fall with the distance; between two distances they are taken as linear.
    last = (cut_off > share).sum(-1, keepdim=True).sub_(1).clamp_(min=0)
    larger, smaller = cut_off.gather(-1, last), cut_off.gather(-1, last + 1)
    fraction = ((larger - share) / (larger - smaller).clamp(min=1e-9)).clamp_(0.0, 1.0)
    return torch.lerp(distances[last], distances[last + 1], fraction)[..., 0]


def _directions(device):
    angles = (torch.arange(DIRECTIONS, dtype=torch.float64) + 0.5) * (2 * math.pi / DIRECTIONS)
    return angles.cos().float().to(device), angles.sin().float().to(device)


@functools.lru_cache(maxsize=8)
def _half_planes(height: int, width: int, rows: int, columns: int, device: torch.device):
    """How much of each cell lies beyond each line: float32 [rows * columns, DIRECTIONS * distances]; and the distances.

    Lines stand at equal distances, one cell apart, from beyond one corner of the image to beyond the other.
    """
    cell = max(height / rows, width / columns)
    radius = math.hypot(height, width) / 2 + cell
    distances = np.linspace(-radius, radius, 2 + int(2 * radius / cell))
    angles = (np.arange(DIRECTIONS) + 0.5) * (2 * np.pi / DIRECTIONS)
    y = ((np.arange(rows) + 0.5) / rows - 0.5) * height
    x = ((np.arange(columns) + 0.5) / columns - 0.5) * width
    along = np.cos(angles) * x[:, None] + np.sin(angles) * y[:, None, None]
    beyond = np.clip((along[..., None] - distances) / cell + 0.5, 0, 1)
    return [torch.from_numpy(array).float().to(device) for array in (beyond.reshape(rows * columns, -1), distances)]
