"""The robust data map of one statistics file, or the maps of several side by side.

Of statistics of clean inputs alone it is the map of dataset cartography (Swayamdipta et al. 2020).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from robust_data.analysis.statistics_file import StatisticsFile
from robust_data.metrics import class_share, clean_loss_correlation
from robust_data.plot_utils.figures import Axes, Figure, panel_titles, pyplot
from robust_data.registry import InputError

FLIP_RATE_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
# Dark to light, then to red: five colours that keep apart for any colour vision (CIE76 distances of at least 26).
COLOURS = ("#1d1147", "#3d7be0", "#5bc8af", "#ffc233", "#e8442e")
# A marker each, for grey prints, where there is room to see them.
MARKERS = ("o", "s", "^", "D", "X", "v", "P", "<", "p", "*")
MOST_WITH_MARKERS = 2000
# Paul Tol's muted colours and black, which people with any colour vision can tell apart.
CLASS_COLOURS = (
    *("#332288", "#cc6677", "#117733", "#88ccee", "#ddcc77", "#aa4499", "#44aa99", "#882255", "#999933"),
    "#000000",
)
OTHER_CLASSES = "#bbbbbb"
HISTOGRAMS = "#434e6c"
# Points are drawn in so many layers of a random order, so that no colour lies on top of the others.
LAYERS = 20
# An axis ends a little beyond this quantile where some instances lie far beyond it; those are drawn on its end.
LAST_QUANTILE, ROOM, FAR = 0.998, 1.1, 1.3

Metrics = Mapping[str, np.ndarray]
# The lowest and the highest value to the right, then upwards, that a map shows.
Limits = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Plane:
    """What a map shows: the metrics to the right and upwards, the share that its colours tell, and their names.

    thirds: whether lines part the thirds of the instances upwards.
    """

    x: str
    y: str
    share: str
    x_name: str
    y_name: str
    x_meaning: str
    y_meaning: str
    unit: str
    thirds: bool

    @property
    def x_label(self) -> str:
        return f"{self.x_name}: {self.x_meaning}{self.unit}"

    @property
    def y_label(self) -> str:
        return f"{self.y_name}: {self.y_meaning}{self.unit}"


ROBUST_DATA_MAP = Plane(
    *("perturbed_loss_std", "perturbed_loss_mean", "flip_rate", "variability", "sensitivity"),
    *("standard deviation of the perturbed loss", "mean perturbed loss", " (nats)"),
    thirds=True,
)
DATA_MAP = Plane(
    *("cartography_variability", "confidence", "correctness", "variability", "confidence"),
    *("standard deviation of the golden label's probability", "mean probability of the golden label", ""),
    thirds=False,
)


# Over one checkpoint there is no variability.
LOSS_ON_CLEAN = {"x": "original_loss_mean", "x_name": "clean loss", "x_meaning": "loss on the clean input"}


def plane(statistics: StatisticsFile) -> Plane:
    """The map of a file: the robust data map, or of clean inputs alone that of dataset cartography."""
    shown = DATA_MAP if statistics.clean_only else ROBUST_DATA_MAP
    return shown if len(statistics.counted) > 1 else replace(shown, **LOSS_ON_CLEAN)


def title(statistics: StatisticsFile) -> str:
    """What was run, how much there is of it, and what its measure upwards is made of."""
    return "\n".join([statistics.describe(), counts(statistics), explained(statistics)])


def counts(statistics: StatisticsFile) -> str:
    """How many instances and checkpoints a map shows, and how many instances it leaves out."""
    left_out = f" ({statistics.left_out:,} never classified correctly left out)" if statistics.left_out else ""
    return f"{len(statistics):,} instances{left_out}, {statistics.describe_counted()}"


def explained(statistics: StatisticsFile) -> str:
    """How much of what is drawn upwards is a matter of the class, and its rank correlation with the clean loss."""
    metrics, shown = statistics.metrics, plane(statistics)
    share = class_share(metrics[shown.y], metrics["golden_label"])
    text = f"class explains {share:.0%} of the variance of {shown.y_name}{statistics.reference}"
    if statistics.clean_only:
        return text
    return f"{text}; rank correlation with clean loss {clean_loss_correlation(metrics):.2f}"


@dataclass(frozen=True)
class Colouring:
    """What the colours of a map mean.

    group: int64 [M], each instance's group. names, colours, markers: by group.
    """

    meaning: str
    group: np.ndarray
    names: Sequence[str]
    colours: Sequence[str]
    markers: Sequence[str]


def possible_shares(statistics: StatisticsFile, name: str) -> np.ndarray | None:
    """The values k/T that a share of the T checkpoints can have; None where instances have other numbers of them."""
    values = np.arange(len(statistics.counted) + 1) / len(statistics.counted)
    return values if np.isin(statistics.absolute[name], values).all() else None


def fifth_names(values: np.ndarray | None) -> list[str]:
    """What the colour of each fifth of a share means: those of these values that lie in it, "" where none does."""
    if values is None:
        return [f"{low:.1f} to {high:.1f}" for low, high in zip(FLIP_RATE_EDGES[:-1], FLIP_RATE_EDGES[1:])]
    fifths = np.digitize(values, FLIP_RATE_EDGES[1:-1])
    ends = ([f"{end:.2g}" for end in values[fifths == fifth][[0, -1]]] for fifth in np.unique(fifths))
    names = dict(zip(np.unique(fifths).tolist(), (" to ".join(dict.fromkeys(both)) for both in ends)))
    return [names.get(fifth, "") for fifth in range(len(COLOURS))]


def colouring(statistics: StatisticsFile, by: str | None = None) -> Colouring:
    """Colours by fifths of a share, or by class; of many classes the largest ones have a colour each.

    by: "flip_rate", "correctness" or "class", by default the share of the map's `Plane`, and of one checkpoint, where a
    share is 0 or 1, the class. Raises InputError for the flip rate of clean inputs alone.
    """
    by = by or (plane(statistics).share if len(statistics.counted) > 1 else "class")
    metrics = statistics.metrics
    markers = MARKERS if has_markers(metrics) else ("o",) * len(MARKERS)
    if by != "class":
        if by not in metrics:
            raise InputError(f"--colour {by}: {statistics.path} is of clean inputs alone; give --colour correctness")
        group = np.digitize(statistics.absolute[by], FLIP_RATE_EDGES[1:-1])
        # The last is red: of flip rates the highest, of correctness the lowest.
        colours = COLOURS[::-1] if by == "correctness" else COLOURS
        names = fifth_names(possible_shares(statistics, by))
        return Colouring(by.replace("_", " "), group, names, colours, markers)
    labels, sizes = np.unique(metrics["golden_label"], return_counts=True)
    most = len(CLASS_COLOURS)
    shown = labels if len(labels) <= most else np.sort(labels[np.argsort(-sizes, kind="stable")[: most - 1]])
    names = [statistics.label_name(label) for label in shown]
    places = np.minimum(np.searchsorted(shown, metrics["golden_label"]), len(shown) - 1)
    group = np.where(shown[places] == metrics["golden_label"], places, len(shown))
    others = [f"{len(labels) - len(shown)} others"] if len(shown) < len(labels) else []
    colours = [*CLASS_COLOURS[: len(shown)], *([OTHER_CLASSES] * len(others))]
    return Colouring("class", group, [*names, *others], colours, markers)


def has_markers(metrics: Metrics) -> bool:
    """Whether there is room to see what marker a point has."""
    return len(metrics["index"]) <= MOST_WITH_MARKERS


def draw_map(statistics: StatisticsFile, by: str | None = None) -> Figure:
    """One map with the histograms of its three measures beside it; by: see `colouring`."""
    metrics, shown = statistics.metrics, plane(statistics)
    figure = pyplot().figure(figsize=(9.6, 6.6), layout="constrained")
    panels = figure.subplot_mosaic([["map", shown.y], ["map", shown.x], ["map", shown.share]], width_ratios=(2.6, 1))
    figure.suptitle(title(statistics), fontsize=10)
    colours = colouring(statistics, by)
    limits = axis_limits([metrics], shown)
    scatter_map(panels["map"], metrics, colours, limits, shown)
    panels["map"].set_xlabel(shown.x_label + statistics.reference)
    panels["map"].set_ylabel(shown.y_label + statistics.reference)
    add_legend(figure, colours)
    draw_histogram(panels[shown.y], metrics[shown.y], shown.y_name + shown.unit, limits[1])
    draw_histogram(panels[shown.x], metrics[shown.x], shown.x_name + shown.unit, limits[0])
    draw_shares(panels[shown.share], statistics, shown.share)
    return figure


def draw_grid(opened: Sequence[StatisticsFile], by: str | None = None) -> Figure:
    """A map for each of several files on the same axes; by: see `colouring`.

    Raises InputError for files whose maps have other axes: of clean inputs alone, or of one checkpoint, among others.
    """
    shown = plane(opened[0])
    for statistics in opened:
        if plane(statistics) != shown:
            first, other = (
                f"{one.path} shows {plane(one).x_name} and {plane(one).y_name}" for one in (opened[0], statistics)
            )
            raise InputError(f"{first}, {other}: they have no axes in common; draw them apart")
    columns = min(4, math.ceil(math.sqrt(len(opened))))
    lines = math.ceil(len(opened) / columns)
    figure, panels = pyplot().subplots(
        lines,
        columns,
        figsize=(4.2 * columns, 3.8 * lines + 1),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    common, own = panel_titles([(statistics.path, statistics.metadata) for statistics in opened])
    sizes = [counts(statistics) for statistics in opened]
    alike = len(set(sizes)) == 1
    figure.suptitle("\n".join(filter(None, [common, sizes[0] if alike else ""])), fontsize=11)
    limits = axis_limits([statistics.metrics for statistics in opened], shown)
    coloured = [colouring(statistics, by) for statistics in opened]
    for number, statistics in enumerate(opened):
        panel = panels.flat[number]
        scatter_map(panel, statistics.metrics, coloured[number], limits, shown)
        size = [] if alike else [textwrap.fill(sizes[number], 52)]
        lines = [textwrap.fill(own[number], 48), *size, explained(statistics).replace("; ", "\n")]
        panel.set_title("\n".join(lines), fontsize=8)
        if number % columns == 0:
            panel.set_ylabel((shown.y_label + statistics.reference).replace(", ", ",\n"), fontsize=8)
        if number + columns >= len(opened):  # the lowest of its column, also above an empty place
            panel.set_xlabel((shown.x_label + statistics.reference).replace(", ", ",\n"), fontsize=8)
            panel.tick_params(labelbottom=True)
    for panel in panels.flat[len(opened) :]:
        panel.set_visible(False)
    # Maps of data sets with other classes are read by the legend of the one that has most.
    legend = max(coloured, key=lambda colours: len(colours.names))
    if legend.meaning != "class" and any(one.names != legend.names for one in coloured):
        legend = replace(legend, names=fifth_names(None))
    add_legend(figure, legend)
    return figure


def scatter_map(axis: Axes, metrics: Metrics, colours: Colouring, limits: Limits, shown: Plane) -> None:
    """The points of one map, those beyond the limits on the edge, and where it has them the bounds of its thirds."""
    (left, right), (low, high) = limits
    x, y = np.minimum(metrics[shown.x], right), np.minimum(metrics[shown.y], high)
    size = float(np.clip(4e4 / len(x), 2, 20))
    few = has_markers(metrics)
    for layer in np.array_split(np.random.default_rng(0).permutation(len(x)), LAYERS):
        for group, colour in enumerate(colours.colours):
            chosen = layer[colours.group[layer] == group]
            if len(chosen):
                axis.scatter(
                    x[chosen],
                    y[chosen],
                    s=size,
                    c=colour,
                    marker=colours.markers[group],
                    alpha=0.85,
                    linewidths=0.2 if few else 0,
                    # One colour, though nothing is drawn of it: a collection without takes several times as long.
                    edgecolors="#404040" if few else colour,
                    rasterized=True,
                )
    axis.set_xlim(left, right)
    axis.set_ylim(low, high)
    axis.grid(alpha=0.25)
    if shown.thirds:
        draw_thirds(axis, metrics[shown.y])
    beyond = np.count_nonzero((metrics[shown.x] > right) | (metrics[shown.y] > high))
    if beyond:
        label_edge(axis, 0.99, f"{beyond:,} beyond the axes, on their edge", "top", axis.get_ylim()[1])


def draw_thirds(axis: Axes, sensitivity: np.ndarray) -> None:
    """The sensitivities that part the robust, the swing and the non-robust third of the instances."""
    lower, upper = np.quantile(sensitivity[~np.isnan(sensitivity)], (1 / 3, 2 / 3), method="nearest")
    for place in (lower, upper):
        axis.axhline(place, color="#202020", linewidth=1.0, linestyle=(0, (5, 3)))
    label_edge(axis, 0.99, "non-robust third", "bottom", upper)
    label_edge(axis, 0.99, "robust third", "top", lower)


def label_edge(axis: Axes, x: float, text: str, side: str, y: float) -> None:
    """A few words at the right edge of a map, above ("bottom") or below ("top") a sensitivity."""
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1}
    gap = 3 if side == "bottom" else -3
    axis.annotate(
        text, (x, y), (0, gap), ("axes fraction", "data"), "offset points", ha="right", va=side, fontsize=8, bbox=box
    )


def add_legend(figure: Figure, colours: Colouring) -> None:
    """What the colours mean, in a line above the maps, with points large enough to see them."""
    from matplotlib.lines import Line2D

    points = [
        Line2D([], [], linestyle="none", marker=marker, color=colour, markersize=7, label=name)
        for name, colour, marker in zip(colours.names, colours.colours, colours.markers)
        if name
    ]
    figure.legend(
        handles=points,
        title=colours.meaning,
        loc="outside lower center",
        ncols=5,
        fontsize=9,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.0,
    )


def axis_limits(maps: Sequence[Metrics], shown: Plane) -> Limits:
    """Limits to the right and upwards that hold all but a few instances far away.

    An axis begins at 0 unless it has values below, as on the page of report.py.
    """
    return tuple(_limits(np.concatenate([metrics[name] for metrics in maps])) for name in (shown.x, shown.y))


def _limits(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    least, most = float(finite.min()), float(finite.max())
    typical = float(np.quantile(finite, LAST_QUANTILE))
    if most > least + FAR * (typical - least) > least:
        most = least + ROOM * (typical - least)
    margin = 0.03 * (most - least) or 0.5
    return (0.0 if least >= 0 else least - margin), most + margin


def draw_histogram(axis: Axes, values: np.ndarray, label: str, limits: tuple[float, float]) -> None:
    """One measure's histogram, in instances; those beyond the limits are counted on the edge."""
    axis.hist(np.clip(values, *limits), bins=40, range=limits, color=HISTOGRAMS)
    axis.set_xlim(limits)
    finish_histogram(axis, label)


def draw_shares(axis: Axes, statistics: StatisticsFile, name: str) -> None:
    """The histogram of a share of the checkpoints, with a bar at each value that it can have."""
    values = possible_shares(statistics, name)
    edges = np.linspace(0, 1, 21) if values is None else (np.arange(len(values) + 1) - 0.5) / (len(values) - 1)
    axis.hist(statistics.absolute[name], bins=edges, color=HISTOGRAMS, rwidth=0.8 if len(edges) < 30 else None)
    axis.set_xlim(edges[0], edges[-1])
    axis.set_xticks(values if values is not None and len(values) <= 6 else np.linspace(0, 1, 6))
    axis.xaxis.set_major_formatter("{x:.2g}")
    finish_histogram(axis, f"{name.replace('_', ' ')} (share of checkpoints)")


def finish_histogram(axis: Axes, label: str) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.set_xlabel(label, fontsize=9)
    axis.set_ylabel("instances", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
