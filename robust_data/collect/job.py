"""The main job: train a model, and collect statistics at every checkpoint."""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import perturbations
from registry import InputError
from robust_data import records
from robust_data.collect import outputs as finished
from robust_data.collection import Draws, collect_all
from robust_data.command_line import building, collect_on
from robust_data.command_line.options import pgd_options
from robust_data.train import curve, distributed, epoch_log, event_files, launch
from robust_data.train.identity import data_identity
from robust_data.train.resume import RunState, StopRequest, follow, stop_requests
from robust_data.train.training import Trainer, TrainingDiverged, checkpoint_steps
from robust_data.train.versions import timestamp, versions

if TYPE_CHECKING:
    from datasets.base import Dataset


def train_and_record(args: argparse.Namespace) -> None:
    """Train as the arguments say and write one statistics file for all that is `finished.recorded`.

    Killed at any moment and called again with the same arguments, it goes on and ends with the same bytes. A finished
    run is not repeated.

    args: of `data_statistics.py`, resolved; --output_dir must be there. Raises TrainingDiverged when the loss stops
    being finite, after writing the checkpoints before it; Interrupted after a signal has asked it to stop and its state
    is saved.
    """
    started = time.perf_counter()
    device = building.prepare_device(args)
    datasets, val_set, test_set = load_data(args, device)
    train_set = datasets["train"]
    paths, folder = finished.file_paths(args), Path(args.output_dir)
    severities = itertools.product(paths, range(6))
    used = {(file.perturbation, severity_at(args, file.severity, progress / 5)) for file, progress in severities}
    perturbations.check_size(sorted(used), train_set.image_size)
    known_by = finished.run_identity(args) | data_identity(train_set.labels.numpy())
    state = RunState(finished.state_path(args), known_by)
    with state.held():
        if args.overwrite:
            start_anew(list(paths.values()), state)
        saved = state.load()
        if saved is None and distributed.from_main(lambda: finished.is_finished(args, datasets)):
            launch.say(finished.SAID)
            return

        model = building.build_model(args, train_set, device)
        options = building.training_options(args)
        trainer = Trainer(model, train_set, options, device)
        rows, seconds_before = 0, 0.0
        if saved is not None:
            with state.restoring():
                trainer.load_state(saved["trainer"])
                rows, seconds_before = int(saved["rows"]), float(saved["seconds"])
            launch.say(f"going on at step {trainer.step} of {trainer.total_steps}")
        del saved
        judged_on = curve.instances(test_set, args)

        def judge(figures: dict[str, Any]) -> dict[str, Any]:
            return curve.point(model, judged_on, args) if curve.is_due(args, figures["epoch"]) else {}

        log, run = folder / "log.jsonl", finished.run_name(args)
        epoch_log.forget_epochs(log, run, trainer.told_step)
        points = event_files.Points(args, log, run)
        log_epoch = epoch_log.epoch_logger(log, run, model, test_set, args, judge, val_set, points.add)
        steps = checkpoint_steps(
            args.epochs, trainer.steps_per_epoch, args.statistic_interval, bool(args.with_untrained_model)
        )
        own_paths = paths if distributed.is_main() else {}

        def seconds() -> float:
            return seconds_before + time.perf_counter() - started

        dtype = records.DTYPE_WITH_INPUT_GRADIENT if args.record_input_gradient else records.DTYPE
        instances = {file: len(datasets[file.on]) for file in paths}
        growing = records.RecordFiles(own_paths, len(steps), instances, rows, dtype)
        with stop_requests() as stop, growing as files, points:
            building.announce(args, train_set, device)
            with state.unless_bad_input(lambda: files.rows):
                diverged = _run(args, trainer, datasets, steps, files, state, stop, log_epoch, seconds)
            files.finish(lambda file, rows: metadata(args, file, rows, datasets[file.on], trainer, seconds(), diverged))
        distributed.wait()
        state.remove()
    distributed.wait()
    if diverged is not None:
        raise TrainingDiverged(f"{diverged}; checkpoints kept before it: {files.rows}, in {folder}")


