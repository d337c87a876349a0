"""The mean corruption error of a model against another one, from what `evaluate_robustness.py` wrote of both."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robust_data.judge.conditions import COMMON_CORRUPTIONS, Condition
from robust_data.reading import check_kinds, read_json, readable
from robust_data.registry import InputError

# The kinds of conditions that are corruptions.
KINDS = ("perturbation", "published")
KINDS_OF_FIELDS = {"kind": str, "name": str, "severity": int, "accuracy": float}
REMEDY = "give a JSON of evaluate_robustness.py"

Errors = Mapping[str, Mapping[int | None, float]]


def load_reference(path: str | os.PathLike) -> dict[str, Any]:
    """The JSON of an earlier run. Raises InputError if it is missing or none of `evaluate_robustness.py`."""
    with readable(f"--reference {path}", REMEDY):
        report = read_json(path, f"--reference {path}", REMEDY)
        rows = report["results"]
        for row in rows:
            check_kinds(row, KINDS_OF_FIELDS)
        complete = all(KINDS_OF_FIELDS.keys() <= row.keys() and row["accuracy"] is not None for row in rows)
        if not complete or not any(row["kind"] == "clean" for row in rows):
            raise ValueError("it holds no results of a model")
    return report


def check_reference(
    path: str, reference: Mapping[str, Any], conditions: Iterable[Condition], instances: Mapping[str, Any]
) -> None:
    """Refuse a reference that lacks one of these corruptions, or was judged on other instances.

    instances: what identifies ours, as the reference's own JSON says it of its, by the same keys.
    """
    have = {(row["kind"], row["name"], row["severity"]) for row in reference["results"]}
    needed = [c for c in conditions if c.kind in KINDS]
    missing = [f"{c.name} {c.severity or ''}".strip() for c in needed if (c.kind, c.name, c.severity) not in have]
    if not needed:
        raise InputError("--reference needs corruptions to compare; give -t common, or --corruptions_dir")
    if missing:
        shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise InputError(f"--reference {path} lacks corruptions at severities: {shown}")
    for key, value in instances.items():
        if reference.get(key) != value:
            theirs, ours = (str(of)[:16] for of in (reference.get(key), value))
            raise InputError(f"--reference {path} was judged on other instances: {key} is {theirs}, here {ours}")


def corruption_errors(
    results: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The corruption errors for each of `KINDS` that was judged, against the reference's rows; see `compare`."""
    clean, clean_reference = clean_error(results), clean_error(reference)
    by_kind = {kind: errors_of(results, kind) for kind in KINDS}
    return {
        kind: compare(errors, errors_of(reference, kind), clean, clean_reference)
        for kind, errors in by_kind.items()
        if errors
    }


def clean_error(rows: Iterable[Mapping[str, Any]]) -> float:
    """The share of clean instances that are not classified correctly."""
    return next(1 - row["accuracy"] for row in rows if row["kind"] == "clean")


def errors_of(rows: Iterable[Mapping[str, Any]], kind: str) -> dict[str, dict[int | None, float]]:
    """The errors, 0..1, of one kind of corruption by name and severity."""
    found: dict[str, dict[int | None, float]] = {}
    for row in rows:
        if row["kind"] == kind:
            found.setdefault(row["name"], {})[row["severity"]] = 1 - row["accuracy"]
    return found


def compare(errors: Errors, reference: Errors, clean: float, clean_reference: float) -> dict[str, Any]:
    """Corruption errors and their means, in percent.

    errors, reference: by corruption and severity, 0..1; the reference may have more. clean: the errors without
    corruption. For each corruption c, summed over the severities s of `errors`:
    CE_c = sum_s E_s,c / sum_s R_s,c, and the relative CE_c = sum_s (E_s,c - E_clean) / sum_s (R_s,c - R_clean),
    None where the reference's sum is not positive. The means leave those out; they are taken over the 15 test
    corruptions if all of them are there, otherwise over all corruptions (`mean_over` and `relative_mean_over` name
    those that each was really taken over).
    Source: Hendrycks & Dietterich, ICLR 2019, section 4.1.
    """
    plain = {name: _ratio(levels, reference[name], 0.0, 0.0) for name, levels in errors.items()}
    relative = {name: _ratio(levels, reference[name], clean, clean_reference) for name, levels in errors.items()}
    names = list(COMMON_CORRUPTIONS) if {*COMMON_CORRUPTIONS} <= {*errors} else list(errors)
    return {
        "mce": _mean(plain, names),
        "relative_mce": _mean(relative, names),
        "mean_over": [name for name in names if plain[name] is not None],
        "relative_mean_over": [name for name in names if relative[name] is not None],
        "ce": plain,
        "relative_ce": relative,
    }


def _ratio(
    errors: Mapping[int | None, float], reference: Mapping[int | None, float], offset: float, reference_offset: float
) -> float | None:
    ours = sum(error - offset for error in errors.values())
    theirs = sum(reference[severity] - reference_offset for severity in errors)
    # Accuracies come from divisions, so a difference of nothing may not be quite 0.
    return 100 * ours / theirs if theirs > 1e-9 else None


def _mean(ratios: Mapping[str, float | None], names: Sequence[str]) -> float | None:
    defined = [ratios[name] for name in names if ratios[name] is not None]
    return sum(defined) / len(defined) if defined else None
