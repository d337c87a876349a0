"""Text files to which several runs add lines, also at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from robust_data.records import sync


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
