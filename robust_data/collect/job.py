"""The main job: train a model, and collect statistics at every checkpoint."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robust_data import complete, files, perturbations, records, settings
from robust_data.analysis import held_out as collect_on
from robust_data.analysis import metadata as about
from robust_data.collect import outputs
from robust_data.collection import Draws, collect_all
from robust_data.datasets.base import Dataset
from robust_data.judge import epoch_log, event_files
from robust_data.judge.curve import EpochJudge
from robust_data.registry import InputError
from robust_data.settings import Collect, Settings, together
from robust_data.train import building, distributed, launch
from robust_data.train.identity import data_identity, timestamp, versions
from robust_data.train.resume import RunState, StopRequest, follow, stop_requests
from robust_data.train.training import Trainer, TrainingDiverged, checkpoint_steps


def collect(*parts: Settings) -> list[Path]:
    """Train and record as these settings say, as `data_statistics.py` does; returns the paths of the statistics files.

    parts: such as `Data(...)`, `Model(...)`, `Training(...)`; what they lack is as by default. Raises InputError for
    what cannot be used, and whatever `train_and_record` does.
    """
    job = complete.collection(together(Collect, *parts))
    files.output_folder(job.output_dir)
    train_and_record(job)
    return list(outputs.file_paths(job).values())


def train_and_record(job: Collect) -> None:
    """Train as the arguments say and write one statistics file for all that is `outputs.recorded`.

    Killed at any moment and called again with the same arguments, it goes on and ends with the same bytes. A finished
    run is not repeated.

    job: complete; its output_dir must be there. Raises TrainingDiverged when the loss stops being finite, after writing
    the checkpoints before it; Interrupted after a signal has asked it to stop and its state is saved.
    """
    started = time.perf_counter()
    device = building.prepare_device(job, job.dataset_name)
    datasets, val_set, test_set = load_data(job, device)
    train_set = datasets["train"]
    paths, folder = outputs.file_paths(job), Path(job.output_dir)
    severities = itertools.product(paths, range(6))
    used = {(file.perturbation, severity_at(job, file.severity, progress / 5)) for file, progress in severities}
    perturbations.check_size(sorted(used), train_set.image_size)
    known_by = outputs.run_identity(job) | data_identity(train_set.labels.numpy())
    state = RunState(outputs.state_path(job), known_by)
    with state.held():
        if job.overwrite:
            start_anew(list(paths.values()), state)
        saved = state.load()
        if saved is None and distributed.from_main(lambda: outputs.is_finished(job, datasets)):
            launch.say(outputs.SAID)
            return

        model = building.build_model(job, train_set, job.seed, device)
        trainer = Trainer(model, train_set, job, device, seed=job.seed, precision=job.precision)
        rows, seconds_before = 0, 0.0
        if saved is not None:
            with state.restoring():
                trainer.load_state(saved["trainer"])
                rows, seconds_before = int(saved["rows"]), float(saved["seconds"])
            launch.say(f"going on at step {trainer.step} of {trainer.total_steps}")
        del saved
        judge_of_epochs = settings.of(EpochJudge, job)
        judged_on = judge_of_epochs.instances(test_set)

        def judge(figures: dict[str, Any]) -> dict[str, Any]:
            return judge_of_epochs.point(model, judged_on) if judge_of_epochs.is_due(figures["epoch"]) else {}

        log, run = folder / "log.jsonl", outputs.run_name(job)
        epoch_log.forget_epochs(log, run, trainer.told_step)
        points = event_files.Points(bool(job.tensorboard), log, run)
        log_epoch = epoch_log.epoch_logger(log, run, model, test_set, job, judge, val_set, points.add)
        steps = checkpoint_steps(
            job.epochs, trainer.steps_per_epoch, job.statistic_interval, bool(job.with_untrained_model)
        )
        own_paths = paths if distributed.is_main() else {}

        def seconds() -> float:
            return seconds_before + time.perf_counter() - started

        dtype = records.DTYPE_WITH_INPUT_GRADIENT if job.record_input_gradient else records.DTYPE
        instances = {file: len(datasets[file.on]) for file in paths}
        growing = records.RecordFiles(own_paths, len(steps), instances, rows, dtype)
        with stop_requests() as stop, growing as files, points:
            building.announce(job, job, train_set, device, job)
            with state.unless_bad_input(lambda: files.rows):
                diverged = _run(job, trainer, datasets, steps, files, state, stop, log_epoch, seconds)
            files.finish(lambda file, rows: metadata(job, file, rows, datasets[file.on], trainer, seconds(), diverged))
        distributed.wait()
        state.remove()
    distributed.wait()
    if diverged is not None:
        raise TrainingDiverged(f"{diverged}; checkpoints kept before it: {files.rows}, in {folder}")


def load_data(job: Collect, device: torch.device) -> tuple[dict[str, Dataset], Dataset | None, Dataset | None]:
    """The instances of each `Recorded.on`, those to train on as "train"; the validation and the test split or None.

    Raises InputError where --collect_on names instances that are not there, or leaves none to train on.
    """
    train_set, test_set = building.load_splits(job, job.model_name, job.seed, device)
    val_set = building.load_validation(job, job.model_name, job.seed, train_set, device)
    held_out = collect_on.held_out_index(job.collect_on)
    if held_out is not None:
        return _hold_out(job, train_set, held_out), val_set, test_set
    datasets = {"train": train_set}
    if job.collect_on is not None:
        datasets[job.collect_on] = test_set if job.collect_on == "test" else val_set
        if datasets[job.collect_on] is None:
            raise InputError(f"--collect_on {job.collect_on}: the data set has no such split; {collect_on.REMEDY}")
    return datasets, val_set, test_set


def _hold_out(job: Collect, train_set: Dataset, held_out: np.ndarray) -> dict[str, Dataset]:
    """The training split in two, "train" and "held_out"."""
    of_others = np.isin(train_set.index.numpy(), held_out)
    if of_others.sum() < len(held_out):
        absent = np.setdiff1d(held_out, train_set.index.numpy())
        raise InputError(
            f"--collect_on {job.collect_on} names {len(absent)} instances, such as {absent[0]}, that are not among "
            f"the {len(train_set)} of the training split; give --dataset_len, --seed and --skip_corrupt as they were "
            "when these were chosen"
        )
    if of_others.all():
        raise InputError(f"--collect_on {job.collect_on} names every instance, so that none is left to train on")
    parts = {"train": ~of_others, "held_out": of_others}
    return {on: train_set.subset(torch.from_numpy(np.flatnonzero(mask))) for on, mask in parts.items()}


def start_anew(paths: Sequence[Path], state: RunState) -> None:
    """Remove what `is_finished` and `RunState.load` would find, but not what this same command has begun before."""
    if not distributed.is_main():
        return
    begun = state.remove_foreign()
    if begun and records.can_continue(paths, begun["rows"]):
        return
    state.remove()
    for path in paths:
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _run(
    job: Collect,
    trainer: Trainer,
    datasets: Mapping[str, Dataset],
    steps: Sequence[int],
    files: records.RecordFiles,
    state: RunState,
    stop: StopRequest,
    end_epoch: Callable[[dict[str, Any]], None],
    seconds: Callable[[], float],
) -> TrainingDiverged | None:
    """Train to each checkpoint that is left and record it, saving the state on the way; returns why it ended early."""

    def save() -> None:
        state.save({"trainer": trainer.state(), "rows": files.rows, "seconds": seconds()})

    follow(trainer, state, stop, save, job.save_every, end_epoch)
    first, started = files.rows, time.perf_counter()
    try:
        for checkpoint in range(first, len(steps)):
            if trainer.stopped_at_epoch is not None:  # the end of that epoch is recorded
                break
            trainer.train_until(steps[checkpoint])
            with stop.at_once():
                accuracies = _record(job, trainer, datasets, checkpoint, files)
            save()
            if accuracies:
                taken = time.perf_counter() - started
                left = taken / (files.rows - first) * (len(steps) - files.rows)
                line = outputs.checkpoint_line(trainer.step, accuracies)
                launch.say(f"{line}; {files.rows} of {len(steps)}, {seconds():.0f} s, about {left:.0f} s left")
    except TrainingDiverged as error:
        return error
    return None


def _record(
    job: Collect, trainer: Trainer, datasets: Mapping[str, Dataset], checkpoint: int, files: records.RecordFiles
) -> dict[outputs.Recorded, tuple[float, float]]:
    """Record one checkpoint in every file; returns the accuracies of each, clean and perturbed, on the main process."""
    progress, draw = trainer.step / trainer.total_steps, checkpoint if job.resample_perturbation else 0
    accuracies = {}

    def collected() -> Iterator[tuple[outputs.Recorded, np.ndarray]]:
        for on, dataset in datasets.items():
            for file, rows in collect_all(
                trainer.model,
                dataset,
                _conditions(job, on, progress, draw),
                job.eval_size,
                job.precision,
                global_step=trainer.step,
                use_cur_preds=bool(job.use_cur_preds),
                input_gradient=bool(job.record_input_gradient),
            ):
                accuracies[file] = tuple(about.accuracies(rows).values())
                yield file, rows

    files.append(collected())
    return accuracies


def _conditions(
    job: Collect, on: str, progress: float = 1.0, draw: int = 0
) -> dict[outputs.Recorded, tuple[str, Draws]]:
    """What the instances of `Recorded.on` meet at a checkpoint, once this share of the training is done."""
    options = job.options()
    return {
        file: (file.perturbation, Draws(severity_at(job, file.severity, progress), job.seed, draw, options))
        for file in outputs.recorded(job)
        if file.on == on
    }


def severity_at(job: Collect, severity: int, progress: float) -> int:
    """The severity once this share of the training is done: the file's, or on the linear schedule 1 rising to 5."""
    return severity if job.severity_schedule == "constant" else max(1, math.ceil(5 * progress))


