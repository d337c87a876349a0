"""Texts that stand for each group and class: as a CSV file, and as a figure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from robust_data import tables
from robust_data.analysis.statistics_file import StatisticsFile
from robust_data.plot_utils.figures import Axes, Figure, pyplot
from robust_data.plot_utils.instances import GROUPS, Sample, predictions, shortened

DPI = 150
# The columns and their widths, in characters.
TABLE_WIDTHS = {"text": 60, "label": 14, "group": 11, "clean": 14, "perturbed": 14, "sensitivity": 11}


def write_table(path: Path, samples: Sequence[Sample], texts: Sequence[str], perturbed: Sequence[str] | None) -> Path:
    """Write one line per instance, atomically; perturbed: the texts as they were rewritten, where that is known."""
    header = ["index", "label", "group", "clean_prediction", "perturbed_prediction", "sensitivity", "text"]
    lines = [header + ([] if perturbed is None else ["perturbed_text"])]
    shown = zip(texts) if perturbed is None else zip(texts, perturbed)
    for sample, both in zip(samples, shown, strict=True):
        predictions = (sample.clean_class, sample.perturbed_class)
        lines.append([sample.index, sample.label_name, sample.group, *predictions, sample.sensitivity, *both])
    return tables.write(path, lines)


def draw_table(
    samples: Sequence[Sample], texts: Sequence[str], perturbed: Sequence[str] | None, statistics: StatisticsFile
) -> Figure:
    """The texts as a table, each above what it was rewritten to, a band for each class."""
    rewritten = perturbed or [""] * len(texts)
    rows = [table_row(*row) for row in zip(samples, texts, rewritten, strict=True)]
    lines = [max(cell.count("\n") + 1 for cell in row) for row in rows]
    # 0.17 inches to a line of text, and a title of four lines.
    height = 0.17 * (sum(lines) + 0.7 * len(rows) + 5.4)
    figure = pyplot().figure(figsize=(11, height), dpi=DPI)
    axis = figure.add_axes((0.02, 0.01, 0.96, 0.98))
    axis.set_axis_off()
    axis.set_xlim(0, sum(TABLE_WIDTHS.values()))
    axis.set_ylim(height / 0.17, 0)
    what = (
        f"predictions at the last checkpoint, sensitivity in nats{statistics.reference}; groups are thirds of all "
        f"instances by sensitivity{statistics.dropped}"
    )
    title = f"{shortened(statistics.describe(), 80)}; {what}"
    axis.text(0, 0.3, textwrap.fill(title, 130, max_lines=3), va="top", fontsize=9)
    draw_row(axis, 3.4, list(TABLE_WIDTHS), weight="bold")
    top = 5.0
    for row, count, sample in zip(rows, lines, samples):
        if sample.label % 2:
            axis.axhspan(top - 0.3, top + count + 0.4, color="#eef1f5", linewidth=0)
        draw_row(axis, top, row)
        top += count + 0.7
    return figure


def table_row(sample: Sample, text: str, perturbed: str) -> list[str]:
    """The cells of one instance, in the order of `TABLE_WIDTHS`."""
    shown = [text, f"\N{RIGHTWARDS ARROW} {perturbed}"] if perturbed else [text]
    width = TABLE_WIDTHS["text"] + 10
    body = [textwrap.fill(one, width, max_lines=4, placeholder=" \N{HORIZONTAL ELLIPSIS}") for one in shown]
    return [
        "\n".join(body),
        shortened(sample.label_name, 14),
        GROUPS[sample.group],
        *predictions(sample, 12),
        f"{sample.sensitivity:.3g}",
    ]


def draw_row(axis: Axes, top: float, cells: Sequence[str], **style) -> None:
    """The cells of one line of the table, side by side."""
    left = 0
    for cell, width in zip(cells, TABLE_WIDTHS.values(), strict=True):
        axis.text(left, top, cell, va="top", fontsize=8, **style)
        left += width
