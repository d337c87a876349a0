"""The training dynamics that dataset cartography writes: a file per epoch, a line of JSON per instance.

`dynamics_epoch_<E>.jsonl`, E from 0, holds lines {"guid": ..., "logits_epoch_<E>": [C numbers], "gold": label}, in any
order (github.com/allenai/cartography). The logits are those that the model gave in that epoch's training.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robust_data.reading import check_regular, readable
from robust_data.registry import InputError, one_line

NAME = re.compile(r"dynamics_epoch_(0|[1-9]\d*)\.jsonl")
REMEDY = "give the folder as dataset cartography wrote it"


@dataclass(frozen=True)
class Epoch:
    """The instances of one epoch, in ascending order of their guid.

    guids: all whole numbers or all texts, [N], distinct; labels: int64 [N]; logits: float64 [N, C].
    """

    guids: list[int] | list[str]
    labels: np.ndarray
    logits: np.ndarray


def epoch_files(folder: Path) -> list[Path]:
    """The files of all epochs, in order. Raises InputError where one is missing."""
    with readable(f"--dynamics {folder}", REMEDY):
        paths = {int(match[1]): path for path in folder.iterdir() if (match := NAME.fullmatch(path.name))}
    for number in range(max(1, len(paths))):
        if number not in paths:
            raise InputError(f"--dynamics {folder} lacks dynamics_epoch_{number}.jsonl; {REMEDY}")
    return [paths[number] for number in range(len(paths))]


def read_epochs(paths: list[Path]) -> Iterator[Epoch]:
    """Each epoch, read when it is asked for. Raises InputError for files that do not hold the same instances."""
    first = None
    for number, path in enumerate(paths):
        epoch = read_epoch(path, number)
        first = first or epoch
        if epoch.guids != first.guids or epoch.logits.shape != first.logits.shape:
            raise InputError(f"{path} holds other instances or classes than {paths[0]}; {REMEDY}")
        if differing := np.count_nonzero(epoch.labels != first.labels):
            raise InputError(f"{path} gives {differing} instances another gold than {paths[0]}; {REMEDY}")
        yield epoch


def read_epoch(path: Path, number: int) -> Epoch:
    """One epoch. Raises InputError, with the number of the line where one is to blame, for what is no such file."""
    rows: dict[int | str, tuple[int, np.ndarray]] = {}
    with readable(str(path), REMEDY):
        check_regular(path)
        with open(path, "rb") as file:
            for place, line in enumerate(file, 1):
                if line.strip():
                    with readable(f"{path}, line {place},", REMEDY):
                        guid, label, logits = _row(json.loads(line), f"logits_epoch_{number}")
                        if guid in rows:
                            raise ValueError(f"guid {one_line(repr(guid), 60)} is there twice")
                        rows[guid] = label, np.array(logits, dtype=np.float64)
        if not rows:
            raise ValueError("it holds no instance")
        guids = sorted(rows)
        labels, logits = zip(*(rows[guid] for guid in guids))
        return Epoch(guids, np.array(labels, dtype=np.int64), np.stack(logits))


def _row(content: Any, field: str) -> tuple[int | str, int, list[float]]:
    """The guid, the label and the logits of a line. Raises ValueError for what is none."""
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    for name in ("guid", "gold", field):
        if name not in content:
            raise ValueError(f"it has no {name}")
    guid, label, logits = content["guid"], content["gold"], content[field]
    if not isinstance(guid, str) and not (type(guid) is int and 0 <= guid < 2**63):
        raise ValueError(f"guid {one_line(repr(guid), 60)} is neither a text nor a whole number of at least 0")
    if isinstance(guid, str):
        guid.encode()  # half a character, which no file takes, is told here
    if not isinstance(logits, list) or len(logits) < 2 or not all(type(value) in (int, float) for value in logits):
        raise ValueError(f"{field} is no list of 2 or more numbers")
    if type(label) is not int or not 0 <= label < len(logits):
        raise ValueError(
            f"gold {one_line(repr(label), 60)} is no class; the logits are of classes 0 to {len(logits) - 1}"
        )
    return guid, label, logits
