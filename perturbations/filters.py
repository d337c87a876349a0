"""Linear filters that several families share. Nothing is registered here."""

from __future__ import annotations

import functools

import numpy as np

from registry import LazyModule

torch = LazyModule("torch")


def separable_filter(images, kernel, border="reflect"):
    """Correlate rows and columns with one odd-length 1-d kernel.

    images: [..., H, W]; kernel: tuple of floats; border: a mode of numpy.pad (`reflect`, `symmetric`,
    `edge`) or `zeros`. Written as two matrix products with the border folded into the matrices,
    which at these sizes is several times faster than pooling or convolution.
    """
    height, width = images.shape[-2:]
    rows = _filter_matrix(tuple(kernel), height, border, images.device)
    columns = rows if width == height else _filter_matrix(tuple(kernel), width, border, images.device)
    return rows @ (images @ columns.T)


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
        # The extra column collects what falls outside and is dropped.
        matrix[np.arange(length), sources[offset : offset + length]] += weight
    return torch.from_numpy(matrix[:, :length]).float().to(device)
