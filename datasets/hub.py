"""Data sets of the Hugging Face hub, and folders in its formats: `hf:NAME_OR_FOLDER` as the name of a data set."""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from robust_data.datasets.catalogue import HUB, MissingSplit, Options
from robust_data.datasets.images import ImageFiles
from robust_data.datasets.tokens import Texts
from robust_data.reading import reason
from robust_data.registry import InputError, LazyModule

np = LazyModule("numpy")
ROOT = Path(__file__).resolve().parent.parent
# By what a split is called here: what others call it, the best first.
SPLITS = {"train": ("train",), "test": ("test", "validation", "dev", "valid", "val")}
# What the hub puts in the place of the labels of a split that has none, as GLUE's test has none.
UNLABELLED = -1


@functools.cache
def _hugging_face() -> ModuleType:
    """The package `datasets` of Hugging Face, wherever this project's stands before it on the path."""
    loaded = sys.modules.get("datasets")
    if loaded is None or _is_ours(loaded):
        places = [place for place in sys.path if Path(place).resolve() != ROOT]
        spec = importlib.machinery.PathFinder.find_spec("datasets", places)
        if spec is None or spec.loader is None:
            raise InputError(f"--dataset_name {HUB}...: needs Hugging Face's package; pip install datasets")
        # Ours keep the names by which this package knows them.
        for name in [name for name in sys.modules if name.partition(".")[0] == "datasets"]:
            del sys.modules[name]
        loaded = sys.modules["datasets"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
    return loaded


def _is_ours(package: ModuleType) -> bool:
    return Path(package.__file__ or "").resolve().parent == Path(__file__).resolve().parent


@functools.cache
def _splits(name: str) -> dict[str, Any]:
    """The splits of a data set by their names, images undecoded. Raises InputError for what cannot be opened."""
    package, place = _hugging_face(), name.removeprefix(HUB)
    folder = Path(place).expanduser()
    try:
        if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
            found = package.load_from_disk(str(folder))
        else:
            found = package.load_dataset(str(folder) if folder.exists() else place)
        found = found if isinstance(found, dict) else {"train": found}
        pictures = {column for column, feature in _features(found).items() if _is(feature, "Image")}
        return {
            split: functools.reduce(
                lambda rows, column: rows.cast_column(column, package.Image(decode=False)), pictures, rows
            )
            for split, rows in found.items()
        }
    except Exception as error:  # a folder's files and the hub raise whatever their formats suggest
        remedy = "give a name of the hub, or a folder of Parquet files or of save_to_disk"
        raise InputError(f"--dataset_name {name} cannot be opened ({reason(error)}); {remedy}") from error


def _features(splits: dict[str, Any]) -> dict[str, Any]:
    return dict(next(iter(splits.values())).features)


def _is(feature: Any, kind: str) -> bool:
    """Whether a feature is an Image, ClassLabel or Value of Hugging Face."""
    return type(feature).__name__ == kind


@dataclass(frozen=True)
class HubReader:
    """What reads the data set of a name `hf:...`, as a function registered in the catalogue does."""

    name: str
    tasks = None

    @property
    def modality(self) -> str:
        """ "image" where a column holds images, else "text"."""
        return "image" if self._columns("Image") else "text"

    def __call__(self, split: str, options: Options) -> ImageFiles | Texts:
        split, rows = self._rows(split, options)
        labels, label_names = self._labels(rows, options)
        others = {column: rows[column] for column in options.others.values() if column in rows.features}
        if self.modality == "image":
            paths = [f"{self.name}#{split}#{row}" for row in range(len(rows))]
            return ImageFiles(paths, labels, label_names, others=others)
        first = self._named(options.extra.get("text_column"), "--text_column", self._columns("Value", "string"), "text")
        pair = options.extra.get("text_pair_column")
        columns = [first, self._named(pair, "--text_pair_column", [], "")] if pair else [first]
        return Texts([list(rows[column]) for column in columns], labels, label_names, tuple(columns), others)

    def _columns(self, kind: str, dtype: str | None = None) -> list[str]:
        """The columns of a kind of feature."""
        features = _features(_splits(self.name)).items()
        return [name for name, feature in features if _is(feature, kind) and dtype in (None, feature.dtype)]

    def _rows(self, split: str, options: Options) -> tuple[str, Any]:
        """The rows of a split, and what the data set calls it."""
        splits = _splits(self.name)
        column = self._label_column(options)
        for called in SPLITS[split]:
            if called in splits and not (split == "test" and _unlabelled(splits[called], column)):
                return called, splits[called]
        raise MissingSplit(f"--dataset_name {self.name} has no split '{split}' with labels, only {', '.join(splits)}")

    def _label_column(self, options: Options) -> str:
        return self._named(options.extra.get("label_column"), "--label_column", self._columns("ClassLabel"), "label")

    def _named(self, given: str | None, option: str, likely: Sequence[str], usual: str) -> str:
        """The column that an option names, or else the usual one, or the only likely one."""
        there = _features(_splits(self.name))
        column = given or (usual if usual in there else likely[0] if len(likely) == 1 else None)
        if column not in there:
            raise InputError(f"--dataset_name {self.name}: name one of its columns with {option}: {', '.join(there)}")
        return column

    def _labels(self, rows: Any, options: Options) -> tuple[Any, list[str]]:
        """The labels and their names: of a ClassLabel its own, else those of the training split in their order."""
        column = self._label_column(options)
        if _is(rows.features[column], "ClassLabel"):
            return np.array(rows[column]), list(rows.features[column].names)
        written = sorted(set(_splits(self.name).get("train", rows)[column]))
        number = {label: place for place, label in enumerate(written)}
        if unknown := next((label for label in rows[column] if label not in number), None):
            raise InputError(f"--dataset_name {self.name}: label '{unknown}' is not in its split train")
        return np.array([number[label] for label in rows[column]]), [str(label) for label in written]


def _unlabelled(rows: Any, column: str) -> bool:
    return len(rows) > 0 and set(rows[column]) == {UNLABELLED}


def image_bytes(source: str) -> bytes:
    """What an image file of a source `hf:<name>#<split>#<row>` holds."""
    name, split, row = source.rsplit("#", 2)
    rows = _splits(name)[split]
    image = rows[int(row)][next(column for column, feature in rows.features.items() if _is(feature, "Image"))]
    return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
