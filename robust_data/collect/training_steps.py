"""What training steps computed of the instances anyway, kept as the clean side of a statistics file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from robust_data import files, records
from robust_data.analysis.importing import clean_rows
from robust_data.collection import are_probabilities, check_logits, measure, refuse_probabilities
from robust_data.datasets.base import Dataset
from robust_data.registry import InputError
from robust_data.train import distributed


class TrainingSteps:
    """The clean records of epochs, filled batch by batch; each finished epoch is a file of `folder`."""

    def __init__(self, dataset: Dataset, folder: Path):
        self._dataset, self._folder = dataset, folder
        self._begin()

    def _begin(self) -> None:
        self._rows = clean_rows(self._dataset.index.numpy(), self._dataset.labels.numpy(), 0)
        self._seen = np.zeros(len(self._rows), dtype=bool)

    @property
    def steps(self) -> list[int]:
        """The epochs that are on the disk, by their step, ascending."""
        return sorted(int(path.stem) for path in self._folder.glob("*.npy") if path.stem.isdecimal())

    def add(self, logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> None:
        """One batch: logits [B, C]; labels, index: int64 [B]. Raises InputError for what is not of these instances."""
        if index is None:
            raise InputError("index is None; give each instance's position in the data, as treat.Indexed adds it")
        with torch.no_grad():
            # Once off the device, not once a field.
            logits, labels, index = (torch.as_tensor(values).detach().cpu() for values in (logits, labels, index))
        classes = len(self._dataset.label_names)
        if logits.ndim != 2 or logits.shape[1] != classes or not labels.shape == index.shape == logits.shape[:1]:
            shapes = ", ".join(str(list(values.shape)) for values in (logits, labels, index))
            raise InputError(f"logits, labels and index have shapes {shapes}; give [B,{classes}], [B] and [B]")
        places = self._places(index, labels)
        if len(logits) and are_probabilities(logits).all():
            refuse_probabilities("logits: the model")
        logits = logits.float()
        check_logits(logits, "logits")
        for name, values in measure(logits, labels, labels).items():
            if (field := f"original_{name}") in records.DTYPE.names:
                self._rows[field][places] = values.numpy()
        self._seen[places] = True

    def _places(self, index: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
        """Where in the data these instances are."""
        wanted, known = index.numpy(), self._dataset.index.numpy()
        places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        if (strange := wanted[known[places] != wanted]).size:
            raise InputError(f"index {strange[0]} is not one of the data set's; give each instance's position in it")
        values, counts = np.unique(wanted, return_counts=True)
        again = [*wanted[self._seen[places]], *values[counts > 1]]
        if again:
            remedy = "call end_epoch between epochs, and draw without replacement"
            raise InputError(f"index {again[0]} comes more than once in an epoch; {remedy}")
        if (other := wanted[self._dataset.labels.numpy()[places] != labels.numpy()]).size:
            raise InputError(
                f"labels: that of instance {other[0]} is not the data set's; give index and labels of one row"
            )
        return places

    def end_epoch(self, step: int) -> None:
        """Put the epoch on the disk, unless its step is there. Raises InputError where instances are missing."""
        places = distributed.gather_rows(torch.from_numpy(np.flatnonzero(self._seen)))
        own = self._rows[self._seen].view(np.uint8).reshape(-1, self._rows.itemsize)
        parts = distributed.gather_rows(torch.from_numpy(own))
        rows = self._rows
        self._begin()

        def write() -> None:
            filled = np.zeros(len(rows), dtype=bool)
            for at, part in zip(places, parts):
                rows[at.numpy()], filled[at.numpy()] = part.numpy().view(rows.dtype).reshape(-1), True
            if missing := int((~filled).sum()):
                remedy = "give drop_last=False to the DataLoader, and call update for every batch"
                raise InputError(f"step {step}: {missing} of {len(rows)} instances came in no update; {remedy}")
            rows["global_step"] = step
            if step not in self.steps:
                self._folder.mkdir(exist_ok=True)
                with files.atomic_write(self._folder / f"{step}.npy") as file:
                    np.lib.format.write_array(file, rows, allow_pickle=False)

        distributed.from_main(write)
