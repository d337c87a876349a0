"""Image files to uint8 tensors, in this process or in workers; what cannot be decoded is told, not raised."""

from __future__ import annotations

import functools
import io
import os
import signal
import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from robust_data.datasets.catalogue import HUB
from robust_data.reading import LARGEST_DENSE, check_regular, memory, reason
from robust_data.registry import InputError, LazyModule

np = LazyModule("numpy")
torch = LazyModule("torch")
pillow = LazyModule("PIL.Image")
pillow_operations = LazyModule("PIL.ImageOps")
torchvision_io = LazyModule("torchvision.io")

# By what a file holds, whatever its name says. Pillow reads more: for EPS it starts Ghostscript, others are seldom
# looked after.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", "AVIF")
# Tags of TIFF, of which EXIF is made.
BITS_PER_SAMPLE, PHOTOMETRIC, ORIENTATION, PLANAR_CONFIGURATION, SAMPLE_FORMAT = 258, 262, 274, 284, 339
FILES_PER_TASK = 64
# As much of a file as may tell its size; a profile of colours may stand before that.
HEADER = 1 << 16
# An image is held as decoded and as RGB; Pillow takes up to four bytes a pixel for each.
BYTES_PER_PIXEL = 8


@dataclass(frozen=True)
class Unreadable:
    """Stands where an image should be that is corrupt, or of which nobody knows, or that is not to be guessed at."""

    path: str
    reason: str
    corrupt: bool = True

    def error(self) -> InputError:
        if self.corrupt:
            remedy = "--skip_corrupt 1 leaves such images out"
            return InputError(f"cannot decode image {self.path} ({self.reason}); {remedy}")
        remedy = "it is not corrupt, so it is not left out: mend this and run the same command again"
        return InputError(f"cannot read image {self.path} ({self.reason}); {remedy}")


def _unreadable(path: str, error: Exception) -> Unreadable:
    if isinstance(error, pillow.UnidentifiedImageError):
        try:
            return Unreadable(path, _unknown(path))
        except OSError as of_opening:
            error = of_opening
    # The system numbers its errors (no file, too many open ones, a failing disk, no memory), decoders do not.
    of_the_system = isinstance(error, MemoryError) or getattr(error, "errno", None) is not None
    corrupt = not (of_the_system or isinstance(error, InputError))
    return Unreadable(path, reason(error), corrupt)


def _unknown(path: str) -> str:
    """What is wrong with a file that Pillow does not read; a download that failed is often empty, or a web page."""
    with _held_by_hub(path) or open(path, "rb") as file:
        start = file.read(200)
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "it holds a web page"
    if claimed := _format(start):
        return f"it is a {claimed} of a kind that Pillow does not read, or damaged"
    return f"it holds none of {', '.join(FORMATS)}" if start else "it is empty"


def _format(start: bytes) -> str | None:
    """Which of `FORMATS` a file that starts so claims to be in."""
    pillow.init()
    return next((name for name in FORMATS if pillow.OPEN[name][1](start[:16]) is True), None)


@functools.cache
def extensions() -> frozenset[str]:
    """The suffixes of files in one of `FORMATS`."""
    return frozenset(suffix for suffix, name in pillow.registered_extensions().items() if name in FORMATS)


def is_image(path: str) -> bool:
    """Whether a file is an image by its suffix or, where it has none, by how it starts."""
    if suffix := os.path.splitext(path)[1].lower():
        return suffix in extensions()
    try:
        with open(path, "rb") as file:
            return _format(file.read(16)) is not None
    except OSError:  # told when it is read
        return True


