#!/usr/bin/env python3
"""Draw the robust data map: every instance by variability and sensitivity, coloured by its flip rate or class."""

from __future__ import annotations

import argparse
import csv
import math
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from plot_utils.naming import fitted, joined_name, panel_titles
from registry import InputError
from robust_data import files, records
from robust_data.command_line import selection_arguments
from robust_data.command_line.names import metric_suffix
from robust_data.command_line.parser import Parser, run_script
from robust_data.measuring.metadata import describe
from robust_data.metrics import (
    class_share,
    clean_loss_correlation,
    counted_checkpoints,
    describe_counted,
    instance_metrics,
    within_class,
)

# Set this to a statistics file, or a folder of them, to draw it without typing its name; a relative path starts at the
# project's folder. Without it the newest statistics file is drawn.
STATISTICS = ""

VARIABILITY = "variability: standard deviation of the perturbed loss (nats)"
SENSITIVITY = "sensitivity: mean perturbed loss (nats)"
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
Map = tuple[Metrics, Mapping[str, Any]]


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--statistics",
        nargs="+",
        metavar="FILE",
        help="statistics files; several give a grid with shared axes. By default the newest one under --output_dir",
    )
    what.add_argument("--exp", metavar="NAME", help="all statistics files in --output_dir whose name contains NAME")
    parser.add_argument(
        "--output_dir", default=str(ROOT / "results"), metavar="FOLDER", help="where files are looked for"
    )
    parser.add_argument(
        "--output", metavar="STEM", help="write STEM.png and STEM.pdf; by default beside the first file"
    )
    parser.add_argument(
        "--colour", choices=("flip_rate", "class"), default="flip_rate", help="what the colour of an instance shows"
    )
    parser.add_argument("--csv", action="store_true", help="also write index, label and all metrics of every instance")
    selection_arguments.add_metric_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    paths = find_statistics(args)
    switches = (args.only_original_pred, args.within_class, args.use_untrained_model)
    maps = [load_map(path, *map(bool, switches)) for path in paths]
    tables = []
    for path, (metrics, _) in zip(paths, maps) if args.csv else ():
        name = fitted(f"{path.stem}_metrics{metric_suffix(args)}")
        tables.append(write_csv(path.with_name(f"{name}.csv"), metrics))
    figure = draw_map(*maps[0], args.colour) if len(maps) == 1 else draw_grid(maps, args.colour)
    for path in [*save_figure(figure, output_stem(args, paths)), *tables]:
        print(f"saved {path}")


def find_statistics(args: argparse.Namespace) -> list[Path]:
    """The files that the arguments mean. Raises InputError if there are none."""
    if args.statistics:
        return [Path(path) for path in args.statistics]
    if args.exp:
        found = sorted(path for path in Path(args.output_dir).glob("*.npy") if args.exp in path.name)
        if not found:
            raise InputError(f"--exp {args.exp}: no .npy file in {args.output_dir} has that in its name")
        return found
    if not STATISTICS:
        return [newest_statistics(Path(args.output_dir))]
    constant = ROOT / STATISTICS
    found = sorted(constant.glob("*.npy")) if constant.is_dir() else [constant]
    if not found or not found[0].exists():
        raise InputError(f"STATISTICS in {__file__} names {constant}, and there is no file; give --statistics FILE")
    return found


