"""Images, in memory as one uint8 tensor or decoded on the fly; both yield float32 in [0,1] on the device."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robust_data.datasets import cache, decoding
from robust_data.datasets.base import Batch, Dataset
from robust_data.datasets.catalogue import HUB, Options
from robust_data.registry import InputError, LazyModule, warn_once

np = LazyModule("numpy")
torch = LazyModule("torch")

# Files are decoded into memory, and arrays resized in it, up to this many bytes of uint8.
MEMORY_LIMIT = 2 * 2**30
# The share of a GPU's free memory that a data set may take.
DEVICE_SHARE = 0.25
IMAGES_PER_RESIZE = 1024


def unit_interval(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels, uint8 or float in [0,1], as float32 in [0,1] of their own."""
    # A caller may change what it gets, but not what is kept.
    return pixels.clone() if pixels.is_floating_point() else pixels.to(torch.float32).div_(255)


def _to_device(pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
    if device.type == "cuda" and not pixels.is_cuda and not pixels.is_pinned():
        pixels = pixels.pin_memory()
    return pixels.to(device, non_blocking=device.type == "cuda")


def _take(tensor: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The rows at these positions; a run of consecutive ones is a view, which costs nothing."""
    first, count = int(positions[0]) if len(positions) else 0, len(positions)
    if torch.equal(positions, torch.arange(first, first + count)):
        return tensor[first : first + count]
    return tensor.index_select(0, positions.to(tensor.device, non_blocking=tensor.is_cuda))


class InMemoryImages(Dataset):
    """Images held as one tensor [N,3,H,W], uint8, or float32 in [0,1]."""

    modality = "image"

    def __init__(self, images: torch.Tensor, *description: Any):
        super().__init__(*description)
        self.images, self.image_size = images, tuple(images.shape[-2:])

    def _reduce(self, part: Dataset, positions: torch.Tensor) -> None:
        part.images = _take(self.images, positions)

    def _pixels(self, positions: torch.Tensor) -> torch.Tensor:
        return _take(self.images, positions)

    def to(self, device: torch.device | str) -> Dataset:
        """These images on the device; on a GPU only if they take a quarter of its free memory at most."""
        device = torch.device(device)
        if device.type == "cuda" and not self.images.is_cuda:
            if self.images.nbytes > DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
                return self
        moved = copy.copy(self)
        moved.images = self.images.to(device)
        return moved

    def batches(self, batches_of_positions: Sequence[torch.Tensor], device: torch.device | str) -> Iterator[Batch]:
        device = torch.device(device)
        labels = self.labels.to(self.images.device)
        for positions in batches_of_positions:
            pixels = unit_interval(_to_device(self._pixels(positions), device))
            golden = labels.index_select(0, positions.to(labels.device, non_blocking=labels.is_cuda))
            yield Batch(positions, self.index[positions], golden.to(device), {"pixel_values": pixels})


class MappedImages(InMemoryImages):
    """Images held as one memory-mapped tensor, larger than what is to be copied into memory."""

    def __init__(self, images: torch.Tensor, *description: Any):
        super().__init__(images, *description)
        self._rows = torch.arange(len(images))

    def _reduce(self, part: Dataset, positions: torch.Tensor) -> None:
        part._rows = self._rows[positions]

    def _pixels(self, positions: torch.Tensor) -> torch.Tensor:
        return _take(self.images, self._rows[positions])

    def to(self, device: torch.device | str) -> Dataset:
        return self


class DecodedImages(Dataset):
    """Images decoded from their files at each visit, by `num_workers` processes, to `image_size`."""

    modality = "image"

    def __init__(self, image_size: tuple[int, int], num_workers: int, *description: Any):
        super().__init__(*description)
        self.image_size, self.num_workers = image_size, num_workers

    def batches(self, batches_of_positions: Sequence[torch.Tensor], device: torch.device | str) -> Iterator[Batch]:
        device = torch.device(device)
        on_gpu = device.type == "cuda"
        read = decoding.decoded(self.sources, self.image_size, batches_of_positions, self.num_workers, on_gpu)
        for positions, (images, faults) in zip(batches_of_positions, read, strict=True):
            _good(faults, skip_corrupt=False)
            if images is None:  # a rank's share may be empty
                images = torch.empty(0, 3, *self.image_size, dtype=torch.uint8)
            pixels = unit_interval(_to_device(images, device))
            labels = self.labels[positions].to(device)
            yield Batch(positions, self.index[positions], labels, {"pixel_values": pixels})


@dataclass
class ImageArrays:
    """A split held in memory: images uint8 [N,H,W] or [N,H,W,C] with C = 1 or 3, labels integers [N]."""

    images: Any
    labels: Any
    label_names: list[str]
    others: Mapping[str, Any] = field(default_factory=dict)

    def build(self, name: str, split: str, rows: Any, options: Options) -> Dataset:
        """The data set of these rows, resized to `options.image_size` if that is given."""
        images = torch.from_numpy(np.ascontiguousarray(self.images[rows]))
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
        images = _resized(images.expand(-1, 3, -1, -1), options.image_size).contiguous()
        return InMemoryImages(images, name, split, self.label_names, *_index_and_labels(self.labels, rows))


@dataclass
class ImageFiles:
    """A split held as image files, labels integers [N]; `same_size` False: their sizes are known to differ."""

    paths: list[str]
    labels: Any
    label_names: list[str]
    same_size: bool = True
    others: Mapping[str, Any] = field(default_factory=dict)

    def build(self, name: str, split: str, rows: Any, options: Options) -> Dataset:
        """The data set of these rows: in memory if they fit, otherwise decoded on the fly."""
        sources = [self.paths[row] for row in rows]
        description = (name, split, self.label_names, *_index_and_labels(self.labels, rows), sources)
        size, fits = self._size(sources, options)
        if options.cache is not None and not sources[0].startswith(HUB):
            wanted = (options.cache, options.data_dir, sources, size, options.num_workers, options.skip_corrupt)
            with options.in_turn():
                images, good = cache.images(*wanted)
            return _kept((InMemoryImages if fits else MappedImages)(images, *description), good)
        if fits:
            return _decoded_once(size, description, options)
        dataset = DecodedImages(size, options.num_workers, *description)
        return _without_corrupt(dataset) if options.skip_corrupt else dataset

    def _size(self, sources: list[str], options: Options) -> tuple[tuple[int, int], bool]:
        """(H, W) of what the data set yields, and whether it is held in memory."""
        common = _common_size(sources, options.skip_corrupt) if self.same_size else None
        size = options.image_size or common
        if size is None:
            size = options.default_size
            warn_once(f"images of several sizes become {size[0]}x{size[1]} px; --image_size PX sets another size")
        if _bytes(len(sources), size) <= MEMORY_LIMIT:
            return size, True
        # small images stay as they are: enlarging them would add nothing but work
        return options.image_size or min(size, options.default_size, key=max), False


def _bytes(count: int, size: tuple[int, int]) -> int:
    return count * 3 * size[0] * size[1]


def _index_and_labels(labels: Any, rows: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(rows), torch.from_numpy(np.asarray(labels, dtype=np.int64)[rows])


def _resized(images: torch.Tensor, size: tuple[int, int] | None) -> torch.Tensor:
    """uint8 images [N,3,H,W] resized and centre-cropped as files are; raises InputError if that takes too much."""
    if size is None or tuple(images.shape[-2:]) == size:
        return images
    if (needed := _bytes(len(images), size)) > MEMORY_LIMIT:
        raise InputError(
            f"--image_size {size[0]}: {len(images)} images would take {needed / 2**30:.1f} GiB of memory; "
            "lower it or --dataset_len, or leave it out: models resize their input themselves"
        )
    from torchvision.transforms.v2 import functional

    covering = list(decoding.covering_size(tuple(images.shape[-2:]), size))
    resized = torch.empty(len(images), 3, *size, dtype=torch.uint8)
    for part, target in zip(images.split(IMAGES_PER_RESIZE), resized.split(IMAGES_PER_RESIZE), strict=True):
        target.copy_(functional.center_crop(functional.resize(part, covering, antialias=True), list(size)))
    return resized


def _common_size(paths: list[str], skip_corrupt: bool) -> tuple[int, int] | None:
    """(H, W) if all these files have it, None if they differ; unreadable ones are errors, or passed over."""
    common = None
    for path in paths:
        size = decoding.image_size(path)
        if isinstance(size, decoding.Unreadable):
            if not (skip_corrupt and size.corrupt):
                raise size.error()
        elif common not in (None, size):
            return None
        else:
            common = size
    return common


def _decoded_once(size: tuple[int, int], description: tuple, options: Options) -> Dataset:
    paths = description[-1]
    images = torch.empty(len(paths), 3, *size, dtype=torch.uint8)
    whole = torch.empty(len(paths), dtype=torch.bool)
    for positions, pixels, faults in decoding.decode_all(paths, size, options.num_workers):
        good = _good(faults, options.skip_corrupt)
        whole[positions] = good
        if pixels is not None:
            images[positions[good]] = pixels
    return _kept(InMemoryImages(images, *description), whole)


def _without_corrupt(dataset: DecodedImages) -> Dataset:
    checks = decoding.decode_all(dataset.sources, dataset.image_size, dataset.num_workers, check_only=True)
    return _kept(dataset, torch.cat([_good(faults, True) for _, _, faults in checks]))


def _good(faults: list, skip_corrupt: bool) -> torch.Tensor:
    """Which images can be used, bool [B]; raises InputError for the first that may not be skipped."""
    for fault in faults:
        if fault is not None and not (skip_corrupt and fault.corrupt):
            raise fault.error()
    return torch.tensor([fault is None for fault in faults])


def _kept(dataset: Dataset, whole: torch.Tensor) -> Dataset:
    """The data set without its unreadable images; says on stderr how many those are."""
    if whole.all():
        return dataset
    left_out = (~whole).nonzero().squeeze(1)
    first = dataset.sources[left_out[0]]
    if len(left_out) == len(whole):
        raise InputError(f"--data_dir: none of the {len(whole)} images can be decoded, as {first}; replace them")
    warn_once(f"left out {len(left_out)} of {len(whole)} images, not decodable, as {first}")
    return dataset.subset(whole.nonzero().squeeze(1))
