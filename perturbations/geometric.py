"""Moves, turns and distortions of the pixel grid."""

from __future__ import annotations

import functools
import math

from robust_data.perturbations.catalogue import ROBUST_DATA_IMAGES, perturbation, steps
from robust_data.perturbations.filters import shift_distance, shifted
from robust_data.perturbations.sampling import InstanceRandom
from robust_data.registry import LazyModule

torch = LazyModule("torch")

THIS_PROJECT = "this project"


@perturbation("rotate", family="geometric", severities=steps(0, 180), unit="degrees", source=ROBUST_DATA_IMAGES)
def rotate(images: torch.Tensor, degrees: float, random: InstanceRandom) -> torch.Tensor:
    """Turn counter-clockwise about the centre, bilinear; what comes in from outside is black."""
    return _sample(images, _rotation_grid(degrees, *images.shape[-2:], images.device))


@functools.lru_cache(maxsize=16)
def _rotation_grid(degrees: float, height: int, width: int, device: torch.device) -> torch.Tensor:
    """float32 [H, W, 2]: where each output pixel is read, in grid_sample's coordinates."""
    x, y = _frame_coordinates(height, width)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # The coordinates run over [-1,1] on both axes, so the aspect ratio enters the rotation.
    turned_x, turned_y = x * cos - y * sin * height / width, x * sin * width / height + y * cos
    return torch.stack((turned_x, turned_y), dim=-1).float().to(device)


def _frame_coordinates(height, width):
    """float64 ([1, W], [H, 1]): x and y of the pixel centres, where the frame spans [-1,1]."""
    x = (torch.arange(width, dtype=torch.float64) * 2 + 1) / width - 1
    y = (torch.arange(height, dtype=torch.float64) * 2 + 1) / height - 1
    return x[None, :], y[:, None]


def _sample(images, grid, outside="zeros"):
    """Read a batch at the points of a grid, bilinear.

    grid: [H, W, 2] for all or [B, H, W, 2], in grid_sample's coordinates; outside: its padding mode.
    """
    grid = grid.expand(len(images), -1, -1, -1)
    return torch.nn.functional.grid_sample(images, grid, padding_mode=outside, align_corners=False)


FLIP = {"family": "geometric", "severities": None, "bounded": True, "source": ROBUST_DATA_IMAGES}


@perturbation("horizontal_flip", **FLIP)
def horizontal_flip(images: torch.Tensor, _: None, random: InstanceRandom) -> torch.Tensor:
    """Mirror left and right."""
    # On a CPU, torch flips rows, and all pixels at once, several times faster than columns.
    return images.flip(-2, -1).flip(-2)


@perturbation("vertical_flip", **FLIP)
def vertical_flip(images: torch.Tensor, _: None, random: InstanceRandom) -> torch.Tensor:
    """Mirror top and bottom."""
    return images.flip(-2)


@perturbation("horizontal_vertical_flip", **FLIP)
def horizontal_vertical_flip(images: torch.Tensor, _: None, random: InstanceRandom) -> torch.Tensor:
    """Mirror both axes: half a turn."""
    return images.flip(-2, -1)


# By what follows "translate_": the axis, what comes in from outside, and the shares of that side.
TRANSLATIONS = {
    "horizontal": (-1, "zeros", steps(0.20, 0.25)),
    "vertical": (-2, "zeros", steps(0.20, 0.25)),
    "horizontal_reflect": (-1, "reflect", steps(0.2, 0.4)),
    "vertical_reflect": (-2, "reflect", steps(0.2, 0.4)),
}


def _register_translation(name, axis, outside, shares):
    @perturbation(
        f"translate_{name}",
        family="geometric",
        severities=shares,
        at_size=lambda share, *size: shift_distance(share, size[axis]),
        unit="px to the right" if axis == -1 else "px down",
        source=ROBUST_DATA_IMAGES,
    )
    def translate(images, distance, random):
        """Move to the right or down; black, or the image mirrored at its border, comes in from outside.

        Bilinear where the distance is not whole, which is up to 64 px.
        """
        return shifted(images, axis, distance, outside)

    return translate


