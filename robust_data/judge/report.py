"""The results of a judgement: where they are written, as CSV and JSON, and as a table for the terminal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_data import datasets, files, models, tables
from robust_data.judge import corruption_error
from robust_data.judge.conditions import DEFAULT_LOSSES
from robust_data.judge.instances import Found
from robust_data.reading import read_json, readable
from robust_data.registry import InputError
from robust_data.settings import Judgement
from robust_data.words.results import describe

# constant_accuracy is that of the best constant answer, calibration_error that of `expected_calibration_error`, of the
# clean row alone. Those of the third line are of attacks by gradient, those of the fourth of attacks on words.
COLUMNS = (
    *("condition", "kind", "name", "severity", "eps", "norm", "accuracy", "loss", "instances", "change"),
    *("worst_class", "worst_class_accuracy", "constant_accuracy", "calibration_error"),
    *("worst_group", "worst_group_accuracy"),
    *("steps", "step_size", "restarts", "special_tokens", "attack_loss", "temperature", "source_model"),
    *("accuracy_before", "attack_success_rate", "words_changed", "queries"),
)
Row = dict[str, Any]
# Arguments that older files do not have, as they were then.
NEWER = {"attack_loss": ["ce"], "temperature": 1.0, "source_model": None, "queries": 1000, "eot": 1}
# Arguments of which older files have one value, where there may now be several.
ONCE_SINGLE = ("pgd_step", "pgd_lr", "source_model")
# Arguments that change none of the rows.
WITHOUT_EFFECT = {
    "output_dir",
    "reference",
    "eval_size",
    "num_workers",
    "cache",
    "download",
    "device",
    "rendezvous_timeout",
}


def file_stem(job: Judgement) -> Path:
    """Where a run's files go, without suffix."""
    data = datasets.short_name(job.dataset_name) + ("" if job.task_name is None else f"_task{job.task_name}")
    name = f"robustness_model{models.short_name(job.model_name)}_dataset{data}_split{job.split}_seed{job.seed}"
    return Path(job.output_dir) / files.fitting(name)


def table_and_details(stem: Path) -> tuple[Path, Path]:
    """The CSV and the JSON of a run."""
    # Not with_suffix, which would cut a model's name at a point.
    return stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}.json")


def check_not_replaced(job: Judgement) -> None:
    """Raise InputError if the files of this run would replace those of a run with other arguments."""
    _, details = table_and_details(file_stem(job))
    if not details.exists():
        return
    remedy = "remove it, or give another --output_dir"
    with readable(str(details), remedy):
        saved = NEWER | read_json(details, str(details), remedy)["arguments"]
        saved |= {name: [saved[name]] for name in ONCE_SINGLE if isinstance(saved.get(name), int | float | str)}
    current = json.loads(files.to_json(dataclasses.asdict(job)))
    compared = sorted(saved.keys() & current.keys() - WITHOUT_EFFECT)
    differing = [
        f"--{name} was {_short(saved[name])}, is {_short(current[name])}"
        for name in compared
        if saved[name] != current[name]
    ]
    if differing:
        raise InputError(
            f"{details} holds results of other arguments: {'; '.join(differing)}; "
            "give another --output_dir, or remove the file to replace them"
        )


