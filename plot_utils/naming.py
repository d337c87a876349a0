"""What a figure says of the statistics files that it shows, and what its own file is called."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_data import files
from robust_data.measuring import choice

# Data of the user's own, which is known by its folder or file rather than by how it is read.
OWN_DATA = ("imagefolder", "npz", "csv", "tsv")
# Every title names these, in this order; all other settings are named only where files differ in them.
HEADLINE = ("data", "model", "perturbation", "severity")
# What the headline says already, and what has no say in the records.
UNTOLD = (
    *("dataset_name", "task_name", "data_dir", "model_name", "perturbations", "severity", "severity_schedule"),
    *("output_dir", "overwrite", "save_every", "num_workers", "download", "eval_size"),
)
# Leaves room for a suffix such as .png.
LONGEST_NAME = 240


def data_name(metadata: Mapping[str, Any]) -> str | None:
    """The data set (and task) of a statistics file or of a judged model; data of one's own by its folder or file."""
    used = metadata.get("arguments", {})
    name = metadata.get("dataset_name")
    if name in OWN_DATA:
        name = Path(used.get("data_dir") or "").name or name
    return " ".join(str(part) for part in (name, used.get("task_name")) if part) or None


def facts(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What is known of how a statistics file was made, in words: first what `HEADLINE` names, then the settings."""
    used = metadata.get("arguments", {})
    severities = choice.severities(metadata)
    over_training = f"severity {severities[0]} to {severities[-1]} over training" if len(severities) > 1 else None
    headline = {
        "data": data_name(metadata),
        "model": Path(used.get("model_name") or "").name,
        "perturbation": metadata.get("perturbation"),
        "severity": over_training or (f"severity {severities[0]}" if severities else None),
    }
    settings = {name: f"{name} {value}" for name, value in used.items() if name not in UNTOLD and value is not None}
    if "epochs" in settings:
        settings["epochs"] = f"{used['epochs']} epochs"
    return {name: str(text) for name, text in headline.items() if text} | settings


def describe(metadata: Mapping[str, Any], otherwise: str) -> str:
    """Data set, model and perturbation of a statistics file in a few words, or `otherwise` where none is known."""
    known = facts(metadata)
    text = ", ".join(known[name] for name in HEADLINE[:-1] if name in known) or otherwise
    return f"{text} at {known['severity']}" if "severity" in known else text


def panel_titles(opened: Sequence[tuple[Path, Mapping[str, Any]]]) -> tuple[str, list[str]]:
    """What several statistics files have in common, and a title for each by what tells it from the others.

    opened: path and metadata of each. The common part is empty where nothing is known. Where the metadata do not
    tell two files apart, the titles add their folders, then their names.
    """
    known = [facts(metadata) for _, metadata in opened]
    names = dict.fromkeys([*HEADLINE, *(name for one in known for name in one)])
    differing = [name for name in names if len({one.get(name) for one in known}) > 1]
    common = ", ".join(known[0][name] for name in HEADLINE if name in known[0] and name not in differing)
    parts = [[one[name] for name in differing if name in one] for one in known]
    for place in (lambda path: path.absolute().parent.name, lambda path: path.stem, str):
        titles = [", ".join(part) for part in parts]
        if len(set(titles)) == len(titles) and all(titles):
            break
        for part, (path, _) in zip(parts, opened):
            part.append(place(path))
    return common, [", ".join(part) for part in parts]


def distinct_parts(names: Sequence[str], separator: str = "_") -> dict[str, str]:
    """A short name for each: of its parts that not all of them have, as many as tell it from the others.

    Of a run's name what stands before `_model`, the script, is one part.
    """
    return dict(zip(names, map(separator.join, _distinct([_parts(name, separator) for name in names]))))


def _parts(name: str, separator: str) -> list[str]:
    script, found, rest = name.partition(f"{separator}model")
    return [script, *f"model{rest}".split(separator)] if found else name.split(separator)


def _distinct(names: Sequence[list[str]]) -> list[list[str]]:
    """Of each name, a list of different parts, those that `distinct_parts` keeps; of a single one all."""
    if len(names) == 1:
        return [*names]
    common = set.intersection(*map(set, names))
    own = [[part for part in name if part not in common] for name in names]
    alike: dict[str, list[int]] = {}
    for number, parts in enumerate(own):
        alike.setdefault(parts[0] if parts else "", []).append(number)
    kept = [parts[:1] or name[:1] for parts, name in zip(own, names)]
    if len(alike) == 1:  # the order of the parts alone tells them apart
        return [*names]
    for numbers in alike.values():
        if len(numbers) > 1:
            for number, more in zip(numbers, _distinct([own[number][1:] or own[number] for number in numbers])):
                kept[number] = kept[number] + more
    return kept if len(set(map(tuple, kept))) == len(kept) else [*names]


def joined_name(stem: str, paths: Sequence[Path]) -> str:
    """A name for what is made of several files: what tells them apart, and a hash of all that they are called."""
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [path.absolute().parent.name for path in paths]
    short = distinct_parts(list(dict.fromkeys(names)))
    places = "\n".join(os.path.relpath(path, paths[0].parent) for path in paths)
    digest = hashlib.sha256(places.encode()).hexdigest()[:6]
    return "_".join([stem, *(short[name] for name in names), digest])


def fitted(name: str) -> str:
    """The name of a figure without its suffix, or one that a file system takes."""
    return files.fitting(name, LONGEST_NAME)
