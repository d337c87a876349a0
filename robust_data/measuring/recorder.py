"""Statistics from any training loop: record a model at checkpoints, then write the files that the scripts read."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from perturbations import PgdOptions
from reading import read_json
from registry import InputError
from robust_data import files, records
from robust_data.collection import Draws, collect_all
from robust_data.measuring import finished, own_arguments, own_data, own_model
from robust_data.measuring.own_model import OwnClassifier, Preprocess
from robust_data.running import distributed, launch
from robust_data.running.identity import check_arguments, data_identity
from robust_data.running.versions import timestamp, versions


class Recorder:
    """Records how a model in training reacts to perturbations of each instance.

    dataset: a map-style torch data set of (image, label), without random transforms; a pair (images, labels); texts,
    or pairs of texts, as (texts, labels) or a map-style data set; or one of `datasets.load`. Images are of one size:
    Pillow's, uint8, or float in [0,1], of [3,H,W], [H,W,3], or [H,W] if grey. Labels are whole numbers from 0.
    perturbations: names, a family, or all. output: the folder for the files; what an earlier Recorder of the same
    arguments left there unfinished is continued. severity: 1 to 5. seed, batch_size, pgd_options: as for
    `collection.collect`.
    preprocess: turns pixels, float32 [B,3,H,W] in [0,1], into what the model takes, by a function or a pair (mean, std)
    of the channels; of texts the dict of inputs. Models of `models.build`, and those of Hugging Face for texts, take
    none. num_classes, label_names: of the data, where the labels do not show them all. tokenizer: of the texts, a
    tokenizer of transformers, or the name or folder of its model; max_seq_length: of the texts, in tokens, by default
    128. num_workers: processes that read a map-style data set which is not kept in memory. name: of the data, in the
    names of the files. With several processes each makes a Recorder, once torch.distributed is initialised, and
    records its share.
    Raises InputError for data, names or a folder that cannot be used.
    """

    def __init__(
        self,
        dataset: Any,
        perturbations: Sequence[str],
        output: str | Path,
        severity: int = 3,
        seed: int = 0,
        *,
        batch_size: int = 256,
        preprocess: Preprocess = None,
        num_classes: int | None = None,
        label_names: Sequence[str] | None = None,
        tokenizer: Any = None,
        max_seq_length: int | None = None,
        num_workers: int = 0,
        pgd_options: PgdOptions = PgdOptions(),
        name: str = "own",
    ):
        if launch.process_count() > 1 and not torch.distributed.is_initialized():
            raise InputError("several processes were started; call torch.distributed.init_process_group first")
        severity = own_arguments.whole("severity", severity, 1, 5)
        seed = own_arguments.whole("seed", seed, 0)
        own_model.check_preprocess(preprocess)
        with _unchanged():
            self.dataset = own_data.as_dataset(
                dataset,
                own_arguments.part_of_a_name("name", name),
                label_names=label_names,
                num_classes=num_classes,
                tokenizer=tokenizer,
                max_seq_length=max_seq_length,
                num_workers=own_arguments.whole("num_workers", num_workers, 0),
            )
        modality, size = self.dataset.modality, self.dataset.image_size
        self.names = own_arguments.resolved(perturbations, severity, modality, size)
        self.severity, self.seed, self.preprocess, self.pgd_options = severity, seed, preprocess, pgd_options
        self.batch_size = own_arguments.whole("batch_size", batch_size, 1)
        self.folder = files.output_folder(str(output), "output")
        self._parts = self._file(f"_severity{severity}.partial")
        self._done_with = self._file(f"_severity{severity}.finished")
        self._arguments = {
            "dataset_name": self.dataset.name,
            "perturbations": self.names,
            "severity": severity,
            "seed": seed,
            "adv_steps": pgd_options.steps,
            "adv_lr": pgd_options.lr,
            "adv_init_mag": pgd_options.init_mag,
            "adv_max_norm": pgd_options.max_norm,
            "adv_norm_type": pgd_options.norm_type,
            "attack_special_tokens": int(pgd_options.special_tokens),
        }
        # Recordings that were begun before these were told go on, as they had the defaults.
        for name in ("sign", "loss", "temperature"):
            if getattr(pgd_options, name) != getattr(PgdOptions, name):
                self._arguments[f"adv_{name}"] = getattr(pgd_options, name)
        if self.dataset.modality == "text":
            self._arguments["max_seq_length"] = self.dataset.max_seq_length
        self._shown: tuple[nn.Module | None, OwnClassifier | None] = (None, None)
        self._own: set[int] = set()
        self._is_finished = False
        self._started = time.perf_counter()
        self.steps: list[int] = distributed.from_main(self._open)

    def _open(self) -> list[int]:
        """The steps that an earlier Recorder of these arguments and data has recorded."""
        known_by = self._arguments | data_identity(self.dataset.labels.numpy())
        shutil.rmtree(self._done_with, ignore_errors=True)
        self._parts.mkdir(exist_ok=True)
        about = self._parts / "arguments.json"
        if about.exists():
            saved = read_json(about, str(about), "remove its folder")
            remedy = "use those, give another output or name, or remove this folder"
            check_arguments(saved, known_by, self._parts, remedy, option="")
        files.write_json(about, known_by)
        done = [{int(path.stem) for path in (self._parts / name).glob("*.npy")} for name in self.names]
        return sorted(set.intersection(*done))

    def record(self, model: nn.Module, step: int) -> None:
        """Record one checkpoint; a step that an earlier, killed process has recorded is passed over.

        model: gives logits [B, C], C the number of classes; it, its mode, its buffers and all random states stay as
        they were. step: 0 or more, greater than those before. With several processes all of them call this. Raises
        InputError for a step that was recorded already or is out of order, and for logits of another shape.
        """
        own_model.check(model)
        step = own_arguments.whole("step", step, 0)
        if self._is_finished:
            raise InputError(f"step {step} comes after finish(); call that once, when all steps are recorded")
        if step in self._own:
            raise InputError(f"step {step} was recorded twice; give record a step of its own each time")
        if step in self.steps:
            self._own.add(step)
            launch.say(f"step {step} is recorded already, in {self._parts}")
            return
        if self.steps and step < self.steps[-1]:
            raise InputError(f"step {step} comes after step {self.steps[-1]}; record in ascending order")
        conditions = {name: (name, Draws(self.severity, self.seed, 0, self.pgd_options)) for name in self.names}
        model = own_model.unwrapped(model)
        with _unchanged(model):
            # Each process has running statistics of its own.
            distributed.share_buffers(model)
            collected = collect_all(
                self._as_collected(model),
                self.dataset,
                conditions,
                self.batch_size,
                global_step=step,
                device=_device(model),
            )
        for name, rows in collected.items():
            (self._parts / name).mkdir(exist_ok=True)
            with files.atomic_write(self._parts / name / f"{step}.npy") as file:
                np.lib.format.write_array(file, rows, allow_pickle=False)
        distributed.wait()
        self.steps.append(step)
        self._own.add(step)

    def _as_collected(self, model: nn.Module) -> OwnClassifier:
        """The model as collection calls it; made once for each model, as a trial belongs to it."""
        if self._shown[0] is not model:
            self._shown = (model, OwnClassifier(model, self.dataset, self.preprocess))
        return self._shown[1]

    def finish(self) -> list[Path]:
        """Write a statistics file for each perturbation, with its JSON, the first time; returns their paths.

        Raises InputError where no checkpoint was recorded.
        """
        if not self.steps:
            raise InputError("nothing was recorded; call record(model, step) before finish()")
        paths = [self._file(f"_t{name}_severity{self.severity}.npy") for name in self.names]
        if self._is_finished:
            return paths
        if distributed.is_main():
            by_name = dict(zip(self.names, paths))
            with records.RecordFiles(by_name, len(self.steps), len(self.dataset)) as growing:
                for step in self.steps:
                    growing.append({name: self._recorded(name, step) for name in self.names})
                growing.finish(self._metadata)
            # At once: what a kill leaves of the folder is no recording to go on with.
            os.replace(self._parts, self._done_with)
            shutil.rmtree(self._done_with)
        distributed.wait()
        self._is_finished = True
        return paths

    def _recorded(self, name: str, step: int) -> np.ndarray:
        return np.load(self._parts / name / f"{step}.npy", allow_pickle=False)

    def _file(self, end: str) -> Path:
        """The path of what the Recorder writes, by the end of its name."""
        start = f"robust_statistics_dataset{self.dataset.name}_seed{self.seed}"
        return self.folder / (files.fitting(start, files.LONGEST_NAME - len(end)) + end)

    def _metadata(self, name: str, rows: np.ndarray) -> dict[str, Any]:
        """What the JSON says; rows: the records (T, N)."""
        checkpoints = [
            {
                "global_step": int(row["global_step"][0]),
                "severity": self.severity,
                **finished.accuracies(row),
            }
            for row in rows
        ]
        return {
            **finished.described(finished.Recorded(name, self.severity), self.dataset, checkpoints),
            "loss_against": "the golden label",
            "summary": finished.summary(rows),
            "arguments": self._arguments,
            "versions": versions(),
            "processes": distributed.world_size(),
            "finished": timestamp(),
            "wall_seconds": round(time.perf_counter() - self._started, 1),
        }


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@contextlib.contextmanager
def _unchanged(model: nn.Module | None = None) -> Iterator[None]:
    """Leave the model's modes and buffers, and all random states, as they were."""
    modes = {} if model is None else {module: module.training for module in model.modules()}
    buffers = [] if model is None else [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    python, numpy = random.getstate(), np.random.get_state()
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    try:
        # Within a user's inference mode no attack could follow a gradient.
        with torch.inference_mode(False), torch.random.fork_rng(devices=cuda):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
