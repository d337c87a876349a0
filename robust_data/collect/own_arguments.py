"""What a user gives a Recorder beside the data and the model, checked before anything is computed."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import perturbations
from registry import InputError, one_line


def whole(name: str, value: Any, lowest: int, highest: int | None = None) -> int:
    """A whole number within bounds. Raises InputError."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or number < lowest or (highest is not None and number > highest):
        bounds = f"of {lowest} or more" if highest is None else f"from {lowest} to {highest}"
        raise InputError(f"{name} {one_line(repr(value), 40)} cannot be used; give a whole number {bounds}")
    return number


def check_kinds(**given: tuple[Any, type | tuple[type, ...]]) -> None:
    """Raise InputError for an argument, by its name, that is not of its kind."""
    for name, (value, kind) in given.items():
        if not isinstance(value, kind):
            wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise InputError(f"{name} is {one_line(repr(value), 60)}; give a {wanted}")


def part_of_a_name(name: str, value: str) -> str:
    """A text that can stand in a file's name. Raises InputError."""
    if not value or "/" in value or one_line(value) != value:
        raise InputError(f"{name} {one_line(repr(value), 40)} cannot stand in a file's name; give letters and digits")
    return value


def resolved(names: Sequence[str], severity: int, modality: str, image_size: tuple[int, int] | None) -> list[str]:
    """The canonical names of perturbations that act on the data. Raises InputError."""
    if isinstance(names, str) or not len(names) or not all(isinstance(name, str) for name in names):
        shown = one_line(repr(names), 60)
        raise InputError(f"perturbations {shown}: give a list of names, such as ['shot_noise'], of texts ['char_swap']")
    found = perturbations.resolve(names, modality)
    perturbations.check_size([(name, severity) for name in found], image_size)
    return found
