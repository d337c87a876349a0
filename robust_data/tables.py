"""Tables: as CSV, in which no spreadsheet takes a text for a formula, and what is read back is what was written; and as
scripts print them, with columns that keep apart.
"""

from __future__ import annotations

import csv
import io
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from robust_data import files

# What a spreadsheet may take for a formula (OWASP, CSV injection), and so might run: with an apostrophe before it it
# is a text. A text that has apostrophes there already gets one more, so that one can be taken off again.
FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20].", re.DOTALL)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def write(path: Path, lines: Iterable[Iterable[Any]]) -> Path:
    """Write a table, atomically, the names of its columns first; returns the path. None is an empty cell.

    Raises InputError if the file cannot be written.
    """
    with files.atomic_write(path, "w") as file:
        file.writelines(map(line, lines))
    return path


def line(cells: Iterable[Any]) -> str:
    """One line of a table, with its end."""
    written = io.StringIO()
    # With another end of the line it would leave a carriage return within a text bare, where a reader ends the line.
    csv.writer(written, lineterminator="\r\n").writerow(
        _text(str(cell)) if isinstance(cell, (str, Path)) else cell for cell in cells
    )
    return written.getvalue().removesuffix("\r\n") + "\n"


def read(file: TextIO) -> list[dict[str, str]]:
    """The lines of a table by the names of its columns, each text as it was before it was written."""
    names, *lines = [[_original(cell) for cell in cells] for cells in csv.reader(file)] or [[]]
    return [dict(zip(names, cells)) for cells in lines if cells]


def show(lines: Sequence[Sequence[str]], widths: Sequence[int] = ()) -> None:
    """Print lines of texts, the first column to the left, the others to the right, at least two spaces between.

    A column is as wide as its longest text; widths: the least of the first ones. A line may lack its last columns.
    """
    widths = [*widths, *[0] * max(map(len, lines))]
    for cells in lines:
        widths = [max(width, len(cell)) for width, cell in zip(widths, cells)] + widths[len(cells) :]
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:]))]
        print("  ".join(cells).rstrip())


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Lines of texts as a table of Markdown, the names of its columns first."""
    head, *body = ("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)
    return "\n".join([head, "|" + "---|" * len(lines[0]), *body])


def number(value: float) -> str:
    """A number as the scripts print it: with four places, from 100,000 on with a power of ten."""
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.4g}"


def mean_and_deviation(values: Sequence[float]) -> str:
    """In words: "0.8540 ± 0.0123", and of a single value the mean alone."""
    deviation = f" ± {number(statistics.stdev(values))}" if len(values) > 1 else ""
    return f"{number(statistics.fmean(values))}{deviation}"


def _text(text: str) -> str:
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def _original(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
