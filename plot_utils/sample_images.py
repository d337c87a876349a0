#!/usr/bin/env python3
"""Draw robust, swing and non-robust instances of each class, clean and perturbed; for texts write a table.

The groups are the thirds of all instances by sensitivity, so a class may have none in a group. Each instance has the
model's prediction on both inputs at the last checkpoint, and its sensitivity.
"""

from __future__ import annotations

import argparse
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robust_data import settings, tables
from robust_data.analysis.statistics_file import StatisticsFile, open_as_asked
from robust_data.command_line import arguments
from robust_data.command_line.arguments import metric_suffix
from robust_data.command_line.parser import Parser, run_script
from robust_data.datasets.base import Dataset
from robust_data.plot_utils import instances
from robust_data.plot_utils.figures import Axes, Figure, fitted, pyplot, save_figure
from robust_data.plot_utils.instances import GROUPS, Sample, choose_samples, predictions, shortened
from robust_data.registry import InputError, nearest, warn_once
from robust_data.settings import file_stem, positive_int

CLASSES_DRAWN = 10
PER_GROUP = 3
# Small images are enlarged by whole pixels to about this side, large ones are reduced to it.
CELL_SIDE = 96
GAP = 6
DPI = 150
# Heights and widths in pixels of the sheet: a line below a picture, three of them, the space between groups, the class
# names.
LINE, CAPTION, GROUP_GAP, MARGIN, HEADER = 20, 74, 40, 210, 130

