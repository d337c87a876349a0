#!/usr/bin/env python3
"""Convert statistics between this project's .npy and the pickled dict of the older repositories, both ways.

The older form is {global_step: {index: {field: value}}}, pickled, inside an .npy or on its own. It is read
with an unpickler that can build numpy scalars, arrays and plain containers and nothing else.
"""

from __future__ import annotations

import argparse
import io
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from registry import InputError
from robust_data import arguments, files, records

# All that an older file needs: numpy's rebuilding functions under their old and new names, and containers.
ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
}
NPY_MAGIC = b"\x93NUMPY"


class PlainUnpickler(pickle.Unpickler):
    """An unpickler that refuses every object but numpy's and plain containers, and names it."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise InputError(
                f"it holds the forbidden object {module}.{name}; only numpy arrays and plain containers are read"
            )
        # Under their old names numpy's functions import with a warning.
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def build_parser() -> arguments.Parser:
    parser = arguments.Parser(description=__doc__)
    parser.add_argument(
        "--input", required=True, metavar="FILE", help="statistics in either form; which one is told by its content"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="where the other form goes; it ends in .npy")
    parser.add_argument(
        "--dataset_name", metavar="NAME", help="noted in the JSON of a file converted from the older form"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    source, target = Path(args.input), Path(args.output)
    if target.suffix != ".npy":
        raise InputError(f"--output {target} must end in .npy")
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"--output {target} is the input; name another file")
    files.output_folder(str(target.parent))
    if holds_pickle(source):
        converted = from_older(read_older(source))
        records.save(target, converted, describe(converted, source, args.dataset_name))
        print(f"saved {target}: {converted.shape[0]} checkpoints, {converted.shape[1]} instances")
    else:
        rows, _ = records.load(source)
        write_older(target, to_older(rows))
        print(f"saved {target}: the older form, {rows.shape[0]} checkpoints, {rows.shape[1]} instances")


def holds_pickle(path: Path) -> bool:
    """Whether this is an .npy with pickled objects or a bare pickle. Raises InputError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            if file.read(len(NPY_MAGIC)) != NPY_MAGIC:
                return True
            file.seek(0)
            return _npy_dtype(file).hasobject
    except FileNotFoundError:
        raise InputError(f"--input {path} does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError(f"--input {path} cannot be read: {error}") from None


def _npy_dtype(file: io.BufferedReader) -> np.dtype:
    """Read the header of an .npy, leaving the file at its data."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read_header(file)[2]


def read_older(path: Path) -> Mapping[int, Mapping[int, Mapping[str, Any]]]:
    """The pickled dict of an older file. Raises InputError if it is damaged or holds anything but plain data."""
    with open(path, "rb") as file:
        if file.read(len(NPY_MAGIC)) == NPY_MAGIC:
            file.seek(0)
            _npy_dtype(file)
        else:
            file.seek(0)
        try:
            content = PlainUnpickler(file).load()
        except InputError as error:
            raise InputError(f"--input {path} is refused: {error}") from None
        except Exception as error:  # a damaged pickle raises almost anything
            raise InputError(f"--input {path} is no readable pickle: {error}") from None
    # np.save wraps a dict in an array without dimensions.
    if isinstance(content, np.ndarray) and content.shape == ():
        content = content.item()
    if not _is_older(content):
        raise InputError(f"--input {path} holds no dict {{global_step: {{index: {{field: value}}}}}}")
    return content


def _is_older(content: Any) -> bool:
    """Whether this is a dict of dicts of dicts that is not empty anywhere."""
    for _ in range(2):
        if not isinstance(content, Mapping) or not content:
            return False
        content = next(iter(content.values()))
    return isinstance(content, Mapping) and bool(content)


def from_older(content: Mapping[int, Mapping[int, Mapping[str, Any]]]) -> np.ndarray:
    """The records (T, N) of an older dict; a field that it lacks is -1, NaN or False by its type.

    Raises InputError if the checkpoints do not hold the same instances.
    """
    steps = sorted(content)
    indices = sorted(content[steps[0]])
    rows = np.zeros((len(steps), len(indices)), dtype=records.DTYPE)
    for row, step in zip(rows, steps):
        if sorted(content[step]) != indices:
            raise InputError(f"--input: checkpoint {step} holds other instances than checkpoint {steps[0]}")
        instances = [content[step][index] for index in indices]
        for field in records.DTYPE.names:
            row[field] = _older_column(instances, field, records.DTYPE[field])
        row["global_step"], row["index"] = step, indices
    return rows


def _older_column(instances: list[Mapping[str, Any]], field: str, dtype: np.dtype) -> np.ndarray:
    missing = {"f": np.nan, "i": -1, "b": False}[dtype.kind]
    try:
        return np.array([instance.get(field, missing) for instance in instances]).reshape(len(instances)).astype(dtype)
    except (ValueError, TypeError) as error:
        raise InputError(f"--input: field '{field}' is not a number in every instance ({error})") from None


def to_older(rows: np.ndarray) -> dict[int, dict[int, dict[str, Any]]]:
    """The older dict of some records (T, N), in plain Python numbers, with the derived fields that it holds."""
    content = {}
    for row in rows:
        columns = {name: row[name].tolist() for name in records.DTYPE.names if name not in ("global_step", "index")}
        columns |= {name: records.column(row[None], name)[0].tolist() for name in records.DERIVED}
        instances = zip(*columns.values())
        content[int(row["global_step"][0])] = {
            index: dict(zip(columns, values)) for index, values in zip(row["index"].tolist(), instances)
        }
    return content


def write_older(path: Path, content: dict[int, dict[int, dict[str, Any]]]) -> None:
    """Write the dict as np.save does, so that np.load(path, allow_pickle=True).item() opens it."""
    with files.atomic_write(path) as file:
        np.lib.format.write_array(file, np.array(content, dtype=object), allow_pickle=True)


def describe(rows: np.ndarray, source: Path, dataset_name: str | None) -> dict[str, Any]:
    """The JSON of a converted file: what can be known from the records alone."""
    described = {
        "converted_from": source.name,
        "instances": rows.shape[1],
        "labels_sha256": records.labels_hash(rows["golden_label"][0]),
    }
    return described if dataset_name is None else {"dataset_name": dataset_name, **described}


if __name__ == "__main__":
    arguments.run_script(build_parser(), main)
