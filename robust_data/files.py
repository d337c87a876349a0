"""Files on the disk: written whole or not at all, changed by one process at a time, in folders that take them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from registry import InputError


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO]:
    """Open a temporary file that takes the place of `path` once all is written and synced, or vanishes.

    mode: "wb", or "w" for UTF-8 text with line ends as written. Raises InputError if the file cannot be
    written; what was at `path` is then untouched.
    """
    path = Path(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    # Always the same name for the same file, so that what a killed run left is written over, not left to lie.
    temporary = path.with_name(f".{hashlib.sha256(path.name.encode()).hexdigest()[:24]}.partial")
    try:
        with open(temporary, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_json(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write one JSON object, atomically."""
    with atomic_write(path, "w") as file:
        file.write(json.dumps(content, indent=2) + "\n")


def sync(path: Path) -> None:
    """Make a file's content, or the renames in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def full_disk_is_an_oserror(folder: Path) -> Iterator[None]:
    """Raise OSError when torch's and safetensors' own writers, which are not Python, meet a full disk."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if shutil.disk_usage(folder).free > 2**20:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def output_folder(path: str, argument: str = "--output_dir") -> Path:
    """Make the folder that results go to. Raises InputError, which names the argument, if that is not possible."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Without a name where the system can, so that nothing is left of it whatever happens.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{argument} {path} cannot be written to ({error.strerror}); name another folder") from None
    return folder


def rewrite(path: str | os.PathLike, change: Callable[[str], str]) -> None:
    """Put `change(text)` in the place of the file's text, "" where there is no file.

    The file is replaced as a whole, under a lock, so that a reader sees it before or after, and no line is
    lost among several writers. Raises OSError if it cannot be written.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path) as file:
        text = file.read()
        changed = change(text)
        if changed != text:
            _replace(path, changed)


def _replace(path: Path, text: str) -> None:
    """Put a new file in the place of one whose lock is held.

    Nothing may be tidied up after the renaming: the next writer has the new file's lock by then.
    """
    temporary = path.with_name(f".{path.name[-100:]}.partial")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync(path.parent)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    """Open the file, made if missing, and hold its lock; whoever else writes waits here."""
    while True:
        with open(path, "a+", newline="", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Who had the lock before us put another file in this one's place.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                file.seek(0)
                yield file
                return
