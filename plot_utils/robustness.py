"""The figure of a judged model: accuracy against severity, against the size of an attack, and per corruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robust_data import models
from robust_data.analysis.metadata import data_name
from robust_data.datasets.text import published_split
from robust_data.judge.conditions import family
from robust_data.metrics import out_of_order
from robust_data.plot_utils.figures import Axes, Figure, pyplot

# Okabe and Ito's colours and two greys, which people with any colour vision can tell apart; a marker each as well.
STYLES = {
    "noise": ("#0072b2", "o"),
    "blur": ("#d55e00", "s"),
    "weather": ("#009e73", "^"),
    "digital": ("#cc79a7", "D"),
    "colour": ("#e69f00", "v"),
    "geometric": ("#56b4e9", "P"),
    "structure": ("#000000", "X"),
    "control": ("#999999", "h"),
    "other": ("#555555", "*"),
    # Of texts, which never share a figure with images.
    "character": ("#0072b2", "o"),
    "word": ("#d55e00", "s"),
}
# PGD within an l2 ball has a look of its own.
ATTACK_STYLES = {
    "fgsm": ("#e69f00", "s", "--"),
    "pgd": ("#d55e00", "o", "-"),
    "pgd l2": ("#0072b2", "^", "-"),
    "spsa": ("#009e73", "v", ":"),
    "apgd": ("#56b4e9", "X", "-"),
    "square": ("#cc79a7", "P", ":"),
    "autoattack": ("#000000", "D", "-"),
}
NORM_NAMES = {"linf": r"$\ell_\infty$", "l2": r"$\ell_2$"}
PANEL_HEIGHT = 3.9
HATCHES = {"perturbation": None, "published": "////"}

# The standard normal's 97.5 % quantile, for intervals of 95 %.
NORMAL_QUANTILE = 1.959964

Row = Mapping[str, Any]


def draw_report(report: Mapping[str, Any]) -> Figure:
    """The panels for which a report of `evaluate_robustness.py` has results."""
    rows = report["results"]
    clean = next(100 * row["accuracy"] for row in rows if row["kind"] == "clean")
    corrupted = [row for row in rows if row["kind"] in HATCHES]
    attacked = [row for row in rows if row["kind"] == "attack"]
    norms = [norm for norm in ("linf", "l2") if any(row["norm"] == norm for row in attacked)]
    bars = mean_accuracies(corrupted)
    unsized = [row for row in attacked if row["eps"] is None]
    figure, panels = make_panels(any(row["severity"] for row in corrupted), norms, len(bars), len(unsized))
    figure.suptitle(title(report), fontsize=11)
    instances = {row["kind"]: row["instances"] for row in rows}
    if "severity" in panels:
        draw_severities(panels["severity"], severity_curves(corrupted), clean, instances, disordered(corrupted))
    for norm in norms:
        draw_attacks(panels[norm], attack_curves(attacked, norm), norm, clean, instances["attack"])
    if bars:
        draw_bars(panels["bars"], *zip(*bars), clean, instances)
    if "unsized" in panels:
        draw_unsized(panels["unsized"], [next(row for row in rows if row["kind"] == "clean"), *unsized])
    return figure


def title(report: Mapping[str, Any]) -> str:
    """Three lines: what was judged, on what, and what the intervals are."""
    settings, split = report["arguments"], report["split"]
    steps = sorted({row["steps"] for row in report["results"] if row["name"] == "pgd" and row.get("steps")})
    starts = f"{settings['restarts']} random start{'s' * (settings['restarts'] > 1)}"
    hard = f"; PGD: {' and '.join(map(str, steps))} steps, {starts}" if steps else ""
    model = models.short_name(report["model_name"])
    split = published_split(report["dataset_name"], split, settings.get("task_name"))
    instances = f"{report['instances']:,} instances of the {split} split"
    published = next((row["instances"] for row in report["results"] if row["kind"] == "published"), None)
    if published and split != "test":
        instances += f", published corruptions on {published:,} of the test split"
    intervals = "whiskers: 95 % intervals (Wilson)"
    if believable := report.get("believable"):
        intervals += f"; attacks believable: {believable['verdict']}"
    return f"{model} on {data_name(report)}\n{instances}{hard}\n{intervals}"


def wilson(accuracy: np.ndarray, instances: int) -> np.ndarray:
    """How far the 95 % interval of accuracies (%) reaches below and above them, in points: float64 [2, K].

    Wilson's score interval (1927) of a share of so many instances. Of a mean over several conditions on the same
    instances the interval is at most as wide.
    """
    share, z = np.asarray(accuracy, dtype=np.float64) / 100, NORMAL_QUANTILE
    centre = (share + z**2 / (2 * instances)) / (1 + z**2 / instances)
    half = z / (1 + z**2 / instances) * np.sqrt(share * (1 - share) / instances + z**2 / (4 * instances**2))
    return 100 * np.maximum(np.stack([share - (centre - half), centre + half - share]), 0)


def severity_curves(rows: Sequence[Row]) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """By kind and family: severities, ascending, and the mean accuracy over the family's corruptions (%), [S] each."""
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in rows:
        if row["severity"] is not None:
            levels = found.setdefault((row["kind"], family(row["name"])), {})
            levels.setdefault(row["severity"], []).append(100 * row["accuracy"])
    order = list(STYLES)
    return {
        key: (np.array(sorted(found[key])), np.array([np.mean(found[key][level]) for level in sorted(found[key])]))
        for key in sorted(found, key=lambda key: (key[0], order.index(_known(key[1]))))
    }


