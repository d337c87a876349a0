"""Statistics from any training loop: record a model at checkpoints, then write the files that the scripts read."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import perturbations
from datasets.base import Dataset
from datasets.images import InMemoryImages
from reading import read_json
from registry import InputError
from robust_data import files, records
from robust_data.collection import Draws, collect_all
from robust_data.measuring import finished
from robust_data.running import distributed, launch
from robust_data.running.identity import check_arguments, data_identity
from robust_data.running.versions import timestamp, versions


class Recorder:
    """Records how a model in training reacts to perturbations of each instance.

    dataset: one of `datasets.load`, or a pair of arrays: images uint8 [N,3,H,W], and labels, integers [N] from 0.
    perturbations: names, a family, or all. output: the folder for the files; what an earlier Recorder of the same
    arguments left there unfinished is continued. severity, seed, batch_size: as for `collection.collect`.
    preprocess: turns pixels, float32 [B,3,H,W] in [0,1], into what the model takes; a model of `models.build` takes the
    batch's inputs by name and needs none. name: of the data, in the names of the files.
    Raises InputError for data, names or a folder that cannot be used.
    """

    def __init__(
        self,
        dataset: Dataset | tuple[Any, Any],
        perturbations: Sequence[str],
        output: str | Path,
        severity: int = 3,
        seed: int = 0,
        *,
        batch_size: int = 256,
        preprocess: Callable[[torch.Tensor], torch.Tensor] | None = None,
        name: str = "own",
    ):
        self.dataset = dataset if isinstance(dataset, Dataset) else _from_arrays(dataset, name)
        self.names = _resolve(perturbations, self.dataset, severity)
        self.severity, self.seed, self.batch_size, self.preprocess = severity, seed, batch_size, preprocess
        self.folder = files.output_folder(str(output), "output")
        self._parts = self.folder / "recorder.partial"
        self._arguments = {
            "dataset_name": self.dataset.name,
            "perturbations": self.names,
            "severity": severity,
            "seed": seed,
        }
        self._own: set[int] = set()
        self._started = time.perf_counter()
        found = distributed.from_main(self._open)
        self.steps: list[int] = found

    def _open(self) -> list[int]:
        """The steps that an earlier Recorder of these arguments and data has recorded."""
        known_by = self._arguments | data_identity(self.dataset.labels.numpy())
        self._parts.mkdir(exist_ok=True)
        about = self._parts / "arguments.json"
        if about.exists():
            check_arguments(read_json(about, str(about), "remove its folder"), known_by, self._parts)
        files.write_json(about, known_by)
        done = [{int(path.stem) for path in (self._parts / name).glob("*.npy")} for name in self.names]
        return sorted(set.intersection(*done))

    def record(self, model: nn.Module, step: int) -> None:
        """Record one checkpoint; a step that an earlier, killed process has recorded is passed over.

        model: gives logits [B, C], C the number of classes; it, its mode, its buffers and all random states stay as
        they were. step: 0 or more, greater than those before. With several processes all of them call this. Raises
        InputError for a step that was recorded already or is out of order, and for logits of another shape.
        """
        if step in self._own:
            raise InputError(f"step {step} was recorded twice; give record a step of its own each time")
        if step in self.steps:
            self._own.add(step)
            launch.say(f"step {step} is recorded already, in {self._parts}")
            return
        if step < 0 or (self.steps and step < self.steps[-1]):
            raise InputError(f"step {step} comes after step {max(self.steps, default=0)}; record in ascending order")
        conditions = {name: (name, Draws(self.severity, self.seed)) for name in self.names}
        with _unchanged(model):
            shown = _Shown(model, self.preprocess, len(self.dataset.label_names))
            collected = collect_all(
                shown, self.dataset, conditions, self.batch_size, global_step=step, device=_device(model)
            )
        for name, rows in collected.items():
            (self._parts / name).mkdir(exist_ok=True)
            with files.atomic_write(self._parts / name / f"{step}.npy") as file:
                np.lib.format.write_array(file, rows, allow_pickle=False)
        distributed.wait()
        self.steps.append(step)
        self._own.add(step)

    def finish(self) -> list[Path]:
        """Write a statistics file for each perturbation, with its JSON; returns their paths.

        Raises InputError where no checkpoint was recorded.
        """
        if not self.steps:
            raise InputError("nothing was recorded; call record(model, step) before finish()")
        paths = [self._path(name) for name in self.names]
        if distributed.is_main():
            for name, path in zip(self.names, paths):
                parts = [np.load(self._parts / name / f"{step}.npy", allow_pickle=False) for step in self.steps]
                rows = np.stack(parts)
                records.save(path, rows, self._metadata(name, rows))
            shutil.rmtree(self._parts)
        distributed.wait()
        return paths

    def _path(self, name: str) -> Path:
        end = f"_t{name}_severity{self.severity}.npy"
        start = f"robust_statistics_dataset{self.dataset.name}_seed{self.seed}"
        return self.folder / (files.fitting(start, files.LONGEST_NAME - len(end)) + end)

    def _metadata(self, name: str, rows: np.ndarray) -> dict[str, Any]:
        """What the JSON says; rows: the records (T, N)."""
        entry = perturbations.CATALOGUE[name]
        checkpoints = [
            {
                "global_step": int(row["global_step"][0]),
                "severity": self.severity,
                "train_accuracy": float(row["original_pred"].mean()),
                "train_accuracy_perturbed": float(row["after_perturb_pred"].mean()),
            }
            for row in rows
        ]
        return {
            "perturbation": name,
            "family": entry.family,
            "severity": self.severity,
            "parameter": entry.parameter(self.severity, *(self.dataset.image_size or (0, 0))),
            "parameter_unit": entry.unit,
            "dataset_name": self.dataset.name,
            "split": self.dataset.split,
            "trained_on": True,
            "label_names": list(self.dataset.label_names),
            "instances": len(self.dataset),
            "labels_sha256": records.labels_hash(self.dataset.labels.numpy()),
            "checkpoints": checkpoints,
            "loss_against": "the golden label",
            "summary": finished.summary(rows),
            "arguments": self._arguments,
            "versions": versions(),
            "processes": distributed.world_size(),
            "finished": timestamp(),
            "wall_seconds": round(time.perf_counter() - self._started, 1),
        }


def _resolve(names: Sequence[str], dataset: Dataset, severity: int) -> list[str]:
    if isinstance(names, str):
        raise InputError(f"perturbations '{names}' is one text; give a list, such as ['{names}']")
    if severity not in range(1, 6):
        raise InputError(f"severity {severity} is unknown; give 1 to 5")
    return list(perturbations.resolve(names, dataset.modality))


def _from_arrays(arrays: tuple[Any, Any], name: str) -> Dataset:
    """A data set of a pair of arrays, images and labels."""
    try:
        images, labels = (torch.as_tensor(array) for array in arrays)
    except (TypeError, ValueError) as error:
        raise InputError(f"dataset is no pair of arrays ({error}); give (images, labels), or datasets.load") from None
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"images are {images.dtype} {list(images.shape)}; give uint8 [N,3,H,W], as (images * 255).round() makes "
            "of pixels in [0,1]"
        )
    if labels.shape != images.shape[:1] or labels.is_floating_point() or not len(labels):
        raise InputError(f"labels are {labels.dtype} {list(labels.shape)}; give one whole number for each image")
    labels = labels.long().cpu()
    if labels.min() < 0:
        raise InputError(f"label {int(labels.min())} is out of range; number the classes from 0")
    classes = [str(label) for label in range(int(labels.max()) + 1)]
    return InMemoryImages(images.cpu(), name, "train", classes, torch.arange(len(labels)), labels)


class _Shown(nn.Module):
    """A user's model as collection calls it: with the inputs by name."""

    def __init__(self, model: nn.Module, preprocess: Callable | None, classes: int):
        super().__init__()
        self.model, self.preprocess, self.classes = model, preprocess, classes
        own = getattr(model, "module", model)
        self.by_name = type(own).__module__.split(".")[0] == "models"

    def embed(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.model.embed(inputs)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if self.by_name:
            logits = self.model(inputs)
        else:
            pixels = inputs["pixel_values"]
            logits = self.model(pixels if self.preprocess is None else self.preprocess(pixels))
        wanted = (len(next(iter(inputs.values()))), self.classes)
        if tuple(logits.shape) != wanted:
            raise InputError(
                f"the model gave logits {list(logits.shape)} for {wanted[0]} instances of {wanted[1]} classes; "
                "give a model with one output for each class"
            )
        return logits


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@contextlib.contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Leave the model's modes and buffers, and all random states, as they were."""
    modes = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    python, numpy = random.getstate(), np.random.get_state()
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
