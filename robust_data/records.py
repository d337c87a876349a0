"""The statistics file: one row per checkpoint and instance, a JSON of its circumstances beside it."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robust_data import files
from robust_data.datasets.base import Dataset
from robust_data.reading import check_kinds, open_array, read_json, readable, reason
from robust_data.registry import InputError, printable

# The two losses are against the golden label or, with --use_cur_preds 1, the model's own clean prediction; the JSON
# says which (`loss_against`). Logits, probabilities, margins and el2n are always of the golden label.
DTYPE = np.dtype(
    [
        ("global_step", "i8"),
        ("index", "i8"),
        ("golden_label", "i4"),
        ("original_loss", "f4"),
        ("original_pred", "?"),
        ("original_class", "i4"),
        ("original_logit", "f4"),
        ("original_probability", "f4"),
        ("after_perturb_loss", "f4"),
        ("after_perturb_pred", "?"),
        ("after_perturb_class", "i4"),
        ("after_perturb_logit", "f4"),
        ("after_perturb_probability", "f4"),
        ("original_margin", "f4"),
        ("after_perturb_margin", "f4"),
        ("original_el2n", "f4"),
        ("delta_norm", "f4"),
    ]
)

# What a file has beside these on request, at the end. A file without it is as good as ever.
INPUT_GRADIENT = "original_input_gradient"
DTYPE_WITH_INPUT_GRADIENT = np.dtype([*DTYPE.descr, (INPUT_GRADIENT, "f4")])

# Classes are numbered from 0, and named: of more the names alone would fill the memory.
LARGEST_LABEL = 10**6
# What the JSON beside a file holds, as far as it is used again; each may be missing or null.
KINDS = {
    **dict.fromkeys(("perturbation", "dataset_name", "split", "labels_sha256", "stopped"), str),
    **dict.fromkeys(("instances", "severity", "trained_on", "own_data"), int),
    **{"arguments": dict, "label_names": list, "checkpoints": (list, dict), "image_size": (list, int)},
    "index": (list, int),  # beside a file in the older form
}
KINDS_OF_ARGUMENTS = {
    **dict.fromkeys(("dataset_name", "data_dir", "task_name", "model_name", "adv_norm_type", "encoding"), str),
    **dict.fromkeys(("text_column", "text_pair_column", "label_column", "held_out", "adv_loss"), str),
    **dict.fromkeys(("download", "image_size", "dataset_len", "val_len", "num_workers", "skip_corrupt"), int),
    **dict.fromkeys(("max_seq_length", "seed", "adv_steps", "resample_perturbation", "attack_special_tokens"), int),
    **dict.fromkeys(("pretrained", "keep_stem", "reinit_classifier", "freeze_encoder"), int),
    **dict.fromkeys(("adv_lr", "adv_init_mag", "adv_max_norm", "adv_temperature"), float),
}
DERIVED = ("loss_diff", "logit_diff", "probability_diff", "normed_loss_diff")


def load(path: str | os.PathLike) -> tuple[np.ndarray, dict[str, Any]]:
    """Open a statistics file as a read-only memory map.

    Returns the records, a structured array (T, N) of `DTYPE` or `DTYPE_WITH_INPUT_GRADIENT`, and the metadata of the
    JSON beside it (empty where there is none). Raises InputError if the file is missing, truncated, holds pickle, or
    is no statistics file.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob("robust_statistics_*.npy"))
        remedy = f"give a file in it, such as {found[0]}" if found else "it holds no robust_statistics_*.npy"
        raise InputError(f"statistics file {path} is a folder; {remedy}")
    if not os.path.lexists(path):
        raise InputError(f"statistics file {path} does not exist; make it with data_statistics.py")
    try:
        records = open_array(path)
    except Exception as error:  # a damaged file raises almost anything
        raise InputError(f"statistics file {path} cannot be read: {_reason(error)}") from None
    if records.ndim != 2 or records.dtype.names is None:
        raise InputError(f"{path} is no statistics file: it holds no table of checkpoints x instances")
    missing = [field for field in DTYPE.names if field not in records.dtype.names]
    wrong = [field for field in DTYPE.names if field in records.dtype.names and records[field].dtype != DTYPE[field]]
    if wrong:
        raise InputError(f"{path} is no statistics file: its {wrong[0]} is {records[wrong[0]].dtype}")
    if missing:
        raise InputError(f"{path} is no statistics file: the fields {', '.join(missing)} are missing")
    if not records.size:
        raise InputError(
            f"statistics file {path} is empty: {records.shape[0]} checkpoints, {records.shape[1]} instances"
        )
    check_table(records, path)
    metadata = load_metadata(path)
    check_metadata(records, metadata, path)
    return records, metadata


