"""A user's own data as a data set: arrays, a map-style data set of images or texts, or texts with their labels."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, StackDataset, TensorDataset

from registry import InputError, one_line
from robust_data.packages import datasets
from robust_data.records import LARGEST_LABEL

if TYPE_CHECKING:
    from datasets.base import Batch, Dataset

# How many instances are visited a second time, to see whether their pixels stay as they are.
WATCHED = 16
IMAGES_PER_VISIT = 64
REMEDY = "give (images, labels), (texts, labels), a map-style data set of (image, label), or what datasets.load gives"


def as_dataset(
    data: Any,
    name: str,
    *,
    label_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    tokenizer: Any = None,
    max_seq_length: int | None = None,
    num_workers: int = 0,
) -> Dataset:
    """The data set that a Recorder records; one of `datasets.load` is returned as it is.

    data, label_names, num_classes, tokenizer, max_seq_length, num_workers: see `recorder.Recorder`. name: the data
    set's. Every instance is visited once, and a few twice. Raises InputError for what cannot be used.
    """
    if isinstance(data, datasets.Dataset):
        if label_names is not None or num_classes not in (None, len(data.label_names)):
            option = "label_names" if label_names is not None else f"num_classes {num_classes}"
            raise InputError(f"{option}: data set '{data.name}' has its own, {len(data.label_names)}; leave it out")
        return data
    if isinstance(data, tuple):
        if len(data) != 2:
            raise InputError(f"dataset is a tuple of {len(data)}; {REMEDY}")
        instances, labels = data
        is_array = isinstance(instances, torch.Tensor | np.ndarray) and not _is_text(next(iter(instances), None))
        source = _from_arrays(instances, labels) if is_array else _paired(instances, labels)
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        source = data
        known = getattr(data, "classes", None)  # torchvision's data sets have their names there
        if label_names is None and isinstance(known, list | tuple) and num_classes in (None, len(known)):
            label_names = known
    else:
        raise InputError(f"dataset is a {type(data).__name__}; {REMEDY}")
    if not len(source):
        raise InputError("dataset holds no instances; give one that does")
    first = source[0]
    if not isinstance(first, tuple | list) or len(first) != 2:
        shown = type(first).__name__ + (f" of {len(first)}" if isinstance(first, tuple | list) else "")
        columns = "columns, such as (data['text'], data['label'])" if isinstance(first, dict) else "(images, labels)"
        raise InputError(f"instance 0 of the dataset is a {shown}; give pairs of (image, label), or {columns}")
    if _is_text(first[0]):
        return _texts(source, name, tokenizer, max_seq_length, label_names, num_classes)
    if tokenizer is not None:
        raise InputError(f"tokenizer is for texts; instance 0 holds a {type(first[0]).__name__}")
    return _images(source, name, label_names, num_classes, num_workers)


def _is_text(instance: Any) -> bool:
    """Whether it is a text, or a pair of texts."""
    return isinstance(instance, str) or (
        isinstance(instance, tuple | list) and len(instance) == 2 and all(isinstance(part, str) for part in instance)
    )


def _paired(instances: Any, labels: Any) -> Any:
    """Instances and labels, each an iterable, as one map-style data set."""
    try:
        # A sequence may read its instances one by one, as a column of Hugging Face's datasets does.
        instances = instances if isinstance(instances, Sequence) else list(instances)
        labels = list(labels)
    except TypeError as error:
        raise InputError(f"dataset is no pair of instances and labels ({error}); {REMEDY}") from None
    if len(labels) != len(instances):
        found = f"there are {len(instances)} instances and {len(labels)} labels"
        raise InputError(f"{found}; give one whole number for each instance")
    return StackDataset(instances, labels) if labels else ()


def _label(label: Any, place: int) -> int:
    try:
        return operator.index(label)
    except (TypeError, ValueError):
        shown = str(label)[:40]
        raise InputError(f"instance {place} has the label {shown}; number the classes from 0") from None


def _classes(labels: torch.Tensor, label_names: Sequence[str] | None, num_classes: int | None) -> list[str]:
    """The names of the classes. Raises InputError for labels, int64 [N], that are none of them."""
    lowest, highest = int(labels.min()), int(labels.max())
    if label_names is not None and num_classes not in (None, len(label_names)):
        raise InputError(f"num_classes is {num_classes}, label_names has {len(label_names)}; give one of them")
    if lowest < 0:
        raise InputError(f"label {lowest} is out of range; number the classes from 0")
    count = len(label_names) if label_names is not None else num_classes
    if count is None:
        count = highest + 1
    if highest >= min(count, LARGEST_LABEL):
        raise InputError(f"label {highest} is out of range; number the {min(count, LARGEST_LABEL)} classes from 0")
    if count < 2:
        raise InputError("the data have one class, and a classifier needs two; give num_classes or label_names")
    return [str(name) for name in (range(count) if label_names is None else label_names)]


def _texts(
    source: Any,
    name: str,
    tokenizer: Any,
    max_seq_length: int | None,
    label_names: Sequence[str] | None,
    num_classes: int | None,
) -> Dataset:
    """A data set of texts, or of pairs of them."""
    if tokenizer is None:
        raise InputError("the texts have no tokenizer; give tokenizer=, that of the model, or its name or folder")
    pairs = [source[place] for place in range(len(source))]
    width = 1 if isinstance(pairs[0][0], str) else 2
    texts = [(text,) if isinstance(text, str) else tuple(text) for text, _ in pairs]
    for place, parts in enumerate(texts):
        if len(parts) != width or not all(isinstance(part, str) for part in parts):
            raise InputError(f"instance {place} is not {'a text' if width == 1 else 'a pair of texts'} like the first")
    labels = np.array([_label(label, place) for place, (_, label) in enumerate(pairs)], dtype=np.int64)
    classes = _classes(torch.from_numpy(labels), label_names, num_classes)
    split = datasets.tokens.Texts([list(column) for column in zip(*texts)], labels, classes)
    options = datasets.catalogue.Options(extra={"tokenizer": tokenizer, "max_seq_length": max_seq_length})
    return split.build(name, "train", np.arange(len(labels)), options)


def _from_arrays(images: Any, labels: Any) -> TensorDataset:
    """Arrays as a map-style data set: images [N,C,H,W], labels int64 [N]."""
    try:
        images = torch.as_tensor(images).detach().cpu()
        labels = torch.as_tensor(labels).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        what = "labels" if isinstance(images, torch.Tensor) else "images"
        raise InputError(f"{what} are no array of numbers ({one_line(error, 80)}); {REMEDY}, labels from 0") from None
    if images.ndim not in (3, 4):
        raise InputError(f"images have shape {list(images.shape)}; give [N,3,H,W], or [N,H,W] for grey ones")
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        raise InputError(f"labels are {labels.dtype} {list(labels.shape)}; give one whole number for each image")
    return TensorDataset(_channels_first(images, "images"), labels.long())


def _channels_first(images: torch.Tensor, what: str) -> torch.Tensor:
    """[N,3,H,W] of [N,C,H,W], [N,H,W,C] or [N,H,W]; grey images three times."""
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.permute(0, 3, 1, 2)
    if images.shape[1] not in (1, 3):
        shape = list(images.shape[1:])
        raise InputError(f"{what}: the shape {shape} has neither 1 nor 3 channels; give [3,H,W], or [H,W] if grey")
    return images.expand(-1, 3, -1, -1)


def _pixels(image: Any, place: int) -> torch.Tensor:
    """An image, [3,H,W], as uint8, also where it is float but holds the levels of bytes, or float32 in [0,1]."""
    what = f"instance {place}"
    if hasattr(image, "getbands"):  # Pillow's
        image = np.array(image.convert("RGB"))
    pixels = torch.as_tensor(image).detach().cpu() if isinstance(image, torch.Tensor | np.ndarray) else None
    if pixels is None or pixels.ndim not in (2, 3):
        shown = type(image).__name__ if pixels is None else f"of shape {list(pixels.shape)}"
        raise InputError(f"{what} is {shown}; give an image of Pillow, uint8, or float in [0,1], of [3,H,W] or [H,W]")
    pixels = _channels_first(pixels[None], what)[0]
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


def _digest(pixels: torch.Tensor) -> bytes:
    return hashlib.sha256(pixels.contiguous().numpy().tobytes()).digest()


class _Described:
    """A map-style data set with images as `_pixels` has them; what cannot be used comes as an InputError."""

    def __init__(self, source: Any):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int] | InputError:
        try:
            image, label = self.source[place]
            return _pixels(image, place), _label(label, place)
        except InputError as error:
            return error


def _same(items: list) -> list:
    return items


def _visit(source: Any, batches: Sequence[torch.Tensor], num_workers: int) -> Iterator[list[tuple[torch.Tensor, int]]]:
    """The instances at these positions, a list for each batch."""
    order = [batch.tolist() for batch in batches]
    # A generator of its own leaves torch's as it is.
    loader = DataLoader(
        _Described(source),
        batch_sampler=order,
        num_workers=num_workers,
        collate_fn=_same,
        generator=torch.Generator(),
    )
    for items in loader:
        for item in items:
            if isinstance(item, InputError):
                raise item
        yield items


class VisitedImages(datasets.Dataset):
    """Images that a user's map-style data set gives anew at each visit.

    digests: of the pixels of a few, by their positions; other pixels at a later visit are refused.
    """

    modality = "image"

    def __init__(
        self, source: Any, image_size: tuple[int, int], num_workers: int, digests: dict[int, bytes], *description: Any
    ):
        super().__init__(*description)
        self.source, self.image_size, self.num_workers, self.digests = source, image_size, num_workers, digests

    def batches(self, batches_of_positions: Sequence[torch.Tensor], device: torch.device | str) -> Iterator[Batch]:
        visits = _visit(self.source, batches_of_positions, self.num_workers)
        for positions, items in zip(batches_of_positions, visits, strict=True):
            for place, (pixels, _) in zip(positions.tolist(), items):
                self._check(place, pixels)
            images = [pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels for pixels, _ in items]
            shown = torch.stack(images) if images else torch.empty(0, 3, *self.image_size)
            inputs = {"pixel_values": shown.to(device)}
            yield datasets.Batch(positions, self.index[positions], self.labels[positions].to(device), inputs)

    def check_a_few(self) -> None:
        """Visit the watched instances. Raises InputError where their pixels have changed."""
        for items, place in zip(_visit(self.source, torch.tensor([*self.digests]).split(1), 0), self.digests):
            self._check(place, items[0][0])

    def _check(self, place: int, pixels: torch.Tensor) -> None:
        same_size = tuple(pixels.shape[1:]) == self.image_size
        if not same_size or (place in self.digests and self.digests[place] != _digest(pixels)):
            raise InputError(
                f"instance {place} has other pixels than at its first visit; give the data set without its random "
                "transforms, such as a second one of the same files"
            )


def _images(
    source: Any, name: str, label_names: Sequence[str] | None, num_classes: int | None, num_workers: int
) -> Dataset:
    """A data set of images: in memory where they are bytes and fit, otherwise visited anew at each checkpoint."""
    count = len(source)
    watched = set(torch.linspace(0, count - 1, WATCHED).long().tolist())
    labels, digests, size = torch.empty(count, dtype=torch.int64), {}, None
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
            if place in watched:
                digests[place] = _digest(pixels)
            if pixels.dtype != torch.uint8:
                images = None
            if images is not None:
                images[place] = pixels
    description = (name, "train", _classes(labels, label_names, num_classes), torch.arange(count), labels)
    visited = VisitedImages(source, size, num_workers, digests, *description)
    visited.check_a_few()
    return visited if images is None else datasets.images.InMemoryImages(images, *description)
