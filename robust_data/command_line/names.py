"""The names of files that the arguments decide."""

from __future__ import annotations

import argparse

# Each changes the meaning of the metrics; in the order of their names in a file's.
METRIC_SWITCHES = ("within_class", "only_original_pred", "use_untrained_model")


def metric_suffix(args: argparse.Namespace) -> str:
    """The end of a file's name: the switches of `add_metric_arguments` that are on."""
    return "".join(f"_{name}" for name in METRIC_SWITCHES if getattr(args, name, 0))
