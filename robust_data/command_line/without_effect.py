"""Options that a command line gives although nothing there uses them: each is told in one line, with the reason.

What an option is for is a fact of its field, see `settings.option`.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection

from robust_data import datasets
from robust_data.registry import one_line, warn_once
from robust_data.settings import options_with

# The data sets that `of` names by a word, beside "image" and "text".
BUILT_IN = {"digits"}


def tell(args: argparse.Namespace, asked: Collection[str]) -> None:
    """Warn of options that were asked for and change nothing; args: as parsed."""
    for name in sorted(asked):
        value = getattr(args, name)
        why = _reason(args, name)
        # A switch that is off asks for nothing.
        if why is not None and value not in (0, None):
            values = value if isinstance(value, list) else [value]
            warn_once(f"{one_line(' '.join(map(str, [f'--{name}', *values])), 100)} has no effect: {why}")


def _reason(args: argparse.Namespace, name: str) -> str | None:
    """Why an option has no effect here; None where it has one, or where the data set is not known yet."""
    needed, _, wanted = options_with("needs").get(name, "").partition("=")
    if needed in args and (str(getattr(args, needed)) != wanted if wanted else not getattr(args, needed)):
        return f"it is for --{needed} {wanted or 1}"
    data, of = getattr(args, "dataset_name", None), options_with("of").get(name)
    if of is None or data not in datasets.names():
        return None
    if of == "files":
        return f"--dataset_name {data} comes with the project" if data in BUILT_IN else None
    if of in ("image", "text"):
        found = datasets.modality(data)
        return None if found == of else f"--dataset_name {data} holds {found}s"
    return None if data in of.split() else f"it is for {' and '.join(of.split())}, and --dataset_name is {data}"
