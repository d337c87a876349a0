"""A user's own data as a data set: arrays, a map-style data set of images or texts, or texts with their labels."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from robust_data import datasets
from robust_data.datasets import decoding
from robust_data.datasets.base import Batch, Dataset
from robust_data.records import LARGEST_LABEL
from robust_data.registry import InputError, one_line, printable, warn_once

IMAGES_PER_VISIT = 64


def as_dataset(
    data: Any,
    name: str,
    keys: tuple[str, str],
    label_names: Sequence[str] | None,
    num_classes: int | None,
    tokenizer: Any,
    max_seq_length: int | None,
    num_workers: int,
) -> tuple[Dataset, Dataset]:
    """The data set that a Recorder records, and the same one which reads every instance anew.

    keys: where the image or text and the label are in instances that are dicts. data, the others: see
    `recorder.Recorder`; one of `datasets.load` has all of these itself. Every instance is visited once. Raises
    InputError for what cannot be used.
    """
    if isinstance(data, datasets.Dataset):
        return data, data
    source = _Source(data, keys)
    known = getattr(data, "classes", None)  # torchvision's data sets have their names there
    if label_names is None and isinstance(known, list | tuple) and num_classes in (None, len(known)):
        label_names = known
    if _columns(source[0][0]) is None:
        return _images(source, name, label_names, num_classes, num_workers)
    dataset = _texts(source, name, tokenizer, max_seq_length, label_names, num_classes)
    return dataset, dataset


class _Source:
    """(image or text, label) by position, in whichever form the user has them."""

    def __init__(self, data: Any, keys: tuple[str, str]):
        self.data, self.keys, self.labels = data, keys, None
        if isinstance(data, tuple) and len(data) == 2:
            # What reads its instances one by one, as a column of Hugging Face's datasets does, is left to do so.
            self.data = data[0] if isinstance(data[0], Sequence) else list(data[0])
            self.labels = list(data[1])
        counts = {len(part) for part in (self.data, self.labels) if hasattr(part, "__len__")}
        if isinstance(self.data, Mapping) or not hasattr(self.data, "__getitem__") or len(counts) != 1 or 0 in counts:
            found = f"is a {type(data).__name__} of {' and '.join(map(str, sorted(counts)))} instances"
            raise InputError(
                f"dataset {found}; give (images, labels) or (texts, labels) of one length, a map-style data set of "
                "(image, label), or what datasets.load gives"
            )

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        instance = self.data[place] if self.labels is None else (self.data[place], self.labels[place])
        try:
            shown, label = (instance[key] for key in self.keys) if isinstance(instance, Mapping) else instance
        except (KeyError, TypeError, ValueError):
            has = f"has the keys {', '.join(instance)}" if isinstance(instance, Mapping) else "is no pair"
            raise InputError(
                f"instance {place} of the dataset {has}; give pairs of (image or text, label), or dicts, with "
                "image_key= (of texts, too) and label_key="
            ) from None
        try:
            return shown, operator.index(label.item() if hasattr(label, "item") else label)  # also of shape [1]
        except (TypeError, ValueError):
            label = one_line(label, 40)
            raise InputError(f"instance {place} has the label {label}; number the classes from 0") from None


def _columns(instance: Any) -> tuple[str, ...] | None:
    """A text, or the two of a pair; None for anything else."""
    columns = (instance,) if isinstance(instance, str) else instance
    is_text = isinstance(columns, tuple | list) and all(isinstance(column, str) for column in columns)
    return tuple(columns) if is_text and len(columns) in (1, 2) else None


def _classes(labels: torch.Tensor, label_names: Sequence[str] | None, num_classes: int | None) -> list[str]:
    """The names of the classes. Raises InputError for labels, int64 [N], that are none of them."""
    lowest, highest = int(labels.min()), int(labels.max())
    known = num_classes if label_names is None else len(label_names)
    count = min(highest + 1 if known is None else known, LARGEST_LABEL)
    if count < 2 or lowest < 0 or highest >= count or (known is None and lowest > 0):
        raise InputError(
            f"labels go from {lowest} to {highest}, of {count} classes; number at least two classes from 0, or give "
            "num_classes or label_names"
        )
    return [printable(str(name)) for name in (range(count) if label_names is None else label_names)]


def _texts(
    source: _Source,
    name: str,
    tokenizer: Any,
    max_seq_length: int | None,
    label_names: Sequence[str] | None,
    num_classes: int | None,
) -> Dataset:
    """A data set of texts, or of pairs of them."""
    if tokenizer is None:
        raise InputError("the texts have no tokenizer; give tokenizer=, that of the model, or its name or folder")
    instances, numbers = zip(*(source[place] for place in range(len(source))))
    texts = [_columns(instance) or () for instance in instances]
    if wrong := [place for place, columns in enumerate(texts) if len(columns) != len(texts[0])]:
        raise InputError(f"instance {wrong[0]} is no text, or pair of texts, like the first; give {len(texts[0])} each")
    labels = np.array(numbers, dtype=np.int64)
    classes = _classes(torch.from_numpy(labels), label_names, num_classes)
    split = datasets.tokens.Texts([list(column) for column in zip(*texts)], labels, classes)
    options = datasets.catalogue.Options(extra={"tokenizer": tokenizer, "max_seq_length": max_seq_length})
    return split.build(name, "train", np.arange(len(labels)), options)


def _pixels(image: Any, place: int) -> torch.Tensor:
    """An image, [3,H,W], as uint8, also where it is float but holds the levels of bytes, or float32 in [0,1]."""
    if hasattr(image, "getbands"):
        image = np.array(decoding.rgb(image))
    # Torch takes no array that runs backwards, as a mirrored one does.
    image = np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image
    pixels = torch.as_tensor(image).detach().cpu()
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    if pixels.ndim == 3 and pixels.shape[0] not in (1, 3):
        pixels = pixels.permute(2, 0, 1)
    fits = pixels.ndim == 3 and pixels.shape[0] in (1, 3)
    is_bytes = pixels.dtype == torch.uint8
    low, high = pixels.aminmax()
    if not fits or not (is_bytes or (pixels.is_floating_point() and low >= 0 and high <= 1)):
        raise InputError(
            f"instance {place} is {pixels.dtype} {list(pixels.shape)} from {low:.3g} to {high:.3g}; give an image of "
            "Pillow, uint8, or float in [0,1], of [3,H,W] or [H,W]; what normalises goes into preprocess; texts are "
            "strings, with tokenizer="
        )
    pixels = pixels.expand(3, -1, -1)
    if is_bytes:
        return pixels
    pixels = pixels.float()
    levels = (pixels * 255).round()
    return levels.to(torch.uint8) if torch.equal(levels / 255, pixels) else pixels


class _Described:
    """A map-style data set of (pixels, label), pixels as `_pixels` has them, for the workers of a DataLoader."""

    def __init__(self, source: _Source):
        self.source = source

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        image, label = self.source[place]
        return _pixels(image, place), label


class VisitedImages(datasets.Dataset):
    """Images that a user's map-style data set gives anew at each visit."""

    modality = "image"

    def __init__(self, source: _Source, num_workers: int, *description: Any):
        super().__init__(*description)
        self.source, self.num_workers = source, num_workers

    def visit(self, batches_of_positions: Sequence[torch.Tensor]) -> Iterator[list[tuple[torch.Tensor, int]]]:
        """The instances at these positions, (pixels, label), a list for each batch."""
        return iter(
            DataLoader(
                _Described(self.source),
                batch_sampler=[positions.tolist() for positions in batches_of_positions],
                num_workers=self.num_workers,
                collate_fn=list,
                generator=torch.Generator(),  # one of its own leaves torch's as it is
            )
        )

    def batches(self, batches_of_positions: Sequence[torch.Tensor], device: torch.device | str) -> Iterator[Batch]:
        for positions, items in zip(batches_of_positions, self.visit(batches_of_positions), strict=True):
            images = [datasets.images.unit_interval(pixels) for pixels, _ in items]
            shown = torch.stack(images) if images else torch.empty(0, 3, *self.image_size)
            inputs = {"pixel_values": shown.to(device)}
            yield datasets.Batch(positions, self.index[positions], self.labels[positions].to(device), inputs)