def check_table(records: np.ndarray, path: Path) -> None:
    """Refuse records (T, N) that are not checkpoints x instances, both ascending, of classes that there may be."""
    _check_columns(records, path)
    _check_labels(records, path)


def _check_columns(records: np.ndarray, path: Path) -> None:
    """Refuse a table whose columns are not one instance each and whose rows one checkpoint each, both ascending."""
    index = records["index"][0]
    if (index[1:] <= index[:-1]).any():
        raise InputError(f"{path} is no statistics file: its instances do not lie in ascending order of their index")
    for field in ("index", "golden_label"):
        if any(not np.array_equal(row[field], records[0][field]) for row in records[1:]):
            raise InputError(f"{path} is no statistics file: {field} is not the same at every checkpoint")
    steps = records["global_step"][:, 0]
    if (steps[1:] <= steps[:-1]).any() or (records["global_step"] != steps[:, None]).any():
        raise InputError(f"{path} is no statistics file: the global steps of its checkpoints do not ascend")


def _check_labels(records: np.ndarray, path: Path) -> None:
    """Refuse labels and predictions that number no classes; a class that is not known is -1."""
    for field in ("golden_label", "original_class", "after_perturb_class"):
        low, high = records[field][-1].min(), records[field][-1].max()
        if low < -1 or high > LARGEST_LABEL:
            raise InputError(f"{path} is no statistics file: {field} is {low if low < -1 else high}, and no class")


def check_metadata(records: np.ndarray, metadata: Mapping[str, Any], path: Path) -> None:
    """Refuse a JSON that describes another file than the one it lies beside."""
    for key, value in identity(records).items():
        if metadata.get(key, value) != value:
            raise InputError(
                f"{path} does not belong to the JSON beside it: {key} is {value} in the one, "
                f"{metadata[key]} in the other"
            )


def _reason(error: Exception) -> str:
    """What a failed np.load means, in the user's words."""
    if "pickle" in str(error).lower() or "Python objects" in str(error):
        return "it holds pickled objects; convert it with scripts/convert_statistics.py"
    if "mmap length" in str(error) or "truncated" in str(error).lower() or isinstance(error, EOFError):
        return "it is truncated; collect it again"
    return f"{reason(error)}; collect it again, or give another"


def load_metadata(path: Path) -> dict[str, Any]:
    """The JSON beside a statistics file, {} without one. Raises InputError if it cannot be read."""
    metadata_path = path.with_suffix(".json")
    try:
        metadata = read_json(metadata_path, str(metadata_path), "restore or remove it")
    except FileNotFoundError:
        return {}
    absent = ("arguments", "label_names")
    metadata = {name: value for name, value in metadata.items() if value is not None or name not in absent}
    with readable(str(metadata_path), "restore or remove it"):
        check_kinds(metadata, KINDS)
        check_kinds(metadata.get("arguments", {}), KINDS_OF_ARGUMENTS)
        for checkpoint in metadata.get("checkpoints") or ():
            check_kinds(checkpoint, KINDS)
    if metadata.get("label_names"):
        metadata["label_names"] = [printable(str(name)) for name in metadata["label_names"]]
    return metadata


def column(records: np.ndarray, name: str) -> np.ndarray:
    """One field as float64 [T, N] (bool and integer fields keep their type), or one of the derived ones.

    The derived are loss_diff, logit_diff and probability_diff (after minus before) and
    normed_loss_diff = loss_diff / delta_norm, which is 0 where the perturbation or the loss did not change, and NaN
    where the size of the perturbation is not known.
    """
    if name == "normed_loss_diff":
        norm, diff = column(records, "delta_norm"), column(records, "loss_diff")
        unknown = np.isnan(norm) & (diff != 0)
        return np.divide(diff, norm, out=np.where(unknown, np.nan, 0.0), where=norm > 0)
    if name in DERIVED:
        quantity = name.removesuffix("_diff")
        return column(records, f"after_perturb_{quantity}") - column(records, f"original_{quantity}")
    values = records[name]
    return values.astype(np.float64) if values.dtype.kind == "f" else np.asarray(values)


