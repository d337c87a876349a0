"""Official archives: fetched and verified by torchvision, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from registry import InputError, warn_once

if TYPE_CHECKING:
    from .catalogue import Options

# What fetching, verifying and unpacking an archive may raise.
FAILURES = (
    *(OSError, RuntimeError, EOFError, http.client.HTTPException),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error),
)
# What systems answer where a file system has no locks.
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
STAGING = ".download-"
# What torchvision raises over files that are there but are not what they should be.
DAMAGE = (OSError, RuntimeError, EOFError, ValueError, TypeError, AttributeError, LookupError)


def torchvision_set(kind: type, folder: str, archive: str, md5: str, options: Options, **arguments: Any) -> Any:
    """A data set class of torchvision, over the data in `options.data_dir`, downloaded first if asked.

    folder: what `kind` reads, below the data folder. archive, md5: the file it is unpacked from; one that
    lies there already is used. Raises InputError if the data are missing, damaged, or cannot be fetched.
    """
    if options.data_dir is None:
        raise InputError(f"--data_dir is missing; give the folder that holds, or with --download 1 gets, {folder}")
    target = options.data_dir / folder
    with options.in_turn():
        if not target.exists():
            if not options.download:
                raise InputError(f"--data_dir {options.data_dir} holds no {folder}; --download 1 fetches it")
            _download(kind, target, archive, md5, arguments)
    try:
        return kind(options.data_dir, **arguments)
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{target} is incomplete or fails its checksum ({reason}); remove it, then --download 1 fetches it again"
        ) from error


def _download(kind: type, target: Path, archive: str, md5: str, arguments: dict[str, Any]) -> None:
    """Put the verified, unpacked data at `target`; an interrupted download leaves nothing there."""
    from torchvision.datasets.utils import check_integrity

    root, official = target.parent, False
    try:
        with _staging(root) as staging:
            if target.exists():  # by now, made by another process
                return
            if official := check_integrity(root / archive, md5):
                os.symlink((root / archive).resolve(), staging / archive)
            kind(staging, download=True, **arguments)
            os.rename(staging / target.name, target)
    except FAILURES as error:
        reason = " ".join(str(error).split())
        if not official and (root / archive).exists():
            what = "found, but not the official archive (md5 differs), which cannot be fetched"
            raise InputError(
                f"{root / archive}: {what} ({reason}); unpack it to {target}, or check the connection"
            ) from error
        raise InputError(
            f"--download 1 cannot fetch {archive} ({reason}); check the connection, or put the archive in {root}"
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
    root = _data_dir(options, folder)
    with options.in_turn():
        for candidate in (root / folder, root):
            if (candidate / marker).exists():
                return candidate
        archive = _present(root, file, options)
        try:
            return _inside_zip(archive) / folder if archive.suffix == ".zip" else _unpacked(archive, root / folder)
        except FAILURES as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{archive} cannot be unpacked ({reason}); fetch it with --download 1") from error


def official_file(folder: Path, file: OfficialFile, options: Options) -> Path:
    """A published file in a folder, downloaded first if asked; see `official`."""
    with options.in_turn():
        return _present(folder, file, options)


def _present(folder: Path, file: OfficialFile, options: Options) -> Path:
    path = folder / file.name
    if path.exists():
        if file.matches(path):
            return path
        if not options.download:
            warn_once(f"{path} is not the official file ({file.algorithm} differs); used as it is")
            return path
        try:
            _fetch(file, path)
        except InputError as error:
            remedy = f"found, but not the official archive ({file.algorithm} differs); --download 0 uses it as it is"
            raise InputError(f"{path}: {remedy} ({error})") from None
        return path
    if not options.download:
        where = f"--data_dir {options.data_dir}"
        raise InputError(f"{where} holds no {file.name}, nor what it contains; --download 1 fetches it")
    _fetch(file, path)
    return path


def _data_dir(options: Options, what: str) -> Path:
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
                raise InputError(f"{file.url} does not match its {wanted}; it was removed, try again")
            os.replace(staging / file.name, path)
    except FAILURES as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"--download 1 cannot fetch {file.url} ({reason}); check the connection, or put the file in {path.parent}"
        ) from error


@contextlib.contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A folder below `root`, on the same disk, that vanishes at the end; only one process at a time has one."""
    root.mkdir(parents=True, exist_ok=True)
    with _alone(root) as alone:
        # While no other process has one, those that are there were left by processes that were killed.
        for left in root.glob(f"{STAGING}*") if alone else ():
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=root) as staging:
            yield Path(staging)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[bool]:
    """Wait until no other process is in this block for a folder; False where its file system has no locks."""
    from filelock import FileLock

    lock = FileLock(root / ".download.lock", fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield lock.is_locked
    finally:
        # Before the release: who waits for it sees that it has no name any more, and makes another.
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def _inside_zip(archive: Path) -> zipfile.Path:
    contents = zipfile.ZipFile(archive)
    _check_members(contents.namelist(), archive)
    return zipfile.Path(contents)


def _unpacked(archive: Path, target: Path) -> Path:
    """Unpack the folder `target.name` of a tar, whole or not at all."""
    with tarfile.open(archive) as contents, _staging(target.parent) as staging:
        if target.exists():  # by now, unpacked by another process
            return target
        _check_members(contents.getnames(), archive)
        # The filter refuses links that lead outside, devices, and whatever else data do not need.
        contents.extractall(staging, filter="data")
        os.rename(staging / target.name, target)
    return target


def _check_members(names: Iterable[str], archive: Path) -> None:
    """Refuse an archive that would write outside the folder it is unpacked in."""
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise InputError(f"{archive} holds '{name}', which leaves its folder; nothing was unpacked")
