"""The image data sets: each one function that says where images and labels are; loading is done elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from datasets.catalogue import MissingSplit, Options, dataset
from datasets.decoding import EXTENSIONS
from datasets.images import ImageArrays, ImageFiles
from registry import InputError, LazyModule

np = LazyModule("numpy")


@dataset("digits")
def digits(split: str, options: Options) -> ImageArrays:
    """Handwritten digits that ship inside scikit-learn: 1,797 grey images of 8x8; every fifth is for testing."""
    from sklearn.datasets import load_digits

    data = load_digits()
    chosen = (np.arange(len(data.target)) % 5 == 4) == (split == "test")
    images = np.rint(data.images[chosen] * (255 / 16)).astype(np.uint8)
    return ImageArrays(images, data.target[chosen], [str(name) for name in data.target_names])


@dataset("imagefolder")
def imagefolder(split: str, options: Options) -> ImageFiles:
    """Anyone's images, as <data_dir>/{train,test}/<class>/*; the classes are those of train."""
    root = options.required_path("a folder that holds train/<class>/* and, if you like, test/<class>/*")
    if not (root / "train").is_dir():
        raise InputError(f"--data_dir {root} holds no folder 'train'; put the images in {root}/train/<class>/")
    if not (root / split).is_dir():
        raise MissingSplit(f"--data_dir {root} holds no folder '{split}'; put images in {root}/{split}/<class>/")
    label_names, found = _classes(root / "train"), _classes(root / split)
    if unknown := [name for name in found if name not in label_names]:
        raise InputError(f"{root / split / unknown[0]} is a class without a folder in train; add or remove it")
    files = [(path, label_names.index(name)) for name in found for path in _images(root / split / name)]
    return ImageFiles([path for path, _ in files], [label for _, label in files], label_names)


def _classes(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise InputError(f"{folder} is empty; put the images in {folder}/<class>/")
    return names


def _images(folder: Path) -> list[str]:
    """The image files of a class, hidden ones left out, in torchvision's order; raises InputError if there are none."""
    paths = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [(parent, name) for name in names if name.lower().endswith(EXTENSIONS) and name[0] != "."]
    if not paths:
        raise InputError(f"class folder {folder} holds no images ({' '.join(EXTENSIONS)}); fill or remove it")
    return [os.path.join(*path) for path in sorted(paths)]