def is_clean_only(records: np.ndarray) -> bool:
    """Whether nothing in records (T, N) was measured on perturbed inputs: no predicted class, and no loss."""
    return all(
        bool((row["after_perturb_class"] == -1).all() and np.isnan(row["after_perturb_loss"]).all()) for row in records
    )


def labels_hash(labels: np.ndarray) -> str:
    """SHA-256 of the golden labels as little-endian int64, by which a file knows its dataset."""
    return hashlib.sha256(np.ascontiguousarray(labels, dtype="<i8").tobytes()).hexdigest()


def identity(records: np.ndarray) -> dict[str, Any]:
    """What tells the instances of records (T, N) from others, as the JSON beside them has it."""
    return {"instances": records.shape[1], "labels_sha256": labels_hash(records["golden_label"][0])}


def check_dataset(records: np.ndarray, metadata: Mapping[str, Any], dataset: Dataset, path: str | os.PathLike) -> None:
    """Refuse a statistics file that was collected on other instances than `dataset`'s.

    dataset: an object with `name`, `index` int64 [N] and `labels` int64 [N]; the file may cover a part
    of it. Raises InputError with both values.
    """
    collected_on = metadata.get("dataset_name", dataset.name)
    # A Recorder does not know by which name its user's data can be loaded.
    same = metadata.get("own_data") and metadata.get("labels_sha256") == labels_hash(np.asarray(dataset.labels))
    if collected_on != dataset.name and not same:
        raise InputError(f"{path} was collected on dataset '{collected_on}', not on '{dataset.name}'")
    index, labels = np.asarray(dataset.index), np.asarray(dataset.labels)
    rows = np.searchsorted(index, records["index"][0])
    found = rows < len(index)
    found[found] &= index[rows[found]] == records["index"][0][found]
    if not found.all():
        raise InputError(
            f"{path} holds {len(found)} instances, {np.count_nonzero(~found)} of them with an index that is not "
            f"among the {len(index)} instances of '{dataset.name}'"
        )
    differing = np.count_nonzero(labels[rows] != records["golden_label"][0])
    if differing:
        raise InputError(f"{path} belongs to another dataset than this '{dataset.name}': {differing} labels differ")


def dtype_of(records: np.ndarray) -> np.dtype:
    """The fields of a statistics file that these records have."""
    return DTYPE_WITH_INPUT_GRADIENT if INPUT_GRADIENT in records.dtype.names else DTYPE


def save(path: str | os.PathLike, records: np.ndarray, metadata: Mapping[str, Any]) -> None:
    """Write a whole statistics file and its JSON, each atomically, the JSON first.

    records: structured array (T, N) of `DTYPE` or `DTYPE_WITH_INPUT_GRADIENT`; metadata: whatever the JSON is to hold.
    """
    path = Path(path)
    files.write_json(path.with_suffix(".json"), metadata)
    with files.atomic_write(path) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(records, dtype=dtype_of(records)), allow_pickle=False)


