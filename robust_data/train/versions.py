"""What a run ran on, and when, for the files that tell of it."""

from __future__ import annotations

import platform
import time

import numpy
import torch
import torchvision
import transformers


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that decide a result, by name."""
    libraries = {"torch": torch, "torchvision": torchvision, "transformers": transformers, "numpy": numpy}
    return {"python": platform.python_version()} | {name: module.__version__ for name, module in libraries.items()}


def timestamp() -> str:
    """The time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