@contextmanager
def open_image(path: str) -> Iterator[pillow.Image]:
    """An image in one of `FORMATS`, not yet decoded, within a block in which Pillow prints nothing.

    Pillow's limits for pixels, and for the text and profile of a PNG, are lifted there, since photographs and scans
    exceed them. Raises whatever Pillow does, ValueError for a pipe or a device, InputError for what takes more than
    half of the memory.
    """
    from PIL import Image, PngImagePlugin

    if not path.startswith(HUB):
        check_regular(path)
    limits = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    with warnings.catch_warnings():
        # Pillow warns of what it passes over in a damaged file; what it cannot decode it raises.
        warnings.simplefilter("ignore")
        try:
            Image.MAX_IMAGE_PIXELS = None
            PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = LARGEST_DENSE
            with Image.open(_held_by_hub(path) or path, formats=FORMATS) as image:
                if image.width * image.height * BYTES_PER_PIXEL > memory() / 2:
                    raise InputError(f"it is too large, {image.width} x {image.height} pixels; save it smaller")
                yield image
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = limits


def _held_by_hub(path: str) -> IO[bytes] | None:
    """The content of an image in a data set of Hugging Face's; None for a file."""
    if not path.startswith(HUB):
        return None
    from robust_data.datasets import hub

    return io.BytesIO(hub.image_bytes(path))


def image_size(path: str) -> tuple[int, int] | Unreadable:
    """(H, W) of an image as it will be decoded, from its header alone."""
    try:
        with _opened(path) as file:
            height, width, colours = _jpeg_shape(file.read(HEADER))
        if colours:
            return height, width
        with open_image(path) as image:
            width, height = image.size
            # Which way a square lies makes no difference here.
            return (width, height) if width != height and _is_sideways(image, path) else (height, width)
    except Exception as error:  # Pillow's decoders raise whatever their formats suggest
        return _unreadable(path, error)


def _is_sideways(image: pillow.Image, path: str) -> bool:
    """Whether decoding will turn an image, which was only opened, by a right angle: by its EXIF, or else its XMP."""
    if ORIENTATION in getattr(image, "tag_v2", ()):
        return False  # of a TIFF with this tag Pillow tells the size that it has when it is turned
    if image.format == "PNG" and _has_text_behind_pixels(path):
        image.load()
    # Not the method of PNG, which decodes every image.
    return pillow.Image.getexif(image).get(ORIENTATION, 1) >= 5


def _has_text_behind_pixels(path: str) -> bool:
    """Whether a PNG has chunks behind its pixels that may hold EXIF or XMP, which opening it does not read."""
    pixels_passed = False
    with _held_by_hub(path) or open(path, "rb") as file:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if pixels_passed and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                return True
            pixels_passed |= kind == b"IDAT"
            file.seek(length + 4, os.SEEK_CUR)
    return False


def decode(path: str, size: tuple[int, int] | None) -> torch.Tensor | Unreadable:
    """An image as uint8 [3,H,W], upright, RGB, resized and centre-cropped to `size` (None: its own)."""
    try:
        pixels = _plain_jpeg(path)
        if pixels is None:
            with open_image(path) as opened:
                pillow_operations.exif_transpose(opened, in_place=True)
                image = rgb(opened)
                pixels = np.array(image if size is None else fit(image, size))
        elif size is not None and pixels.shape[:2] != size:
            pixels = np.array(fit(pillow.fromarray(pixels), size))
    except Exception as error:
        return _unreadable(path, error)
    # torch would take several times as long, and every thread there is
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _plain_jpeg(path: str) -> np.ndarray | None:
    """The pixels of a JPEG, uint8 [H,W,3], the same as Pillow's, in half the time where an image is small.

    None, for Pillow to read it, for what `_jpeg_shape` does not tell, what does not end as it should, or is too large.
    """
    with _opened(path) as file:
        content = file.read(HEADER)
        height, width, colours = _jpeg_shape(content)
        content += file.read() if colours else b""
    too_large = height * width * BYTES_PER_PIXEL > memory() / 2
    if colours not in (1, 3) or too_large or not content.endswith(b"\xff\xd9"):
        return None
    try:
        pixels = torchvision_io.decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    except RuntimeError:
        return None
    return pixels.expand(3, -1, -1).permute(1, 2, 0).numpy()


