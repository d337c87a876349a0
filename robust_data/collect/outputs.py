"""The files of a finished collection: found and summarised without torch, which takes seconds to import."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_data import datasets, models, perturbations, records, tables
from robust_data.analysis.doubt import doubt
from robust_data.datasets.base import Dataset
from robust_data.files import LONGEST_NAME, fitting
from robust_data.metrics import describe_counted, instance_metrics, out_of_order, summarise
from robust_data.registry import InputError, warn_once
from robust_data.settings import Collect, Run
from robust_data.train import launch
from robust_data.train.identity import OWN_DATASETS, check_arguments

# Arguments of the recording alone: runs that differ in these train alike, and log the same.
OF_RECORDING = (
    *("perturbations", "severity", "severity_schedule", "collect_on", "resample_perturbation"),
    *("record_input_gradient", "adv_init_mag", "adv_max_norm", "adv_norm_type", "attack_special_tokens", "eval_size"),
)
# Accuracies that one line tells.
MOST_SHOWN = 6
# The end of the name of a file of instances that are not trained on.
NOT_TRAINED_ON = {"train": "", "test": "_on_test", "val": "_on_val", "held_out": "_held_out"}
# Of the summaries.
COLUMNS = ("sensitivity", "variability", "flip rate", "class explains", "rank corr. clean loss")
SAID = "finished already; --overwrite 1 collects again"


@dataclass(frozen=True)
class Recorded:
    """What one statistics file holds: a perturbation, its severity, and which instances (see `NOT_TRAINED_ON`)."""

    perturbation: str
    severity: int
    on: str = "train"

    def __str__(self) -> str:
        """In words, but for what is so by default."""
        has_severity = perturbations.CATALOGUE[self.perturbation].severities is not None
        words = [f"severity {self.severity}"] if has_severity else []
        words += [self.on.replace("_", " ")] if self.on != "train" else []
        return ", ".join([self.perturbation, *words])


def recorded(job: Collect) -> list[Recorded]:
    """All that a run records; job: complete.

    A perturbation without severity is recorded once, in the file of the lowest one.
    """
    pairs = [
        (name, severity)
        for name in job.perturbations
        for severity in (job.severity if perturbations.CATALOGUE[name].severities is not None else job.severity[:1])
    ]
    others = [] if job.collect_on is None else ["held_out" if job.held_out else job.collect_on]
    return [Recorded(name, severity, on) for on in ("train", *others) for name, severity in pairs]


def file_paths(job: Collect) -> dict[Recorded, Path]:
    """The statistics file of everything that is recorded; job: as in `recorded`."""
    folder = Path(job.output_dir)
    return {file: folder / statistics_name(job, file.perturbation, file.severity, file.on) for file in recorded(job)}


def statistics_name(
    job: Collect, perturbation: str | None = None, severity: int | None = None, on: str = "train"
) -> str:
    """The name of a run's statistics file; without `perturbation`, the part that all its files share.

    severity: by default the first of --severity. on: the instances, one of `NOT_TRAINED_ON`.
    A name that is too long is cut before the perturbation, and a hash stands for the rest; the JSON has all of it.
    """
    parts = {
        "model": models.short_name(job.model_name),
        "dataset": datasets.short_name(job.dataset_name),
        "task": job.task_name,
        "seed": job.seed,
        "shuffle": job.do_train_shuffle,
        "len": job.dataset_len,
        "adv_steps": job.adv_steps,
        "adv_lr": job.adv_lr,
        "epoch": job.epochs,
        "lr": job.lr,
        "interval": job.statistic_interval,
        "with_untrained_model": job.with_untrained_model,
        "use_cur_preds": job.use_cur_preds,
    }
    name = "robust_statistics_" + "_".join(f"{key}{value}" for key, value in parts.items())
    if job.held_out:
        name += f"_without{job.held_out}"
    severity_name = severity or job.severity[0] if job.severity_schedule == "constant" else "1to5"
    end = ".npy" if perturbation is None else f"_t{perturbation}_severity{severity_name}{NOT_TRAINED_ON[on]}.npy"
    return fitting(name, LONGEST_NAME - len(end)) + end


def run_name(job: Collect) -> str:
    """The name of a run, as its log and its state have it."""
    return statistics_name(job).removesuffix(".npy")


def state_path(job: Collect) -> Path:
    """Where a run that is not finished keeps its state."""
    return Path(job.output_dir) / f"{run_name(job)}.state"


def recorded_arguments(job: Collect, severity: int | None = None) -> dict[str, Any]:
    """The arguments that decide what is recorded; the others only summarise it.

    severity: the one of a single file; without it the arguments are those of the run.
    """
    severities = job.severity if len(job.severity) > 1 else job.severity[0]
    return {name: value for name, value in dataclasses.asdict(job).items() if name != "use_untrained_model"} | {
        "severity": severity or severities
    }


def run_identity(job: Collect) -> dict[str, Any]:
    """The arguments that tell a run from another; a file of held-out instances is known by what it holds."""
    return recorded_arguments(job) | {"collect_on": None if job.held_out else job.collect_on}


def is_finished(job: Collect, datasets: Mapping[str, Dataset] | None = None) -> bool:
    """Whether all files of a run are there.

    datasets: the instances of each `Recorded.on`; without them the files are not compared with the data. Raises
    InputError for a file that was made with other arguments or on other data, or that ends where the loss stopped
    being finite; also for one of another training that has the run's name, and so would share its log.
    """
    paths = file_paths(job)
    if not job.overwrite:
        _check_namesakes(job, set(paths.values()))
    found = {file: path for file, path in paths.items() if path.exists()}
    for file, path in found.items():
        rows, about = records.load(path)
        if not about:
            raise InputError(
                f"{path} lies without the JSON that tells of its run; restore it, or use --overwrite 1 or another "
                "--output_dir"
            )
        # What else the run recorded makes no difference to this file.
        others = {"perturbations": job.perturbations, "collect_on": job.collect_on}
        check_arguments(about.get("arguments", {}) | others, recorded_arguments(job, file.severity), path)
        if datasets is not None:
            records.check_dataset(rows, about, datasets[file.on], path)
        if about.get("stopped"):
            raise InputError(f"{about['stopped']}; checkpoints kept before it: {len(rows)}, in {path}")
    return len(found) == len(paths)


def _check_namesakes(job: Collect, own: set[Path]) -> None:
    """Raise InputError for another perturbation's file of the run's name whose training had other arguments."""
    for path in sorted(Path(job.output_dir).glob(f"{glob.escape(run_name(job))}_t*_severity*.npy")):
        before = {} if path in own else records.load_metadata(path).get("arguments", {})
        if before:
            now = recorded_arguments(job)
            check_arguments(before | {name: now[name] for name in OF_RECORDING}, now, path)


def is_finished_without_data(job: Collect) -> bool:
    """As `is_finished`, but False wherever the answer needs the data or other processes.

    It needs the data if they are the user's own, which may have changed, or lie in another place than before.
    """
    paths = file_paths(job).values()
    if job.overwrite or launch.process_count() > 1 or state_path(job).exists():
        return False
    if job.dataset_name in OWN_DATASETS or not all(path.exists() for path in paths):
        return False
    for path in paths:
        before = records.load_metadata(path).get("arguments", {})
        if any(before.get(name) != getattr(job, name) for name in ("data_dir", "skip_corrupt")):
            return False
    return is_finished(job)


def described(file: Recorded, dataset: Dataset, checkpoints: list[dict[str, Any]]) -> dict[str, Any]:
    """What the JSON beside a statistics file says of the perturbation, of its instances, and of the checkpoints."""
    entry = perturbations.CATALOGUE[file.perturbation]
    return {
        "perturbation": file.perturbation,
        "family": entry.family,
        "severity": file.severity,
        "parameter": entry.parameter(file.severity, *(dataset.image_size or (0, 0))),
        "parameter_unit": entry.unit,
        **of_dataset(dataset, file.on == "train"),
        "checkpoints": checkpoints,
    }


def of_dataset(dataset: Dataset, trained_on: bool = True) -> dict[str, Any]:
    """What the JSON beside a statistics file says of its instances."""
    return {
        "dataset_name": dataset.name,
        "split": dataset.split,
        "trained_on": trained_on,
        "label_names": list(dataset.label_names),
        "instances": len(dataset),
        "image_size": None if dataset.image_size is None else list(dataset.image_size),
        "labels_sha256": records.labels_hash(dataset.labels.numpy()),
    }


def checkpoint_line(step: int, accuracies: Mapping[Any, tuple[float, float]]) -> str:
    """A line for the terminal on the accuracies at a checkpoint, clean and perturbed, by what was recorded."""
    clean = next(iter(accuracies.values()))[0]
    shown = [f"{100 * share:.1f} % {str(name).replace(',', '')}" for name, (_, share) in accuracies.items()]
    more = [f"{len(shown) - MOST_SHOWN} more"] if len(shown) > MOST_SHOWN else []
    return f"step {step}: accuracy {', '.join([f'{100 * clean:.1f} % clean', *shown[:MOST_SHOWN], *more])}"


def print_summary(job: Collect) -> None:
    """A table of the perturbations, a line each, over which checkpoints it was taken, then the files."""
    paths, use_untrained_model = file_paths(job), bool(job.use_untrained_model)
    names = [str(file) if len(job.severity) > 1 or job.collect_on else file.perturbation for file in paths]
    opened = [records.load(path) for path in paths.values()]
    lines = [("perturbation", "instances", *COLUMNS)]
    for name, (rows, _) in zip(names, opened):
        figures = summarise(instance_metrics(rows, use_untrained_model=use_untrained_model)).values()
        lines.append((name, str(rows.shape[1]), *map(tables.number, figures)))
    tables.show(lines, widths=(32, 9))
    diverged = {name: doubt(*file, use_untrained_model) for name, file in zip(names, opened)}
    for wrong in dict.fromkeys(filter(None, diverged.values())):  # the clean loss is that of all files
        first, *others = [name for name in names if diverged[name] == wrong]
        warn_once(f"{first}{f' and {len(others)} more' if others else ''}: {wrong}")
    _warn_of_order({file: float(rows["delta_norm"].mean()) for file, (rows, _) in zip(paths, opened)})
    print(f"counted: {describe_counted(opened[0][0], use_untrained_model)}")
    for path in paths.values():
        print(f"saved {path}")


def print_over_seeds(runs: Sequence[Collect]) -> None:
    """A table of what was recorded, a line each, with means and deviations; runs: those of each seed, complete."""
    of_all = [list(file_paths(run).items()) for run in runs]
    lines = []
    for files in zip(*of_all, strict=True):
        figures = [
            summarise(instance_metrics(records.load(path)[0], use_untrained_model=bool(run.use_untrained_model)))
            for run, (_, path) in zip(runs, files, strict=True)
        ]
        cells = map(tables.mean_and_deviation, zip(*(each.values() for each in figures), strict=True))
        lines.append((str(files[0][0]), *cells))
    tables.show([(over_seeds(runs), *COLUMNS), *lines], widths=(32, *[19] * len(COLUMNS)))


def over_seeds(runs: Sequence[Run]) -> str:
    """What figures are over, in words; runs: those of one command, a seed each."""
    return f"over {len(runs)} seed{'s' if len(runs) > 1 else ''} ({' '.join(str(run.seed) for run in runs)})"


def _warn_of_order(changes: Mapping[Recorded, float]) -> None:
    """Tell which perturbations, by the mean change of the inputs in each file, do not grow with the severity."""
    of_training = {}
    for file, change in changes.items():
        if file.on == "train":
            of_training.setdefault(file.perturbation, {})[file.severity] = change
    told = [
        f"{name} ({', '.join(f'{level}: {change:.3g}' for level, change in sorted(by_severity.items()))})"
        for name, by_severity in of_training.items()
        if out_of_order(by_severity)
    ]
    if told:
        warn_once(f"a higher severity changes the inputs less, by the mean over the instances, of {', '.join(told)}")
