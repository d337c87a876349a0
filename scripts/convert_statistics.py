#!/usr/bin/env python3
"""Convert statistics between this project's .npy and the pickled dict of the older repositories, both ways.

The older form is {global_step: {index: {field: value}}}, pickled, inside an .npy or on its own. It is read
with an unpickler that can build numpy scalars, arrays and plain containers and nothing else. The older tools
count instances from 0 without a gap; the JSON beside a converted file keeps what its dict has no place for.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from reading import check_regular, readable, reason, without_remarks
from registry import InputError, one_line
from robust_data import files, records
from robust_data.analysis import plain_pickle
from robust_data.command_line.parser import Parser, run_script

NPY_MAGIC = b"\x93NUMPY"


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--input", required=True, metavar="FILE", help="statistics in either form; which one is told by its content"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="where the other form goes; it ends in .npy")
    parser.add_argument(
        "--dataset_name", metavar="NAME", help="the data set the statistics are of, for the JSON beside --output"
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
        rows, about = from_older(read_older(source)), records.load_metadata(source)
        restore_index(rows, about.pop("index", None), about, source)
        check(rows, source)
        records.save(target, rows, describe(rows, about, source, args.dataset_name))
        form = ""
    else:
        rows, about = records.load(source)
        write_older(target, to_older(rows))
        # By this index the way back finds the instances again.
        index = {"index": rows["index"][0].tolist()}
        files.write_json(target.with_suffix(".json"), describe(rows, about | index, source, args.dataset_name))
        form = "the older form, "
    print(f"saved {target}: {form}{rows.shape[0]} checkpoints, {rows.shape[1]} instances")


def holds_pickle(path: Path) -> bool:
    """Whether this is an .npy with pickled objects or a bare pickle. Raises InputError if it cannot be read."""
    if not os.path.lexists(path):
        raise InputError(f"--input {path} does not exist; give a statistics file")
    with readable(f"--input {path}", "collect the statistics again"):
        check_regular(path)
        with open(path, "rb") as file:
            if file.read(len(NPY_MAGIC)) != NPY_MAGIC:
                return True
            file.seek(0)
            return _npy_dtype(file).hasobject


def _npy_dtype(file: io.BufferedReader) -> np.dtype:
    """Read the header of an .npy, leaving the file at its data."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with without_remarks():
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
            content = plain_pickle.load(file)
        except InputError as error:
            raise InputError(f"--input {path} is refused: {error}") from None
        except Exception as error:  # a damaged pickle raises almost anything
            raise InputError(f"--input {path} is no readable pickle: {reason(error)}") from None
    if not _is_older(content):
        raise InputError(f"--input {path} holds no dict {{global_step: {{index: {{field: value}}}}}}")
    return content


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


def from_older(content: Mapping[int, Mapping[int, Mapping[str, Any]]]) -> np.ndarray:
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


def check(rows: np.ndarray, source: Path) -> None:
    """Refuse records (T, N) that are no statistics, or do not say of every instance what it is."""
    records.check_table(rows, source)
    if unlabelled := np.count_nonzero(rows["golden_label"][0] < 0):
        raise InputError(
            f"--input {source} has no golden_label for {unlabelled} of {rows.shape[1]} instances; "
            "collect the statistics again, or add that field to every instance"
        )


def restore_index(rows: np.ndarray, index: list[int] | None, about: Mapping[str, Any], source: Path) -> None:
    """Give the instances the index in the training split that the JSON beside an older file keeps, if it does.

    Raises InputError if the JSON is of other statistics.
    """
    if index is not None:
        records.check_metadata(rows, {**about, "instances": len(index)}, source)
        with readable(str(source.with_suffix(".json")), "restore or remove it"):
            rows["index"] = index


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


def to_older(rows: np.ndarray) -> dict[int, dict[int, dict[str, Any]]]:
    """The older dict of some records (T, N), in plain Python numbers, with the derived fields that it holds.

    Its index is 0 to N - 1, as the older tools take it for granted.
    """
    content = {}
    fields = [name for name in records.dtype_of(rows).names if name not in ("global_step", "index")]
    for row in rows:
        columns = {name: row[name].tolist() for name in fields}
        columns |= {name: records.column(row[None], name)[0].tolist() for name in records.DERIVED}
        instances = zip(*columns.values())
        content[int(row["global_step"][0])] = {
            index: dict(zip(columns, values)) for index, values in enumerate(instances)
        }
    return content


def write_older(path: Path, content: dict[int, dict[int, dict[str, Any]]]) -> None:
    """Write the dict as np.save does, so that np.load(path, allow_pickle=True).item() opens it."""
    with files.atomic_write(path) as file:
        np.lib.format.write_array(file, np.array(content, dtype=object), allow_pickle=True)


def describe(rows: np.ndarray, about: Mapping[str, Any], source: Path, dataset_name: str | None) -> dict[str, Any]:
    """The JSON beside the converted file: all that the one beside the input says, and what the records tell."""
    described = {**about, "converted_from": source.name, **records.identity(rows)}
    if dataset_name is not None:
        described["dataset_name"] = dataset_name
        described["arguments"] = {**about.get("arguments", {}), "dataset_name": dataset_name}
    return described


if __name__ == "__main__":
    run_script(build_parser(), main)