def disordered(rows: Sequence[Row]) -> dict[tuple[str, str], set[int]]:
    """By kind and family: severities at which some corruption of it changes the inputs less than at the one below."""
    changes: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        # Older reports do not tell it, and of published corruptions it is not known.
        if row["severity"] is not None and row.get("change") is not None:
            changes.setdefault((row["kind"], row["name"]), {})[row["severity"]] = row["change"]
    found: dict[tuple[str, str], set[int]] = {}
    for (kind, name), by_severity in changes.items():
        found.setdefault((kind, family(name)), set()).update(out_of_order(by_severity))
    return found


def attack_curves(rows: Sequence[Row], norm: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By attack of this norm: sizes, ascending, and accuracy (%), [E] each."""
    curves = {}
    for name in dict.fromkeys(row["name"] for row in rows if row["norm"] == norm):
        of_attack = [row for row in rows if (row["name"], row["norm"]) == (name, norm)]
        points = sorted((row["eps"], 100 * row["accuracy"]) for row in of_attack)
        curves[name] = tuple(np.array(points).T)
    return curves


def mean_accuracies(rows: Sequence[Row]) -> list[tuple[str, str, float]]:
    """(kind, name, mean accuracy over the severities in %) per corruption, family by family, the worst first."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        found.setdefault((row["kind"], row["name"]), []).append(100 * row["accuracy"])
    means = [(kind, name, float(np.mean(values))) for (kind, name), values in found.items()]
    order = list(STYLES)
    return sorted(means, key=lambda bar: (bar[0], order.index(_known(family(bar[1]))), bar[2]))


def make_panels(with_severities: bool, norms: Sequence[str], bars: int, unsized: int) -> tuple[Figure, dict[str, Axes]]:
    """A figure with its panels, by name.

    A panel for severities, one for each norm, one for so many attacks without a bound, or where there is nothing else,
    and a column for so many bars.
    """
    with_unsized = bool(unsized) or not (with_severities or norms or bars)
    across = max(1, len(norms))
    left = (
        [["severity"] * across] * with_severities + [list(norms)] * bool(norms) + [["unsized"] * across] * with_unsized
    )
    heights = [PANEL_HEIGHT] * (len(left) - with_unsized) + [1.2 + 0.3 * (1 + unsized)] * with_unsized
    # Each bar needs the height of a line of text; what the panels beside them do not need stays empty.
    rest = max(PANEL_HEIGHT * (not left), 0.19 * bars + 1.3 - sum(heights))
    if bars and rest > 0:
        left, heights = [*left, ["."] * across] if left else [[]], [*heights, rest]
    layout = [line + ["bars"] * bool(bars) for line in left]
    widths = [max(3.2, 6.4 / len(left[0]))] * len(left[0]) + [4.8] * bool(bars) if left[0] else [5.6]
    figure = pyplot().figure(figsize=(sum(widths), sum(heights) + 0.5), layout="constrained")
    return figure, figure.subplot_mosaic(layout, width_ratios=widths, height_ratios=heights)


def draw_severities(
    axis: Axes,
    curves: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]],
    clean: float,
    instances: Mapping[str, int],
    marked: Mapping[tuple[str, str], set[int]],
) -> None:
    """Accuracy against severity, a curve per family; those of published corruptions are dashed and hollow.

    marked: of `disordered`; these points are ringed.
    """
    rings: list[tuple[float, float]] = []
    for (kind, name), (severities, accuracy) in curves.items():
        colour, marker = STYLES[_known(name)]
        published = kind == "published"
        seen = published and ("perturbation", name) in curves
        axis.errorbar(
            severities,
            accuracy,
            wilson(accuracy, instances[kind]),
            elinewidth=0.8,
            capsize=2,
            color=colour,
            marker=marker,
            markersize=5,
            linestyle="--" if published else "-",
            markerfacecolor="white" if published else colour,
            label="_" if seen else name,
        )
        rings += [(x, y) for x, y in zip(severities, accuracy) if x in marked.get((kind, name), ())]
    if rings:
        ring = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "markeredgecolor": "#404040"}
        label = "a corruption changes\nthe inputs less than\none severity lower"
        axis.plot(*zip(*rings), linestyle="none", label=label, **ring)
    if {kind for kind, _ in curves} == {*HATCHES}:
        axis.plot([], [], color="#404040", linestyle="--", marker="o", markerfacecolor="white", label="published")
    axis.set_xticks(sorted({int(level) for severities, _ in curves.values() for level in severities}))
    axis.set_title("mean over the corruptions of a family", fontsize=9)
    finish_axis(axis, "severity", clean)
    # Curves may run anywhere in the panel, so the legend stands beside it.
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))


