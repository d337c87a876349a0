"""The image data sets: each one function that says where images and labels are; loading is done elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robust_data.datasets.balance import tenth_of_each_class
from robust_data.datasets.base import class_name, is_left_behind, warn_of_look_alikes
from robust_data.datasets.catalogue import MissingSplit, Options, dataset
from robust_data.datasets.decoding import extensions, is_image
from robust_data.datasets.download import OfficialFile, torchvision_set
from robust_data.datasets.images import ImageArrays, ImageFiles
from robust_data.datasets.tables import COMMAS, read_table
from robust_data.reading import one_each, open_arrays, read_json, read_member, readable
from robust_data.registry import InputError, LazyModule, warn_once

np = LazyModule("numpy")
# Folders of these names are no classes, but splits that go by another name here.
SPLITS_ELSEWHERE = {"test", "testing", "training", "val", "valid", "validation", "dev", "eval"}


@dataset("digits")
def digits(split: str, options: Options) -> ImageArrays:
    """Handwritten digits that ship inside scikit-learn: 1,797 grey images; every fifth is for testing.

    They are 8x8; each pixel becomes 2x2, since the smallest blur of 3 px would wipe out a stroke of 1 px.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    chosen = (np.arange(len(data.target)) % 5 == 4) == (split == "test")
    images = np.rint(data.images[chosen] * (255 / 16)).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    return ImageArrays(images, data.target[chosen], [str(name) for name in data.target_names])


@dataset("cifar10")
def cifar10(split: str, options: Options) -> ImageArrays:
    """CIFAR-10: 50,000 and 10,000 colour images of 32x32 in ten classes (Krizhevsky 2009)."""
    from torchvision.datasets import CIFAR10

    archive = OfficialFile(CIFAR10.url, "md5", CIFAR10.tgz_md5)
    data = torchvision_set(CIFAR10, CIFAR10.base_folder, archive, options, train=split == "train")
    return ImageArrays(data.data, data.targets, data.classes)


@dataset("food101")
def food101(split: str, options: Options) -> ImageFiles:
    """Food-101: 75,750 and 25,250 photographs of up to 512 pixels a side, in 101 classes (Bossard et al. 2014)."""
    from torchvision.datasets import Food101

    archive = OfficialFile(Food101._URL, "md5", Food101._MD5)
    root = Path(torchvision_set(Food101, "food-101", archive, options, split=split).root)
    path = root / "food-101" / "meta" / f"{split}.json"
    listing = read_json(path, str(path), "unpack the archive again")
    label_names = sorted(listing)
    files = [(label, name) for label, dish in enumerate(label_names) for name in listing[dish]]
    paths = [str(root / "food-101" / "images" / f"{name}.jpg") for _, name in files]
    return ImageFiles(paths, [label for label, _ in files], label_names, same_size=False)


@dataset("imagefolder")
def imagefolder(split: str, options: Options) -> ImageFiles:
    """Anyone's images, as <data_dir>/{train,test}/<class>/*, or as <data_dir>/<class>/*.

    Without test val is taken, as ImageNet calls it. The classes are those of train; without train a tenth of each
    class, always the same, is the test split.
    """
    root = options.required_path("a folder that holds <class>/*, or train/<class>/* and, if you like, test/<class>/*")
    if not (root / "train").is_dir():
        return _undivided(root, split, options)
    if not (root / split).is_dir() and not (root / (split := "val")).is_dir():
        raise MissingSplit(f"--data_dir {root} holds no folder 'test' or 'val'; put images in {root}/test/<class>/")
    labels = {name: label for label, name in enumerate(_classes(root / "train"))}
    warn_of_look_alikes(list(labels), str(root / "train"))
    classes = _classes(root / split)
    if unknown := [folders[0] for name, folders in classes.items() if name not in labels]:
        raise InputError(f"{unknown[0]} is a class without a folder in train; add or remove it")
    paths, labels_of_paths = _labelled(root / split, classes, labels)
    return ImageFiles(paths, labels_of_paths, list(labels), others=_metadata(root, paths, options))


def _undivided(root: Path, split: str, options: Options) -> ImageFiles:
    """The images of <root>/<class>/*, without or with the tenth of each class that is the test split."""
    classes = _classes(root)
    if splits := [name for name in classes if name.lower() in SPLITS_ELSEWHERE]:
        raise InputError(f"--data_dir {root} holds no folder 'train'; rename {splits[0]} to train or test")
    warn_of_look_alikes(list(classes), str(root))
    paths, labels = _labelled(root, classes, {name: label for label, name in enumerate(classes)})
    held_out = tenth_of_each_class(np.asarray(labels))
    warn_once(
        f"--data_dir {root} holds no folder 'train': a tenth of each class, {held_out.sum()} of {len(paths)} images, "
        "is the test split"
    )
    rows = np.flatnonzero(held_out == (split == "test"))
    paths = [paths[row] for row in rows]
    return ImageFiles(paths, [labels[row] for row in rows], list(classes), others=_metadata(root, paths, options))


