"""Tables with a header, comma- or tab-separated, read by the names of their columns."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from registry import InputError, warn_once


@dataclass(frozen=True)
class Table:
    """Some columns of a file.

    path: of the file, for messages. rows: for each row its values, in the order of the columns asked for.
    lines: the line of the file at which each row ends.
    """

    path: Path | zipfile.Path
    rows: list[list[str]]
    lines: list[int]

    def column(self, number: int) -> list[str]:
        return [row[number] for row in self.rows]

    def without(self, dropped: Sequence[int]) -> Table:
        """The table without these rows; says on stderr how many those are."""
        if not dropped:
            return self
        _report(self.path, len(dropped), len(self.rows), self.lines[dropped[0]])
        kept = sorted(set(range(len(self.rows))) - set(dropped))
        return Table(self.path, [self.rows[row] for row in kept], [self.lines[row] for row in kept])


def read_table(
    path: Path | zipfile.Path, columns: Sequence[str], options: Sequence[str] = (), *, delimiter: str, quoting: int
) -> Table:
    """Read these columns of a UTF-8 file.

    options: for each column the option that names it, for messages. quoting: `csv.QUOTE_MINIMAL` for CSV,
    `csv.QUOTE_NONE` where a quotation mark is a character like any other. A row with a missing field is
    reported and dropped. Raises InputError for a column that is not there, a file that is not text, or one
    without rows.
    """
    rows, lines, short = [], [], []
    try:
        newline = "\n" if quoting == csv.QUOTE_NONE else ""
        with path.open("r", encoding="utf-8-sig", newline=newline) as file:
            numbered = _numbered_rows(file, delimiter, quoting)
            places = _places(next(numbered, (1, []))[1], columns, options, path)
            for line, row in numbered:
                if len(row) <= max(places):
                    short.append(line)
                    continue
                rows.append([row[place] for place in places])
                lines.append(line)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; the folder is incomplete") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a table in UTF-8 ({error}); write it again") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read, its archive is damaged ({error}); fetch it again") from None
    if short:
        _report(path, len(short), len(short) + len(rows), short[0])
    if not rows:
        raise InputError(f"{path} holds no complete row below its header; choose another")
    return Table(path, rows, lines)


def _numbered_rows(file: IO[str], delimiter: str, quoting: int) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the number of the line at which it ends."""
    if quoting == csv.QUOTE_NONE:
        # Not by csv, for which a carriage return within a text ends the row.
        for number, line in enumerate(file, start=1):
            if line := line.rstrip("\r\n"):
                yield number, line.split(delimiter)
        return
    reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
    for row in filter(None, reader):
        yield reader.line_num, row


def _places(header: list[str], columns: Sequence[str], options: Sequence[str], path: Path | zipfile.Path) -> list[int]:
    """Where in a row the columns are."""
    for number, column in enumerate(columns):
        if column not in header:
            remedy = f"; name one of them with {options[number]}" if options else ""
            raise InputError(f"{path} has no column '{column}', only {', '.join(header) or 'an empty line'}{remedy}")
    return [header.index(column) for column in columns]


def _report(path: Path | zipfile.Path, dropped: int, total: int, line: int) -> None:
    warn_once(f"{path}: left out {dropped} of {total} rows with a missing field, as line {line}")
