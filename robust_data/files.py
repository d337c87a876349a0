"""Files on the disk: written whole or not at all, changed by one process at a time, in folders that take them."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import math
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from robust_data.registry import InputError

# A file system takes 255 bytes; the rest is for what stands before and behind a name, such as `.state.lock`.
LONGEST_NAME = 200
# What systems answer where a file system has no locks, cannot sync a folder, or cannot reserve room.
UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
# Rewriting a shared file takes milliseconds, so who waits so many seconds waits for a process that is gone.
PATIENCE = 60.0
# A lock that is a mere file is looked at so many seconds before it counts as held: its holder may have died.
SOFT_PATIENCE = 4.0


def fitting(name: str, longest: int = LONGEST_NAME) -> str:
    """The name itself where it takes at most `longest` bytes, else its beginning and a hash of the whole."""
    encoded = os.fsencode(name)
    if len(encoded) <= longest:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    # Cut between characters, not inside one.
    return encoded[: longest - len(digest) - 1].decode(errors="ignore") + f"-{digest}"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO]:
    """Open a temporary file that takes the place of `path` once all is written and synced, or vanishes.

    mode: "wb", or "w" for UTF-8 text with line ends as written. Of several processes at once each has a temporary file
    of its own, and the last to finish stays. Raises InputError if the file cannot be written; what was at `path` is
    then untouched.
    """
    try:
        with _replacing(Path(path), mode) as file:
            yield file
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def _replacing(path: Path, mode: str) -> Iterator[IO]:
    """As `atomic_write`, but raises OSError."""
    if path.exists() and not path.is_file():
        # Renaming would put a file in the place of a device, such as /dev/null, for all the system.
        raise OSError(errno.EINVAL, "it is no regular file")
    # No file is lost for a letter of a name that UTF-8 cannot hold.
    text = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    temporary = _temporary(path)
    try:
        with open(temporary, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)


def _temporary(path: Path) -> Path:
    """A name beside `path` for this process alone; removes what processes that were killed on this machine left."""
    stem = fitting(f".{path.name}.{socket.gethostname()}")
    for left in path.parent.glob(f"{glob.escape(stem)}.[0-9]*.partial"):
        with contextlib.suppress(OSError):
            try:
                os.kill(int(left.stem.rpartition(".")[2]), 0)  # asks whether the process is there
            except ProcessLookupError:
                left.unlink()
    return path.with_name(f"{stem}.{os.getpid()}.partial")


def write_json(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write one JSON object, atomically; see `to_json`."""
    with atomic_write(path, "w") as file:
        file.write(to_json(content, indent=2) + "\n")


def to_json(content: Any, **options: Any) -> str:
    """JSON as every reader takes it: a number that is not finite becomes null. options: of `json.dumps`."""
    return json.dumps(_finite(content), allow_nan=False, **options)


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content


def sync(path: Path) -> None:
    """Make a file's content, or the renames in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Not every file system can do it with a folder.
        if error.errno not in UNSUPPORTED or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def full_disk_is_an_oserror(folder: Path) -> Iterator[None]:
    """Raise OSError when torch's and safetensors' own writers, which are not Python, meet a full disk or a quota."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        number = _system_error(error)
        if number is None and shutil.disk_usage(folder).free > 2**20:
            raise
        number = number or errno.ENOSPC
        raise OSError(number, os.strerror(number)) from error


def _system_error(error: BaseException | None) -> int | None:
    """The number of the system's error at the bottom of another one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        if told := re.search(r"\(os error (\d+)\)", str(error)):
            return int(told[1])
        error = error.__cause__ or error.__context__
    return None


def output_folder(path: str, argument: str = "--output_dir") -> Path:
    """Make the folder that results go to. Raises InputError, which names the argument, if that is not possible."""
    if not path:
        raise InputError(f"{argument} '' names no folder; name one, or . for this one")
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Without a name where the system can, so that nothing is left of it whatever happens.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{argument} {path} cannot be written to ({reason}); name another folder") from None
    return folder


@contextlib.contextmanager
def locked(path: str | os.PathLike, patience: float = PATIENCE) -> Iterator[None]:
    """Keep every other process from the same block for this file; the lock is a file beside it, `<name>.lock`.

    patience: how many seconds to wait for who has it. The lock of a process that died is free, also after kill -9.
    Where the file system has no locks a file stands for one, `<name>.softlock`; that of a process which died on another
    machine stays. Raises TimeoutError, an OSError that names the lock, if it is held for longer, OSError if it cannot
    be made.
    """
    lock = _acquire(Path(path), patience)
    try:
        yield
    finally:
        # Before the release: who waits for it sees that it has no name any more, and makes another.
        with contextlib.suppress(OSError):
            if not lock.lock_file.endswith(".softlock"):
                os.unlink(lock.lock_file)
        with contextlib.suppress(OSError):
            lock.release()


def _acquire(path: Path, patience: float):
    """A lock of `filelock`, acquired."""
    from filelock import FileLock, SoftFileLock, Timeout

    name = fitting(path.name)
    lock = FileLock(path.with_name(f"{name}.lock"), fallback_to_soft=False)
    try:
        try:
            lock.acquire(timeout=patience)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            # It was made, but cannot be locked. The other has a name of its own: an empty file would count as held.
            Path(lock.lock_file).unlink(missing_ok=True)
            lock = SoftFileLock(path.with_name(f"{name}.softlock"))
            lock.acquire(timeout=max(patience, SOFT_PATIENCE))
    except Timeout:
        raise TimeoutError(
            errno.ETIMEDOUT, f"another process holds {lock.lock_file}; if there is none any more, remove that file"
        ) from None
    return lock


def rewrite(path: str | os.PathLike, change: Callable[[str], str]) -> None:
    """Put `change(text)` in the place of a text file's content, "" where there is no file.

    The file is replaced as a whole, under a lock, so that a reader sees it before or after, and no line is lost among
    several writers; it keeps its permissions. Raises OSError if it cannot be written, InputError if it is no text.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        text = _read_to_change(path)
        changed = change(text)
        if changed != text:
            with _replacing(path, "w") as file:
                if path.exists():
                    os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
                file.write(changed)


def _read_to_change(path: Path) -> str:
    """The text of a file that may be written to, with line ends as they are."""
    try:
        with open(path, "r+", newline="", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise InputError(f"{path} holds no text in UTF-8, so no line can be added; move it away") from None
