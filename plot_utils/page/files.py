"""The part of the report about several files: two of them against each other, and how far every two agree."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robust_data.analysis import several
from robust_data.analysis.agreement import Overlap, rank_correlations
from robust_data.analysis.statistics_file import StatisticsFile
from robust_data.plot_utils.figures import panel_titles
from robust_data.plot_utils.instances import GROUPS
from robust_data.plot_utils.page import sections
from robust_data.selection import GROUP_ORDER

# What may be plotted of every file: its name, the metric, and whether it is in nats.
MEASURES = (
    ("sensitivity", "perturbed_loss_mean", True),
    ("variability", "perturbed_loss_std", True),
    ("flip rate", "flip_rate", False),
    ("clean loss", "original_loss_mean", True),
)
# All metrics that `compare` takes.
COMPARED = {*(name for _, name, _ in MEASURES), *GROUP_ORDER}


@dataclass(frozen=True)
class Comparison:
    """F files of the same data, over the K instances that are in all of them.

    common, titles: what all files have in common, and how each differs, in words. index: int64 [K], ascending. values:
    float64 [F, Q, K], the Q `MEASURES`. correlations: float64 [F * Q, F * Q], of every two measures of any two files,
    in that order, see `rank_correlations`. overlaps: of the groups, thirds by sensitivity, of every two files.
    reference: the words to add to a measure in nats.
    """

    common: str
    titles: list[str]
    index: np.ndarray
    values: np.ndarray
    correlations: np.ndarray
    overlaps: dict[tuple[int, int], dict[str, Overlap]]
    reference: str


def compare(opened: Sequence[StatisticsFile]) -> Comparison:
    """Set files beside one another. Raises InputError for files of different data, and for a run that diverged."""
    rows = several.common_rows(opened)
    names = [name for _, name, _ in MEASURES]
    several.check_finite(opened, names)
    metrics = [several.at_rows(statistics.metrics, own) for statistics, own in zip(opened, rows)]
    values = np.stack([[own[name] for name in names] for own in metrics])
    common, titles = panel_titles([(statistics.path, statistics.metadata) for statistics in opened])
    return Comparison(
        common,
        titles,
        metrics[0]["index"],
        values,
        rank_correlations(values.reshape(-1, values.shape[-1]), metrics[0]["golden_label"]),
        several.group_overlaps(metrics, 1 / len(GROUPS)),
        opened[0].reference,
    )


def page_values(comparison: Comparison, index: np.ndarray) -> np.ndarray:
    """What the program plots of the instances of the page, int64 [L]: float32 [F, Q, L], NaN where not in all files."""
    places = np.searchsorted(comparison.index, index).clip(max=len(comparison.index) - 1)
    values = comparison.values[:, :, places].astype(np.float32)
    values[:, :, comparison.index[places] != index] = np.nan
    return values


def page_data(comparison: Comparison) -> dict[str, Any]:
    """What the program must know of the files besides their values."""
    return {
        "titles": comparison.titles,
        "measures": [name for name, *_ in MEASURES],
        "units": [f" (nats){comparison.reference}" if in_nats else "" for *_, in_nats in MEASURES],
        "instances": len(comparison.index),
        "correlations": comparison.correlations.round(6).tolist(),
    }


def parts(comparison: Comparison) -> dict[str, str]:
    """What is filled into the section of the page, as HTML."""
    count = f"{len(comparison.index):,} instances are in all {len(comparison.titles)} files"
    items = "".join(f"<li>{html.escape(title)}</li>" for title in comparison.titles)
    files = [f"{number}: {title}" for number, title in enumerate(comparison.titles, 1)]
    measures = [name for name, *_ in MEASURES]
    return {
        "common": html.escape("; ".join(filter(None, [comparison.common, count]))),
        "titles": items,
        "x-files": options(files, 0),
        "y-files": options(files, 1),
        "measures": options(measures, 0),
        "agreement": agreement_table(comparison),
    }


def options(texts: Sequence[str], chosen: int) -> str:
    return "".join(
        f'<option value="{number}"{" selected" if number == chosen else ""}>{html.escape(text)}</option>'
        for number, text in enumerate(texts)
    )


def agreement_table(comparison: Comparison) -> str:
    """A line for every two files: the rank correlation of each measure, and the overlap of their groups."""
    header = ["files"]
    for name, *_ in MEASURES:
        header += [name, f"{name}, within class"]
    header += [*(f"{title} overlap" for title in GROUPS.values()), "overlap by chance"]
    lines = []
    for (first, second), shared in comparison.overlaps.items():
        line = [f"{first + 1} and {second + 1}"]
        for place in range(len(MEASURES)):
            pair = first * len(MEASURES) + place, second * len(MEASURES) + place
            line += [comparison.correlations[pair], comparison.correlations[pair[::-1]]]
        lines.append([*line, *(shared[name].share for name in GROUPS), shared["robust"].chance])
    return sections.table(header, lines, "sortable")
