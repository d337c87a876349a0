"""The figure of paired differences: every pair a point, the mean with its interval, a panel for each condition."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from plot_utils.figures import pyplot
from robust_data.judge.comparison import PairedDifference

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
COLOUR = "#0b5cad"


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