def _opened(path: str) -> IO[bytes]:
    """An image file, or the content of one within a data set of Hugging Face's; raises ValueError as `open_image`."""
    if path.startswith(HUB):
        return _held_by_hub(path)
    check_regular(path)
    return open(path, "rb")


def _jpeg_shape(start: bytes) -> tuple[int, int, int]:
    """Height, width and number of colours of a JPEG; zeros for what is none, or one with EXIF, XMP or Adobe's colours.

    start: the first `HEADER` bytes of the file, or all of it.
    """
    at = 2 if start.startswith(b"\xff\xd8") else len(start)
    while at + 10 <= len(start):
        begin, marker, length = struct.unpack_from(">BBH", start, at)
        if begin != 0xFF or marker in (0xE1, 0xEE):
            break
        if marker in (0xC0, 0xC1, 0xC2) and start[at + 4] == 8:
            return struct.unpack_from(">HHB", start, at + 5)
        at += 2 + length
    return 0, 0, 0


def rgb(image: pillow.Image) -> pillow.Image:
    """An image of Pillow of any mode as RGB of 8 bits, itself if it is; what a TIFF says of its numbers counts.

    Grey of up to 16 bits is scaled from the range of its type. Grey of 32 bits, of floats or with a sign does not tell
    its range: it is in [0,1] or else in 0..255. Raises InputError for grey beyond its range, and for a TIFF that Pillow
    misreads.
    """
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        _check_read_rightly(image)
    signed = tags is not None and 2 in tags.get(SAMPLE_FORMAT, ())
    if not (signed or image.mode.startswith(("I", "F"))):
        # From premultiplied colours Pillow goes to others only by those that are not.
        image = image.convert(image.mode.upper()) if image.mode in ("La", "RGBa") else image
        return image if image.mode == "RGB" else image.convert("RGB")
    grey = np.asarray(image)
    if image.mode.startswith("I;"):
        largest = 2 ** (tags or {}).get(BITS_PER_SAMPLE, (16,))[0] - 1
    elif image.mode == "I" and image.format == "PPM":  # Pillow has scaled it
        largest = 65535
    else:
        grey = grey.view(np.int8) if image.mode == "L" else grey
        largest = 1 if grey.max() <= 1 else 255
    low, high = grey.min(), grey.max()
    if not (low >= 0 and high <= largest):  # nor is a number that is none
        remedy = "save it as unsigned integers of 8 or 16 bits"
        raise InputError(f"its grey goes from {low:g} to {high:g}, not from 0 to {largest}; {remedy}")
    levels = np.rint(grey * (255 / largest)).astype(np.uint8)
    # Without a word on it Pillow, too, takes 0 for white.
    white_is_zero = tags is not None and tags.get(PHOTOMETRIC, 0) == 0
    return pillow.fromarray(255 - levels if white_is_zero else levels).convert("RGB")


def _check_read_rightly(image: pillow.Image) -> None:
    """Raise InputError for a TIFF of which Pillow 13 mixes up the bytes: compressed or in planes, by its numbers."""
    bits, compressed = image.tag_v2.get(BITS_PER_SAMPLE, (1,)), image.info.get("compression") != "raw"
    in_planes = len(image.getbands()) > 1 and max(bits) > 8 and image.tag_v2.get(PLANAR_CONFIGURATION) == 2
    big_endian = image.mode in ("I", "F") and image.tag_v2.prefix == b"MM"
    if big_endian if compressed else in_planes:
        raise InputError("Pillow misreads such a TIFF; save it little-endian and not in planes")