for _name, _how in TRANSLATIONS.items():
    _register_translation(_name, *_how)


# The point of the frame that stays in place, in coordinates that span [-1,1] from left to right and top to bottom.
ZOOM_ANCHORS = {
    "center": (0, 0),
    "right": (1, 0),
    "left": (-1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
    "right_bottom": (1, 1),
    "right_top": (1, -1),
    "left_bottom": (-1, 1),
    "left_top": (-1, -1),
}


def _register_zoom(place, anchor):
    @perturbation(
        f"zoom_{place}", family="geometric", severities=steps(1.2, 2.0), unit="scale", source=ROBUST_DATA_IMAGES
    )
    def zoom(images, scale, random):
        """Enlarge about one point of the frame (the centre, a side or a corner) and crop to the frame, bilinear."""
        return _sample(images, _zoom_grid(scale, anchor, *images.shape[-2:], images.device), outside="border")


for _place, _anchor in ZOOM_ANCHORS.items():
    _register_zoom(_place, _anchor)


@functools.lru_cache(maxsize=32)
def _zoom_grid(scale: float, anchor: tuple[int, int], height: int, width: int, device: torch.device) -> torch.Tensor:
    """float32 [H, W, 2]: where each output pixel is read, in grid_sample's coordinates."""
    x, y = _frame_coordinates(height, width)
    near_x, near_y = (anchor[0] + (x - anchor[0]) / scale, anchor[1] + (y - anchor[1]) / scale)
    return torch.stack(torch.broadcast_tensors(near_x, near_y), dim=-1).float().to(device)


@perturbation(
    "random_grid_shuffle",
    family="geometric",
    severities=((2, 2), (2, 3), (3, 3), (4, 4), (5, 5)),
    unit="rows and columns of tiles",
    source=ROBUST_DATA_IMAGES,
)
def random_grid_shuffle(images: torch.Tensor, grid: tuple[int, int], random: InstanceRandom) -> torch.Tensor:
    """Cut into tiles and put them back in an order drawn per instance, never the original one.

    Where the side is no multiple of the tiles, they differ by a pixel: a tile is then fitted to its new
    place by repeating or skipping one row or column, and nothing at the border is left out.
    """
    height, width = images.shape[-2:]
    sources = _tile_sources(grid, random).view(-1, *grid)
    row_of, rows = _tile_lines(grid[0], height, images.device)
    column_of, columns = _tile_lines(grid[1], width, images.device)
    # [B, H, tile columns] and [B, tile rows, W]: the row and the column that each output line reads.
    from_row = rows[(sources // grid[1])[:, row_of, :], torch.arange(height, device=images.device)[:, None]]
    from_column = columns[(sources % grid[1])[:, :, column_of], torch.arange(width, device=images.device)]
    pixels = (from_row * width)[:, :, column_of] + from_column[:, row_of, :]
    return _take_pixels(images, pixels)


def _tile_sources(grid, random):
    """int64 [B, tiles]: the tile that is put in each place; a random permutation, but never the identity."""
    tiles = grid[0] * grid[1]
    sources = random.uniform(shape=(tiles,)).argsort(dim=1, stable=True)
    places = torch.arange(tiles, device=sources.device)
    untouched = (sources == places).all(dim=1, keepdim=True)
    return torch.where(untouched, places.roll(1), sources)


@functools.lru_cache(maxsize=32)
def _tile_lines(tiles: int, length: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """One axis cut into tiles: int64 [length], the tile of each line, and int64 [tiles, length], line by source tile.

    Entry (t, i) is the line that output line i reads when tile t is put in its place.
    """
    lines = torch.arange(length)
    starts = torch.arange(tiles + 1) * length // tiles
    sizes = starts.diff()
    tile_of = torch.searchsorted(starts, lines, right=True) - 1
    within = lines - starts[tile_of]
    table = starts[:-1, None] + within * sizes[:, None] // sizes[tile_of]
    return tile_of.to(device), table.to(device)


def _take_pixels(images, pixels):
    """Read whole pixels: pixels is int64 [B, H, W], positions in the flattened frame."""
    flat = images.flatten(2)
    index = pixels.flatten(1)[:, None].expand(-1, flat.shape[1], -1)
    return flat.gather(2, index).view(images.shape)


# Enough cells that the bend is local, few enough that each shows at 8 px a side.
GRID_CELLS = 5


def _register_grid_distortion(name, fill_frame):
    @perturbation(
        f"grid_distortion_{name}",
        family="geometric",
        severities=steps(0.0, 0.9),
        unit="largest change of a cell's side, as a share of it",
        source=ROBUST_DATA_IMAGES,
    )
    def distort(images, share, random):
        """Stretch and squeeze the cells of a 5 x 5 grid, the lines moved per instance.

        The border is repeated outside, or with `fill_frame` the whole resized to fill the frame.
        """
        height, width = images.shape[-2:]
        x = _cell_coordinates(width, share, random, fill_frame)
        y = _cell_coordinates(height, share, random, fill_frame)
        grid = torch.stack((x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)), dim=-1)
        return _sample(images, grid, outside="border")

    return distort


_register_grid_distortion("repeat_edge", fill_frame=False)
_register_grid_distortion("resize", fill_frame=True)


def _cell_coordinates(length, share, random, fill_frame):
    """float32 [B, length]: where each output line is read, in grid_sample's coordinates.

    Each cell of the output reads a stretch of the input that is longer or shorter by up to `share`; laid
    end to end, these stretches end before or behind the input's border, or with `fill_frame` right on it.
    """
    stretches = 1 + random.uniform(-share, share, (GRID_CELLS,))
    stretches = stretches / (stretches.sum(1, keepdim=True) if fill_frame else GRID_CELLS)
    ends = stretches.cumsum(1)
    position = (torch.arange(length, device=ends.device) + 0.5) * GRID_CELLS / length
    cell = position.long()
    return 2 * (ends - stretches)[:, cell] + 2 * (position - cell) * stretches[:, cell] - 1


@perturbation(
    "fisheye", family="geometric", severities=steps(0.0, 2.0), unit="distortion coefficient k", source=THIS_PROJECT
)
def fisheye(images: torch.Tensor, k: float, random: InstanceRandom) -> torch.Tensor:
    """Barrel distortion: the centre is enlarged 1 + k times, the edge squeezed, the corners stay; bilinear.

    With radius 1 at the corner, radius r is read at r (1 + k r^2) / (1 + k).
    """
    return _sample(images, _radial_grid("fisheye", k, *images.shape[-2:], images.device), outside="border")


@perturbation(
    "pincushion", family="geometric", severities=steps(0.0, 0.9), unit="distortion coefficient k", source=THIS_PROJECT
)
def pincushion(images: torch.Tensor, k: float, random: InstanceRandom) -> torch.Tensor:
    """Pincushion distortion: the centre shrinks 1 + k times, the sides bend inwards, the corners stay; bilinear.

    With radius 1 at the corner, radius r is read at r (1 + k) / (1 + k r^2); outside the image is black.
    """
    return _sample(images, _radial_grid("pincushion", k, *images.shape[-2:], images.device))


@functools.lru_cache(maxsize=32)
def _radial_grid(kind: str, k: float, height: int, width: int, device: torch.device) -> torch.Tensor:
    """float32 [H, W, 2]: where each output pixel is read, in grid_sample's coordinates."""
    x, y = _frame_coordinates(height, width)
    # Each axis is measured by its own half side, so that the distortion fills a frame that is not square.
    magnification = (1 + k * (x.square() + y.square()) / 2) / (1 + k)
    factor = magnification if kind == "fisheye" else 1 / magnification
    return torch.stack((x * factor, y * factor), dim=-1).float().to(device)