def draw_attacks(
    axis: Axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], norm: str, clean: float, instances: int
) -> None:
    """Accuracy against the size of the attacks of one norm; linf sizes in 255ths."""
    scale, unit = (255, " (of 255)") if norm == "linf" else (1, "")
    for name, (sizes, accuracy) in curves.items():
        colour, marker, line = ATTACK_STYLES.get(f"{name} {norm}", ATTACK_STYLES[name])
        # An attack of size 0 leaves the image clean.
        x, y = np.concatenate([[0], sizes * scale]), np.concatenate([[clean], accuracy])
        style = {"color": colour, "marker": marker, "markersize": 5, "linestyle": line, "label": name.upper()}
        axis.errorbar(x, y, wilson(y, instances), elinewidth=0.8, capsize=2, **style)
    axis.set_title(f"attacks within {NORM_NAMES[norm]}", fontsize=9, parse_math=True)
    axis.set_xlim(left=0)
    tried = sorted({0.0, *(float(size) * scale for sizes, _ in curves.values() for size in sizes)})
    axis.set_xticks(tried, [f"{size:.3g}" for size in tried])
    finish_axis(axis, f"eps{unit}", clean)


def draw_bars(
    axis: Axes,
    kinds: Sequence[str],
    names: Sequence[str],
    accuracy: Sequence[float],
    clean: float,
    instances: Mapping[str, int],
) -> None:
    """A bar per corruption, in its family's colour; those of published corruptions are hatched."""
    places = np.arange(len(names))
    colours = [STYLES[_known(family(name))][0] for name in names]
    reach = np.concatenate([wilson([value], instances[kind]) for kind, value in zip(kinds, accuracy)], axis=1)
    error = {"elinewidth": 0.8, "ecolor": "#303030", "capsize": 1.5}
    bars = axis.barh(places, accuracy, color=colours, height=0.75, xerr=reach, error_kw=error)
    for bar, kind in zip(bars, kinds):
        bar.set_hatch(HATCHES[kind])
        bar.set_edgecolor("white" if HATCHES[kind] else "none")
    for place, value in zip(places, accuracy):
        # In a column of their own, where neither bars nor the line of the clean accuracy cross them.
        axis.text(112, place, f"{value:.1f}", va="center", ha="right", fontsize=8)
    axis.axvline(clean, color="#404040", linestyle=":", linewidth=1.2)
    axis.set_yticks(places, names, fontsize=8)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlim(0, 114)
    axis.set_xticks(range(0, 101, 20))
    published = "; hatched: published" if "published" in kinds else ""
    axis.set_title(f"mean over severities\ndotted: clean{published}", fontsize=9)
    axis.set_xlabel("accuracy (%)")
    axis.grid(axis="x", alpha=0.25)
    axis.set_axisbelow(True)


def draw_unsized(axis: Axes, rows: Sequence[Row]) -> None:
    """A bar for the clean inputs and one for each attack without a bound."""
    accuracies = [100 * row["accuracy"] for row in rows]
    colours = [STYLES["control"][0], *(["#d55e00"] * (len(rows) - 1))]
    reach = np.concatenate([wilson([value], row["instances"]) for value, row in zip(accuracies, rows)], axis=1)
    axis.barh(range(len(rows)), accuracies, color=colours, height=0.4, xerr=reach, error_kw={"capsize": 3})
    axis.set_yticks(range(len(rows)), [attack_label(row) for row in rows])
    axis.set_ylim(len(rows), -1)
    axis.set_xlim(0, 100)
    axis.set_xlabel("accuracy (%)")


def attack_label(row: Row) -> str:
    """An attack and its size; one on words has none."""
    if row.get("steps") is None:
        return row["name"]
    return f"{row['name']}, {row['steps']} steps of {row['step_size']:.3g}"


def finish_axis(axis: Axes, label: str, clean: float) -> None:
    """The accuracy on clean images, and the same accuracies on every panel."""
    axis.axhline(clean, color="#404040", linestyle=":", linewidth=1.2, label=f"clean, {clean:.1f} %")
    axis.set_ylim(0, 102)
    axis.set_xlabel(label)
    axis.set_ylabel("accuracy (%)")
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8, framealpha=0.9)


def _known(name: str) -> str:
    return name if name in STYLES else "other"
