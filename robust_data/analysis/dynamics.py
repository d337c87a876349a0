"""The training dynamics that dataset cartography writes: a file per epoch, a line of JSON per instance.

`dynamics_epoch_<E>.jsonl`, E from 0, holds lines {"guid": ..., "logits_epoch_<E>": [C numbers], "gold": label}, in any
order (github.com/allenai/cartography). The logits are those that the model gave in that epoch's training.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reading import check_regular, readable
from registry import InputError, one_line

NAME = re.compile(r"dynamics_epoch_(0|[1-9]\d*)\.jsonl")
# A line of a hundred thousand logits is shorter.
LONGEST_LINE = 2**24
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
        found = {int(match[1]): path for path in folder.iterdir() if (match := NAME.fullmatch(path.name))}
    if not found:
        raise InputError(f"--dynamics {folder} holds no dynamics_epoch_0.jsonl; {REMEDY}")
    missing = next(number for number in itertools.count() if number not in found)
    if missing < len(found):
        raise InputError(f"--dynamics {folder} lacks dynamics_epoch_{missing}.jsonl; {REMEDY}")
    return [found[number] for number in range(len(found))]


def read_epochs(paths: list[Path]) -> Iterator[Epoch]:
    """Each epoch, read when it is asked for. Raises InputError for files that do not hold the same instances."""
    first = None
    for number, path in enumerate(paths):
        epoch = read_epoch(path, number)
        if first is None:
            first = epoch
        if epoch.guids != first.guids:
            raise InputError(f"{path} holds other instances than {paths[0]}; {REMEDY}")
        if differing := np.count_nonzero(epoch.labels != first.labels):
            raise InputError(f"{path} gives {differing} instances another gold than {paths[0]}; {REMEDY}")
        if epoch.logits.shape != first.logits.shape:
            classes = epoch.logits.shape[1], first.logits.shape[1]
            raise InputError(f"{path} holds logits of {classes[0]} classes, {paths[0]} of {classes[1]}; {REMEDY}")
        yield epoch


def read_epoch(path: Path, number: int) -> Epoch:
    """One epoch. Raises InputError, with the number of the line, for what is no such file."""
    rows: dict[int | str, tuple[int, list[float]]] = {}
    for place, line in _lines(path):
        with readable(f"{path}, line {place},", REMEDY):
            guid, label, logits = _row(json.loads(line), f"logits_epoch_{number}")
            if guid in rows:
                raise ValueError(f"guid {one_line(repr(guid), 60)} is there twice")
            known, (_, others) = next(iter(rows.items()), (guid, (label, logits)))
            if type(guid) is not type(known):
                raise ValueError(f"guid {one_line(repr(guid), 60)} is no {type(known).__name__} as the others are")
            if len(logits) != len(others):
                raise ValueError(f"it holds {len(logits)} logits, the first line {len(others)}")
            rows[guid] = label, np.array(logits, dtype=np.float64)
    if not rows:
        raise InputError(f"{path} holds no instance; {REMEDY}")
    guids = sorted(rows)
    labels, logits = zip(*(rows[guid] for guid in guids))
    return Epoch(guids, np.array(labels, dtype=np.int64), np.stack(logits))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not empty, each with its number from 1."""
    with readable(str(path), REMEDY):
        check_regular(path)
        with open(path, "rb") as file:
            for place in itertools.count(1):
                line = file.readline(LONGEST_LINE + 1)
                if len(line) > LONGEST_LINE:
                    raise ValueError(f"line {place} is longer than {LONGEST_LINE // 2**20} MiB")
                if not line:
                    return
                if line.strip():
                    yield place, line


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
