"""Pickles that hold plain data alone: numbers, texts, containers, numpy's numbers and arrays of numbers.

Nothing of a pickle is called but what stands here, and none of it can make more than it is given: dtypes are plain
numeric ones by their names, whatever state a pickle has for them.
"""

from __future__ import annotations

import math
import pickle
import re
from typing import IO, Any

import numpy as np

NUMERIC = re.compile(r"[<>=|]?(\?|b1|[iu][1248]|f[248])")
# A list of Python objects, in which np.save wraps a dict.
OBJECTS = re.compile(r"\|?O8?")


class _Dtype:
    """Stands for a dtype, which is that of its name whatever its state says."""

    def __init__(self, name: str, align: bool = False, copy: bool = True):
        if not isinstance(name, str) or not (NUMERIC.fullmatch(name) or OBJECTS.fullmatch(name)):
            raise ValueError(f"it holds numpy's dtype {str(name)[:30]!r}; only numbers are read")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        # Of the state the byte order alone counts; what else there is belongs to dtypes that are not read.
        if not self.dtype.hasobject:
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array that is filled with as much as its shape says, of numbers or from a list."""

    def __setstate__(self, state: tuple) -> None:
        version, shape, dtype, fortran, content = state
        shape = tuple(int(length) for length in shape)
        count = math.prod(shape)
        if min(shape, default=0) < 0 or len(content) != count * (1 if dtype.dtype.hasobject else dtype.dtype.itemsize):
            raise ValueError(f"it holds an array of shape {shape} with {len(content)} bytes or objects")
        if not isinstance(content, list if dtype.dtype.hasobject else bytes):
            raise ValueError("it holds an array without its content")
        super().__setstate__((version, shape, dtype.dtype, bool(fortran), content))


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), "b")


def _from_buffer(content: Any, dtype: _Dtype, shape: tuple, order: str) -> np.ndarray:
    if dtype.dtype.hasobject:
        raise ValueError("it holds an array of objects as bytes")
    return np.frombuffer(bytes(content), dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: _Dtype, content: Any = None) -> Any:
    if dtype.dtype.hasobject or not isinstance(content, bytes) or len(content) != dtype.dtype.itemsize:
        raise ValueError("it holds a number of numpy without its bytes")
    return np.frombuffer(content, dtype.dtype)[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"it holds a text encoded in {str(encoding)[:30]}")
    return text.encode("latin1")


def _ordered(items: Any = ()) -> dict:
    return dict(items)


def _with_default(*factory: Any) -> dict:
    return {}


_FUNCTIONS = {
    # Named as the kind of an array to be made; never called.
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Dtype,
    ("collections", "OrderedDict"): _ordered,
    ("collections", "defaultdict"): _with_default,
    ("_codecs", "encode"): _encode,
}
for package in ("numpy.core", "numpy._core"):  # under their old and new names
    _FUNCTIONS |= {
        (f"{package}.multiarray", "scalar"): _scalar,
        (f"{package}.multiarray", "_reconstruct"): _reconstruct,
        (f"{package}.numeric", "_frombuffer"): _from_buffer,
    }
# What a defaultdict of plain data makes; never called.
for module in ("builtins", "__builtin__"):
    _FUNCTIONS |= {(module, kind): f"{kind} of a defaultdict" for kind in ("dict", "list", "int", "float", "set")}


class PlainUnpickler(pickle.Unpickler):
    """An unpickler that refuses every object but numpy's and plain containers, and names it."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _FUNCTIONS:
            raise ValueError(
                f"it holds the forbidden object {module}.{name}; only numpy arrays and plain containers are read"
            )
        return _FUNCTIONS[module, name]


def load(file: IO[bytes]) -> Any:
    """What is pickled in a file. Raises ValueError for anything but plain data, and whatever a damaged pickle does."""
    content = PlainUnpickler(file).load()
    # np.save wraps a dict in an array without dimensions.
    return content.item() if isinstance(content, np.ndarray) and content.shape == () else content
