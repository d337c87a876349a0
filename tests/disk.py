"""Every change of a file by this process: told before it happens, and refused where a test says so."""

import contextlib
import errno
import functools
import gc
import os
import sys

import numpy as np
import pytest

# The events of Python that change files, and how many paths each begins with.
CHANGES = {"os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1, "os.chmod": 1, "os.link": 2}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_listeners = []


def _hear(event, arguments):
    if not _listeners or (event != "open" and event not in CHANGES):
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
        return
    for path in arguments[: CHANGES.get(event, 1)]:
        if path is not None:
            _listeners[-1](event, path if isinstance(path, int) else os.path.realpath(os.fsdecode(path)))


@functools.cache
def _watch():
    sys.addaudithook(_hear)  # for as long as the process lives, with nothing to do while nobody listens


@contextlib.contextmanager
def told(listener):
    """Within this block `listener(event, path or descriptor)` hears of each change, which it refuses by raising."""
    _watch()
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.pop()


@contextlib.contextmanager
def fenced(folder):
    """Refuse every change of a file outside a folder, and raise AssertionError in the end if one was tried."""
    outside, inside = [], (os.path.realpath(folder), os.devnull)

    def refuse(event, path):
        # Workers pass what they have read through folders of these names.
        own = isinstance(path, int) or path.startswith(inside) or "__pycache__" in path or "/pymp-" in path
        if not own:
            outside.append(f"{event} {path}")
            raise PermissionError(errno.EPERM, "outside the folder of the test", path)

    gc.disable()  # or what other tests left to be closed would be closed within
    try:
        with told(refuse):
            yield
    finally:
        gc.enable()
    assert not outside, outside


@contextlib.contextmanager
def full(folder, at=None, error=errno.ENOSPC):
    """Within this block the disk is full at the `at`-th change of a file in a folder; gives the changes so far.

    at: from 1; None for a disk with room. error: what the system answers there. That a file has no room for what is
    written is left to a real limit on the size of files: not all is written by Python.
    """
    places, inside = [], os.path.realpath(folder)

    def reach(event, path):
        if isinstance(path, int) or path.startswith(inside):  # of descriptors the runs open none for other files
            places.append(f"{event} {path}")
            if len(places) == at:
                raise OSError(error, os.strerror(error), None if isinstance(path, int) else path)

    def counted(name, call):
        return lambda descriptor, *more: reach(name, descriptor) or call(descriptor, *more)

    with told(reach), pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "posix_fallocate"):  # which Python has no events of
            if hasattr(os, name):
                patch.setattr(os, name, counted(name, getattr(os, name)))
        flush = np.memmap.flush
        patch.setattr(np.memmap, "flush", lambda table: reach("msync", str(table.filename)) or flush(table))
        yield places
