"""A disk that is full at one moment: of all calls that make, fill, sync, rename or remove a file one fails."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

# Of the module os; each takes a path or a descriptor first.
CALLS = ("fsync", "ftruncate", "posix_fallocate", "replace", "rename", "unlink", "remove", "mkdir", "chmod", "fchmod")


class FullDisk:
    """Counts the places at which a disk may be full while files in a folder change; at one of them it is.

    at: the number of the place, from 1; None for a disk with room. error: what the system answers there. places: what
    was called so far, and on which file.
    """

    def __init__(self, folder, at=None, error=errno.ENOSPC):
        self.folder, self.at, self.error = os.path.abspath(folder), at, error
        self.places: list[str] = []

    def concerns(self, path):
        """Whether a path lies in the folder; of descriptors the runs open none for other files."""
        return isinstance(path, int) or os.path.abspath(os.fspath(path)).startswith(self.folder)

    def reach(self, call, path):
        """Come to the next place."""
        self.places.append(f"{call} {path if isinstance(path, int) else Path(path).name}")
        if len(self.places) == self.at:
            raise OSError(self.error, os.strerror(self.error), None if isinstance(path, int) else os.fspath(path))

    @contextlib.contextmanager
    def mounted(self):
        """Within this block the process has the disk."""
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                if hasattr(os, name):
                    patch.setattr(os, name, self._counted(name, getattr(os, name)))
            patch.setattr(os, "open", self._opening(os.open))
            for owner in (builtins, io):
                patch.setattr(owner, "open", self._opening_file(open))
            # What fills a file, but not by a call of Python's.
            flush, save = np.memmap.flush, safetensors.torch.save_file
            patch.setattr(np.memmap, "flush", lambda table: self.reach("msync", table.filename) or flush(table))
            patch.setattr(safetensors.torch, "save_file", self._saving(save))
            yield self

    def _counted(self, name, call):
        def counted(path, *arguments, **named):
            if self.concerns(path):
                self.reach(name, path)
            return call(path, *arguments, **named)

        return counted

    def _opening(self, call):
        def opened(path, flags, *arguments, **named):
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and self.concerns(path):
                self.reach("os.open", path)
            return call(path, flags, *arguments, **named)

        return opened

    def _opening_file(self, call):
        def opened(path, mode="r", *arguments, **named):
            if not {*mode} & {*"wax+"} or not self.concerns(path):
                return call(path, mode, *arguments, **named)
            if not isinstance(path, int):
                self.reach("open", path)
            return _Written(call(path, mode, *arguments, **named), lambda what: self.reach(what, path))

        return opened

    def _saving(self, call):
        def saved(tensors, path, *arguments, **named):
            try:
                self.reach("save_file", path)
            except OSError as error:  # as safetensors tells it
                raise RuntimeError(
                    f"Error while serializing: I/O error: {error.strerror} (os error {error.errno})"
                ) from None
            return call(tensors, path, *arguments, **named)

        return saved


class _Written:
    """A file that may find no room at its first write, at a flush, and when it is closed."""

    def __init__(self, file, reach):
        self._file, self._reach, self._first = file, reach, True

    def write(self, data):
        if self._first:
            self._first = False
            self._reach("write")
        return self._file.write(data)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        self._reach("flush")
        self._file.flush()

    def close(self):
        if not self._first and not self._file.closed:
            try:
                self._reach("close")
            finally:
                self._file.close()
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __getattr__(self, name):
        return getattr(self._file, name)
