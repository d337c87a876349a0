"""The main job: train a model, and collect statistics at every checkpoint."""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import perturbations
from datasets.base import Dataset
from robust_data import records
from robust_data.collection import collect
from robust_data.command_line import building
from robust_data.command_line.options import pgd_options
from robust_data.measuring import curve, epoch_log, finished
from robust_data.running import distributed, launch
from robust_data.running.identity import data_identity
from robust_data.running.resume import RunState, StopRequest, follow, stop_requests
from robust_data.running.training import Trainer, TrainingDiverged, checkpoint_steps
from robust_data.running.versions import timestamp, versions


def train_and_record(args: argparse.Namespace) -> None:
    """Train as the arguments say and write one statistics file per perturbation.

    Killed at any moment and called again with the same arguments, it goes on and ends with the same bytes. A finished
    run is not repeated.

    args: of `data_statistics.py`, resolved; --output_dir must be there. Raises TrainingDiverged when the loss stops
    being finite, after writing the checkpoints before it; Interrupted after a signal has asked it to stop and its
    state is saved.
    """
    started = time.perf_counter()
    device = building.prepare_device(args)
    train_set, test_set = building.load_splits(args, device)
    val_set = building.load_validation(args, train_set, device)
    severities = {severity_at(args, progress / 5) for progress in range(6)}
    perturbations.check_size(itertools.product(args.perturbations, severities), train_set.image_size)
    paths, folder = finished.file_paths(args), Path(args.output_dir)
    known_by = finished.recorded_arguments(args) | data_identity(train_set.labels.numpy())
    state = RunState(finished.state_path(args), known_by)
    with state.held():
        if args.overwrite:
            start_anew(list(paths.values()), state)
        saved = state.load()
        if saved is None and distributed.from_main(lambda: finished.is_finished(args, train_set)):
            launch.say(finished.SAID)
            return

        model = building.build_model(args, train_set, device)
        options = building.training_options(args)
        trainer = Trainer(model, train_set, options, device, progress=distributed.is_main())
        rows, seconds_before = 0, 0.0
        if saved is not None:
            trainer.load_state(saved["trainer"])
            rows, seconds_before = saved["rows"], saved["seconds"]
            launch.say(f"going on at step {trainer.step} of {trainer.total_steps}")
        del saved
        judged_on = curve.instances(test_set, args)

        def judge(figures: dict[str, Any]) -> dict[str, Any]:
            return curve.point(model, judged_on, args) if curve.is_due(args, figures["epoch"]) else {}

        log, run = folder / "log.jsonl", finished.run_name(args)
        epoch_log.forget_epochs(log, run, trainer.told_step)
        log_epoch = epoch_log.epoch_logger(log, run, model, test_set, args, judge, val_set)
        steps = checkpoint_steps(
            args.epochs, trainer.steps_per_epoch, args.statistic_interval, bool(args.with_untrained_model)
        )
        own_paths = paths if distributed.is_main() else {}

        def seconds() -> float:
            return seconds_before + time.perf_counter() - started

        dtype = records.DTYPE_WITH_INPUT_GRADIENT if args.record_input_gradient else records.DTYPE
        growing = records.RecordFiles(own_paths, len(steps), len(train_set), rows, dtype)
        with stop_requests() as stop, growing as files:
            building.announce(args, train_set, device)
            with state.unless_bad_input(lambda: files.rows):
                diverged = _run(args, trainer, steps, files, state, stop, log_epoch, seconds)
            files.finish(lambda name, rows: metadata(args, name, rows, train_set, trainer, seconds(), diverged))
        distributed.wait()
        state.remove()
    distributed.wait()
    if diverged is not None:
        raise TrainingDiverged(f"{diverged}; checkpoints kept before it: {files.rows}, in {folder}")


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
    steps: Sequence[int],
    files: records.RecordFiles,
    state: RunState,
    stop: StopRequest,
    log_epoch: Callable[[dict[str, Any]], None],
    seconds: Callable[[], float],
) -> TrainingDiverged | None:
    """Train to each checkpoint that is left and record it, saving the state on the way; returns why it ended early."""

    def save() -> None:
        state.save({"trainer": trainer.state(), "rows": files.rows, "seconds": seconds()})

    follow(trainer, state, stop, save, args.save_every, log_epoch)
    try:
        for checkpoint in range(files.rows, len(steps)):
            if trainer.stopped_at_epoch is not None:  # the end of that epoch is recorded
                break
            trainer.train_until(steps[checkpoint])
            with stop.at_once():
                collected = _collect_checkpoint(args, trainer, checkpoint)
            files.append(collected)
            save()
    except TrainingDiverged as error:
        return error
    return None


def _collect_checkpoint(args: argparse.Namespace, trainer: Trainer, checkpoint: int) -> dict[str, np.ndarray]:
    return collect(
        trainer.model,
        trainer.dataset,
        args.perturbations,
        severity_at(args, trainer.step / trainer.total_steps),
        args.seed,
        args.eval_size,
        args.precision,
        global_step=trainer.step,
        draw=checkpoint if args.resample_perturbation else 0,
        use_cur_preds=bool(args.use_cur_preds),
        input_gradient=bool(args.record_input_gradient),
        pgd_options=pgd_options(args),
        progress=distributed.is_main(),
    )


def severity_at(args: argparse.Namespace, progress: float) -> int:
    """The severity once this share of the training is done: --severity, or on the linear schedule 1 rising to 5."""
    return args.severity if args.severity_schedule == "constant" else max(1, math.ceil(5 * progress))


def metadata(
    args: argparse.Namespace,
    name: str,
    rows: np.ndarray,
    train_set: Dataset,
    trainer: Trainer,
    seconds: float,
    diverged: TrainingDiverged | None = None,
) -> dict[str, Any]:
    """What the JSON beside a statistics file says: the circumstances in which it was made.

    rows: the records (T, N) of perturbation `name`. seconds: how long the run took.
    """
    entry = perturbations.CATALOGUE[name]
    checkpoints = [
        {
            "global_step": int(row["global_step"][0]),
            "epoch": int(row["global_step"][0]) / trainer.steps_per_epoch,
            "severity": severity_at(args, int(row["global_step"][0]) / trainer.total_steps),
            "train_accuracy": float(row["original_pred"].mean()),
            "train_accuracy_perturbed": float(row["after_perturb_pred"].mean()),
        }
        for row in rows
    ]
    return {
        "perturbation": name,
        "family": entry.family,
        "severity": args.severity,
        "parameter": entry.parameter(args.severity, *(train_set.image_size or (0, 0))),
        "parameter_unit": entry.unit,
        "dataset_name": train_set.name,
        "split": train_set.split,
        "label_names": list(train_set.label_names),
        "instances": len(train_set),
        "labels_sha256": records.labels_hash(train_set.labels.numpy()),
        "checkpoints": checkpoints,
        "stopped": None if diverged is None else str(diverged),
        "stopped_at_epoch": trainer.stopped_at_epoch,
        "loss_against": "the model's own clean prediction" if args.use_cur_preds else "the golden label",
        "summary": finished.summary(rows, bool(args.use_untrained_model)),
        "arguments": finished.recorded_arguments(args),
        "versions": versions(),
        "device": str(trainer.device),
        "processes": distributed.world_size(),
        "finished": timestamp(),
        "wall_seconds": round(seconds, 1),
    }
