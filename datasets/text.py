"""The text data sets: each one function that says where texts and labels are; tokenising is done elsewhere."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from robust_data.datasets.base import class_name, is_left_behind, warn_of_look_alikes
from robust_data.datasets.catalogue import MissingSplit, Options, dataset
from robust_data.datasets.download import OfficialFile, data_folder, official, official_file
from robust_data.datasets.tables import Format, Table, read_table
from robust_data.datasets.tokens import Texts
from robust_data.registry import InputError, Registry, warn_once

_GLUE = "https://dl.fbaipublicfiles.com/glue/data"
_AG_NEWS = "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv"

_AG_NEWS_HEADER = ("class", "title", "description")

_TSV = Format("\t", csv.QUOTE_NONE)
# A code such as 007 is none.
_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)", re.ASCII)
# What stands in a table where a label is not known; "-" in SNLI, where the annotators do not agree.
UNLABELLED = ("", "nan", "n/a", "<na>", "-")


@dataclass(frozen=True)
class GlueTask:
    """One task of GLUE: its archive, folder, columns, and the names of its labels, in the order of their numbers.

    written: how the labels stand in the file, where that is not by their names. test: the file to evaluate
    on; the official test files have no labels.
    """

    archive: OfficialFile
    folder: str
    text_columns: tuple[str, ...]
    label_column: str
    label_names: tuple[str, ...]
    written: tuple[str, ...] | None = None
    test: str = "dev.tsv"


TASKS: Registry = Registry("task of glue")
_DIGESTS = {
    "SST-2": ("md5", "9f81648d4199384278b86e315dac217c"),
    "QNLIv2": ("md5", "b4efd6554440de1712e9b54e14760e82"),
    "QQP-clean": ("sha256", "40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0"),
    "MNLI": ("sha256", "e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633"),
}
_ZIPS = {name: OfficialFile(f"{_GLUE}/{name}.zip", *digest) for name, digest in _DIGESTS.items()}
_SENTIMENTS, _ENTAILED = ("negative", "positive"), ("entailment", "not_entailment")
_SAME, _INFERENCES = ("not_duplicate", "duplicate"), ("entailment", "neutral", "contradiction")
_QUESTIONS, _SENTENCES = ("question1", "question2"), ("sentence1", "sentence2")
TASKS.add(
    "sst2",
    GlueTask(_ZIPS["SST-2"], "SST-2", ("sentence",), "label", _SENTIMENTS, ("0", "1")),
    aliases=("sst-2", "SST-2"),
)
TASKS.add("qnli", GlueTask(_ZIPS["QNLIv2"], "QNLI", ("question", "sentence"), "label", _ENTAILED))
TASKS.add("qqp", GlueTask(_ZIPS["QQP-clean"], "QQP", _QUESTIONS, "is_duplicate", _SAME, ("0", "1")))
TASKS.add("mnli", GlueTask(_ZIPS["MNLI"], "MNLI", _SENTENCES, "gold_label", _INFERENCES, test="dev_matched.tsv"))


def published_split(dataset_name: str, split: str, task_name: str | None) -> str:
    """What the publishers call a split: of GLUE the test texts have no labels, so that those of dev are judged."""
    if dataset_name != "glue" or split != "test" or task_name not in TASKS:
        return split
    return Path(TASKS[task_name].test).stem


@dataset("glue", modality="text", tasks=TASKS)
def glue(split: str, options: Options) -> Texts:
    """Four tasks of GLUE (Wang et al. 2019): sst2, qnli, qqp and mnli; judged on dev, of mnli the matched one."""
    task: GlueTask = TASKS[options.extra["task_name"]]
    file = "train.tsv" if split == "train" else task.test
    root = official(task.folder, file, task.archive, options)
    table = read_table(root.joinpath(file), [*task.text_columns, task.label_column], written=_TSV)
    if len(task.text_columns) == 2:
        # Some questions of the published pairs are empty.
        table = table.without(empty_rows(table, 2))
    labels = positions(table, 2 if len(task.text_columns) == 2 else 1, task.written or task.label_names)
    return Texts(text_columns(table, len(task.text_columns)), labels, list(task.label_names), task.text_columns)


@dataset("ag_news", modality="text")
def ag_news(split: str, options: Options) -> Texts:
    """AG News: 120,000 and 7,600 news items, title and description, in four classes (Zhang et al. 2015)."""
    digests = {"train": "b1a00f826fdfbd249f79597b59e1dc12", "test": "d52ea96a97a2d943681189a97654912d"}
    file = OfficialFile(f"{_AG_NEWS}/{split}.csv", "md5", digests[split])
    folder = data_folder(options, "ag_news_csv")
    here = (folder / file.name).exists()
    path = official_file(folder if here else folder / "ag_news_csv", file, options)
    table = read_table(path, _AG_NEWS_HEADER, written=Format(",", csv.QUOTE_MINIMAL, header=_AG_NEWS_HEADER))
    texts = [f"{title} {description}" for _, title, description in table.rows]
    if empty := [line for line, text in zip(table.lines, texts) if not text.strip()]:
        raise InputError(f"{path} line {empty[0]}: the text is empty; fetch it again")
    return Texts([texts], positions(table, 0, ("1", "2", "3", "4")), ["World", "Sports", "Business", "Sci/Tech"])


@dataset("imdb", modality="text")
def imdb(split: str, options: Options) -> Texts:
    """IMDB: 25,000 and 25,000 film reviews, negative or positive (Maas et al. 2011)."""
    archive = OfficialFile(
        "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz", "md5", "7c2ac02c03563afcf9b574c7e56c153a"
    )
    root = official("aclImdb", os.path.join(split, "pos"), archive, options)
    texts, labels = [], []
    for label, name in enumerate(("neg", "pos")):
        files = sorted(path for path in (root / split / name).glob("*.txt") if not is_left_behind(path.name))
        found = [_read(path) for path in files]
        if not found:
            raise InputError(f"{root / split / name} holds no *.txt; unpack {archive.name} again")
        texts += found
        labels += [label] * len(found)
    return Texts([texts], labels, ["negative", "positive"])


@dataset("csv", modality="text")
def comma_separated(split: str, options: Options) -> Texts:
    """One's own FILE.csv, or a folder with train.csv and test.csv; the first line names the columns.

    Semicolons, tabs or bars may stand in the place of commas.
    """
    return _own_file(split, options, "csv", Format(",;\t|", csv.QUOTE_MINIMAL))


@dataset("tsv", modality="text")
def tab_separated(split: str, options: Options) -> Texts:
    """One's own FILE.tsv, or a folder with train.tsv and test.tsv; as csv, but quotation marks mean nothing."""
    texts = _own_file(split, options, "tsv", _TSV)
    quoted = sum(text[:1] == text[-1:] == '"' for text in texts.columns[0])
    if 2 * quoted > len(texts.columns[0]):
        warn_once(f"--dataset_name tsv: {quoted} texts stand in quotation marks, which are kept; csv takes them off")
    return texts


