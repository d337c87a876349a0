"""Published corruptions: a folder in the layout of CIFAR-10-C, read one severity at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robust_data import datasets
from robust_data.datasets.base import Dataset
from robust_data.reading import open_array, readable
from robust_data.registry import InputError

SEVERITIES = 5
LAYOUT = "it should hold labels.npy [5N] and <corruption>.npy [5N,H,W,3] uint8"


@dataclass(frozen=True)
class PublishedCorruptions:
    """A folder of corruptions whose layout was checked.

    labels: int64 [N], of one severity; the same for all. positions: int64 [M], the instances to use, ascending.
    """

    folder: Path
    names: list[str]
    labels: np.ndarray
    positions: np.ndarray

    def subset(self, positions: np.ndarray) -> PublishedCorruptions:
        """These instances alone, int64 [M], ascending."""
        return PublishedCorruptions(self.folder, self.names, self.labels, positions)

    def load(self, name: str, severity: int, label_names: Sequence[str]) -> Dataset:
        """One corruption at one severity as a data set held in memory."""
        import torch

        rows = (severity - 1) * len(self.labels) + self.positions
        pixels = _opened(self.folder / f"{name}.npy")[rows]
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        index, labels = torch.from_numpy(self.positions), torch.from_numpy(self.labels[self.positions])
        return datasets.images.InMemoryImages(images, name, "test", list(label_names), index, labels)


def open_folder(folder: str | os.PathLike, num_labels: int, image_size: tuple[int, int]) -> PublishedCorruptions:
    """Check a folder of published corruptions, whichever of them it holds.

    num_labels, image_size: classes and (H, W) of the data set that the model is judged on.
    Raises InputError if the folder has another layout, other classes or images of another size.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"--corruptions_dir {folder} is not a folder; {LAYOUT}")
    labels = _labels(folder / "labels.npy", num_labels)
    names = sorted(path.stem for path in folder.glob("[!.]*.npy") if path.name != "labels.npy")
    if not names:
        raise InputError(f"--corruptions_dir {folder} holds no corruption; {LAYOUT}")
    for name in names:
        _check_images(folder / f"{name}.npy", SEVERITIES * len(labels), image_size)
    return PublishedCorruptions(folder, names, labels, np.arange(len(labels)))


def _opened(path: Path) -> np.ndarray:
    """An array as a memory map."""
    if not os.path.lexists(path):
        raise InputError(f"--corruptions_dir {path.parent} holds no {path.name}; {LAYOUT}")
    with readable(f"--corruptions_dir: {path}", "fetch it again"):
        return open_array(path)


def _labels(path: Path, num_labels: int) -> np.ndarray:
    """The labels of one severity, int64 [N]."""
    labels = _opened(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) == 0 or len(labels) % SEVERITIES:
        raise InputError(f"--corruptions_dir: {path} is {_kind(labels)}; it should be integers, [5N]")
    by_severity = labels.reshape(SEVERITIES, -1).astype(np.int64)
    if (by_severity != by_severity[0]).any():
        raise InputError(f"--corruptions_dir: {path} does not repeat the same labels for each of the five severities")
    if by_severity.min() < 0 or by_severity.max() >= num_labels:
        found = f"{by_severity.min()} to {by_severity.max()}"
        raise InputError(f"--corruptions_dir: {path} has labels {found}, the dataset has {num_labels} classes")
    return by_severity[0]


def _check_images(path: Path, rows: int, image_size: tuple[int, int]) -> None:
    expected = (rows, *image_size, 3)
    images = _opened(path)
    if images.shape != expected or images.dtype != np.uint8:
        wanted = f"uint8 {list(expected)}, from labels.npy and the images of the dataset"
        raise InputError(f"--corruptions_dir: {path} is {_kind(images)}; it should be {wanted}")


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"
