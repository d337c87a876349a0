"""A user's own data as a data set: arrays, a map-style data set of images or texts, or texts with their labels."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from registry import InputError, one_line, warn_once
from robust_data.packages import datasets, project_module
from robust_data.records import LARGEST_LABEL

if TYPE_CHECKING:
    from datasets.base import Batch, Dataset

decoding = project_module("datasets.decoding")

IMAGES_PER_VISIT = 64
REMEDY = "give (images, labels), (texts, labels), a map-style data set of (image, label), or what datasets.load gives"


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
    `recorder.Recorder`. Every instance is visited once. Raises InputError for what cannot be used.
    """
    if isinstance(data, datasets.Dataset):
        if label_names is not None or num_classes not in (None, len(data.label_names)):
            option = "label_names" if label_names is not None else f"num_classes {num_classes}"
            raise InputError(f"{option}: data set '{data.name}' has its own, {len(data.label_names)}; leave it out")
        return data, data
    source = _Source(data, keys)
    if not len(source):
        raise InputError("dataset holds no instances; give one that does")
    known = getattr(data, "classes", None)  # torchvision's data sets have their names there
    if label_names is None and isinstance(known, list | tuple) and num_classes in (None, len(known)):
        label_names = known
    first = source[0][0]
    if _is_text(first):
        dataset = _texts(source, name, tokenizer, max_seq_length, label_names, num_classes)
        return dataset, dataset
    if tokenizer is not None:
        raise InputError(f"tokenizer is for texts; instance 0 holds a {type(first).__name__}")
    return _images(source, name, label_names, num_classes, num_workers)


class _Source:
    """(image or text, label) by position, in whichever form the user has them."""

    def __init__(self, data: Any, keys: tuple[str, str]):
        self.data, self.keys, self.labels = data, keys, None
        if isinstance(data, tuple):
            try:
                instances, labels = data
                # What reads its instances one by one, as a column of Hugging Face's datasets does, is left to do so.
                self.data = instances if isinstance(instances, Sequence) else list(instances)
                self.labels = list(labels)
            except (TypeError, ValueError):
                kinds = ", ".join(type(part).__name__ for part in data)
                raise InputError(f"dataset is a tuple of {kinds}; {REMEDY}") from None
            if len(self.data) != len(self.labels):
                found = f"there are {len(self.data)} instances and {len(self.labels)} labels"
                raise InputError(f"{found}; give one whole number for each instance")
        elif isinstance(data, Mapping) or not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
            raise InputError(f"dataset is a {type(data).__name__}; {REMEDY}")

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        instance = self.data[place] if self.labels is None else (self.data[place], self.labels[place])
        if isinstance(instance, Mapping):
            missing = [key for key in self.keys if key not in instance]
            if missing:
                has = f"instance {place} has the keys {', '.join(map(str, instance))}, and no {missing[0]}"
                raise InputError(f"{has}; give image_key= (of texts, too) and label_key=")
            instance = tuple(instance[key] for key in self.keys)
        if not isinstance(instance, tuple | list) or len(instance) != 2:
            shown = type(instance).__name__ + (f" of {len(instance)}" if isinstance(instance, tuple | list) else "")
            raise InputError(f"instance {place} of the dataset is a {shown}; give pairs of (image, label), or dicts")
        try:
            return instance[0], operator.index(instance[1])
        except (TypeError, ValueError):
            label = one_line(instance[1], 40)
            raise InputError(f"instance {place} has the label {label}; number the classes from 0") from None


def _is_text(instance: Any) -> bool:
    """Whether it is a text, or a pair of texts."""
    return isinstance(instance, str) or (
        isinstance(instance, tuple | list) and len(instance) == 2 and all(isinstance(part, str) for part in instance)
    )


def _classes(labels: torch.Tensor, label_names: Sequence[str] | None, num_classes: int | None) -> list[str]:
    """The names of the classes. Raises InputError for labels, int64 [N], that are none of them."""
    lowest, highest = int(labels.min()), int(labels.max())
    if label_names is not None and num_classes not in (None, len(label_names)):
        raise InputError(f"num_classes is {num_classes}, label_names has {len(label_names)}; give one of them")
    known = len(label_names) if label_names is not None else num_classes
    count = min(highest + 1 if known is None else known, LARGEST_LABEL)
    if lowest < 0 or highest >= count or (known is None and lowest > 0):
        raise InputError(f"labels go from {lowest} to {highest}; number the classes from 0, or give num_classes")
    if count < 2:
        raise InputError("the data have one class, and a classifier needs two; give num_classes or label_names")
    return [str(name) for name in (range(count) if label_names is None else label_names)]


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
    texts = [(text,) if isinstance(text, str) else text for text in instances]
    for place, parts in enumerate(texts):
        if not _is_text(instances[place]) or len(parts) != len(texts[0]):
            kind = "a text" if len(texts[0]) == 1 else "a pair of texts"
            raise InputError(f"instance {place} is not {kind} like the first")
    labels = np.array(numbers, dtype=np.int64)
    classes = _classes(torch.from_numpy(labels), label_names, num_classes)
    split = datasets.tokens.Texts([list(column) for column in zip(*texts)], labels, classes)
    options = datasets.catalogue.Options(extra={"tokenizer": tokenizer, "max_seq_length": max_seq_length})
    return split.build(name, "train", np.arange(len(labels)), options)