# The columns and their widths, in characters.
TABLE_WIDTHS = {"text": 60, "label": 14, "group": 11, "clean": 14, "perturbed": 14, "sensitivity": 11}


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--statistics", required=True, metavar="FILE", help="a file that data_statistics.py wrote")
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help=f"names or numbers of classes; by default the first {CLASSES_DRAWN}",
    )
    parser.add_argument("--per_group", type=positive_int, default=PER_GROUP, help="instances of each group and class")
    parser.add_argument(
        "--output",
        type=file_stem,
        metavar="STEM",
        help="write STEM.png and so on; by default beside the statistics file",
    )
    arguments.add(parser, settings.Metrics)
    arguments.add_source(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    statistics = open_as_asked(settings.of(settings.Metrics, args), args.statistics)
    labels = chosen_classes(statistics, args.classes)
    stem = Path(args.output) if args.output else default_stem(args, statistics, labels)
    instances.check_folder(stem)
    dataset = statistics.load_dataset(settings.of(settings.Data, args))
    samples = choose_samples(statistics, labels, args.per_group)
    perturb = instances.perturber(statistics)
    if perturb is None:
        known = statistics.perturbation() is not None
        reason = "only the model can make the perturbed inputs again" if known else "its perturbation is not known"
        warn_once(f"{statistics.path}: {reason}; showing clean inputs only")
    if dataset.modality == "text":
        index = np.array([sample.index for sample in samples])
        texts = instances.texts(dataset, index)
        perturbed = None if perturb is None else instances.perturbed_texts(dataset, index, perturb)
        print(f"saved {write_table(stem.with_name(stem.name + '.csv'), samples, texts, perturbed)}")
        figure = draw_table(samples, texts, perturbed, statistics)
    else:
        figure = draw_grid(samples, read_pictures(dataset, samples, perturb), labels, args.per_group, statistics)
    for path in save_figure(figure, stem):
        print(f"saved {path}")


def chosen_classes(statistics: StatisticsFile, names: Sequence[str] | None) -> list[int]:
    """The classes to show, those named or the first ones. Raises InputError for one that is not there."""
    present = np.unique(statistics.metrics["golden_label"]).tolist()
    if names is None:
        if len(present) > CLASSES_DRAWN:
            warn_once(f"drawing {CLASSES_DRAWN} of {len(present)} classes; choose others with --classes")
        return present[:CLASSES_DRAWN]
    numbers = {str(label): label for label in present} | {statistics.label_name(label): label for label in present}
    for name in names:
        if name not in numbers:
            raise InputError(f"--classes {name}: no such class; nearest: {', '.join(nearest(name, numbers))}")
    return list(dict.fromkeys(numbers[name] for name in names))


def default_stem(args: argparse.Namespace, statistics: StatisticsFile, labels: Sequence[int]) -> Path:
    """Where the samples go, without suffix; a name of its own for whatever shows other instances."""
    name = f"{statistics.path.stem}_samples{metric_suffix(args)}"
    name += "" if args.per_group == PER_GROUP else f"_{args.per_group}each"
    name += "" if args.classes is None else f"_classes{'-'.join(map(str, labels))}"
    return statistics.path.with_name(fitted(name))


def read_pictures(
    dataset: Dataset, samples: Sequence[Sample], perturb: instances.Perturber | None
) -> dict[int, list[np.ndarray]]:
    """By index: the clean image and, unless `perturb` is None, the perturbed one, uint8 [H,W,3] each."""
    index = np.array([sample.index for sample in samples])
    shown = [list(pair) for batch in instances.pictures(dataset, index, perturb) for pair in zip(*batch)]
    return dict(zip(index.tolist(), shown, strict=True))


def draw_grid(
    samples: Sequence[Sample],
    pictures: Mapping[int, Sequence[np.ndarray]],
    labels: Sequence[int],
    per_group: int,
    statistics: StatisticsFile,
) -> Figure:
    """A row for each class, a block of columns for each group.

    pictures: by index, as `read_pictures` gives them.
    """
    most = max(Counter((sample.label, sample.group) for sample in samples).values(), default=0)
    layout = Layout(min(per_group, max(most, PER_GROUP)), *cell_shape(pictures))
    sheet = np.full((len(labels) * layout.row, layout.width, 3), 255, dtype=np.uint8)
    size = ((layout.width + MARGIN) / DPI, (len(sheet) + HEADER) / DPI)
    figure = pyplot().figure(figsize=size, dpi=DPI)
    axis = figure.add_axes((MARGIN / DPI / size[0], 0, layout.width / DPI / size[0], len(sheet) / DPI / size[1]))
    placed: dict[tuple[int, str], int] = {}
    for sample in samples:
        column = placed[sample.label, sample.group] = placed.get((sample.label, sample.group), -1) + 1
        x, y = layout.place(labels.index(sample.label), list(GROUPS).index(sample.group), column)
        for number, picture in enumerate(pictures[sample.index]):
            cell, left = to_cell(picture), x + number * layout.slot
            sheet[y : y + cell.shape[0], left : left + cell.shape[1]] = cell
        clean, perturbed = predictions(sample, 12)
        below = (clean, f"\N{RIGHTWARDS ARROW} {perturbed}", f"{sample.sensitivity:.3g} nats, #{sample.index}")
        for line, (text, colour) in enumerate(zip(below, ("black", "black", "#505050")), 1):
            axis.text(x, y + layout.cell_height + line * LINE, text, va="baseline", fontsize=8, color=colour)
    for row, label in enumerate(labels):
        for number, group in enumerate(GROUPS):
            if (label, group) not in placed:
                x, y = layout.place(row, number, 0)
                axis.text(x, y + layout.cell_height / 2, "none of this class", va="center", fontsize=7, color="#505050")
    axis.imshow(sheet, interpolation="none", aspect="auto")
    axis.set_axis_off()
    label_grid(figure, axis, layout, [shortened(statistics.label_name(label), 16) for label in labels], statistics)
    return figure


@dataclass(frozen=True)
class Layout:
    """Where things lie on the sheet, in pixels."""

    per_group: int
    pictures: int
    cell_height: int
    cell_width: int

    @property
    def slot(self) -> int:
        """Width of one picture."""
        return max(self.cell_width, CELL_SIDE) + 2

    @property
    def column(self) -> int:
        return max(self.pictures * self.slot, 150) + 2 * GAP

    @property
    def row(self) -> int:
        return self.cell_height + CAPTION + GAP

    @property
    def group(self) -> int:
        return self.per_group * self.column + GROUP_GAP

    @property
    def width(self) -> int:
        return len(GROUPS) * self.group - GROUP_GAP

    def place(self, row: int, group: int, column: int) -> tuple[int, int]:
        """Left and upper edge of an instance's first picture."""
        return group * self.group + column * self.column, row * self.row


def cell_shape(pictures: Mapping[int, Sequence[np.ndarray]]) -> tuple[int, int, int]:
    """How many pictures an instance has, and the height and width of one on the sheet."""
    first = next(iter(pictures.values()))
    return len(first), *to_cell(first[0]).shape[:2]


def to_cell(picture: np.ndarray) -> np.ndarray:
    """uint8 [H,W,3] brought to about `CELL_SIDE`: small ones by whole pixels, so that these can be seen."""
    from PIL import Image

    side = max(picture.shape[:2])
    if side <= CELL_SIDE:
        repeat = CELL_SIDE // side
        return picture.repeat(repeat, axis=0).repeat(repeat, axis=1)
    height, width = (max(1, round(length * CELL_SIDE / side)) for length in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def label_grid(
    figure: Figure, axis: Axes, layout: Layout, class_names: Sequence[str], statistics: StatisticsFile
) -> None:
    """The names of classes and groups, and what the whole is."""
    for row, name in enumerate(class_names):
        axis.text(-16, row * layout.row + layout.cell_height / 2, name, ha="right", va="center", fontsize=9)
    for number, name in enumerate(GROUPS.values()):
        axis.text(number * layout.group, -10, name, ha="left", va="bottom", fontsize=10, weight="bold")
    shown = "clean and perturbed input" if layout.pictures > 1 else "clean input"
    title = (
        f"{statistics.describe()}: {shown}, predictions at the last checkpoint (clean, then perturbed), sensitivity "
        f"in nats{statistics.reference}; groups are thirds of all instances by sensitivity{statistics.dropped}"
    )
    # Some 12 pixels to a character of this size.
    lines = textwrap.wrap(title, int(figure.get_figwidth() * DPI / 12), max_lines=4, placeholder=" ...")
    top = 1 - 12 / DPI / figure.get_figheight()
    figure.text(0.5, top, "\n".join(lines), ha="center", va="top", fontsize=9)


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


if __name__ == "__main__":
    run_script(build_parser(), main)