def _metadata(root: Path, paths: list[str], options: Options) -> dict[str, list[str]]:
    """Of the further columns asked for those of <root>/metadata.csv, whose column file_name is relative to it.

    Raises InputError for an image that is not in it.
    """
    asked, table = list(options.others.values()), root / "metadata.csv"
    if not asked or not table.exists():
        return {}
    of_each = {
        os.path.normpath(root / file): values
        for file, *values in read_table(table, ["file_name", *asked], written=COMMAS).rows
    }
    if missing := next((path for path in paths if os.path.normpath(path) not in of_each), None):
        raise InputError(f"{table} has no row for {os.path.relpath(missing, root)}; add it, by its file_name")
    rows = (of_each[os.path.normpath(path)] for path in paths)
    return dict(zip(asked, map(list, zip(*rows))))


def _labelled(root: Path, classes: Mapping[str, list[str]], labels: Mapping[str, int]) -> tuple[list[str], list[int]]:
    """The image files in the folders of these classes, and their labels."""
    paths, labels_of_paths, others = [], [], []
    for name, folders in classes.items():
        images = _images(folders, others)
        paths += images
        labels_of_paths += [labels[name]] * len(images)
    if others:
        warn_once(f"left out {len(others)} files in {root}, by their names no images, such as {others[0]}")
    return paths, labels_of_paths


@dataset("npz")
def npz(split: str, options: Options) -> ImageArrays:
    """One's own arrays in FILE.npz: images [N,H,W,C] uint8 and labels [N].

    Optional: test_images and test_labels, without which there is no test split, label_names, and further arrays [N] for
    --group_column and --id_column (test_NAME for the test split).
    """
    path = options.required_path("a file .npz with arrays images [N,H,W,C] uint8 and labels [N]")
    with readable(f"--data_dir {path}", "write it again, with numpy.savez"), open_arrays(path) as arrays:
        if split == "test" and not {"test_images", "test_labels"} & set(arrays):
            raise MissingSplit(f"--data_dir {path} holds no array 'test_images'; add test_images and test_labels")
        label_names = _label_names(arrays, path)
        prefix = "test_" if split == "test" else ""
        images, labels = (_array(arrays, prefix + name, path) for name in ("images", "labels"))
        labels = one_each(labels)
        asked = {column: prefix + column for column in options.others.values()}
        others = {column: one_each(_array(arrays, name, path)) for column, name in asked.items() if name in arrays}
    _check_arrays(images, labels, path)
    return ImageArrays(images, labels, label_names, others)


def _array(arrays: Mapping[str, Any], name: str, path: Path) -> Any:
    if name not in arrays:
        raise InputError(f"--data_dir {path} holds no array '{name}', only {', '.join(arrays) or 'nothing'}; add it")
    with readable(f"--data_dir {path}: array '{name}'", "write it again"):
        return read_member(arrays, name)


def _label_names(arrays: Mapping[str, Any], path: Path) -> list[str]:
    """The names given, or the numbers up to the largest training label; test labels are checked against them."""
    if "label_names" in arrays:
        names = _array(arrays, "label_names", path).ravel()
        return [name.decode(errors="surrogateescape") if isinstance(name, bytes) else str(name) for name in names]
    labels = _array(arrays, "labels", path)
    largest = int(labels.max()) if labels.size and labels.dtype.kind in "iu" else 0
    # more classes than instances is a slip, and may be too many to name
    return [str(label) for label in range(max(1, min(largest + 1, labels.size)))]


def _check_arrays(images: Any, labels: Any, path: Path) -> None:
    """Raises InputError unless these are N images, uint8 with one or three channels, and N labels."""
    if images.dtype != np.uint8:
        raise InputError(f"--data_dir {path}: images are {images.dtype}; give uint8 in 0..255")
    if images.ndim not in (3, 4) or 0 in images.shape[1:] or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise InputError(f"--data_dir {path}: images have shape {images.shape}; give [N,H,W,C] with 1 or 3 channels")
    if labels.shape != images.shape[:1]:
        raise InputError(f"--data_dir {path}: {len(images)} images but labels of shape {labels.shape}; give one each")


def _classes(folder: Path) -> dict[str, list[str]]:
    """By class its folder, or several whose names differ in their form of Unicode alone."""
    found: dict[str, list[str]] = {}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: class_name(entry.name)):
            if entry.is_dir() and not is_left_behind(entry.name):
                found.setdefault(class_name(entry.name), []).append(entry.path)
    if not found:
        raise InputError(f"{folder} is empty; put the images in {folder}/<class>/")
    return found


def _images(folders: list[str], others: list[str]) -> list[str]:
    """The image files of a class, in torchvision's order; raises InputError if there are none.

    What is no image is added to `others`.
    """
    images = []
    for place in sorted(place for folder in folders for place in _within(folder, set())):
        path = os.path.join(*place)
        (images if is_image(path) else others).append(path)
    if not images:
        kinds = " ".join(sorted(extensions()))
        raise InputError(f"class folder {folders[0]} holds no images ({kinds}); fill or remove it")
    return images


def _within(folder: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Folder and name of the files in a folder and those in it, each real folder once, whatever links to it."""
    about = os.stat(folder)
    if (about.st_dev, about.st_ino) in seen:
        return
    seen.add((about.st_dev, about.st_ino))
    with os.scandir(folder) as entries:
        # Links last, so that a folder is found under its own name.
        found = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
    for entry in found:
        if is_left_behind(entry.name):
            continue
        if entry.is_dir():
            yield from _within(entry.path, seen)
        # A link that leads nowhere is told when it is read; a pipe or a device is no image.
        elif entry.is_file() or not os.path.exists(entry.path):
            yield folder, entry.name
