"""What a figure says of the statistics files that it shows, and what its own file is called."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_data import choice

# Data of the user's own, which is known by its folder or file rather than by how it is read.
OWN_DATA = ("imagefolder", "npz", "csv", "tsv")
# Every title names these, in this order; all other settings are named only where files differ in them.
HEADLINE = ("data", "model", "perturbation", "severity")
# What the headline says already, and what has no say in the records.
UNTOLD = (
    *("dataset_name", "task_name", "data_dir", "model_name", "perturbations", "severity", "severity_schedule"),
    *("output_dir", "overwrite", "save_every", "num_workers", "download", "eval_size"),
)
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


def panel_titles(files: Sequence[tuple[Path, Mapping[str, Any]]]) -> tuple[str, list[str]]:
    """What several statistics files have in common, and a title for each by what tells it from the others.

    files: path and metadata of each. The common part is empty where nothing is known. Where the metadata do not
    tell two files apart, the titles add their folders, then their names.
    """
    known = [facts(metadata) for _, metadata in files]
    names = dict.fromkeys([*HEADLINE, *(name for one in known for name in one)])
    differing = [name for name in names if len({one.get(name) for one in known}) > 1]
    common = ", ".join(known[0][name] for name in HEADLINE if name in known[0] and name not in differing)
    parts = [[one[name] for name in differing if name in one] for one in known]
    for place in (lambda path: path.absolute().parent.name, lambda path: path.stem, str):
        titles = [", ".join(part) for part in parts]
        if len(set(titles)) == len(titles) and all(titles):
            break
        for part, (path, _) in zip(parts, files):
            part.append(place(path))
    return common, [", ".join(part) for part in parts]


def distinct_parts(names: Sequence[str], separator: str = "_") -> dict[str, str]:
    """What tells each name from the others: its parts (between underscores) that not all of them have.

    A name that has nothing of its own is known by its beginning. Names that this leaves alike stay whole.
    """
    if len(names) == 1:
        return {names[0]: names[0]}
    parts = {name: name.split(separator) for name in names}
    common = set.intersection(*map(set, parts.values()))
    short = {name: separator.join(part for part in parts[name] if part not in common) for name in names}
    short = {name: own or name.split("_model")[0] for name, own in short.items()}
    return short if len(set(short.values())) == len(short) else dict(zip(names, names))


def joined_name(stem: str, paths: Sequence[Path]) -> str:
    """A name for what is made of several files: `stem` and what tells the files apart, their names or folders."""
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [path.absolute().parent.name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return "_".join([stem, *distinct_parts(names).values()]).replace("/", "_")


def fitted(name: str) -> str:
    """The name, or one that a file system takes: of a longer one the end is a hash of the whole."""
    if len(name.encode()) <= LONGEST_NAME:
        return name
    kept = name.encode()[: LONGEST_NAME - 9].decode(errors="ignore")
    return f"{kept}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
