#!/usr/bin/env python3
"""Convert statistics between this project's .npy and the pickled dict of the older repositories, both ways.

The older form is {global_step: {index: {field: value}}}, pickled, inside an .npy or on its own. It is read
with an unpickler that can build numpy scalars, arrays and plain containers and nothing else. The older tools
count instances from 0 without a gap; the JSON beside a converted file keeps what its dict has no place for.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robust_data import files, records
from robust_data.analysis import older_form
from robust_data.command_line.parser import Parser, run_script
from robust_data.reading import readable
from robust_data.registry import InputError


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
    if (content := older_form.read(source)) is not None:
        rows, about = older_form.to_records(content), records.load_metadata(source)
        restore_index(rows, about.pop("index", None), about, source)
        check(rows, source)
        records.save(target, rows, describe(rows, about, source, args.dataset_name))
        form = ""
    else:
        rows, about = records.load(source)
        older_form.write(target, rows)
        # By this index the way back finds the instances again.
        index = {"index": rows["index"][0].tolist()}
        files.write_json(target.with_suffix(".json"), describe(rows, about | index, source, args.dataset_name))
        form = "the older form, "
    print(f"saved {target}: {form}{rows.shape[0]} checkpoints, {rows.shape[1]} instances")


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


def describe(rows: np.ndarray, about: Mapping[str, Any], source: Path, dataset_name: str | None) -> dict[str, Any]:
    """The JSON beside the converted file: all that the one beside the input says, and what the records tell."""
    described = {**about, "converted_from": source.name, **records.identity(rows)}
    if dataset_name is not None:
        described["dataset_name"] = dataset_name
        described["arguments"] = {**about.get("arguments", {}), "dataset_name": dataset_name}
    return described


if __name__ == "__main__":
    run_script(build_parser(), main)
