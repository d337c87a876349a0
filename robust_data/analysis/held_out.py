"""Instances that a collection records beside those that it trains on, as --collect_on names them."""

from __future__ import annotations

import os

import numpy as np

from reading import open_array, readable
from registry import InputError
from robust_data.records import labels_hash

SPLITS = ("test", "val")
REMEDY = "give test, val, or an .npy of indices in the training split, as select_instances.py writes it"


def held_out_index(collect_on: str | None) -> np.ndarray | None:
    """The instances of the training split that are recorded and not trained on: int64 [K], ascending, distinct.

    collect_on: the argument. None where it names no file. Raises InputError for a file that holds no indices.
    """
    if collect_on is None or collect_on in SPLITS:
        return None
    if not os.path.lexists(collect_on):
        raise InputError(f"--collect_on {collect_on} does not exist; {REMEDY}")
    with readable(f"--collect_on {collect_on}", REMEDY):
        index = open_array(collect_on)
    if index.ndim != 1 or index.dtype.kind not in "iu" or not len(index):
        raise InputError(f"--collect_on {collect_on} holds no list of whole numbers; {REMEDY}")
    return np.unique(index.astype(np.int64))


def held_out_name(collect_on: str | None) -> str | None:
    """What tells these instances from others, 8 characters; None where no file is named."""
    index = held_out_index(collect_on)
    return None if index is None else labels_hash(index)[:8]
