"""The published scores: a table of every instance, mean and standard deviation over the replicates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from robust_data import tables
from robust_data.metrics import residual
from robust_data.registry import InputError
from robust_data.study.results import Results

FILES = {"images": "scores_cifar10_jpeg.csv", "texts": "scores_sst2.csv"}
# Where the instances come from: a file of CIFAR-10 (JPEG), or a line of SST-2's train.tsv, from 0 without the header.
SOURCES = {"images": ("file", "files.txt"), "texts": ("line", "lines.txt")}


def write_scores(results: Results) -> list[Path]:
    """Write the tables of the data whose statistics are complete beside the results; returns their paths."""
    return [_write(results, data) for data in FILES if results.is_complete(f"{data} statistics")]


def _write(results: Results, data: str) -> Path:
    runs = list(results.scores(data).values())
    of_source, source_file = SOURCES[data]
    columns: dict[str, list[str]] = {
        "index": runs[0]["index"].astype(str).tolist(),
        of_source: _lines(results.folder / source_file),
        "label": runs[0]["label"].astype(int).astype(str).tolist(),
    }
    for name, of_runs in _scores(runs).items():
        for what, values in (("mean", of_runs.mean(axis=0)), ("sd", of_runs.std(axis=0, ddof=1))):
            columns[f"{name} {what}"] = [f"{value:.4g}" for value in values.tolist()]
    return tables.write(results.folder / FILES[data], [columns, *zip(*columns.values(), strict=True)])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise InputError(f"{path} is missing; study/data.py makes it, and run.py copies it") from None


def _scores(runs: list[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """By column, [run, instance]: clean loss; sensitivity, residual and flip rate by perturbation and severity."""
    found = {"clean_loss": np.array([run["clean_loss"] for run in runs])}
    for name in runs[0]:
        score, _, condition = name.partition("/")
        if score not in ("sensitivity", "flip_rate") or condition == "identity":
            continue
        found[name] = np.array([run[name] for run in runs])
        if score == "sensitivity":
            count = len(runs[0]["index"])
            found[f"residual/{condition}"] = np.array(
                [
                    residual({"perturbed_loss_mean": run[name], "original_loss_mean": run["clean_loss"]}) / count
                    for run in runs
                ]
            )
    return found
