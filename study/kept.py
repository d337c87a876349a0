"""What is kept of a run of the study: a line of rows.csv, and small files of single instances."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robust_data import files, metrics, records, tables
from robust_data.registry import InputError
from robust_data.study.planted import FAULTS

# The columns of rows.csv that come first; those of the conditions follow as they are met.
FIRST = (
    *("row", "data", "block", "arm", "replicate", "statistics_seed", "training_seed", "commit", "torch", "processor"),
    *("precision", "finished", "processor_seconds", "flood_level", "soft_label", "chosen", "class_share"),
    *("clean_loss_correlation", "stopped_at_epoch", "train_cross_entropy", "dose_chosen", "dose_others"),
    *("calibration_error",),
)
SCORES = {
    "sensitivity": "perturbed_loss_mean",
    "variability": "perturbed_loss_std",
    "clean_loss": "original_loss_mean",
    "flip_rate": "flip_rate",
    "input_gradient": "input_gradient",
    "aum": "aum",
    "el2n": "el2n",
    "forgetting": "forgetting_events",
}
# Those of the clean input, which every file of a collection has alike.
OF_CLEAN_INPUTS = ("clean_loss", "input_gradient", "aum", "el2n", "forgetting")


def read_rows(path: Path) -> list[dict[str, str]]:
    """The lines of rows.csv, [] where there is none. Raises InputError if it cannot be read."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return tables.read(file)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error})") from None


