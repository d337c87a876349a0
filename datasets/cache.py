"""What --cache keeps: decoded images in one memory-mapped file, tokens of texts; for all processes and later runs."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from robust_data.datasets import decoding
from robust_data.registry import InputError, LazyModule

np = LazyModule("numpy")
torch = LazyModule("torch")

# After so many images what is decoded is written out for good, and counts as done.
IMAGES_PER_SYNC = 4096
DECODED, UNREADABLE = 1, 2


def images(
    folder: Path, root: Path | None, paths: Sequence[str], size: tuple[int, int], num_workers: int, skip_corrupt: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The images of these files, uint8 [N,3,H,W], mapped from a file in `folder`, and which of them can be read, bool.

    The file is named after a hash of the size, and of the names (below root) and lengths of the files; a state beside
    it, a byte an image, says what is done, and what is not is decoded. Raises InputError for an image that cannot be
    read, unless it is to be skipped, and for a folder that cannot be written.
    """
    below = str(root or "")
    known_by = (f"{path.removeprefix(below)}|{os.stat(path).st_size}" for path in paths)
    place = _place(folder, [f"{size}", *known_by], ".images")
    state, shape, length = place.with_suffix(".state"), (len(paths), 3, *size), len(paths) * 3 * size[0] * size[1]
    try:
        if not place.exists() or place.stat().st_size != length:
            for path in (place, state):
                path.unlink(missing_ok=True)
        done = torch.from_file(str(state), shared=True, size=len(paths), dtype=torch.uint8)
        missing = (done == 0).nonzero()[:, 0]
        if len(missing):
            pixels = torch.from_file(str(place), shared=True, size=length, dtype=torch.uint8).view(shape)
            _decode(place, [paths[row] for row in missing.tolist()], missing, pixels, done, num_workers, skip_corrupt)
        if not skip_corrupt and (done == UNREADABLE).any():
            raise decoding.decode(paths[int((done == UNREADABLE).nonzero()[0])], size).error()
        mapped = torch.from_file(str(place), shared=False, size=length, dtype=torch.uint8).view(shape)
    except (OSError, RuntimeError) as error:
        raise InputError(f"--cache {folder} cannot be used: {error}; name another folder") from error
    return mapped, done == DECODED


def _decode(
    place: Path,
    paths: Sequence[str],
    rows: torch.Tensor,
    pixels: torch.Tensor,
    done: torch.Tensor,
    num_workers: int,
    skip_corrupt: bool,
) -> None:
    """Decode these files into these rows, and say so once they are on the disk."""
    states, written = torch.zeros_like(done), 0
    with open(place, "rb+") as file:
        for positions, decoded, faults in decoding.decode_all(paths, tuple(pixels.shape[2:]), num_workers):
            good = torch.tensor([fault is None for fault in faults])
            for fault in faults:
                if fault is not None and not (skip_corrupt and fault.corrupt):
                    raise fault.error()
            if decoded is not None:
                pixels[rows[positions[good]]] = decoded
            states[rows[positions]] = torch.where(good, DECODED, UNREADABLE).to(torch.uint8)
            written += len(positions)
            if written % IMAGES_PER_SYNC < decoding.FILES_PER_TASK or written == len(paths):
                os.fsync(file.fileno())
                done.copy_(torch.maximum(done, states))


def tokens(folder: Path, known_by: Iterable[str], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Arrays by their names, as a file in `folder` has them, or as `make` makes them for it.

    known_by: what decides them.
    """
    place = _place(folder, known_by, ".npz")
    try:
        with np.load(place, allow_pickle=False) as kept:
            return dict(kept)
    except (OSError, ValueError):  # not there, or cut off
        made = make()
    try:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".npz", delete=False) as file:
            np.savez(file, **made)
        os.replace(file.name, place)
    except OSError as error:
        raise InputError(f"--cache {folder} cannot be written: {error}; name another folder") from error
    return made


def _place(folder: Path, known_by: Iterable[str], suffix: str) -> Path:
    digest = hashlib.sha256()
    for part in known_by:
        digest.update(part.encode(errors="surrogateescape") + b"\0")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--cache {folder} cannot be made: {error}; name another folder") from error
    return folder / f"{digest.hexdigest()[:32]}{suffix}"