def _pixels(image: Any, place: int) -> torch.Tensor:
    """An image, [3,H,W], as uint8, also where it is float but holds the levels of bytes, or float32 in [0,1]."""
    what = f"instance {place}"
    if hasattr(image, "getbands"):  # Pillow's
        try:
            image = np.array(decoding.rgb(image))
        except InputError as error:
            raise InputError(f"{what}: {error}") from None
    pixels = torch.as_tensor(image).detach().cpu() if isinstance(image, torch.Tensor | np.ndarray) else None
    if pixels is None or pixels.ndim not in (2, 3):
        shown = type(image).__name__ if pixels is None else f"of shape {list(pixels.shape)}"
        raise InputError(f"{what} is {shown}; give an image of Pillow, uint8, or float in [0,1], of [3,H,W] or [H,W]")
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    if pixels.shape[0] not in (1, 3) and pixels.shape[2] in (1, 3):
        pixels = pixels.permute(2, 0, 1)
    if pixels.shape[0] not in (1, 3):
        shape = list(pixels.shape)
        raise InputError(f"{what}: the shape {shape} has neither 1 nor 3 channels; give [3,H,W], or [H,W] if grey")
    pixels = pixels.expand(3, -1, -1)
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise InputError(f"{what} is {pixels.dtype}; give uint8, or float in [0,1]")
    pixels = pixels.float()
    low, high = pixels.aminmax() if pixels.numel() else (0.0, 0.0)
    if not (low >= 0 and high <= 1):
        remedy = "give pixels in [0,1], and what normalises them as preprocess"
        raise InputError(f"{what} has pixels from {float(low):.3g} to {float(high):.3g}; {remedy}")
    levels = (pixels * 255).round()
    return levels.to(torch.uint8) if torch.equal(levels / 255, pixels) else pixels


class _Described:
    """A map-style data set with images as `_pixels` has them; what cannot be used comes as an InputError."""

    def __init__(self, source: _Source):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int] | InputError:
        try:
            image, label = self.source[place]
            return _pixels(image, place), label
        except InputError as error:
            return error


def _same(items: list) -> list:
    return items


def _visit(source: _Source, batches: Sequence[torch.Tensor], num_workers: int) -> Iterator[list]:
    """The instances at these positions, (pixels, label), a list for each batch."""
    loader = DataLoader(
        _Described(source),
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=num_workers,
        collate_fn=_same,
        generator=torch.Generator(),  # one of its own leaves torch's as it is
    )
    for items in loader:
        for item in items:
            if isinstance(item, InputError):
                raise item
        yield items


class VisitedImages(datasets.Dataset):
    """Images that a user's map-style data set gives anew at each visit."""

    modality = "image"

    def __init__(self, source: _Source, image_size: tuple[int, int], num_workers: int, *description: Any):
        super().__init__(*description)
        self.source, self.image_size, self.num_workers = source, image_size, num_workers

    def batches(self, batches_of_positions: Sequence[torch.Tensor], device: torch.device | str) -> Iterator[Batch]:
        visits = _visit(self.source, batches_of_positions, self.num_workers)
        for positions, items in zip(batches_of_positions, visits, strict=True):
            images = [pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels for pixels, _ in items]
            shown = torch.stack(images) if images else torch.empty(0, 3, *self.image_size)
            inputs = {"pixel_values": shown.to(device)}
            yield datasets.Batch(positions, self.index[positions], self.labels[positions].to(device), inputs)


def _images(
    source: _Source, name: str, label_names: Sequence[str] | None, num_classes: int | None, num_workers: int
) -> tuple[Dataset, Dataset]:
    """Images: in memory where they are bytes and fit, otherwise visited anew at each checkpoint; and visited anew."""
    count = len(source)
    labels, size = torch.empty(count, dtype=torch.int64), None
    images: torch.Tensor | None = None
    batches = torch.arange(count).split(IMAGES_PER_VISIT)
    for positions, items in zip(batches, _visit(source, batches, num_workers), strict=True):
        for place, (pixels, label) in zip(positions.tolist(), items):
            labels[place] = label
            if size is None:
                size = tuple(pixels.shape[1:])
                if count * 3 * size[0] * size[1] <= datasets.images.MEMORY_LIMIT:
                    images = torch.empty(count, 3, *size, dtype=torch.uint8)
            if tuple(pixels.shape[1:]) != size:
                sizes = f"{list(pixels.shape[1:])}, and those before are {list(size)}"
                raise InputError(f"instance {place} is {sizes}; give images of one size, resized and cropped")
            if pixels.dtype != torch.uint8:
                images = None
            if images is not None:
                images[place] = pixels
    if images is not None and images.max() <= 1:
        warn_once("dataset: all pixels are levels 0 and 1 of 255, so the images are black; give floats in [0,1]")
    description = (name, "train", _classes(labels, label_names, num_classes), torch.arange(count), labels)
    visited = VisitedImages(source, size, num_workers, *description)
    return visited if images is None else datasets.images.InMemoryImages(images, *description), visited
