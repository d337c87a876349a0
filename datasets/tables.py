"""Tables with a header, separated by commas, semicolons or tabs, read by the names of their columns."""

from __future__ import annotations

import codecs
import csv
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from robust_data.datasets.base import class_name
from robust_data.reading import check_archive, check_regular
from robust_data.registry import InputError, warn_once

# Of csv's own 131,072 characters a document has more.
LONGEST_FIELD = 2**31 - 1


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

    def without(self, dropped: Sequence[int], what: str = "a missing field") -> Table:
        """The table without these rows; says on stderr how many those are."""
        if not dropped:
            return self
        _report(self.path, len(dropped), len(self.rows), what, self.lines[dropped[0]])
        kept = sorted(set(range(len(self.rows))) - set(dropped))
        return Table(self.path, [self.rows[row] for row in kept], [self.lines[row] for row in kept])


@dataclass(frozen=True)
class Format:
    """How a table is written.

    delimiters: what may stand between its cells; the first with which its header has the columns asked for.
    quoting: `csv.QUOTE_MINIMAL` for CSV, `csv.QUOTE_NONE` where a quotation mark is a character like any other.
    encoding: of its characters; by default UTF-8, or what its first bytes say. whole: whether a row with more
    cells than the header is dropped. header: the names of its columns, where its first line is a row already.
    """

    delimiters: str
    quoting: int
    encoding: str | None = None
    whole: bool = False
    header: Sequence[str] = ()


COMMAS = Format(",", csv.QUOTE_MINIMAL)
# What a file begins with that says how it goes on; the longer marks first.
_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
_MARKS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# What begins a file that is no table, whatever it is called.
_NO_TABLE = {b"PK\3\4": "a workbook or zip archive", b"\xd0\xcf\x11\xe0": "a workbook", b"\x1f\x8b": "packed by gzip"}
_NO_TABLE |= {b"PAR1": "a Parquet file"}


def read_table(
    path: Path | zipfile.Path, columns: Sequence[str], options: Sequence[str] = (), *, written: Format
) -> Table:
    """Read these columns of a file.

    options: for each column the option that names it, for messages. A row with a missing field is
    reported and dropped. Raises InputError for a column that is not there or there twice, a file that is not
    text, or one without rows.
    """
    rows, lines, dropped, line = [], [], [], 1
    columns = [class_name(column) for column in columns]
    try:
        _check_source(path)
        encoding = _encoding(path, written.encoding)
        newline = "\n" if written.quoting == csv.QUOTE_NONE else ""
        with path.open("r", encoding=encoding, newline=newline) as file:
            delimiter = _delimiter(file, columns, written)
            numbered = _numbered_rows(file, delimiter, written.quoting)
            header = written.header or [class_name(name) for name in next(numbered, (1, []))[1]]
            places = _places(header, columns, options, path)
            for line, row in numbered:
                if len(row) <= max(places) or (written.whole and any(cell.strip() for cell in row[len(header) :])):
                    dropped.append(line)
                    continue
                rows.append([row[place] for place in places])
                lines.append(line)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; the folder is incomplete") from None
    except UnicodeError as error:
        raise InputError(f"{path} is not in {encoding} ({error}); pass --encoding, such as latin-1") from None
    except LookupError as error:
        raise InputError(f"--encoding {written.encoding} is not known ({error}); give one such as latin-1") from None
    except csv.Error as error:
        raise InputError(f"{path} is no table ({error}, below line {line}); mend it, or write the file again") from None
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, struct.error) as error:
        raise InputError(f"{path} cannot be read, its archive is damaged ({error}); fetch it again") from None
    if dropped:
        what = "more or fewer fields than the header" if written.whole else "a missing field"
        _report(path, len(dropped), len(dropped) + len(rows), what, dropped[0])
    if not rows:
        raise InputError(f"{path} holds no complete row below its header; choose another")
    return Table(path, rows, lines)


def _check_source(path: Path | zipfile.Path) -> None:
    """Refuse a device or a pipe, and an archive that would fill the memory."""
    try:
        if isinstance(path, zipfile.Path):
            check_archive(path.root.filename)
        else:
            check_regular(path)
    except ValueError as error:
        raise InputError(f"{path} cannot be read ({error}); give another file") from None


def _encoding(path: Path | zipfile.Path, given: str | None) -> str:
    """That given, or what the first bytes say. Raises InputError where they are of something else than text."""
    with path.open("rb") as file:
        start = file.read(4)
    if kind := next((kind for mark, kind in _NO_TABLE.items() if start.startswith(mark)), None):
        raise InputError(f"{path} is {kind}; save or unpack it as CSV in UTF-8")
    return given or next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), "utf-8-sig")


def _delimiter(file: IO[str], columns: Sequence[str], written: Format) -> str:
    """What stands between the cells of the first line; leaves the file at its start."""
    header = next(filter(str.strip, file), "")
    file.seek(0)
    for delimiter in written.delimiters:
        if set(columns) <= set(map(class_name, next(csv.reader([header], delimiter=delimiter), []))):
            return delimiter
    return max(written.delimiters, key=header.count)


def _numbered_rows(file: IO[str], delimiter: str, quoting: int) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the number of the line at which it ends."""
    if quoting == csv.QUOTE_NONE:
        # Not by csv, for which a carriage return within a text ends the row.
        for number, line in enumerate(file, start=1):
            if line := line.rstrip("\r\n"):
                yield number, line.split(delimiter)
        return
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
    for row in filter(None, reader):
        yield reader.line_num, row


def _places(header: list[str], columns: Sequence[str], options: Sequence[str], path: Path | zipfile.Path) -> list[int]:
    """Where in a row the columns are."""
    if any("\0" in name for name in header):
        raise InputError(f"{path} holds NUL characters, as UTF-16 does; pass --encoding utf-16-le or utf-16-be")
    for number, column in enumerate(columns):
        if column not in header:
            remedy = f"; name one of them with {options[number]}" if options else ""
            raise InputError(f"{path} has no column '{column}', only {', '.join(header) or 'an empty line'}{remedy}")
        if header.count(column) > 1:
            raise InputError(f"{path} has {header.count(column)} columns '{column}'; give each a name of its own")
    return [header.index(column) for column in columns]


def _report(path: Path | zipfile.Path, dropped: int, total: int, what: str, line: int) -> None:
    warn_once(f"{path}: left out {dropped} of {total} rows with {what}, as line {line}")
