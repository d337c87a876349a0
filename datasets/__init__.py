"""Data sets whose instances keep their index; one registry, one short function per data set."""

import importlib
import pkgutil
import sys

from robust_data.datasets.base import Batch, Dataset
from robust_data.datasets.catalogue import (
    DATASETS,
    MissingSplit,
    check_task,
    dataset,
    load,
    modality,
    names,
    short_name,
)

__all__ = [
    "DATASETS",
    "Batch",
    "Dataset",
    "MissingSplit",
    "check_task",
    "dataset",
    "load",
    "modality",
    "names",
    "short_name",
]

# Every file in this folder registers what it defines, so a new one needs no mention here.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"robust_data.datasets.{_module.name}")

sys.modules[__name__] = sys.modules["robust_data.datasets"]  # also for `import datasets` in a checkout
