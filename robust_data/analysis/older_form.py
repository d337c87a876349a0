"""Statistics as the older repositories have them: {global_step: {index: {field: value}}}, pickled."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robust_data import files, records
from robust_data.analysis import plain_pickle
from robust_data.metrics import SLICE
from robust_data.reading import check_regular, readable, without_remarks
from robust_data.registry import InputError, one_line

NPY_MAGIC = b"\x93NUMPY"
# The last one in which what was written before is known by a number that is written, too.
PROTOCOL = 3
Older = Mapping[int, Mapping[int, Mapping[str, Any]]]


def read(path: Path) -> Older | None:
    """The dict in an .npy with pickled objects or in a bare pickle; None where an .npy holds none.

    Raises InputError for a file that is damaged, or holds anything but plain data.
    """
    with readable(f"--input {path}", "give a statistics file"):
        check_regular(path)
        with open(path, "rb") as file:
            is_npy = file.read(len(NPY_MAGIC)) == NPY_MAGIC
            file.seek(0)
            if is_npy and not _npy_dtype(file).hasobject:
                return None
            content = plain_pickle.load(file)
    if not _is_older(content):
        raise InputError(f"--input {path} holds no dict {{global_step: {{index: {{field: value}}}}}}")
    return content


def _npy_dtype(file: io.BufferedReader) -> np.dtype:
    """Read the header of an .npy, leaving the file at its data."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with without_remarks():
        return read_header(file)[2]


def _is_older(content: Any) -> bool:
    """Whether this is a dict of dicts of dicts that is not empty anywhere."""
    checkpoints = list(content.values()) if isinstance(content, Mapping) else []
    if not checkpoints or not all(isinstance(instances, Mapping) and instances for instances in checkpoints):
        return False
    return all(isinstance(row, Mapping) and row for instances in checkpoints for row in instances.values())


def _numbered(keys: Iterable[Any], what: str) -> list[int]:
    """The keys of an older dict, in order. Raises InputError for one that is no number of a step or an instance."""
    for key in keys:
        if not isinstance(key, int | np.integer) or isinstance(key, bool) or not 0 <= key < 2**63:
            raise InputError(f"--input: {what} {one_line(repr(key), 40)} is no whole number of at least 0")
    return sorted(keys)


def to_records(content: Older) -> np.ndarray:
    """The records (T, N) of an older dict; a field that it lacks is -1, NaN or False by its type.

    A file without delta_norm has its normed_loss_diff: delta_norm is loss_diff / normed_loss_diff where that is a
    positive number, else NaN. The older image code did not divide, so of its files delta_norm is 1.
    Raises InputError if the checkpoints do not hold the same instances.
    """
    steps = _numbered(content, "global step")
    indices = _numbered(content[steps[0]], f"checkpoint {steps[0]}: instance")
    recorded = any(records.INPUT_GRADIENT in instance for instance in content[steps[0]].values())
    dtype = records.DTYPE_WITH_INPUT_GRADIENT if recorded else records.DTYPE
    rows = np.zeros((len(steps), len(indices)), dtype=dtype)
    for row, step in zip(rows, steps):
        if _numbered(content[step], f"checkpoint {step}: instance") != indices:
            raise InputError(f"--input: checkpoint {step} holds other instances than checkpoint {steps[0]}")
        instances = [content[step][index] for index in indices]
        for field in dtype.names:
            row[field] = _older_column(instances, field, dtype[field], step, indices)
        row["global_step"], row["index"] = step, indices
        if not any("delta_norm" in instance for instance in instances):
            row["delta_norm"] = _delta_norms(instances, step, indices)
    return rows


def _delta_norms(instances: list[Mapping[str, Any]], step: int, indices: list[int]) -> np.ndarray:
    """The sizes of the perturbations by which the loss differences of these instances were divided, float64 [N]."""
    names, kind = ("loss_diff", "normed_loss_diff"), np.dtype("f8")
    diff, normed = (_older_column(instances, name, kind, step, indices) for name in names)
    with np.errstate(divide="ignore", invalid="ignore"):
        norms = diff / normed
    return np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)


def _older_column(
    instances: list[Mapping[str, Any]], field: str, dtype: np.dtype, step: int, indices: list[int]
) -> np.ndarray:
    """One field of the instances of a checkpoint. Raises InputError, with step and index, for what is no such number.

    A whole number may be written as a float, and a truth as 0 or 1.
    """
    missing = {"f": np.nan, "i": -1, "b": False}[dtype.kind]
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind == "i" else (0, 1)
    column = np.empty(len(instances), dtype)
    for row, instance in enumerate(instances):
        value = instance.get(field, missing)
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.item()
        number = isinstance(value, int | float | np.number | np.bool_)
        if not number or (dtype.kind != "f" and not (low <= value <= high and value == int(value))):
            wanted = {"f": "a number", "i": f"a whole number of {dtype.itemsize} bytes", "b": "true or false"}
            raise InputError(
                f"--input: checkpoint {step}, instance {indices[row]}: {field} is {one_line(repr(value), 40)}, "
                f"not {wanted[dtype.kind]}; collect the statistics again"
            )
        with np.errstate(over="ignore"):
            column[row] = value
    return column


def write(path: Path, rows: np.ndarray) -> None:
    """Write records (T, N) as np.save does their older dict, so that np.load(path, allow_pickle=True).item() opens it.

    It has plain Python numbers, and the derived fields, too. Its index is 0 to N - 1, as the older tools take it for
    granted. The dict is never whole in memory.
    """
    fields = [name for name in records.dtype_of(rows).names if name not in ("global_step", "index")]
    content = np.array({}, dtype=object)
    before, empty_dict, after = pickle.dumps(content, PROTOCOL).rpartition(pickle.EMPTY_DICT)
    with files.atomic_write(path) as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(content))
        file.write(before + empty_dict)
        for row in rows:
            file.write(pickle.MARK + pickle.dumps(int(row["global_step"][0]), PROTOCOL)[2:-1] + empty_dict)
            for start in range(0, len(row), SLICE):
                part = row[None, start : start + SLICE]
                columns = {name: part[name][0].tolist() for name in fields}
                columns |= {name: records.column(part, name)[0].tolist() for name in records.DERIVED}
                instances = enumerate(zip(*columns.values()), start)
                pickled = pickle.dumps({index: dict(zip(columns, values)) for index, values in instances}, PROTOCOL)
                # Without its head, which makes an empty dict, and its end it puts the items into the dict before it.
                file.write(pickled[5:-1])
            file.write(pickle.SETITEMS)
        file.write(after)