def _short(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def condition_names(rows: Sequence[Row]) -> list[str]:
    """A name for each row that people can read, such as `pgd linf 8/255` or `fog 3`, and no other row has."""
    names = [_condition_name(row) for row in rows]
    # Sizes that look alike when they are rounded are written out.
    sizes = [row["step_size"] if row["eps"] is None else row["eps"] for row in rows]
    return [name if names.count(name) == 1 else f"{name} ({size!r})" for name, size in zip(names, sizes)]


def _condition_name(row: Row) -> str:
    parts = ["published"] * (row["kind"] == "published") + [row["name"]]
    if row["severity"] is not None:
        parts.append(str(row["severity"]))
    if row["eps"] is not None:
        parts += [row["norm"], _size(row["eps"], row["norm"])]
    elif row.get("steps") is not None:
        parts.append(f"{row['steps']} x {row['step_size']:.3g}")
    return " ".join(parts)


def save(report: Mapping[str, Any], stem: Path, found: Found | None = None) -> list[Path]:
    """Write CSV, JSON and what was found of every instance, each atomically; returns the paths of all the data."""
    table, details = table_and_details(stem)
    tables.write(table, [COLUMNS, *([row.get(name) for name in COLUMNS] for row in report["results"])])
    files.write_json(details, report)
    saved = [table, details]
    if found is not None:
        saved.append(stem.with_name(f"{stem.name}.npz"))
        found.save(saved[-1], [row["condition"] for row in report["results"]])
    return [*saved, *(figures["sentences"] for figures in report["word_attacks"].values())]


def _column(head: str, rows: Sequence[Row], name: str) -> list[str]:
    """A column of accuracies with what has them, to the left, below its head."""
    cells = [head, *(f"{100 * row[f'{name}_accuracy']:.2f} {row[name]}" for row in rows)]
    return [cell.ljust(max(map(len, cells))) for cell in cells]


def print_report(report: Mapping[str, Any]) -> None:
    """The accuracies in percent: a line each for clean and attacks, and one with all severities per corruption."""
    rows = report["results"]
    judged = [row for row in rows if row["kind"] in ("clean", "attack")]
    # To the left, though it is the last column.
    kinds = ("class", "group") if any("worst_group" in row for row in rows) else ("class",)
    worst = [_column(f"worst {kind} (%)", judged, f"worst_{kind}") for kind in kinds]
    lines = [("", "accuracy (%)", "loss", *next(worst_of_all := zip(*worst)))]
    for row, least in zip(judged, worst_of_all):
        lines.append((_label(row), f"{100 * row['accuracy']:.2f}", tables.number(row["loss"]), *least))
    for row in rows:
        if row["kind"] == "clean":
            lines.append(("the best constant answer", f"{100 * row['constant_accuracy']:.2f}"))
            lines.append(("expected calibration error, clean", f"{100 * row['calibration_error']:.2f}"))
    tables.show(lines, widths=(46, 0, 7))
    for name, figures in report["word_attacks"].items():
        print(describe(name, figures))
    if report.get("believable") is not None:
        print(describe_checks(report["believable"]))
    for kind in corruption_error.KINDS:
        _print_corruptions(kind, [row for row in rows if row["kind"] == kind])
    for kind, errors in (report["corruption_error"] or {}).items():
        means = [_mean_error("mCE", errors["mce"], errors["mean_over"])]
        means.append(_mean_error("relative mCE", errors["relative_mce"], errors["relative_mean_over"]))
        print(f"\n{kind} against the reference: {', '.join(means)}")


def describe_checks(report: Mapping[str, Any]) -> str:
    """The verdict in a line, and a line for each check that failed."""
    lines = [f"believable: {report['verdict']} ({report['why']})"]
    for name, answer in report["checks"].items():
        if not answer["holds"]:
            lines.append(f"  {name}: {answer['figure']:.3g}. {answer['sign']}")
    return "\n".join(lines)


def _mean_error(name: str, value: float | None, over: Sequence[str]) -> str:
    return f"{name} undefined" if value is None else f"{name} {value:.2f} % over {len(over)} corruptions"


def _label(row: Row) -> str:
    if row["kind"] == "clean":
        return f"clean, {row['instances']:,} instances"
    hard = f", {row['steps']} steps of {row['step_size']:.3g} x {row['restarts']}" if row["name"] == "pgd" else ""
    hard += f", {row['steps']} steps x {row['restarts']}" if row["name"] == "apgd" else ""
    hard += f", {row['queries']} queries x {row['restarts']}" if row["name"] in ("square", "spsa") else ""
    hard += ", special tokens too" if row.get("special_tokens") else ""
    usual = row.get("attack_loss", "ce") in ("ce", "+".join(DEFAULT_LOSSES))
    hard += "" if usual else f", {row['attack_loss']}"
    hard += f", temperature {row['temperature']:g}" if row.get("temperature", 1) != 1 else ""
    source = row.get("source_model") or ""
    hard += source and f", {source if ': ' in source else 'made on ' + models.short_name(source)}"
    if row["eps"] is None:
        return f"{row['name']}{hard}" if hard else f"{row['name']}, {row['instances']:,} instances"
    return f"{row['name']}, {row['norm']} eps {_size(row['eps'], row['norm'])}{hard}"


def _size(eps: float, norm: str) -> str:
    """An attack's size as people write it: 8/255 rather than 0.03137."""
    levels = round(255 * eps)
    return f"{levels}/255" if norm == "linf" and levels and abs(255 * eps - levels) < 1e-6 else f"{eps:.4g}"


def _print_corruptions(kind: str, rows: Sequence[Row]) -> None:
    """A line per corruption: its accuracy at each severity, their mean, and the least of a class at any severity."""
    if not rows:
        return
    severities = sorted({row["severity"] for row in rows if row["severity"] is not None})
    heads = [*(f"severity {severity}" for severity in severities), "mean", "worst class"]
    lines = [(f"{kind}, accuracy (%)", *heads)]
    for name in dict.fromkeys(row["name"] for row in rows):
        found = {row["severity"]: 100 * row["accuracy"] for row in rows if row["name"] == name}
        worst = min(100 * row["worst_class_accuracy"] for row in rows if row["name"] == name)
        cells = [found.get(severity) for severity in severities] + [sum(found.values()) / len(found), worst]
        lines.append((name, *("-" if cell is None else format(cell, ".2f") for cell in cells)))
    print()
    tables.show(lines, widths=(46, *[10] * len(heads)))