def metadata(
    job: Collect,
    file: outputs.Recorded,
    rows: np.ndarray,
    dataset: Dataset,
    trainer: Trainer,
    seconds: float,
    diverged: TrainingDiverged | None = None,
) -> dict[str, Any]:
    """What the JSON beside a statistics file says: the circumstances in which it was made.

    rows: the records (T, N) of the file, dataset: its instances. seconds: how long the run took.
    """
    accuracy = "train_accuracy" if file.on == "train" else "accuracy"
    checkpoints = [
        {
            "global_step": int(row["global_step"][0]),
            "epoch": int(row["global_step"][0]) / trainer.steps_per_epoch,
            "severity": severity_at(job, file.severity, int(row["global_step"][0]) / trainer.total_steps),
            **about.accuracies(row, accuracy),
        }
        for row in rows
    ]
    return {
        **outputs.described(file, dataset, checkpoints),
        "stopped": None if diverged is None else str(diverged),
        "stopped_at_epoch": trainer.stopped_at_epoch,
        "loss_against": "the model's own clean prediction" if job.use_cur_preds else "the golden label",
        "summary": about.summary(rows, bool(job.use_untrained_model)),
        "arguments": outputs.recorded_arguments(job, file.severity),
        "versions": versions(),
        "device": str(trainer.device),
        "processes": distributed.world_size(),
        "finished": timestamp(),
        "wall_seconds": round(seconds, 1),
    }