def load_data(
    args: argparse.Namespace, device: torch.device
) -> tuple[dict[str, Dataset], Dataset | None, Dataset | None]:
    """The instances of each `Recorded.on`, those to train on as "train"; the validation and the test split or None.

    Raises InputError where --collect_on names instances that are not there, or leaves none to train on.
    """
    train_set, test_set = building.load_splits(args, device)
    val_set = building.load_validation(args, train_set, device)
    held_out = collect_on.held_out_index(args.collect_on)
    if held_out is not None:
        return _hold_out(args, train_set, held_out), val_set, test_set
    datasets = {"train": train_set}
    if args.collect_on is not None:
        datasets[args.collect_on] = test_set if args.collect_on == "test" else val_set
        if datasets[args.collect_on] is None:
            raise InputError(f"--collect_on {args.collect_on}: the data set has no such split; {collect_on.REMEDY}")
    return datasets, val_set, test_set


def _hold_out(args: argparse.Namespace, train_set: Dataset, held_out: np.ndarray) -> dict[str, Dataset]:
    """The training split in two, "train" and "held_out"."""
    of_others = np.isin(train_set.index.numpy(), held_out)
    if of_others.sum() < len(held_out):
        absent = np.setdiff1d(held_out, train_set.index.numpy())
        raise InputError(
            f"--collect_on {args.collect_on} names {len(absent)} instances, such as {absent[0]}, that are not among "
            f"the {len(train_set)} of the training split; give --dataset_len, --seed and --skip_corrupt as they were "
            "when these were chosen"
        )
    if of_others.all():
        raise InputError(f"--collect_on {args.collect_on} names every instance, so that none is left to train on")
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
    args: argparse.Namespace,
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

    follow(trainer, state, stop, save, args.save_every, end_epoch)
    first, started = files.rows, time.perf_counter()
    try:
        for checkpoint in range(first, len(steps)):
            if trainer.stopped_at_epoch is not None:  # the end of that epoch is recorded
                break
            trainer.train_until(steps[checkpoint])
            with stop.at_once():
                collected = _collect_checkpoint(args, trainer, datasets, checkpoint)
            files.append(collected)
            save()
            if collected:
                taken = time.perf_counter() - started
                left = taken / (files.rows - first) * (len(steps) - files.rows)
                line = finished.checkpoint_line(
                    trainer.step, {str(file).replace(",", ""): rows for file, rows in collected.items()}
                )
                launch.say(f"{line}; {files.rows} of {len(steps)}, {seconds():.0f} s, about {left:.0f} s left")
    except TrainingDiverged as error:
        return error
    return None


def _collect_checkpoint(
    args: argparse.Namespace, trainer: Trainer, datasets: Mapping[str, Dataset], checkpoint: int
) -> dict[finished.Recorded, np.ndarray]:
    """The records of one checkpoint, for every file."""
    progress, draw = trainer.step / trainer.total_steps, checkpoint if args.resample_perturbation else 0
    collected = {}
    for on, dataset in datasets.items():
        collected |= collect_all(
            trainer.model,
            dataset,
            _conditions(args, on, progress, draw),
            args.eval_size,
            args.precision,
            global_step=trainer.step,
            use_cur_preds=bool(args.use_cur_preds),
            input_gradient=bool(args.record_input_gradient),
        )
    return collected


def _conditions(
    args: argparse.Namespace, on: str, progress: float = 1.0, draw: int = 0
) -> dict[finished.Recorded, tuple[str, Draws]]:
    """What the instances of `Recorded.on` meet at a checkpoint, once this share of the training is done."""
    options = pgd_options(args)
    return {
        file: (file.perturbation, Draws(severity_at(args, file.severity, progress), args.seed, draw, options))
        for file in finished.recorded(args)
        if file.on == on
    }


def severity_at(args: argparse.Namespace, severity: int, progress: float) -> int:
    """The severity once this share of the training is done: the file's, or on the linear schedule 1 rising to 5."""
    return severity if args.severity_schedule == "constant" else max(1, math.ceil(5 * progress))


def metadata(
    args: argparse.Namespace,
    file: finished.Recorded,
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
            "severity": severity_at(args, file.severity, int(row["global_step"][0]) / trainer.total_steps),
            **finished.accuracies(row, accuracy),
        }
        for row in rows
    ]
    return {
        **finished.described(file, dataset, checkpoints),
        "stopped": None if diverged is None else str(diverged),
        "stopped_at_epoch": trainer.stopped_at_epoch,
        "loss_against": "the model's own clean prediction" if args.use_cur_preds else "the golden label",
        "summary": finished.summary(rows, bool(args.use_untrained_model)),
        "arguments": finished.recorded_arguments(args, file.severity),
        "versions": versions(),
        "device": str(trainer.device),
        "processes": distributed.world_size(),
        "finished": timestamp(),
        "wall_seconds": round(seconds, 1),
    }
