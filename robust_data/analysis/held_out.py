"""Instances that a collection records beside those that it trains on, as --collect_on names them."""

from __future__ import annotations

import os

import numpy as np

from robust_data.reading import open_array, readable
from robust_data.records import labels_hash
from robust_data.registry import InputError

SPLITS = ("test", "val")
REMEDY = "an .npy of indices in the training split, as select_instances.py writes it"


def held_out_index(collect_on: str | None) -> np.ndarray | None:
    """The instances of the training split that are recorded and not trained on: int64 [K], ascending, distinct.

    collect_on: the argument. None where it names no file. Raises InputError for a file that holds no indices.
    """
    if collect_on is None or collect_on in SPLITS:
        return None
    return np.unique(index_list(f"--collect_on {collect_on}", collect_on, f"give test, val, or {REMEDY}"))


def index_list(argument: str, path: str, remedy: str = f"give {REMEDY}") -> np.ndarray:
    """The indices in a file, int64 [K], as they stand there.

    argument, remedy: how the InputError for a file that holds none begins and ends.
    """
    if not os.path.lexists(path):
        raise InputError(f"{argument} does not exist; {remedy}")
    with readable(argument, remedy):
        index = open_array(path)
    if index.ndim != 1 or index.dtype.kind not in "iu" or not len(index):
        raise InputError(f"{argument} holds no list of whole numbers; {remedy}")
    return index.astype(np.int64)


def held_out_name(collect_on: str | None) -> str | None:
    """What tells these instances from others, 8 characters; None where no file is named."""
    index = held_out_index(collect_on)
    return None if index is None else labels_hash(index)[:8]
