"""Files that somebody else wrote: opened within limits, and whatever their formats raise is told in one line.

As `registry.py` this module is part of the floor of the house: all packages stand on it.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robust_data.registry import InputError, LazyModule, one_line

np = LazyModule("numpy")

# What libraries advise to set in order to read a file all the same, by which the file could run its own code.
UNSAFE_ADVICE = {
    "allow_pickle": "it holds pickled objects",
    "weights_only": "it holds pickled objects",
    "trust_remote_code": "it comes with code of its own, which is never run",
}
# Archives of data are seldom so dense; one that is, and takes so many bytes when unpacked, is made to fill the memory.
MOST_DENSE = 200
LARGEST_DENSE = 2**28
# No JSON of ours has so many levels; what goes through one level by level would end in RecursionError.
DEEPEST = 100


def reason(error: BaseException, longest: int = 200) -> str:
    """What an error says of a file, on one line; a library's advice to read it unsafely is not passed on."""
    text = one_line(error, longest)
    for advice, meaning in UNSAFE_ADVICE.items():
        if advice in str(error):
            return meaning
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, MemoryError):
        return "it claims to hold more than there is memory"
    # The words of an OSError without its number and the name of the file.
    return getattr(error, "strerror", None) or text or type(error).__name__


@contextlib.contextmanager
def readable(what: str, remedy: str) -> Iterator[None]:
    """Turn all that a format raises within this block into InputError: `what` cannot be read, why, and the remedy."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a damaged file raises almost anything
        raise InputError(f"{what} cannot be read ({reason(error)}); {remedy}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from showing bars, and from remarks on many lines, as that the head of a classifier is new."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def memory() -> int:
    """Bytes of memory that this computer has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_regular(path: str | os.PathLike) -> None:
    """Raise ValueError for a pipe or a device, at which reading may never end, OSError where there is nothing."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise ValueError("it is a folder" if stat.S_ISDIR(mode) else "it is no regular file")


def read_json(path: str | os.PathLike, what: str, remedy: str) -> dict[str, Any]:
    """The object in a JSON file. Raises InputError, by `what` and `remedy`, if it cannot be read or holds none.

    FileNotFoundError is raised as it is.
    """
    with readable(what, remedy):
        try:
            check_regular(path)
            return parse_json(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            missing = error
    raise missing


def parse_json(text: str) -> dict[str, Any]:
    """The object that a JSON holds. Raises ValueError for anything else, RecursionError for one nested too deep."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    depth, level = 0, [content]
    while level:
        depth += 1
        if depth > DEEPEST:
            raise RecursionError
        parts = (part for one in level for part in (one.values() if isinstance(one, dict) else one))
        level = [part for part in parts if isinstance(part, dict | list)]
    return content


def check_kinds(content: Mapping[str, Any], kinds: Mapping[str, type | tuple[type, ...]]) -> None:
    """Raise ValueError unless the entries of a JSON object are of these kinds, where they are there and not null.

    kinds: by entry; of a list also that of its items, as in (list, str). A truth counts as a whole number.
    """
    for name, kind in kinds.items():
        value, (kind, *of_items) = content.get(name), kind if isinstance(kind, tuple) else (kind,)
        of_kind = isinstance(value, (int, float) if kind is float else kind)
        if of_kind and of_items:
            of_kind = all(isinstance(item, of_items[0]) for item in value)
        if value is not None and not of_kind:
            raise ValueError(f"its {name} is {one_line(json.dumps(value), 60)}")


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Keep Python from remarking on what the header of a damaged array looks like as an expression."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_array(path: str | os.PathLike) -> np.ndarray:
    """The array in an .npy, read-only, as a memory map: one that claims more than the file holds is refused.

    Raises OSError, ValueError, or whatever a damaged file leads to; see `readable`.
    """
    check_regular(path)
    with without_remarks():
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError("it is an archive of arrays")
    return array


@contextlib.contextmanager
def open_arrays(path: str | os.PathLike) -> Iterator[Any]:
    """The arrays in an .npz by their names, each read when it is asked for; raises as `open_array` does."""
    check_regular(path)
    check_archive(path)
    with np.load(path, allow_pickle=False) as arrays:
        yield arrays


def read_member(arrays: Any, name: str) -> np.ndarray:
    """One array of `open_arrays`. Raises ValueError for a member that is none, or claims to be larger than it is."""
    with without_remarks():
        array = arrays[name]
    if not isinstance(array, np.ndarray):
        raise ValueError(f"'{name}' is no array")
    return array


def one_each(numbers: Any) -> Any:
    """Numbers [N] of an array or tensor [N,1], as a column of a table is; any other as it is."""
    return numbers[:, 0] if numbers.ndim == 2 and numbers.shape[1] == 1 else numbers


def check_archive(path: str | os.PathLike) -> None:
    """Raise ValueError for a zip with a member that was made to fill the memory, zipfile.BadZipFile for no zip."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            dense = member.file_size > MOST_DENSE * max(member.compress_size, 1)
            if member.file_size > LARGEST_DENSE and dense:
                raise ValueError(
                    f"'{one_line(member.filename, 60)}' takes {member.file_size / 2**30:.1f} GiB, unpacked from "
                    f"{member.compress_size / 2**20:.1f} MiB"
                )
