"""What the scripts share: arguments, records, collection, metrics, training, evaluation."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`Recorder`, imported at the first use: it needs torch, which takes seconds to import."""
    if name != "Recorder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from robust_data.collect.recorder import Recorder

    return Recorder
