"""Small pictures of many instances in few bytes: sprite sheets, each one image of a grid of thumbnails."""

from __future__ import annotations

import base64
import io
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from robust_data.datasets.base import Dataset
from robust_data.plot_utils import instances
from robust_data.plot_utils.instances import Perturber
from robust_data.registry import LazyModule, warn_once

Image = LazyModule("PIL.Image")

MIME = "image/webp"
COLUMNS = 16
PER_SHEET = COLUMNS * COLUMNS
KINDS = ["clean", "perturbed"]
# Images up to this side are kept as they are, and shown with their pixels apart.
TINY_SIDE = 16


class Way(NamedTuple):
    """How to keep the thumbnails: longest side in pixels, quality of compression, with the perturbed ones or not."""

    side: int
    quality: int
    perturbed: bool


# From the best to the smallest; the first that fits is taken.
SIZES = ((96, 80), (64, 80), (64, 60), (48, 60), (32, 70), (32, 50), (32, 30))
WAYS = [Way(*size, True) for size in SIZES] + [Way(*size, False) for size in ((32, 60), (32, 40), (24, 40), (16, 30))]


def pack(
    dataset: Dataset, index: np.ndarray, perturb: Perturber | None, most_bytes: int
) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """Thumbnails of the instances with these indices (int64 [K]) in at most so many bytes of base64.

    Returns their description, or None where they would take more, and the sheets as base64 by the name
    of their block: `sheet-clean-0`, ..., each of `PER_SHEET` thumbnails in rows of `COLUMNS`.
    """
    way = choose(dataset, index, perturb, most_bytes)
    if way is None:
        warn_once(f"{len(index)} thumbnails would take more than {most_bytes / 1e6:.0f} MB; the page will show none")
        return None, {}
    sheets, shape = {}, (0, 0)
    pictures = instances.pictures(dataset, index, perturb if way.perturbed else None, PER_SHEET)
    total = -(-len(index) // PER_SHEET)
    for number, batch in enumerate(
        tqdm(pictures, "thumbnails", total, unit="sheet", leave=False, delay=1.0, disable=None)
    ):
        for kind, pixels in zip(KINDS, batch):
            small = reduced(pixels, way.side)
            shape = small.shape[1:3]
            sheets[f"sheet-{kind}-{number}"] = base64.b64encode(encode_sheet(small, way.quality)).decode()
    about = {
        "mime": MIME,
        "height": shape[0],
        "width": shape[1],
        "columns": COLUMNS,
        "perSheet": PER_SHEET,
        "kinds": KINDS[: 1 + way.perturbed],
        "crisp": is_tiny(shape),
    }
    return about, sheets


def choose(dataset: Dataset, index: np.ndarray, perturb: Perturber | None, most_bytes: int) -> Way | None:
    """The best way that fits, judged by a sheet of instances spread over the whole; None if none does."""
    spread = index[np.unique(np.linspace(0, len(index) - 1, PER_SHEET).round().astype(np.int64))]
    batch = next(instances.pictures(dataset, spread, perturb, PER_SHEET))
    for way in WAYS:
        if way.perturbed and perturb is None:
            way = way._replace(perturbed=False)
        kept = batch if way.perturbed else batch[:1]
        needed = sum(len(encode_sheet(reduced(pixels, way.side), way.quality)) for pixels in kept)
        # Base64 writes 3 bytes as 4 characters; a twentieth more, since a sheet is a sample.
        if needed * len(index) / len(spread) * 4 / 3 * 1.05 <= most_bytes:
            return way
    return None


def reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 [B,H,W,3] with the longer side brought down to `side`, if it is longer."""
    height, width = pixels.shape[1:3]
    if max(height, width) <= side:
        return pixels
    size = [max(1, round(length * side / max(height, width))) for length in (width, height)]
    return np.stack([np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)) for picture in pixels])


def encode_sheet(pixels: np.ndarray, quality: int) -> bytes:
    """One compressed picture of all these, uint8 [B,H,W,3], in rows of `COLUMNS`."""
    count, height, width = pixels.shape[:3]
    rows = -(-count // COLUMNS)
    cells = np.zeros((rows * COLUMNS, height, width, 3), dtype=np.uint8)
    cells[:count] = pixels
    grid = cells.reshape(rows, COLUMNS, height, width, 3).swapaxes(1, 2)
    return encode(grid.reshape(rows * height, COLUMNS * width, 3), quality, is_tiny((height, width)))


def encode(picture: np.ndarray, quality: int, lossless: bool) -> bytes:
    """A picture, uint8 [H,W,3], as WebP."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=quality, method=2, lossless=lossless)
    return buffer.getvalue()


def is_tiny(size: tuple[int, int]) -> bool:
    """Whether pictures of this height and width would lose their shape to compression, and cost little whole."""
    return max(size) <= TINY_SIDE


def data_uri(picture: np.ndarray, side: int) -> str:
    """One picture, uint8 [H,W,3], reduced to `side` and ready for an `<img>`."""
    small = reduced(picture[None], side)[0]
    return f"data:{MIME};base64,{base64.b64encode(encode(small, 85, is_tiny(small.shape[:2]))).decode()}"
