#!/usr/bin/env python3
"""Draw the robust data map: every instance by its variability and sensitivity, coloured by its flip rate."""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from registry import InputError
from robust_data import arguments, files, records
from robust_data.metrics import (
    class_share,
    clean_loss_correlation,
    counted_checkpoints,
    instance_metrics,
    within_class,
)

# Edit this to draw a file without typing its name; a relative path starts at the project's folder.
STATISTICS = "results/quickstart"

VARIABILITY = "variability: standard deviation of the perturbed loss (nats)"
SENSITIVITY = "sensitivity: mean perturbed loss (nats)"
FLIP_RATE_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
# Five steps of cividis, which people with any colour vision can order; a marker each for grey prints.
COLOURS = ("#00224e", "#434e6c", "#7d7c78", "#bcaf6f", "#fee838")
MARKERS = ("o", "s", "^", "D", "X")


def build_parser() -> arguments.Parser:
    parser = arguments.Parser(description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--statistics", nargs="+", metavar="FILE", help="statistics files; several give a grid with shared axes"
    )
    what.add_argument("--exp", metavar="NAME", help="all statistics files in --output_dir whose name contains NAME")
    parser.add_argument("--output_dir", default=str(ROOT / "results"), metavar="FOLDER", help="where --exp looks")
    parser.add_argument(
        "--output", metavar="STEM", help="write STEM.png and STEM.pdf; by default beside the first file"
    )
    parser.add_argument("--csv", action="store_true", help="also write index, label and all metrics of every instance")
    arguments.add_metric_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    paths = find_statistics(args)
    switches = (args.only_original_pred, args.within_class, args.use_untrained_model)
    maps = [load_map(path, *map(bool, switches)) for path in paths]
    figure = draw_map(*maps[0]) if len(maps) == 1 else draw_grid(maps)
    for path in save_figure(figure, output_stem(args, paths)):
        print(f"saved {path}")
    if args.csv:
        for path, (metrics, _) in zip(paths, maps):
            name = path.stem + ("_metrics_within_class.csv" if args.within_class else "_metrics.csv")
            print(f"saved {write_csv(path.with_name(name), metrics)}")


def find_statistics(args: argparse.Namespace) -> list[Path]:
    """The files that the arguments mean. Raises InputError if there are none."""
    if args.statistics:
        return [Path(path) for path in args.statistics]
    if args.exp:
        found = sorted(path for path in Path(args.output_dir).glob("*.npy") if args.exp in path.name)
        if not found:
            raise InputError(f"--exp {args.exp}: no .npy file in {args.output_dir} has that in its name")
        return found
    constant = ROOT / STATISTICS
    found = sorted(constant.glob("*.npy")) if constant.is_dir() else [constant]
    if not found or not found[0].exists():
        raise InputError(
            f"give --statistics FILE or --exp NAME, or set STATISTICS in {__file__}: no file at {constant}"
        )
    return found