def _images(
    source: _Source, name: str, label_names: Sequence[str] | None, num_classes: int | None, num_workers: int
) -> tuple[Dataset, Dataset]:
    """Images: in memory where they fit, otherwise visited anew at each checkpoint; and visited anew."""
    count = len(source)
    labels = torch.empty(count, dtype=torch.int64)
    visited = VisitedImages(source, num_workers, name, "train", [], torch.arange(count), labels)
    images: torch.Tensor | None = None
    batches = torch.arange(count).split(IMAGES_PER_VISIT)
    for positions, items in zip(batches, visited.visit(batches), strict=True):
        for place, (pixels, label) in zip(positions.tolist(), items):
            labels[place], size = label, tuple(pixels.shape[1:])
            if place == 0:
                visited.image_size = size
                if count * pixels.nbytes <= datasets.images.MEMORY_LIMIT:
                    images = torch.empty(count, *pixels.shape, dtype=pixels.dtype)
            if size != visited.image_size:
                sizes = f"{list(size)}, and those before are {list(visited.image_size)}"
                raise InputError(f"instance {place} is {sizes}; give images of one size, resized and cropped")
            if images is not None and pixels.is_floating_point() > images.is_floating_point():
                # Those before are levels of bytes, perhaps by chance.
                images = (
                    datasets.images.unit_interval(images) if 4 * images.nbytes <= datasets.images.MEMORY_LIMIT else None
                )
            if images is not None:
                images[place] = datasets.images.unit_interval(pixels) if images.is_floating_point() else pixels
    if images is not None and images.dtype == torch.uint8 and images.max() <= 1:
        warn_once("dataset: all pixels are levels 0 and 1 of 255, so the images are black; give floats in [0,1]")
    visited.label_names = _classes(labels, label_names, num_classes)
    if images is None:
        return visited, visited
    kept = (name, "train", visited.label_names, visited.index, labels)
    return datasets.images.InMemoryImages(images, *kept), visited
