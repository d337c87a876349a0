"""Which training instances make a model robust? Statistics, robust data maps and regularised fine-tuning.

`perturbations`, `datasets`, `models`, `plot_utils`, `scripts` and the scripts themselves are parts of this package: an
installed one holds them, in a checkout they lie beside it.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

__version__ = "0.3.0"
__all__ = ["Recorder", "collection", "datasets", "losses", "metrics", "models", "perturbations", "records", "selection"]

_FOLDER = Path(__file__).resolve().parent


def __getattr__(name: str) -> Any:
    """The public names, imported at the first use: some need torch, which takes seconds to import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "Recorder":
        return importlib.import_module("robust_data.collect.recorder").Recorder
    return importlib.import_module(f"robust_data.{name}")


class _BareNames:
    """Finds `perturbations.weather` where `perturbations` is that of a checkout: as robust_data.perturbations.weather.

    Each of these packages puts `robust_data.<package>` in its own place, so that no module is there twice.
    """

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package = sys.modules.get(name.partition(".")[0])
        is_bare = "." in name and package is sys.modules.get(f"robust_data.{name.partition('.')[0]}", cls)
        return ModuleSpec(name, cls) if is_bare else None

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        return None

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(f"robust_data.{module.__name__}")


if not (_FOLDER / "perturbations").is_dir():  # a checkout
    __path__.append(str(_FOLDER.parent))
    sys.meta_path.insert(0, _BareNames)
