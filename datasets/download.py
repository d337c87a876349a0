"""Official archives: fetched and verified by torchvision, whole or not at all."""

from __future__ import annotations

import http.client
import os
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import InputError

if TYPE_CHECKING:
    from datasets.catalogue import Options

# What fetching, verifying and unpacking an archive may raise.
FAILURES = (OSError, RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError, zlib.error)
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

    root = target.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as staging:
            if check_integrity(root / archive, md5):
                os.symlink((root / archive).resolve(), Path(staging, archive))
            kind(staging, download=True, **arguments)
            os.rename(Path(staging, target.name), target)
    except FAILURES as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"--download 1 cannot fetch {archive} ({reason}); check the connection, or put the archive in {root}"
        ) from error
