"""The catalogue of data sets: how one is registered, found, checked and reduced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from robust_data.datasets.balance import balanced_subset, training_and_held_out
from robust_data.datasets.base import Dataset
from robust_data.registry import InputError, LazyModule, Registry

np = LazyModule("numpy")

# What the name of a data set of Hugging Face's begins with; see `datasets.hub`.
HUB = "hf:"
# Of images that differ in size, unless the caller or the user says otherwise.
DEFAULT_SIZE = (224, 224)
# "val" is what --val_len holds out of the training split.
SPLITS = ("train", "val", "test")
Turn = Callable[[], AbstractContextManager]


class MissingSplit(InputError):
    """The data set has no such split; a script may go on without it."""


@dataclass(frozen=True)
class Options:
    """What a user may ask of any data set; `extra` holds what only some take.

    in_turn: makes the context in which the files of the data set are fetched and unpacked. default_size: (H, W) of
    images that differ in size, without `image_size`. cache: see `datasets.cache`.
    """

    data_dir: Path | None = None
    download: bool = False
    image_size: tuple[int, int] | None = None
    dataset_len: int | None = None
    val_len: int | None = None
    seed: int = 0
    num_workers: int = 0
    skip_corrupt: bool = False
    in_turn: Turn = nullcontext
    default_size: tuple[int, int] = DEFAULT_SIZE
    cache: Path | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.image_size is not None and min(self.image_size) < 1:
            raise InputError(f"--image_size {min(self.image_size)} is not positive; give a number of pixels")
        for argument in ("seed", "num_workers"):
            if getattr(self, argument) < 0:
                raise InputError(f"--{argument} {getattr(self, argument)} is negative; give 0 or more")

    @property
    def others(self) -> dict[str, str]:
        """By their options the further columns that are asked for."""
        asked = {option: self.extra.get(option) for option in ("group_column", "id_column")}
        return {option: column for option, column in asked.items() if column is not None}

    def required_path(self, layout: str) -> Path:
        """`data_dir`, which must exist; `layout` says what it should hold. Raises InputError."""
        if self.data_dir is None:
            raise InputError(f"--data_dir is missing; give {layout}")
        if not self.data_dir.exists():
            raise InputError(f"--data_dir {self.data_dir} does not exist; give {layout}")
        return self.data_dir


class Source(Protocol):
    """What a data set's function returns: the whole split, labelled but not yet decoded.

    labels: integers [N], each a position in `label_names`. others: the values, [N], of the further columns asked
    for, as far as it has them. `build` makes the data set of the rows kept (int64 array, ascending), and reads
    nothing of the other rows.
    """

    labels: Any
    label_names: list[str]
    others: Mapping[str, Any]

    def build(self, name: str, split: str, rows: Any, options: Options) -> Dataset: ...


Reader = Callable[[str, Options], Source]


class _Datasets(Registry):
    """The data sets by name; any name that begins with `hf:` is one of Hugging Face's."""

    def canonical(self, name: str) -> str:
        return name if name.startswith(HUB) else super().canonical(name)

    def __getitem__(self, name: str) -> Any:
        if name.startswith(HUB):
            from robust_data.datasets import hub

            return hub.HubReader(name)
        return super().__getitem__(name)


DATASETS: Registry = _Datasets("dataset")


def dataset(name: str, modality: str = "image", tasks: Mapping[str, Any] | None = None) -> Callable[[Reader], Reader]:
    """Register a function `(split, options) -> source` under a name.

    tasks: by name those that `task_name` chooses from, for a data set of several.

    split is "train" or "test"; the source is one of `datasets.images.ImageArrays` and `ImageFiles`, for
    the modality "text" a `datasets.tokens.Texts`, or anything else that is a `Source`. It raises InputError
    for what cannot be used, and MissingSplit where there is no such split.
    """

    def register(read: Reader) -> Reader:
        read.modality, read.tasks = modality, tasks
        DATASETS.add(name, read)
        return read

    return register


def names() -> list[str]:
    """The names of all data sets."""
    return list(DATASETS)


def short_name(name: str) -> str:
    """A data set's name for titles and files; of one of Hugging Face's the last part."""
    return f"hf-{Path(name).name}" if name.startswith(HUB) else name


def modality(name: str) -> str:
    """What a data set holds, "image" or "text", without loading it. Raises InputError for an unknown name."""
    return DATASETS[name].modality


def check_task(name: str, task_name: str | None) -> None:
    """Raise InputError for a task of a data set that has none, or none of this name, and for one that is missing."""
    tasks = DATASETS[name].tasks
    if tasks is None and task_name is not None:
        raise InputError(f"--task_name {task_name}: --dataset_name {name} has no tasks; leave the option out")
    if tasks is not None and task_name is None:
        raise InputError(f"--task_name is missing; for {name} give one of {', '.join(tasks)}")
    if tasks is not None:
        tasks[task_name]