def newest_statistics(folder: Path) -> Path:
    """The statistics file in a folder, or in one below it, that was written last; says which it is."""
    found = sorted(folder.rglob("robust_statistics_*.npy"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    if not found:
        raise InputError(
            f"no statistics file under {folder}; make one with data_statistics.py, or give --statistics FILE"
        )
    print(f"drawing the newest statistics file under {folder}: {found[-1].relative_to(folder)}", file=sys.stderr)
    return found[-1]


def load_map(path: Path, only_original_pred: bool, relative: bool = False, use_untrained_model: bool = False) -> Map:
    """A file's metrics, and its metadata with what the titles say of them.

    relative: give every metric but the flip rate, which is a colour, as its difference from the class mean.
    """
    rows, metadata = records.load(path)
    metrics = instance_metrics(rows, only_original_pred, use_untrained_model)
    if not len(metrics["index"]):
        raise InputError(f"--only_original_pred 1: {path} has no instance that was ever classified correctly")
    about = {
        "path": path,
        "number_of_checkpoints": len(counted_checkpoints(rows, use_untrained_model)),
        "counted": describe_counted(rows, use_untrained_model),
        "dropped": rows.shape[1] - len(metrics["index"]),
        "class_share": class_share(metrics["perturbed_loss_mean"], metrics["golden_label"]),
        "clean_loss_correlation": clean_loss_correlation(metrics),
        "within_class": relative,
    }
    if relative:
        metrics = within_class(metrics) | {"flip_rate": metrics["flip_rate"]}
    return metrics, {**metadata, **about}


def title(metrics: Metrics, metadata: Mapping[str, Any]) -> str:
    """What was run, how much there is of it, and what sensitivity is made of."""
    return "\n".join([describe(metadata, metadata["path"].stem), counts(metrics, metadata), explained(metadata)])


def counts(metrics: Metrics, metadata: Mapping[str, Any]) -> str:
    """How many instances and checkpoints a map shows, and how many instances it leaves out."""
    dropped = f" ({metadata['dropped']:,} never classified correctly left out)" if metadata["dropped"] else ""
    return f"{len(metrics['index']):,} instances{dropped}, {metadata['counted']}"


def explained(metadata: Mapping[str, Any]) -> str:
    """How much of sensitivity is a matter of the class, and how much of the clean loss."""
    return (
        f"class explains {metadata['class_share']:.0%} of the variance of sensitivity; "
        f"clean loss explains it with a rank correlation of {metadata['clean_loss_correlation']:.2f}"
    )


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


def colouring(metrics: Metrics, metadata: Mapping[str, Any], by: str) -> Colouring:
    """Colours by fifths of the flip rate, or by class; of many classes the largest ones have a colour each."""
    markers = MARKERS if has_markers(metrics) else ("o",) * len(MARKERS)
    if by == "flip_rate":
        group = np.digitize(metrics["flip_rate"], FLIP_RATE_EDGES[1:-1])
        names = [f"{low:.1f} to {high:.1f}" for low, high in zip(FLIP_RATE_EDGES[:-1], FLIP_RATE_EDGES[1:])]
        return Colouring("flip rate", group, names, COLOURS, markers)
    labels, sizes = np.unique(metrics["golden_label"], return_counts=True)
    most = len(CLASS_COLOURS)
    shown = labels if len(labels) <= most else np.sort(labels[np.argsort(-sizes, kind="stable")[: most - 1]])
    known = metadata.get("label_names") or []
    names = [str(known[label]) if label < len(known) else str(label) for label in shown]
    places = np.minimum(np.searchsorted(shown, metrics["golden_label"]), len(shown) - 1)
    group = np.where(shown[places] == metrics["golden_label"], places, len(shown))
    others = [f"{len(labels) - len(shown)} others"] if len(shown) < len(labels) else []
    colours = [*CLASS_COLOURS[: len(shown)], *([OTHER_CLASSES] * len(others))]
    return Colouring("class", group, [*names, *others], colours, markers)


def has_markers(metrics: Metrics) -> bool:
    """Whether there is room to see what marker a point has."""
    return len(metrics["index"]) <= MOST_WITH_MARKERS


def draw_map(metrics: Metrics, metadata: Mapping[str, Any], by: str = "flip_rate"):
    """One map with the histograms of its three measures beside it; returns the figure."""
    plt = pyplot()
    figure = plt.figure(figsize=(9.6, 6.6), layout="constrained")
    panels = figure.subplot_mosaic(
        [["map", "sensitivity"], ["map", "variability"], ["map", "flips"]], width_ratios=(2.6, 1)
    )
    figure.suptitle(title(metrics, metadata), fontsize=10, parse_math=False)
    colours = colouring(metrics, metadata, by)
    limits = axis_limits([metrics])
    scatter_map(panels["map"], metrics, colours, limits)
    panels["map"].set_xlabel(VARIABILITY + reference(metadata))
    panels["map"].set_ylabel(SENSITIVITY + reference(metadata))
    add_legend(figure, colours)
    draw_histogram(panels["sensitivity"], metrics["perturbed_loss_mean"], "sensitivity (nats)", limits[1])
    draw_histogram(panels["variability"], metrics["perturbed_loss_std"], "variability (nats)", limits[0])
    bins = np.linspace(0, 1, metadata["number_of_checkpoints"] + 2)
    draw_histogram(panels["flips"], metrics["flip_rate"], "flip rate (share of checkpoints)", (0, 1), bins)
    return figure


def draw_grid(maps: Sequence[Map], by: str = "flip_rate"):
    """A map for each of several files on the same axes; returns the figure."""
    plt = pyplot()
    columns = min(4, math.ceil(math.sqrt(len(maps))))
    lines = math.ceil(len(maps) / columns)
    figure, panels = plt.subplots(
        lines,
        columns,
        figsize=(4.2 * columns, 3.8 * lines + 1),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    common, own = panel_titles([(metadata["path"], metadata) for _, metadata in maps])
    sizes = [counts(*one) for one in maps]
    alike = len(set(sizes)) == 1
    figure.suptitle("\n".join(filter(None, [common, sizes[0] if alike else ""])), fontsize=11, parse_math=False)
    limits = axis_limits([metrics for metrics, _ in maps])
    coloured = [colouring(*one, by) for one in maps]
    for number, (metrics, metadata) in enumerate(maps):
        panel = panels.flat[number]
        scatter_map(panel, metrics, coloured[number], limits)
        size = [] if alike else [textwrap.fill(sizes[number], 52)]
        lines = [textwrap.fill(own[number], 48), *size, explained(metadata).replace("; ", "\n")]
        panel.set_title("\n".join(lines), fontsize=8, parse_math=False)
        if number % columns == 0:
            panel.set_ylabel((SENSITIVITY + reference(metadata)).replace(", ", ",\n"), fontsize=8)
        if number + columns >= len(maps):  # the lowest of its column, also above an empty place
            panel.set_xlabel((VARIABILITY + reference(metadata)).replace(", ", ",\n"), fontsize=8)
            panel.tick_params(labelbottom=True)
    for panel in panels.flat[len(maps) :]:
        panel.set_visible(False)
    # Maps of data sets with other classes are read by the legend of the one that has most.
    add_legend(figure, max(coloured, key=lambda colours: len(colours.names)))
    return figure


def scatter_map(axis, metrics: Metrics, colours: Colouring, limits) -> None:
    """The points of one map, those beyond the limits on the edge, and the bounds of its thirds by sensitivity."""
    (left, right), (low, high) = limits
    x = np.minimum(metrics["perturbed_loss_std"], right)
    y = np.minimum(metrics["perturbed_loss_mean"], high)
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
    draw_thirds(axis, metrics["perturbed_loss_mean"])
    beyond = np.count_nonzero((metrics["perturbed_loss_std"] > right) | (metrics["perturbed_loss_mean"] > high))
    if beyond:
        label_edge(axis, 0.99, f"{beyond:,} beyond the axes, on their edge", "top", axis.get_ylim()[1])


def draw_thirds(axis, sensitivity: np.ndarray) -> None:
    """The sensitivities that part the robust, the swing and the non-robust third of the instances."""
    lower, upper = np.quantile(sensitivity[~np.isnan(sensitivity)], (1 / 3, 2 / 3), method="nearest")
    for place in (lower, upper):
        axis.axhline(place, color="#202020", linewidth=1.0, linestyle=(0, (5, 3)))
    label_edge(axis, 0.99, "non-robust third", "bottom", upper)
    label_edge(axis, 0.99, "robust third", "top", lower)


def label_edge(axis, x: float, text: str, side: str, y: float) -> None:
    """A few words at the right edge of a map, above ("bottom") or below ("top") a sensitivity."""
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1}
    gap = 3 if side == "bottom" else -3
    axis.annotate(
        text, (x, y), (0, gap), ("axes fraction", "data"), "offset points", ha="right", va=side, fontsize=8, bbox=box
    )


def add_legend(figure, colours: Colouring) -> None:
    """What the colours mean, in a line above the maps, with points large enough to see them."""
    from matplotlib.lines import Line2D

    points = [
        Line2D([], [], linestyle="none", marker=marker, color=colour, markersize=7, label=name)
        for name, colour, marker in zip(colours.names, colours.colours, colours.markers)
    ]
    legend = figure.legend(
        handles=points,
        title=colours.meaning,
        loc="outside lower center",
        ncols=5,
        fontsize=9,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.0,
    )
    for name in legend.get_texts():
        name.set_parse_math(False)


def axis_limits(maps: Sequence[Metrics]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of variability and of sensitivity that hold all but a few instances far away.

    An axis begins at 0 where its values come near it.
    """
    return tuple(
        _limits(np.concatenate([metrics[name] for metrics in maps]))
        for name in ("perturbed_loss_std", "perturbed_loss_mean")
    )


def _limits(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    least, most = float(finite.min()), float(finite.max())
    typical = float(np.quantile(finite, LAST_QUANTILE))
    if most > least + FAR * (typical - least) > least:
        most = least + ROOM * (typical - least)
    margin = 0.03 * (most - least) or 0.5
    from_zero = 0 <= least <= (most - least) / 3
    return (0.0 if from_zero else least - margin), most + margin


def reference(metadata: Mapping[str, Any]) -> str:
    """What to add to the name of an axis whose zero is the class mean."""
    return ", above the mean of the class" if metadata["within_class"] else ""


def draw_histogram(axis, values: np.ndarray, label: str, limits: tuple[float, float], bins=40) -> None:
    """One measure's histogram, in instances; those beyond the limits are counted on the edge."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.hist(np.clip(values, *limits), bins=bins, range=limits, color=HISTOGRAMS)
    axis.set_xlim(limits)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.set_xlabel(label, fontsize=9)
    axis.set_ylabel("instances", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)


def output_stem(args: argparse.Namespace, paths: Sequence[Path]) -> Path:
    """Where the figure goes, without suffix."""
    if args.output:
        return Path(args.output)
    stem = paths[0].stem if len(paths) == 1 else joined_name("robust_data_maps", paths)
    by_class = "_by_class" if args.colour == "class" else ""
    return paths[0].with_name(fitted(stem + metric_suffix(args) + by_class))


def save_figure(figure, stem: Path) -> list[Path]:
    """Write the figure as PNG and PDF, atomically; returns both paths. Raises InputError if that fails."""
    paths = []
    for suffix in ("png", "pdf"):
        # Not with_suffix, which would cut a name at the point of its learning rate.
        path = stem.with_name(f"{stem.name}.{suffix}")
        with files.atomic_write(path) as file:
            # Without a date in it the same map is the same file.
            figure.savefig(file, format=suffix, dpi=150, metadata={"CreationDate": None} if suffix == "pdf" else None)
        paths.append(path)
    pyplot().close(figure)
    return paths


def write_csv(path: Path, metrics: Mapping[str, np.ndarray]) -> Path:
    """Write one line per instance: index, golden label and every metric."""
    with files.atomic_write(path, "w") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(metrics)
        lines.writerows(zip(*(values.tolist() for values in metrics.values())))
    return path


def pyplot():
    """matplotlib.pyplot, drawing to files; imported at the first figure, since it takes a second."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


if __name__ == "__main__":
    run_script(build_parser(), main)