def load_map(
    path: Path, only_original_pred: bool, relative: bool = False, use_untrained_model: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A file's metrics, and its metadata with the number of counted checkpoints and what explains sensitivity added.

    relative: give every metric but the flip rate, which is a colour, as its difference from the class mean.
    """
    rows, metadata = records.load(path)
    counted = counted_checkpoints(rows, use_untrained_model)
    metrics = instance_metrics(rows, only_original_pred, use_untrained_model)
    if not len(metrics["index"]):
        raise InputError(f"--only_original_pred 1: {path} has no instance that was ever classified correctly")
    share = class_share(metrics["perturbed_loss_mean"], metrics["golden_label"])
    about = {"file": path.stem, **metadata, "number_of_checkpoints": len(counted), "class_share": share}
    about |= {"clean_loss_correlation": clean_loss_correlation(metrics), "use_untrained_model": use_untrained_model}
    if relative:
        metrics = within_class(metrics) | {"flip_rate": metrics["flip_rate"]}
    return metrics, about | {"within_class": relative}


def title(metrics: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> str:
    """Two lines: what was run, and how much there is of it."""
    return (
        f"{describe(metadata, metadata['file'])}\n{len(metrics['index']):,} instances, "
        f"{metadata['number_of_checkpoints']} checkpoints; "
        f"class explains {metadata['class_share']:.0%} of the variance of sensitivity"
    )


def describe(metadata: Mapping[str, Any], otherwise: str) -> str:
    """Dataset (and task), model and perturbation of a statistics file in a few words, or others where none is known."""
    used = metadata.get("arguments", {})
    dataset = " ".join(str(part) for part in (metadata.get("dataset_name"), used.get("task_name")) if part)
    parts = [dataset, Path(used.get("model_name") or "").name, metadata.get("perturbation")]
    text = ", ".join(str(part) for part in parts if part) or otherwise
    return text if metadata.get("parameter") is None else f"{text} at severity {metadata['severity']}"


def draw_map(metrics: Mapping[str, np.ndarray], metadata: Mapping[str, Any]):
    """One map with the histograms of its three measures beside it; returns the figure."""
    plt = pyplot()
    figure = plt.figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplot_mosaic(
        [["map", "sensitivity"], ["map", "variability"], ["map", "flips"]], width_ratios=(2.4, 1)
    )
    figure.suptitle(title(metrics, metadata), fontsize=11)
    scatter_map(panels["map"], metrics)
    start_at_zero(panels["map"], [metrics])
    panels["map"].set_xlabel(VARIABILITY + reference(metadata))
    panels["map"].set_ylabel(SENSITIVITY + reference(metadata))
    panels["map"].legend(title="flip rate", fontsize=9, loc="best", framealpha=0.9)
    draw_histogram(panels["sensitivity"], metrics["perturbed_loss_mean"], "sensitivity (nats)")
    draw_histogram(panels["variability"], metrics["perturbed_loss_std"], "variability (nats)")
    bins = np.linspace(0, 1, metadata["number_of_checkpoints"] + 2)
    draw_histogram(panels["flips"], metrics["flip_rate"], "flip rate (share of checkpoints)", bins)
    return figure


def draw_grid(maps: Sequence[tuple[Mapping[str, np.ndarray], Mapping[str, Any]]]):
    """A map for each of several files on the same axes; returns the figure."""
    plt = pyplot()
    columns = min(4, math.ceil(math.sqrt(len(maps))))
    lines = math.ceil(len(maps) / columns)
    figure, panels = plt.subplots(
        lines,
        columns,
        figsize=(4.2 * columns, 3.8 * lines + 0.6),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, (metrics, metadata) in zip(panels.flat, maps):
        scatter_map(panel, metrics)
        panel.set_title(title(metrics, metadata).replace("; ", "\n"), fontsize=8)
    start_at_zero(panels[0, 0], [metrics for metrics, _ in maps])
    for panel in panels.flat[len(maps) :]:
        panel.set_visible(False)
    figure.supxlabel(VARIABILITY + reference(maps[0][1]), fontsize=10)
    figure.supylabel(SENSITIVITY + reference(maps[0][1]), fontsize=10)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, title="flip rate", loc="outside upper center", ncols=len(labels), fontsize=9)
    return figure


def scatter_map(axis, metrics: Mapping[str, np.ndarray]) -> None:
    """The points of one map: a colour and a marker for each fifth of the flip rate."""
    size = float(np.clip(4e4 / len(metrics["index"]), 2, 18))
    for group, (low, high) in enumerate(zip(FLIP_RATE_EDGES[:-1], FLIP_RATE_EDGES[1:])):
        last = group == len(COLOURS) - 1
        rate = metrics["flip_rate"]
        chosen = (rate >= low) & ((rate <= high) if last else (rate < high))
        axis.scatter(
            metrics["perturbed_loss_std"][chosen],
            metrics["perturbed_loss_mean"][chosen],
            s=size,
            c=COLOURS[group],
            marker=MARKERS[group],
            alpha=0.75,
            linewidths=0.2,
            edgecolors="#404040",
            rasterized=True,
            label=f"{low:.1f} to {high:.1f}",
        )
    axis.grid(alpha=0.25)


def start_at_zero(axis, maps: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Let the axes begin at 0 where nothing lies below; call it after all points are drawn, as it fixes the limits."""
    if min(metrics["perturbed_loss_std"].min() for metrics in maps) >= 0:
        axis.set_xlim(left=0)
    if min(metrics["perturbed_loss_mean"].min() for metrics in maps) >= 0:
        axis.set_ylim(bottom=0)


def reference(metadata: Mapping[str, Any]) -> str:
    """What to add to the name of an axis whose zero is the class mean."""
    return ", above the mean of the class" if metadata["within_class"] else ""


def draw_histogram(axis, values: np.ndarray, label: str, bins=40) -> None:
    """One measure's histogram, in instances."""
    axis.hist(values, bins=bins, color=COLOURS[1])
    axis.set_xlabel(label, fontsize=9)
    axis.set_ylabel("instances", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)


def output_stem(args: argparse.Namespace, paths: Sequence[Path]) -> Path:
    """Where the figure goes, without suffix."""
    if args.output:
        return Path(args.output)
    stem = paths[0].stem if len(paths) == 1 else "robust_data_map"
    return paths[0].with_name(stem + ("_within_class" if args.within_class else ""))


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
    arguments.run_script(build_parser(), main)
