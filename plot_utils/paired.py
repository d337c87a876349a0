"""The figure of paired differences: every pair a point, the mean with its interval, a panel for each condition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from plot_utils.figures import pyplot
from robust_data.judging.comparison import PairedDifference

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.figure import Figure

COLUMNS = 3
COLOUR = "#0b5cad"


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
        if equivalence is not None:
            panel.axvspan(-equivalence, equivalence, color="#e3e6ea", zorder=0)
        panel.axvline(0, color="#59616d", linewidth=1)
        for difference in found:
            if difference.condition == name:
                _draw(panel, len(methods) - 1 - methods.index(difference.method), difference)
        panel.set_title(name, fontsize=10)
        panel.set_ylim(-0.6, len(methods) - 0.4)
        panel.set_yticks(range(len(methods)), [method for method in reversed(methods)])
        panel.grid(axis="x", alpha=0.25)
    for panel in panels.flat[len(conditions) :]:
        panel.set_visible(False)
    figure.supxlabel(f"accuracy minus that of {baseline} (points); dots: seeds, bars: 95 % interval", fontsize=10)
    return figure


def _draw(panel, place: int, difference: PairedDifference) -> None:
    count = len(difference.differences)
    spread = [place + 0.22 * (number - (count - 1) / 2) / max(1, count - 1) for number in range(count)]
    panel.scatter(difference.differences, spread, s=12, color=COLOUR, alpha=0.45, linewidths=0)
    panel.plot(difference.interval, [place, place], color=COLOUR, linewidth=2)
    panel.plot([difference.mean], [place], "o", color=COLOUR, markersize=5)
