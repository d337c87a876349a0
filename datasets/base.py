"""What every data set is, whatever its modality: instances that keep their index, visited in batches."""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from robust_data.registry import LazyModule, printable, warn_once

torch = LazyModule("torch")

LEFT_BEHIND = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "desktop.ini", "Icon\r")


def class_name(written: str) -> str:
    """The name of a class as it is kept: without blanks around it, and in one form of Unicode, which has two of é."""
    return unicodedata.normalize("NFC", written.strip())


def warn_of_look_alikes(names: Sequence[str], where: str) -> None:
    """Name the pairs of classes that differ in case, leading zeros, or in what cannot be seen, which may be slips."""
    alike: dict[str, list[str]] = {}
    for name in names:
        seen = (letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
        alike.setdefault("".join(seen).casefold().lstrip("0"), []).append(name)
    if pairs := [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]:
        warn_once(f"{where}: classes of their own that look alike: {', '.join(pairs)}; write alike what is one")


def is_left_behind(name: str) -> bool:
    """Whether a file or folder is hidden, or one in which a system keeps files of its own."""
    return name.startswith(".") or name in LEFT_BEHIND


@dataclass
class Batch:
    """Some instances of a data set, ready for a model.

    positions: int64 [B] on the CPU, rows within this data set. index: int64 [B] on the CPU, positions in
    the full split. labels: int64 [B] on the device. inputs: what a model takes, by name, on the device;
    for images {"pixel_values": float32 [B,3,H,W] in [0,1]}.
    """

    positions: torch.Tensor
    index: torch.Tensor
    labels: torch.Tensor
    inputs: dict[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, rows: torch.Tensor) -> Batch:
        """Some of the instances, by their places in the batch: int64 [K]."""
        inputs = {name: values[rows] for name, values in self.inputs.items()}
        on_cpu = rows.cpu()
        of_rows = {"positions": self.positions[on_cpu], "index": self.index[on_cpu], "labels": self.labels[rows]}
        return replace(self, **of_rows, inputs=inputs)


class Dataset:
    """A split, or a part of one, whose instances keep their index.

    index: int64 [N] on the CPU, ascending: the position of each instance in the whole split, neither
    shuffled nor reduced. labels: int64 [N] on the CPU, each a position in `label_names`.
    sources: the file of each image (for texts: the text), or None. others: by the names of further columns, such
    as that of groups, their texts, [N]. group_column: which of them names groups, if one does. image_size: (H, W)
    of what `batches` yields, or None where there are no images.
    """

    modality = ""
    image_size: tuple[int, int] | None = None

    def __init__(
        self,
        name: str,
        split: str,
        label_names: list[str],
        index: torch.Tensor,
        labels: torch.Tensor,
        sources: list[str] | None = None,
    ):
        self.name, self.split = name, split
        self.label_names = [printable(label_name) for label_name in label_names]
        self.index, self.labels, self.sources = index, labels, sources
        self.others: dict[str, list[str]] = {}
        self.group_column: str | None = None

    def __len__(self) -> int:
        return len(self.index)

    def positions(self, index: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Where in this data set the instances of these indices are: int64 [K], in the order given."""
        return torch.searchsorted(self.index, torch.as_tensor(index, dtype=torch.int64))

    def subset(self, positions: torch.Tensor) -> Dataset:
        """The instances at these positions (int64, distinct, any order), in ascending order, under their old index."""
        positions = torch.as_tensor(positions, dtype=torch.int64).sort().values
        if len(positions) and (positions[0] < 0 or positions[-1] >= len(self) or (positions.diff() == 0).any()):
            raise ValueError(f"positions must be distinct and lie in 0..{len(self) - 1}")
        part = copy.copy(self)
        part.index, part.labels = self.index[positions], self.labels[positions]
        if self.sources is not None:
            part.sources = [self.sources[position] for position in positions.tolist()]
        part.others = {
            name: [values[position] for position in positions.tolist()] for name, values in self.others.items()
        }
        self._reduce(part, positions)
        return part

    def _reduce(self, part: Dataset, positions: torch.Tensor) -> None:
        """Give `part`, a shallow copy of self, what belongs to the instances at these ascending positions."""

    def to(self, device: torch.device | str) -> Dataset:
        """This data set with its data on the device, if it is in memory and fits; otherwise as it is."""
        return self

    def collection_order(self) -> torch.Tensor:
        """Positions, int64 [N], in the order in which one pass over all instances should visit them."""
        return torch.arange(len(self))

    def batches(self, batches_of_positions: Sequence[torch.Tensor], device: torch.device | str) -> Iterator[Batch]:
        """One batch for each tensor of positions (int64, on the CPU), in the order given.

        Raises InputError for an instance that cannot be read.
        """
        raise NotImplementedError