def covering_size(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """The (H, W) to which an image of (H, W) `size` is resized so that it just covers `wanted`."""
    (height, width), (rows, columns) = size, wanted
    if rows * width >= columns * height:
        return rows, rows * width // height
    return columns * height // width, columns


def fit(image: pillow.Image, size: tuple[int, int]) -> pillow.Image:
    """Resize (bilinear, antialiased) and centre-crop to (H, W) `size`, to the pixel as torchvision does."""
    if (image.height, image.width) == size:
        return image
    height, width = covering_size((image.height, image.width), size)
    image = image.resize((width, height), pillow.Resampling.BILINEAR)
    top, left = round((height - size[0]) / 2), round((width - size[1]) / 2)
    return image.crop((left, top, left + size[1], top + size[0]))


class _SharedTexts(Sequence):
    """Texts in shared memory, which a worker opens instead of getting a copy of each, whichever way it is started."""

    def __init__(self, texts: Sequence[str]):
        encoded = [os.fsencode(text) for text in texts]
        self._ends = torch.tensor([0, *map(len, encoded)]).cumsum(0).share_memory_()
        self._bytes = torch.frombuffer(bytearray(b"".join(encoded)) or bytearray(1), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, position: int) -> str:
        return os.fsdecode(self._bytes[self._ends[position] : self._ends[position + 1]].numpy().tobytes())


class _Files:
    """What a DataLoader draws from: item i is the image of file i, or why there is none."""

    def __init__(self, paths: Sequence[str], size: tuple[int, int] | None, check_only: bool = False):
        self.paths, self.size, self.check_only = paths, size, check_only

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> torch.Tensor | Unreadable:
        image = decode(self.paths[position], None if self.check_only else self.size)
        if self.check_only and not isinstance(image, Unreadable):
            return torch.empty(0, dtype=torch.uint8)
        return image


def _collate(items: list) -> tuple[torch.Tensor | None, list[Unreadable | None]]:
    good = [item for item in items if not isinstance(item, Unreadable)]
    return torch.stack(good) if good else None, [item if isinstance(item, Unreadable) else None for item in items]


def _leave_interrupts_to_the_parent(_: int) -> None:
    # Otherwise Ctrl-C prints one traceback per worker, and a SIGTERM to all takes the data from a run that saves.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def decoded(
    paths: Sequence[str],
    size: tuple[int, int] | None,
    batches: Iterable[torch.Tensor],
    num_workers: int = 0,
    pin_memory: bool = False,
    check_only: bool = False,
) -> Iterator[tuple[torch.Tensor | None, list[Unreadable | None]]]:
    """For each tensor of positions: the images that can be decoded, uint8 [G,3,H,W], and what is wrong with the others.

    The second value has one entry per position, None for a good image; without any good one the first is None.
    With `check_only` the images are decoded and thrown away. Raises InputError if a worker dies.
    """
    loader = torch.utils.data.DataLoader(
        _Files(_SharedTexts(paths) if num_workers else paths, size, check_only),
        batch_sampler=[positions.tolist() for positions in batches],
        collate_fn=_collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=_leave_interrupts_to_the_parent,
        # its own generator, so that reading images leaves the run's random numbers alone
        generator=torch.Generator(),
    )
    iterator = iter(loader)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            if num_workers == 0:
                raise
            what = f"--num_workers {num_workers}: a worker failed ({reason(error)})"
            raise InputError(f"{what}; try --num_workers 0") from error
        yield batch


def decode_all(
    paths: Sequence[str], size: tuple[int, int], num_workers: int, check_only: bool = False
) -> Iterator[tuple[torch.Tensor, torch.Tensor | None, list[Unreadable | None]]]:
    """Decode every file once, under a progress bar; yields (positions, images, faults) as `decoded` does."""
    from tqdm import tqdm

    tasks = torch.arange(len(paths)).split(FILES_PER_TASK)
    # Only on a terminal, and of several processes only the first.
    hidden = True if (os.environ.get("RANK") or "0") != "0" else None
    with tqdm(total=len(paths), desc="reading images", unit="image", leave=False, delay=1.0, disable=hidden) as bar:
        for positions, batch in zip(tasks, decoded(paths, size, tasks, num_workers, check_only=check_only)):
            bar.update(len(positions))
            yield positions, *batch
