"""Figures of comparisons: how statistics files correlate, and the paired differences of models."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from robust_data.judge.comparison import PairedDifference
from robust_data.plot_utils.figures import Axes, Figure, pyplot

# With more files the numbers in the cells would not be read.
MOST_WITH_NUMBERS = 16
LONGEST_TITLE = 60
COLUMNS = 3
COLOUR = "#0b5cad"


def draw_matrix(correlations: np.ndarray, titles: Sequence[str], heading: str) -> Figure:
    """A cell for each pair of F files, coloured from -1 to 1.

    correlations: float [F, F]; above the diagonal over all instances, below it inside the classes; the diagonal is left
    empty. titles: of the files, at the rows; the columns have their numbers.
    """
    count = len(titles)
    side = max(2.4, 0.62 * count if count <= MOST_WITH_NUMBERS else 0.3 * count)
    figure, axis = pyplot().subplots(figsize=(side + 4.6, side + 1.5), layout="constrained")
    shown = np.ma.array(correlations, mask=np.eye(count, dtype=bool))
    image = axis.imshow(shown, vmin=-1, vmax=1, cmap="PuOr_r")
    for row, column in zip(*np.nonzero(~np.eye(count, dtype=bool))) if count <= MOST_WITH_NUMBERS else ():
        value = correlations[row, column]
        style = {"ha": "center", "va": "center", "color": "white" if abs(value) > 0.6 else "black"}
        axis.text(column, row, f"{value:.2f}", fontsize=9, **style)
    lines = [textwrap.fill(f"{number}: {title}", LONGEST_TITLE) for number, title in enumerate(titles, 1)]
    axis.set_yticks(range(count), lines, fontsize=8)
    axis.set_xticks(range(count), range(1, count + 1), fontsize=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.suptitle(f"{heading}\nabove the diagonal: all instances; below: inside the classes", fontsize=10)
    figure.colorbar(image, ax=axis, label="rank correlation (Spearman)", shrink=0.9)
    return figure


class Paired(Protocol):
    """Differences of the replicates, with the 95 % interval of their mean."""

    differences: Sequence[float]
    interval: tuple[float, float]
    mean: float


def draw_differences(found: Sequence[PairedDifference], baseline: str, equivalence: float | None) -> Figure:
    """Differences from the baseline in points of accuracy; the margin of equivalence is shaded, if there is one."""
    conditions = list(dict.fromkeys(difference.condition for difference in found))
    methods = list(dict.fromkeys(difference.method for difference in found))
    columns = min(COLUMNS, len(conditions))
    rows = math.ceil(len(conditions) / columns)
    height = 1.1 + 0.42 * len(methods)
    figure, panels = pyplot().subplots(
        rows, columns, figsize=(3.6 * columns + 1, height * rows), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, name in zip(panels.flat, conditions):
        of_condition = {one.method: one for one in found if one.condition == name}
        draw_panel(panel, [(method, of_condition.get(method)) for method in methods], equivalence)
        panel.set_title(name, fontsize=10)
    for panel in panels.flat[len(conditions) :]:
        panel.set_visible(False)
    text = f"accuracy minus that of {baseline} (points); {legend('seeds', equivalence)}"
    figure.supxlabel(textwrap.fill(text, 34 * columns), fontsize=10)
    return figure


def legend(replicates: str, margin: float | None) -> str:
    """What is drawn by `draw_panel`, in words."""
    band = "" if margin is None else f"; grey band: within ±{margin:g} points, no effect"
    return f"dots: {replicates}, bars: 95 % interval{band}"


def draw_panel(panel: Axes, lines: Sequence[tuple[str, Paired | None]], margin: float | None) -> None:
    """A named line for each difference, the first on top: replicates, mean and interval; None leaves it empty.

    margin: of equivalence, shaded, if there is one.
    """
    if margin is not None:
        panel.axvspan(-margin, margin, color="#e3e6ea", zorder=0)
    panel.axvline(0, color="#59616d", linewidth=1)
    for place, (_, difference) in enumerate(reversed(lines)):
        if difference is not None:
            _draw(panel, place, difference)
    panel.set_ylim(-0.6, len(lines) - 0.4)
    panel.set_yticks(range(len(lines)), [name for name, _ in reversed(lines)])
    panel.grid(axis="x", alpha=0.25)


def _draw(panel: Axes, place: int, difference: Paired) -> None:
    count = len(difference.differences)
    spread = [place + 0.22 * (number - (count - 1) / 2) / max(1, count - 1) for number in range(count)]
    panel.scatter(difference.differences, spread, s=12, color=COLOUR, alpha=0.45, linewidths=0)
    panel.plot(difference.interval, [place, place], color=COLOUR, linewidth=2)
    panel.plot([difference.mean], [place], "o", color=COLOUR, markersize=5)