def _own_file(split: str, options: Options, suffix: str, written: Format) -> Texts:
    """The distinct labels of the training file are the classes, numbers in the order of numbers."""
    folder = f"a folder that holds train.{suffix} and, if you like, test.{suffix}"
    root = options.required_path(f"a file .{suffix}, or {folder}")
    given = {"--text_column": "text", "--text_pair_column": None, "--label_column": "label"}
    named = {option: options.extra.get(option[2:]) or default for option, default in given.items()}
    named = {option: column for option, column in named.items() if column is not None}
    texts = len(named) - 1
    if len(set(named.values())) < len(named):
        raise InputError(f"{' '.join(named)}: column '{named['--text_column']}' is named twice; name different ones")

    train, wanted = root, root
    if root.is_dir():
        train, wanted = root / f"train.{suffix}", root / f"{split}.{suffix}"
    if split == "test" and (train == wanted or not wanted.exists()):
        raise MissingSplit(f"--data_dir {root} holds no test.{suffix}; put one beside train.{suffix}, in a folder")
    others = {f"--{option}": column for option, column in options.others.items() if column not in named.values()}
    # The label stays the last.
    named = {**dict(list(named.items())[:-1]), **others, "--label_column": named["--label_column"]}
    written = replace(written, encoding=options.extra.get("encoding"), whole=True)

    def read(path: Path) -> Table:
        table = _labelled(read_table(path, list(named.values()), list(named), written=written), named["--label_column"])
        return Table(table.path, [[*cells, _class(label)] for *cells, label in table.rows], table.lines)

    table = read(train)
    names = set(table.column(-1))
    label_names = sorted(names, key=Decimal if all(map(_NUMBER.fullmatch, names)) else None)
    warn_of_look_alikes(label_names, f"{train}, column '{named['--label_column']}'")
    if wanted != train:
        table = read(wanted)
    columns = {name: table.column(place) for place, name in enumerate(named.values())}
    return Texts(
        text_columns(table, texts), positions(table, -1, label_names), label_names, tuple(columns)[:texts], columns
    )


def _labelled(table: Table, name: str) -> Table:
    """The rows that have a label; most should."""
    missing = [row for row, label in enumerate(table.column(-1)) if label.strip().lower() in UNLABELLED]
    if 2 * len(missing) > len(table.rows):
        raise InputError(
            f"{table.path}: {len(missing)} of {len(table.rows)} rows have no label in column '{name}', as line "
            f"{table.lines[missing[0]]}; fill them in, or name another column with --label_column"
        )
    return table.without(missing, "no label")


def _class(label: str) -> str:
    """The name of the class of a label; a number has one however it is written, 1 for 1.0."""
    name = class_name(label)
    if not _NUMBER.fullmatch(name):
        return name
    text = f"{Decimal(name):f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def positions(table: Table, column: int, written: Sequence[str]) -> list[int]:
    """The labels of a column as positions in `written`. Raises InputError for one that is not there."""
    places = {label: place for place, label in enumerate(written)}
    found = [places.get(row[column].strip()) for row in table.rows]
    if None in found:
        row = found.index(None)
        shown = ", ".join(written[:10]) + (", ..." if len(written) > 10 else "")
        label = table.rows[row][column].strip()
        raise InputError(f"{table.path} line {table.lines[row]}: label '{label}' is none of the classes: {shown}")
    return found


def text_columns(table: Table, count: int) -> list[list[str]]:
    """The first columns, as texts. Raises InputError for an empty one."""
    if empty := empty_rows(table, count):
        raise InputError(f"{table.path} line {table.lines[empty[0]]}: the text is empty; fill it in or remove the row")
    return [table.column(number) for number in range(count)]


def empty_rows(table: Table, count: int) -> list[int]:
    """The rows with nothing but blanks in one of the first `count` columns."""
    return [number for number, row in enumerate(table.rows) if not all(text.strip() for text in row[:count])]


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text in UTF-8 ({error}); unpack the archive again") from None
    if not text.strip():
        raise InputError(f"{path} is empty; unpack the archive again")
    return text
