"""Statistics from any training loop: record a model at checkpoints, then write the files that the scripts read."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from robust_data import files, records, settings
from robust_data.analysis import metadata
from robust_data.analysis.doubt import doubt
from robust_data.analysis.statistics_file import StatisticsFile, open_statistics
from robust_data.collect import outputs, own_data, own_model
from robust_data.collect.own_model import OwnClassifier, Preprocess
from robust_data.collect.training_steps import TrainingSteps
from robust_data.collection import Draws, collect_all
from robust_data.perturbations import PgdOptions, check_size, resolve
from robust_data.reading import open_array, read_json, readable
from robust_data.registry import InputError, one_line, warn_once
from robust_data.train import distributed, launch
from robust_data.train.identity import check_arguments, data_identity, timestamp, versions
from robust_data.train.inference import CPU_BATCH
from robust_data.train.parallel import is_sharded

FINISHED = "finish() was called"
# How many of the records of a process are begun by passing some instances twice.
EXAMINED_RECORDS = 2
# Seconds that the workers of a Recorder which was killed may hold its lock.
LOCK_PATIENCE = 2.0
# The Recorders of this process by the folder of what they have not finished.
_LIVING: weakref.WeakValueDictionary[Path, Recorder] = weakref.WeakValueDictionary()


class Recorder:
    """Records how a model in training reacts to perturbations of each instance.

    dataset: a map-style torch data set of (image, label), without random transforms; a pair (images, labels); texts,
    or pairs of texts, as (texts, labels) or a map-style data set; or one of `datasets.load`. Instances may be dicts,
    with the image or text at image_key, the label at label_key. Images are of one size: Pillow's, uint8, or float in
    [0,1], of [3,H,W], [H,W,3], or [H,W] if grey. Labels are whole numbers from 0.
    perturbations: names, a family, or all. output: the folder for the files; what an earlier Recorder of the same
    arguments left there unfinished is continued, with overwrite begun anew. severity: 1 to 5. seed, batch_size,
    pgd_options: as for `collection.collect`.
    preprocess: turns pixels, float32 [B,3,H,W] in [0,1], into what the model takes, by a function or a pair (mean, std)
    of the channels; of texts the dict of inputs. Models of `models.build`, and those of Hugging Face for texts, take
    none. num_classes, label_names: of the data, where the labels do not show them all. tokenizer: of the texts, a
    tokenizer of transformers, or the name or folder of its model; max_seq_length: of the texts, in tokens, by default
    128. num_workers: processes that read a map-style data set which is not kept in memory. name: of the data, in the
    names of the files. With several processes each makes a Recorder, once torch.distributed is initialised, and
    records its share.
    Raises InputError for data, names or a folder that cannot be used, are in use, or are finished.
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
        image_key: str = "image",
        label_key: str = "label",
        overwrite: bool = False,
    ):
        self._started = time.perf_counter()
        if launch.process_count() > 1 and not torch.distributed.is_initialized():
            raise InputError("several processes were started; call torch.distributed.init_process_group first")
        self.severity, self.seed = (
            _read("severity", settings.severity, severity),
            _read("seed", settings.natural_int, seed),
        )
        self.batch_size = _read("batch_size", settings.positive_int, batch_size)
        if Path(name).name != name:
            raise InputError(f"name {name!r} cannot stand in a file's name; give letters and digits")
        self.pgd_options, self.preprocess = pgd_options, own_model.as_preprocess(preprocess)
        keys = (image_key, label_key)
        with _unchanged():
            self.dataset, self._anew = own_data.as_dataset(
                dataset, name, keys, label_names, num_classes, tokenizer, max_seq_length, num_workers
            )
        self._is_own = self.dataset is not dataset
        named = [perturbations] if isinstance(perturbations, str) else perturbations
        self.names = resolve(named, self.dataset.modality)
        check_size([(name, self.severity) for name in self.names], self.dataset.image_size)
        self.folder = files.output_folder(str(output), "output")
        self._done_with = self._file(f"_severity{self.severity}.finished")
        self._paths = {name: self._file(f"_t{name}_severity{self.severity}.npy") for name in self.names}
        self._parts = self._file(f"_severity{self.severity}.partial")
        self._clean = self._file("_clean.npy")
        self._trained = TrainingSteps(self.dataset, self._parts / "clean")
        self._arguments = {
            "dataset_name": self.dataset.name,
            "perturbations": self.names,
            "severity": self.severity,
            "seed": self.seed,
            **_recorded_options(pgd_options),
        }
        if self.dataset.modality == "text":
            self._arguments["max_seq_length"] = self.dataset.max_seq_length
        self._shown: tuple[nn.Module | None, OwnClassifier | None] = (None, None)
        self._last, self._examined, self._precision = -1, 0, "float32"
        self._ended: str | None = None
        self._unlock: Callable[[], Any] = lambda: None
        if earlier := _LIVING.get(self._parts.absolute()):
            earlier._end("another Recorder was made for its files")
        self.steps: list[int] = distributed.from_main(lambda: self._open(overwrite))
        # Of a killed `finish` the epochs are there, too.
        self._keeps_clean = self._clean.exists() and not overwrite and not self._trained.steps
        _LIVING[self._parts.absolute()] = self

    def _open(self, overwrite: bool) -> list[int]:
        """Keep the files from others; the steps that an earlier Recorder of these arguments and data has recorded."""
        remedy = "give overwrite=True, which begins anew, or another output or name"
        with contextlib.ExitStack() as lock:
            try:
                lock.enter_context(files.locked(self._parts, LOCK_PATIENCE))
            except OSError as error:
                in_use = "another process records there: end it, or give another output or name"
                raise InputError(f"{self._parts} cannot be locked ({error.strerror or error}); {in_use}") from None
            if overwrite:
                shutil.rmtree(self._parts, ignore_errors=True)
            complete = [path for path in self._paths.values() if path.exists()]
            complete = complete or [self._clean] * (not self.names and self._clean.exists())
            if complete and not overwrite and not self._parts.exists():
                raise InputError(f"{complete[0]} is finished already; {remedy}")
            shutil.rmtree(self._done_with, ignore_errors=True)
            self._parts.mkdir(exist_ok=True)
            known_by = self._arguments | data_identity(self.dataset.labels.numpy())
            about = self._parts / "arguments.json"
            if about.exists():
                check_arguments(
                    read_json(about, str(about), remedy), known_by, self._parts, f"use those, or {remedy}", ""
                )
            files.write_json(about, known_by)
            done = [
                {int(path.stem) for path in (self._parts / name).glob("*.npy") if path.stem.isdecimal()}
                for name in self.names
            ]
            steps = sorted(set.intersection(*done)) if done else []
            for step in steps:
                for name in self.names:
                    self._recorded(name, step)
            self._unlock = weakref.finalize(self, lock.pop_all().close)
        return steps

    def record(self, model: nn.Module, step: int, *, untrained: bool = False) -> None:
        """Record one checkpoint; one that an earlier, killed process has recorded is only compared with it.

        model: gives logits [B, C], C the number of classes; it, its mode, its buffers and all random states stay as
        they were. step: greater than those before; the untrained model's, which counts in no metric, is 0. With several
        processes all of them call this. Raises InputError for a step out of order, for a model whose outputs are no
        logits, or not the same for the same instance, and for another training than the one that is continued.
        """
        model = own_model.unwrapped(model)
        step = _read("step", settings.natural_int, step)
        if self._ended is not None:
            raise InputError(f"step {step}: {self._ended}; record all steps before that")
        if not self.names:
            raise InputError(f"step {step}: perturbations names none; give a list of names, such as ['shot_noise']")
        if (step == 0) != bool(untrained):
            remedy = "untrained=True is for step 0 alone" if step else "give untrained=True, or number epochs from 1"
            raise InputError(f"step {step}: step 0 is the untrained model's, which counts in no metric; {remedy}")
        before = max(self._last, max(self.steps, default=-1) if step not in self.steps else -1)
        if step <= before:
            raise InputError(f"step {step} comes after step {before}; record in ascending order, each step once")
        started, device = time.perf_counter(), own_model.device_of(model)
        with _unchanged(model):
            # Each process has running statistics of its own.
            distributed.share_buffers(model)
            own = self._as_collected(model)
            if step in self.steps:
                where = f"step {step} in {self._parts}"
                own_model.check_identity(own, self.dataset, lambda: self._recorded(self.names[0], step), where)
                line = f"step {step} is recorded already, in {self._parts}"
            else:
                if self._examined < EXAMINED_RECORDS:
                    own_model.check_answers(own, self.dataset, self._anew)
                    self._examined += 1
                accuracies = self._collect(own, step, device)
                told = outputs.checkpoint_line(step, accuracies) if accuracies else ""
                line = f"{told}, {time.perf_counter() - started:.1f} s"
        if distributed.is_main():
            launch.say(line)
        self._last, self._precision = step, str(own_model.precision_of(model)).removeprefix("torch.")

    def update(self, logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> None:
        """Keep what a training step computed of a batch, without a pass of its own; see `end_epoch`.

        logits: [B, C]; labels: int64 [B]; index: int64 [B], positions in the data, as `treat.Indexed` adds them.
        Raises InputError for instances or labels that are not the data set's, for one that comes again in an epoch, and
        for probabilities, and where the file of clean inputs is finished.
        """
        if self._ended is not None or self._keeps_clean:
            remedy = "update before finish, or make a Recorder with overwrite=True or another output or name"
            raise InputError(f"update: {self._ended or f'{self._clean} is finished already'}; {remedy}")
        self._trained.add(logits, labels, index)

    def end_epoch(self, step: int) -> None:
        """End an epoch of updates: a checkpoint of a file of clean inputs alone, each instance when it was trained on.

        Raises InputError where an instance came in no update, and for a step out of order.
        """
        step = _read("step", settings.positive_int, step)
        if self._ended is not None or step < max(self._trained.steps, default=0) and step not in self._trained.steps:
            raise InputError(f"step {step}: {self._ended or 'a later one is there'}; end epochs in ascending order")
        self._trained.end_epoch(step)

    def _collect(self, model: OwnClassifier, step: int, device: torch.device) -> dict[str, tuple[float, float]]:
        """Measure all instances and put the records on the disk; returns the accuracies, on the main process."""
        conditions = {name: (name, Draws(self.severity, self.seed, 0, self.pgd_options)) for name in self.names}
        # Of weights that are spread over processes all must pass equally many parts of a batch.
        size = min(self.batch_size, CPU_BATCH) if device.type == "cpu" and is_sharded(model) else self.batch_size
        collected = collect_all(model, self.dataset, conditions, size, global_step=step, device=device)
        accuracies = {}
        for name, rows in collected:
            accuracies[name] = tuple(metadata.accuracies(rows).values())
            (self._parts / name).mkdir(exist_ok=True)
            with files.atomic_write(self._parts / name / f"{step}.npy") as file:
                np.lib.format.write_array(file, rows, allow_pickle=False)
        distributed.wait()
        self.steps.append(step)
        return accuracies

    def _as_collected(self, model: nn.Module) -> OwnClassifier:
        """The model as collection calls it; made once for each model, as a trial belongs to it."""
        if self._shown[0] is not model:
            self._shown = (model, OwnClassifier(model, self.dataset, self.preprocess))
        return self._shown[1]

    def finish(self) -> list[Path]:
        """Write a statistics file for each perturbation, with its JSON, the first time; returns their paths.

        Where there were updates the last one is of clean inputs alone. Raises InputError where no checkpoint was
        recorded.
        """
        if self._ended == FINISHED:
            return self._finished
        epochs = self._trained.steps
        paths = [*(self._paths.values() if self.steps else ()), *([self._clean] if epochs else ())]
        if self._ended is not None or not paths:
            raise InputError(f"{self._ended or 'nothing was recorded'}; call record(model, step) before finish()")
        if distributed.is_main():
            for written, steps in ((self._paths, self.steps), ({"clean": self._clean}, epochs)):
                with records.RecordFiles(written if steps else {}, len(steps), len(self.dataset)) as growing:
                    for step in steps:
                        growing.append((name, self._recorded(name, step)) for name in written)
                    growing.finish(self._metadata)
            # At once: what a kill leaves of the folder is no recording to go on with.
            os.replace(self._parts, self._done_with)
            shutil.rmtree(self._done_with)
            for wrong in dict.fromkeys(doubt(*records.load(path)) for path in paths):
                if wrong is not None:
                    warn_once(f"{paths[0]}: {wrong}")
        distributed.wait()
        self._end(FINISHED)
        self._finished = paths
        return paths

    def map(self, number: int = 0) -> Any:
        """The robust data map of a finished file, a figure of matplotlib, which a notebook shows; number: which file.

        Raises InputError before `finish`.
        """
        return _drawing("maps").draw_map(self._statistics(number, clean_only_too=True))

    def report(self, number: int = 0) -> Path:
        """Write the HTML page of a finished file beside it; returns its path.

        number: which file of `finish`. Raises InputError before that, and for a file of clean inputs alone.
        """
        statistics = self._statistics(number)
        path = statistics.path.with_suffix(".html")
        _drawing("report").write_page(path, statistics, self.dataset)
        return path

    def _statistics(self, number: int, clean_only_too: bool = False) -> StatisticsFile:
        if self._ended != FINISHED:
            raise InputError("there is nothing to draw yet; call finish() first")
        return open_statistics(self._finished[number], clean_only_too=clean_only_too)

    def _end(self, why: str) -> None:
        """Record nothing from now on, and let others have the files."""
        self._ended = why
        self._unlock()

    def _recorded(self, name: str, step: int) -> np.ndarray:
        """What is on the disk of a checkpoint, (N,). Raises InputError where it is damaged."""
        path = self._parts / name / f"{step}.npy"
        with readable(str(path), "give overwrite=True, or remove this file and record the step again"):
            rows = open_array(path)
            if rows.dtype != records.DTYPE or rows.shape != (len(self.dataset),) or (rows["global_step"] != step).any():
                raise ValueError("it holds other records")
        return rows

    def _file(self, end: str) -> Path:
        """The path of what the Recorder writes, by the end of its name."""
        start = f"robust_statistics_dataset{self.dataset.name}_seed{self.seed}"
        return self.folder / (files.fitting(start, files.LONGEST_NAME - len(end)) + end)

    def _metadata(self, name: str, rows: np.ndarray) -> dict[str, Any]:
        """What the JSON says; rows: the records (T, N)."""
        is_clean = name == "clean"
        own = {} if is_clean else {"severity": self.severity}
        checkpoints = [
            {"global_step": int(row["global_step"][0]), **own, **metadata.accuracies(row, perturbed=not is_clean)}
            for row in rows
        ]
        if is_clean:
            about = outputs.of_dataset(self.dataset) | {"clean_only": True, "checkpoints": checkpoints}
        else:
            about = outputs.described(outputs.Recorded(name, self.severity), self.dataset, checkpoints)
        return {
            **about,
            "own_data": self._is_own,
            "loss_against": "the golden label",
            "precision": self._precision,
            "summary": None if is_clean else metadata.summary(rows),
            "arguments": self._arguments,
            "versions": versions(),
            "processes": distributed.world_size(),
            "finished": timestamp(),
            "wall_seconds": round(time.perf_counter() - self._started, 1),
        }


def _drawing(module: str) -> Any:
    """What draws: a part of the scripts, which stand above all others and are asked for nowhere else from below."""
    return importlib.import_module(f"robust_data.plot_utils.{module}")


def _read(name: str, reader: Callable[[str], Any], value: Any) -> Any:
    """An argument as the scripts read the option of its name. Raises InputError."""
    try:
        return reader(str(value))
    except ValueError as error:
        raise InputError(f"{name} {one_line(repr(value), 40)}: {error}") from None


def _recorded_options(options: PgdOptions) -> dict[str, Any]:
    """The attack, as the scripts' options name it.

    Recordings that were begun before the last ones were told go on, as they had the defaults.
    """
    told = {f"adv_{name}": value for name, value in asdict(options).items() if name != "special_tokens"}
    for name in ("sign", "loss", "temperature"):
        if getattr(options, name) == getattr(PgdOptions, name):
            del told[f"adv_{name}"]
    return told | {"attack_special_tokens": int(options.special_tokens)}


@contextlib.contextmanager
def _unchanged(model: nn.Module | None = None) -> Iterator[None]:
    """Leave the model's modes and buffers, and all random states, as they were; meanwhile compute in one precision.

    That is of the weights themselves, without autocast, neither the loop's nor that of accelerate, and with float32 as
    torch's default.
    """
    modes = {} if model is None else {module: module.training for module in model.modules()}
    buffers = [] if model is None else [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    kinds = {"cpu", "cpu" if model is None else own_model.device_of(model).type}
    # accelerate puts a forward that computes in its own precision before the model's.
    ready = {} if model is None else {name: model.__dict__.get(name) for name in ("forward", "_original_forward")}
    python, numpy, dtype = random.getstate(), np.random.get_state(), torch.get_default_dtype()
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with contextlib.ExitStack() as stack:
        # Within a user's inference mode no attack could follow a gradient.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.random.fork_rng(devices=cuda))
        for kind in kinds:
            stack.enter_context(torch.autocast(kind, enabled=False))
        try:
            torch.set_default_dtype(torch.float32)
            if ready.get("_original_forward") is not None:
                model.forward = ready["_original_forward"]
            yield
        finally:
            torch.set_default_dtype(dtype)
            random.setstate(python)
            np.random.set_state(numpy)
            if ready.get("_original_forward") is not None:
                model.forward = ready["forward"]
            for module, training in modes.items():
                module.training = training
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
