"""What tells one run from another, and what it ran on and when; without a slow import."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robust_data import __version__
from robust_data.files import to_json
from robust_data.records import labels_hash
from robust_data.registry import InputError
from robust_data.settings import options_with

# The user's own data sets differ in nothing but their place.
OWN_DATASETS = {"imagefolder", "npz", "csv", "tsv"}
# Of arguments that differ so many are named.
MOST_TOLD = 8


def check_arguments(
    saved: Mapping[str, Any],
    current: Mapping[str, Any],
    where: Path,
    remedy: str = "use those, --overwrite 1, or another --output_dir",
    option: str = "--",
) -> None:
    """Refuse to continue what was begun with other arguments; the message names those that differ, and their values.

    An argument that only one of the two knows was, or is, off. option: what stands before an argument's name.
    """
    saved = json.loads(to_json(saved))
    current = json.loads(to_json(current))
    free = options_with("free").keys() - ({"data_dir"} if current.get("dataset_name") in OWN_DATASETS else set())
    differing = [
        f"{name if ' ' in name else option + name} was {saved.get(name)}, is {current.get(name)}"
        for name in sorted({*saved, *current} - free)
        if saved.get(name) != current.get(name)
        and (name in saved and name in current or saved.get(name) or current.get(name))
    ]
    if differing:
        more = [f"and {len(differing) - MOST_TOLD} more"] if len(differing) > MOST_TOLD else []
        raise InputError(
            f"{where} was made with other arguments: {'; '.join([*differing[:MOST_TOLD], *more])}; {remedy}"
        )


def data_identity(labels: np.ndarray) -> dict[str, str]:
    """What tells a run's data from other data, beside its arguments; labels: of the training set, int64 [N]."""
    return {"training labels": labels_hash(labels)[:16]}


def versions() -> dict[str, str]:
    """The versions of this package, of Python and of the libraries that decide a result, by name."""
    import torch
    import torchvision
    import transformers

    libraries = {"torch": torch, "torchvision": torchvision, "transformers": transformers, "numpy": np}
    ours = {"robust_data": __version__, "python": platform.python_version()}
    return ours | {name: module.__version__ for name, module in libraries.items()}


def timestamp() -> str:
    """The time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
