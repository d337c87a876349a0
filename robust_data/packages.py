"""This project's packages `datasets` and `models`, also where others of these names come first on the path.

The names `datasets` and `models` of this module are these packages. They go by their own names where these lead to
them. Where a name leads elsewhere, as `datasets` does to Hugging Face's package in a program that uses it, they go by
`robust_data.packages.datasets` and `robust_data.packages.models`, and the other package stays as it is. Nothing in
`robust_data/`, `datasets/` or `models/` may therefore import them by their bare names.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets.base import Batch, Dataset
else:  # what annotations name; nothing else is asked of them
    Batch = Dataset = Any

ROOT = Path(__file__).resolve().parent.parent
# What makes this module a package, of which the project's are parts.
__path__ = [str(ROOT)]


def project_module(name: str) -> ModuleType:
    """A module of `datasets` or `models` by its name, such as "models.text"."""
    return importlib.import_module(name if _is_ours(name.partition(".")[0]) else f"{__name__}.{name}")


@functools.cache
def _is_ours(package: str) -> bool:
    """Whether a package's own name leads to that of this project."""
    if package in sys.modules:
        place = getattr(sys.modules[package], "__file__", None)
    else:
        spec = importlib.util.find_spec(package)
        place = None if spec is None else spec.origin
    return place is not None and Path(place).resolve().parent == ROOT / package


datasets, models = project_module("datasets"), project_module("models")