def add_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line to rows.csv, with more columns where the row has more."""

    def with_row(text: str) -> str:
        rows = [*tables.read(io.StringIO(text)), {name: _cell(value) for name, value in row.items()}]
        columns = list(dict.fromkeys([*FIRST, *(name for one in rows for name in one)]))
        return "".join(map(tables.line, [columns, *([one.get(name) for name in columns] for one in rows)]))

    files.rewrite(path, with_row)


def _cell(value: Any) -> Any:
    if value is None or value != value:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def scores(paths: list[Path], output: Path) -> None:
    """Keep the scores of every instance, float16 [N], from the statistics files of one collection.

    Named <score>/<perturbation>/<severity>; those of the clean input once. Also `index` int32 and `label` int16.
    """
    kept: dict[str, np.ndarray] = {}
    for path in paths:
        recorded, about = records.load(path)
        found = metrics.instance_metrics(recorded)
        kept["index"], kept["label"] = found["index"].astype(np.int32), found["golden_label"].astype(np.int16)
        for name, metric in SCORES.items():
            if metric not in found:
                continue
            kept[name if name in OF_CLEAN_INPUTS else f"{name}/{_condition(about)}"] = found[metric].astype(np.float16)
    _save(output, kept)


def half(path: Path, scores: Path, output: Path) -> None:
    """Keep which instances of a file of scores a model was trained on: bits of bool [N], `chosen`."""
    with np.load(scores, allow_pickle=False) as found:
        chosen = np.isin(found["index"], np.load(path, allow_pickle=False))
    _save(output, {"chosen": np.packbits(chosen)})


def planted(path: Path, output: Path) -> None:
    """Keep which instances have a planted fault: bits of bool [N] by fault, and the number of instances, `count`."""
    with np.load(path, allow_pickle=False) as found:
        faults = {name: np.packbits(found[name]) for name in FAULTS}
        _save(output, faults | {"count": np.array(len(found["labels"]))})


def losses_over_training(paths: list[Path], output: Path) -> None:
    """Keep the losses of every instance at every checkpoint, float16 [T, N], from the files of one collection.

    Named held_out/<perturbation>/<severity> and trained_on/..., the clean loss .../clean; also .../index int32 and
    .../label int16 [N], and `step` [T].
    """
    kept: dict[str, np.ndarray] = {}
    for path in paths:
        recorded, about = records.load(path)
        where = "trained_on" if about["trained_on"] else "held_out"
        kept["step"] = recorded["global_step"][:, 0].astype(np.int32)
        kept[f"{where}/index"] = recorded["index"][0].astype(np.int32)
        kept[f"{where}/label"] = recorded["golden_label"][0].astype(np.int16)
        kept[f"{where}/clean"] = recorded["original_loss"].astype(np.float16)
        kept[f"{where}/{_condition(about)}"] = recorded["after_perturb_loss"].astype(np.float16)
    _save(output, kept)


def _condition(about: Mapping[str, Any]) -> str:
    """A perturbation with its severity, or alone where it has none."""
    return about["perturbation"] + ("" if about["parameter"] is None else f"/{about['severity']}")


def judged(folders: list[Path], log: Path | None, output: Path) -> dict[str, float]:
    """Keep which instances were right under which condition; returns the accuracies by condition, and the calibration.

    right: bits of bool [C, N], packed along the instances; `conditions` [C], `index` and `label` [N]. Instances that
    were not judged under a condition are in `missing`, packed alike. The epochs of the log that judged the model are
    kept as `epoch`, `clean_curve` and `pgd_curve`.
    """
    accuracies: dict[str, float] = {}
    right, missing, kept = [], [], {}
    for folder in folders:
        (path,) = folder.glob("robustness_*.json")
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
        with np.load(path.with_name(f"{path.name.removesuffix('.json')}.npz"), allow_pickle=False) as found:
            kept["index"], kept["label"] = found["index"].astype(np.int32), found["label"].astype(np.int16)
            for row, its_right, margin in zip(results, found["right"], found["margin"]):
                name = condition_name(row)
                if name in accuracies:  # the clean input, judged again
                    continue
                accuracies[name] = row["accuracy"]
                right.append(its_right)
                missing.append(np.isnan(margin))
                if name == "clean":
                    accuracies["calibration_error"] = row.get("calibration_error")
    names = [name for name in accuracies if name != "calibration_error"]
    kept |= {"conditions": np.array(names), "right": np.packbits(np.array(right), axis=1)}
    if np.any(missing):
        kept["missing"] = np.packbits(np.array(missing), axis=1)
    lines = [] if log is None else [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    curve = [line for line in lines if line.get("judged_pgd_accuracy") is not None]
    if curve:
        kept["epoch"] = np.array([line["epoch"] for line in curve], np.int16)
        kept["clean_curve"] = np.array([line["judged_accuracy"] for line in curve], np.float32)
        kept["pgd_curve"] = np.array([line["judged_pgd_accuracy"] for line in curve], np.float32)
    _save(output, kept)
    return accuracies


def training(log: Path, results: Path) -> dict[str, Any]:
    """The columns of rows.csv that a training's log and results file have.

    The dose is the final cross-entropy of the chosen and of the other instances in eval mode, in nats.
    """
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    row = read_rows(results)[-1]
    return {
        "flood_level": row["b"],
        "soft_label": row["soft_label"],
        "chosen": row["chosen"],
        "class_share": row["class_share"],
        "clean_loss_correlation": row["clean_loss_correlation"],
        "stopped_at_epoch": row["stopped_at_epoch"],
        "train_cross_entropy": last.get("train_cross_entropy"),
        "dose_chosen": last.get("eval_loss_robust"),
        "dose_others": last.get("eval_loss_other"),
    }


def condition_name(row: Mapping[str, Any]) -> str:
    """A condition of a judgement as a column of rows.csv: "pgd linf 0.5", in 255ths, "pgd 8 x 0.03", "fog 3"."""
    if row["kind"] == "clean":
        return "clean"
    if row["kind"] == "perturbation":
        return row["name"] if row["severity"] is None else f"{row['name']} {row['severity']}"
    name = row["name"]
    if row["eps"] is not None:
        name += f" {row['norm']} {round(255 * row['eps'], 4):g}"
    elif row.get("steps"):
        name += f" {row['steps']} x {row['step_size']:g}"
    # What makes an attack another one than the usual.
    name += f" climbing {row['attack_loss']}" if row.get("attack_loss") not in (None, "", "ce") else ""
    name += f" from {row['restarts']} starts" if row.get("restarts") not in (None, "", 1) else ""
    name += f" at temperature {row['temperature']:g}" if row.get("temperature") not in (None, "", 1) else ""
    # <data>-<block>-<arm>-<replicate>/model
    return name + (f" made on {Path(row['source_model']).parent.name.split('-')[2]}" if row.get("source_model") else "")


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(path) as file:
        np.savez_compressed(file, **arrays)