def load(
    name: str,
    split: str = "train",
    *,
    data_dir: str | Path | None = None,
    download: bool | int = False,
    image_size: int | tuple[int, int] | None = None,
    dataset_len: int | None = None,
    val_len: int | None = None,
    seed: int = 0,
    num_workers: int = 0,
    skip_corrupt: bool | int = False,
    in_turn: Turn = nullcontext,
    default_size: int | tuple[int, int] | None = None,
    cache: str | Path | None = None,
    **options: Any,
) -> Dataset:
    """Load one split of a data set.

    split: "train", "test" or "val". data_dir: folder or file that holds the data. download: fetch it first if
    it is not there. image_size: side in pixels, or (height, width), to which images are resized and
    centre-cropped; by default their own. dataset_len: keep that many training instances, the same number
    of each class, drawn with `seed`; ignored for the other splits. val_len: hold that many instances of the
    training split out of it, drawn likewise; they are the split "val", and keep their index. num_workers: processes
    that decode image files. skip_corrupt: leave out images that cannot be decoded. in_turn: makes a context within
    which files are fetched and unpacked, for several processes to go through one after the other. default_size: as
    image_size, for images that differ in size where that is not given; by default 224. cache: folder that keeps decoded
    images, and tokens, for other processes and later runs. Further options are for the data sets that know them: of
    texts `tokenizer` (the name or folder of a model, or a tokenizer of transformers; without one the texts are there,
    but no batches), `max_seq_length` (tokens, by default 128), `task_name`, and for files of one's own `text_column`,
    `text_pair_column`, `label_column`, `encoding`,
    `group_column` and `id_column`, which the data set has as `others`.
    Raises InputError for anything that cannot be used, MissingSplit where there is no such split.
    """
    checked = Options(
        *(Path(data_dir).expanduser() if data_dir is not None else None, bool(download), _size(image_size)),
        *(dataset_len, val_len, seed, num_workers, bool(skip_corrupt), in_turn),
        *(_size(default_size) or DEFAULT_SIZE, Path(cache).expanduser() if cache is not None else None, options),
    )
    name = DATASETS.canonical(name)
    if split not in SPLITS:
        raise InputError(f"split '{split}' is not one of {', '.join(SPLITS)}")
    if split == "val" and val_len is None:
        raise InputError("split 'val' is held out of the training split; give --val_len")
    if DATASETS[name].tasks is not None:
        check_task(name, options.get("task_name"))
    try:
        source = DATASETS[name]("train" if split == "val" else split, checked)
        labels = _checked_labels(source, _where(name, checked))
        dataset = source.build(name, split, _rows(labels, split, checked), checked)
        dataset.group_column = options.get("group_column")
        dataset.others = _others(source, dataset.index.tolist(), checked, _where(name, checked))
        return dataset
    except OSError as error:
        raise InputError(f"{_where(name, checked)} cannot be read: {error}") from error


def _size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """(H, W) of what may be the side of a square."""
    return (size, size) if isinstance(size, int) else None if size is None else tuple(size)


def _where(name: str, options: Options) -> str:
    return f"dataset '{name}'" if options.data_dir is None else f"--data_dir {options.data_dir}"


def _checked_labels(source: Source, where: str) -> Any:
    """The labels as int64 [N]; raises InputError unless each of them is a position in the label names."""
    labels, classes = np.asarray(source.labels), len(source.label_names)
    if len(labels) == 0:
        raise InputError(f"{where} holds no instances; choose another")
    if labels.dtype.kind not in "iu":
        raise InputError(f"{where}: labels are {labels.dtype}; give integers")
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        raise InputError(f"{where}: label {outside[0]} is out of range; number the {classes} classes from 0")
    if classes < 2:
        raise InputError(f"{where} has one class, '{source.label_names[0]}'; a classifier needs two or more")
    return labels.astype(np.int64)


def _others(source: Source, rows: list[int], options: Options, where: str) -> dict[str, list[str]]:
    """By the name of each further column asked for its values in these rows. Raises InputError for one not there."""
    for option, column in options.others.items():
        if column not in source.others:
            raise InputError(f"--{option} {column}: {where} has no such column; name one that it has")
        if len(source.others[column]) != len(source.labels):
            held = f"{len(source.others[column])} values for {len(source.labels)} instances"
            raise InputError(f"--{option} {column}: {where} has {held}; give one each")
    named = set(options.others.values())
    return {column: [str(source.others[column][row]) for row in rows] for column in sorted(named)}


def _rows(labels: Any, split: str, options: Options) -> Any:
    rows = np.arange(len(labels))
    if split == "test":
        return rows
    if options.val_len is not None:
        rows, held_out = training_and_held_out(labels, options.val_len, options.seed)
        if split == "val":
            return held_out
    if options.dataset_len is None:
        return rows
    return rows[balanced_subset(labels[rows], options.dataset_len, options.seed)]
