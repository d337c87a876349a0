"""Official archives: fetched and verified by torchvision, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_data.datasets.catalogue import Options
from robust_data.reading import reason
from robust_data.registry import InputError, warn_once

# What fetching, verifying and unpacking an archive may raise.
FAILURES = (
    *(OSError, RuntimeError, EOFError, http.client.HTTPException),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error),
)
STAGING = ".download-"
# What torchvision raises over files that are there but are not what they should be.
DAMAGE = (OSError, RuntimeError, EOFError, ValueError, TypeError, AttributeError, LookupError)


def torchvision_set(kind: type, folder: str, file: OfficialFile, options: Options, **arguments: Any) -> Any:
    """A data set class of torchvision, over the data in `options.data_dir`, downloaded first if asked.

    folder: what `kind` reads, below the data folder. file: the archive it is unpacked from; see `official`. Raises
    InputError if the data are missing, damaged, or cannot be fetched.
    """
    target = data_folder(options, folder) / folder
    with options.in_turn():
        if not target.exists():
            _unpacked(_present(target.parent, file, options, verified=True), target)
    try:
        return kind(target.parent, **arguments)
    except DAMAGE as error:
        raise InputError(
            f"{target} is incomplete or fails its checksum ({reason(error)}); remove it, and --download 1 fetches it"
        ) from error


@dataclass(frozen=True)
class OfficialFile:
    """A file as its authors publish it: its address, and the digest by `algorithm`, "md5" or "sha256", it must have."""

    url: str
    algorithm: str
    digest: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    def matches(self, path: Path) -> bool:
        """Whether a file is this one, byte for byte."""
        with open(path, "rb") as file:
            return hashlib.file_digest(file, self.algorithm).hexdigest() == self.digest


def official(folder: str, marker: str, file: OfficialFile, options: Options) -> Path | zipfile.Path:
    """The folder of a data set as published: unpacked in `options.data_dir`, or inside a zip that lies there.

    folder: its name in the archive. marker: what it holds, by which it is recognised where `data_dir` is the
    folder itself. A zip is read in place; a tar is unpacked beside itself, once. A file that lies in
    `data_dir` without being the official one is used with a warning, or with --download 1 replaced.
    Raises InputError if there is nothing, a download does not match its digest, an archive is damaged, or a
    member of it leaves its folder.
    """
    root = data_folder(options, folder)
    with options.in_turn():
        for candidate in (root / folder, root):
            if (candidate / marker).exists():
                return candidate
        return _unpacked(_present(root, file, options), root / folder)


def official_file(folder: Path, file: OfficialFile, options: Options) -> Path:
    """A published file in a folder, downloaded first if asked; see `official`."""
    with options.in_turn():
        return _present(folder, file, options)


def _present(folder: Path, file: OfficialFile, options: Options, verified: bool = False) -> Path:
    """A published file in a folder, downloaded first if asked; verified: another one in its place is refused."""
    path = folder / file.name
    if path.exists() and file.matches(path):
        return path
    if options.download:
        _fetch(file, path)
    elif path.exists() and verified:
        raise InputError(
            f"{path} is not the official file ({file.algorithm} differs); unpack it, or let --download 1 replace it"
        )
    elif path.exists():
        warn_once(f"{path} is not the official file ({file.algorithm} differs); used as it is")
    else:
        where = f"--data_dir {options.data_dir}"
        raise InputError(f"{where} holds no {file.name}, nor what it contains; --download 1 fetches it")
    return path


def data_folder(options: Options, what: str) -> Path:
    """The folder of published data, which need not be there. Raises InputError, which names `what` it holds."""
    if options.data_dir is None:
        raise InputError(f"--data_dir is missing; give the folder that holds, or with --download 1 gets, {what}")
    return options.data_dir


def _fetch(file: OfficialFile, path: Path) -> None:
    """Download a file to `path`; one that is cut short, or is not what it should be, leaves nothing there."""
    from torchvision.datasets.utils import download_url

    try:
        with _staging(path.parent) as staging:
            if path.exists() and file.matches(path):  # by now, fetched by another process
                return
            download_url(file.url, staging, file.name)
            if not file.matches(staging / file.name):
                wanted = f"{file.algorithm} {file.digest}"
                raise InputError(f"--download 1: {file.url} does not match its {wanted}; it was removed, try again")
            os.replace(staging / file.name, path)
    except FAILURES as error:
        raise InputError(
            f"--download 1 cannot fetch {file.url} ({reason(error)}); check the connection, or put it in {path.parent}"
        ) from error


@contextlib.contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A folder below `root`, on the same disk, that vanishes at the end; only one process at a time has one."""
    from filelock import FileLock

    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".download.lock", fallback_to_soft=False)
    with contextlib.suppress(OSError):  # of a file system without locks
        lock.acquire()
    try:
        # While no other process has one, those that are there were left by processes that were killed.
        for left in root.glob(f"{STAGING}*") if lock.is_locked else ():
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=root) as staging:
            yield Path(staging)
    finally:
        # Before the release: who waits for it sees that it has no name any more, and makes another.
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def _unpacked(archive: Path, target: Path) -> Path | zipfile.Path:
    """The folder `target.name` of an archive: of a zip within it, of a tar at `target`, whole or not at all."""
    try:
        if archive.suffix == ".zip":
            return zipfile.Path(archive) / target.name
        with tarfile.open(archive) as contents, _staging(target.parent) as staging:
            if not target.exists():  # by now, unpacked by another process
                # The filter refuses what leads outside, devices, and whatever else data do not need.
                contents.extractall(staging, filter="data")
                os.rename(staging / target.name, target)
        return target
    except FAILURES as error:
        raise InputError(f"{archive} cannot be unpacked ({reason(error)}); fetch it with --download 1") from error
