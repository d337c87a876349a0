"""Data sets whose instances keep their index; one registry, one short function per data set.

This package hides the Hugging Face package of the same name, which nothing here needs.
"""

import importlib
import pkgutil

from datasets.base import Batch, Dataset
from datasets.catalogue import DATASETS, MissingSplit, dataset, load, modality, names

__all__ = ["DATASETS", "Batch", "Dataset", "MissingSplit", "dataset", "load", "modality", "names"]

# Every file in this folder registers what it defines, so a new one needs no mention here.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