class RecordFile:
    """A statistics file that grows by one checkpoint at a time and takes its name when it is complete.

    Until then its rows lie in `<path>.partial`, a memory map, so that no more than one checkpoint is
    ever held in memory. rows: how many checkpoints a run to be continued has there already. dtype: the
    fields. Raises InputError if the disk has no room for the whole, or the rows to continue are not there.
    """

    def __init__(
        self, path: str | os.PathLike, checkpoints: int, instances: int, rows: int = 0, dtype: np.dtype = DTYPE
    ):
        self.path = Path(path)
        self.dtype = dtype
        self.partial = _partial(self.path)
        self.rows = rows
        self._records = None
        if rows == 0:
            self._create((checkpoints, instances))
        elif self.partial.exists() or not self.path.exists():
            self._reopen((checkpoints, instances))
        # Otherwise the run was killed between this file's finishing and its own.

    def _create(self, shape: tuple[int, int]) -> None:
        try:
            self._records = np.lib.format.open_memmap(self.partial, mode="w+", dtype=self.dtype, shape=shape)
            self._reserve()
        except OSError as error:
            with contextlib.suppress(OSError):
                self.discard()
            raise InputError(f"{self.partial} cannot be written: {os.strerror(error.errno or errno.EIO)}") from None

    def _reopen(self, shape: tuple[int, int]) -> None:
        _check_partial(self.partial, self.rows)
        try:
            self._records = np.lib.format.open_memmap(self.partial, mode="r+")
        except OSError as error:
            raise InputError(f"{self.partial} cannot be continued ({error}); use --overwrite 1 to start anew") from None
        if (self._records.shape, self._records.dtype) != (shape, self.dtype):
            raise InputError(f"{self.partial} holds another table than this run's; use --overwrite 1 to start anew")

    def _reserve(self) -> None:
        """Claim the disk space now: a memory map that outgrows the disk dies of SIGBUS, not of an exception."""
        if not hasattr(os, "posix_fallocate"):  # macOS has none
            return
        with open(self.partial, "r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
            except OSError as error:
                if error.errno not in files.UNSUPPORTED:
                    raise

    def append(self, records: np.ndarray) -> None:
        """Add one checkpoint, a structured array (N,), and sync it to the disk."""
        self._records[self.rows] = records
        self._records.flush()
        self.rows += 1

    def finish(self, describe: Callable[[np.ndarray], Mapping[str, Any]]) -> None:
        """Give the file its name, cut to the checkpoints that it has, and write beside it what `describe` says of them.

        Without a single checkpoint nothing is left.
        """
        if self._records is None:
            return
        if not self.rows:
            self.discard()
            return
        metadata = describe(self._records[: self.rows])
        if self.rows < len(self._records):
            save(self.path, self._records[: self.rows], metadata)
            self.discard()
            return
        files.write_json(self.path.with_suffix(".json"), metadata)
        files.sync(self.partial)
        os.replace(self.partial, self.path)
        files.sync(self.path.parent)

    def discard(self) -> None:
        """Leave nothing of an unfinished file."""
        self.partial.unlink(missing_ok=True)


def can_continue(paths: Iterable[Path], rows: int) -> bool:
    """Whether what a run of `rows` checkpoints left of each of its files is there still."""
    for path in paths if rows else ():
        if _partial(path).exists() or not path.exists():
            try:
                _check_partial(_partial(path), rows)
            except InputError:
                return False
    return True


def _check_partial(partial: Path, rows: int) -> None:
    """Refuse an unfinished file that is cut short, or has not all its first `rows` checkpoints."""
    try:
        # Read-only: opened for writing, a file that was cut short would be filled up with zeros.
        table = np.lib.format.open_memmap(partial, mode="r")
        if table.dtype not in (DTYPE, DTYPE_WITH_INPUT_GRADIENT) or table.ndim != 2 or len(table) < rows:
            raise ValueError("it holds another table")
        _check_columns(table[:rows], partial)
    except Exception as error:  # a damaged file raises almost anything
        raise InputError(f"{partial} cannot be continued ({reason(error)}); use --overwrite 1 to start anew") from None


def _partial(path: Path) -> Path:
    """Where the rows of a statistics file lie until it is complete."""
    return path.with_name(path.name + ".partial")


class RecordFiles(contextlib.AbstractContextManager):
    """The statistics files of one run, which fill and finish together.

    paths: by any key, such as the perturbation; none on the processes that do not write. instances: how many each file
    has, or by the same keys. rows, dtype: see `RecordFile`. An exception inside the `with` block leaves the checkpoints
    recorded so far, to be continued, and no file without any.
    """

    def __init__(
        self,
        paths: Mapping[Hashable, Path],
        checkpoints: int,
        instances: int | Mapping[Hashable, int],
        rows: int = 0,
        dtype: np.dtype = DTYPE,
    ):
        self._files: dict[Hashable, RecordFile] = {}
        self.rows = rows
        try:
            for name, path in paths.items():
                count = instances[name] if isinstance(instances, Mapping) else instances
                self._files[name] = RecordFile(path, checkpoints, count, rows, dtype)
        except InputError:
            # Of files that were begun just now nothing is lost.
            for file in self._files.values() if rows == 0 else ():
                file.discard()
            raise

    def append(self, collected: Iterable[tuple[Hashable, np.ndarray]]) -> None:
        """Add one checkpoint to every file: the key of each, and its records (N,)."""
        for name, rows in collected:
            self._files[name].append(rows)
        self.rows += 1

    def finish(self, describe: Callable[[Any, np.ndarray], Mapping[str, Any]]) -> None:
        """Finish every file; `describe(key, records)` gives its metadata."""
        for name, file in self._files.items():
            file.finish(functools.partial(describe, name))

    def __exit__(self, *exception) -> None:
        if self.rows == 0:
            for file in self._files.values():
                file.discard()
