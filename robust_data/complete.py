"""The settings of a job completed: every default that depends on another setting, filled in before the work begins."""

from __future__ import annotations

import dataclasses
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from robust_data import datasets, models, perturbations, settings
from robust_data.analysis import held_out
from robust_data.analysis.statistics_file import StatisticsFile
from robust_data.registry import InputError, LazyModule, one_line
from robust_data.selection import RANDOM, SENSITIVITY, SENSITIVITY_GROUPS, is_list
from robust_data.settings import Choose, Collect, Data, FineTune, Judgement, Model
from robust_data.train import launch, saved_models

# For a judgement alone.
conditions = LazyModule("robust_data.judge.conditions")

# By the kind of the data, unless one suits the data set better: on digits blur ranks the classes.
DEFAULT_PERTURBATION = {"digits": "random_shadow", "image": "blur", "text": "pgd"}
DEFAULT_METRIC = f"{SENSITIVITY}_r"
DEFAULT_SHARE = 0.3

Trained = TypeVar("Trained", Collect, FineTune)
Chosen = TypeVar("Chosen", Choose, FineTune)


def collection(job: Collect) -> Collect:
    """Canonical names of perturbations, severities, what the optimizer needs, and what tells the held-out instances.

    Raises InputError for an unknown data set or perturbation, texts that are to be augmented, a file without indices,
    and several severities on a schedule.
    """
    severity = sorted(set(job.severity))
    if len(severity) > 1 and job.severity_schedule == "linear":
        several = " ".join(map(str, severity))
        raise InputError(
            f"--severity {several} cannot be combined with --severity_schedule linear, which takes every severity in "
            "turn; leave one of the two out"
        )
    if job.collect_on == "val" and job.val_len is None:
        raise InputError("--collect_on val needs --val_len N, which holds N instances out of the training split")
    apart = held_out.held_out_name(job.collect_on)
    names = perturbation_names(job.dataset_name, job.perturbations)
    return replace(training(job), perturbations=names, severity=severity, held_out=apart)


def perturbation_names(dataset_name: str, requested: list[str] | None) -> list[str]:
    """The canonical names of what is asked for, by default the one of the data set or its kind.

    See `perturbations.resolve`.
    """
    modality = datasets.modality(dataset_name)
    default = DEFAULT_PERTURBATION.get(dataset_name, DEFAULT_PERTURBATION[modality])
    return perturbations.resolve(requested or [default], modality)


def as_trained(job: Judgement) -> Judgement:
    """The data as the folder of the model says that it was trained on, where the settings leave them open."""
    recorded = saved_models.trained_with(job.model_name)
    # They reduce the training split, from which --split val is taken.
    of_split = {"train": (), "val": ("dataset_len",), "test": ("dataset_len", "val_len")}[job.split]
    recorded = {name: value for name, value in recorded.items() if name not in of_split}
    given = settings.of(Data, job)
    data = settings.as_recorded(given, recorded)
    found = dataclasses.asdict(data)
    taken = [f"--{name} {found[name]}" for name in found if found[name] and getattr(given, name) is None]
    if taken and recorded:
        launch.say(one_line(f"data as {job.model_name} was trained on: {' '.join(taken)}"))
    data = replace(data, dataset_name=data.dataset_name or Data.dataset_name)
    same = data.dataset_name == recorded.get("dataset_name")
    data_seed = recorded.get("data_seed") if same else None
    return replace(job, **dataclasses.asdict(data), data_seed=job.seed if data_seed is None else data_seed)


def judging(job: Judgement) -> Judgement:
    """Canonical names, each once, and the sizes of attacks, in order.

    The conditions that the same settings ask for are those of `conditions.plan`, which raises what is wrong with them.
    """
    modality = datasets.modality(job.dataset_name)
    datasets.check_task(job.dataset_name, job.task_name)
    linf_eps, l2_eps = conditions.attack_sizes(job, modality)
    return replace(
        job,
        perturbations=conditions.resolve(job.perturbations or [], modality),
        severities=sorted(set(job.severities)),
        attack_method=conditions.attack_methods(job, modality),
        linf_eps=linf_eps,
        l2_eps=l2_eps,
        pgd_step=sorted(set(job.pgd_step)),
        pgd_lr=None if job.pgd_lr is None else sorted(set(job.pgd_lr)),
        attack_loss=list(dict.fromkeys(job.attack_loss or conditions.DEFAULT_LOSSES)),
    )


def training(job: Trained) -> Trained:
    """The learning rate and the weight decay, by default those of the optimizer.

    The learning rate is lower for a model that starts from pretrained weights. Raises InputError for a task of a data
    set without tasks, texts that are to be augmented, and --tensorboard without its package.
    """
    modality = datasets.modality(job.dataset_name)
    datasets.check_task(job.dataset_name, job.task_name)
    if job.augment != "none" and modality != "image":
        raise InputError(f"--augment {job.augment} is for images; --dataset_name {job.dataset_name} holds texts")
    if job.tensorboard and not _is_installed("tensorboard"):
        raise InputError(
            "--tensorboard 1 needs the package tensorboard, which is not installed; pip install tensorboard, or leave "
            "it out"
        )
    pretrained = None if job.pretrained is None else bool(job.pretrained)
    return job.complete(models.starts_pretrained(job.model_name, modality, pretrained))


def _is_installed(package: str) -> bool:
    """Whether a package is there; a mere folder of that name, such as one that holds results, is none."""
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None


def selection(job: Chosen) -> Chosen:
    """The metric and the share, or the group and its size, the two ends.

    Raises InputError for settings that exclude each other, and for a second subset without its metric.
    """
    by_group = getattr(job, "group", None)
    if by_group and job.select_metric is not None:
        raise InputError(f"--group {by_group} chooses without --select_metric; leave one of the two out")
    if getattr(job, "tilt", None):
        if by_group or job.select_metric not in (None, RANDOM):
            raise InputError("--tilt is of a random draw; leave --select_metric and --group out")
        job = replace(job, select_metric=RANDOM, do_balance_labels=1)
    if hasattr(job, "group"):
        word = by_group or (job.select_metric if job.select_metric in SENSITIVITY_GROUPS else None)
        if word:
            size = job.select_ratio or job.set_percentage
            job = replace(job, group=word, set_percentage=size, select_metric=None, select_ratio=None)
        job = replace(job, set_percentage=job.set_percentage or DEFAULT_SHARE)
    if not getattr(job, "group", None):
        metric = job.select_metric or DEFAULT_METRIC
        ratio = job.select_ratio or (1.0 if is_list(metric) else DEFAULT_SHARE)
        job = replace(job, select_metric=metric, select_ratio=ratio)
    if hasattr(job, "cycle_train"):
        if job.cycle_train and job.select_metric2 is None:
            raise InputError("--cycle_train 1 needs --select_metric2, the metric of the other subset")
        second = job.select_ratio2 or job.select_ratio or job.set_percentage
        job = replace(job, select_ratio2=second if job.cycle_train else None)
    if job.select_from_two_end and job.select_metric is None and getattr(job, "select_metric2", None) is None:
        raise InputError(f"--select_from_two_end 1 has no effect on the group {job.group}; leave it out")
    return replace(job, ratio_proportion=0.5 if job.ratio_proportion is None else job.ratio_proportion)


def fine_tuning(job: FineTune, statistics: StatisticsFile) -> FineTune:
    """The data and the model, by default those of the statistics, the learning rate, and the results file.

    job: of `selection`. Raises InputError if nothing names the data or the model, and as `training` does.
    """
    model = settings.of(Model, job)
    recorded = statistics.metadata.get("arguments", {}) if model.model_name is None else {}
    model = settings.completed(model, {name: value for name, value in recorded.items() if name != "memory_format"})
    if job.model_name is None and not recorded.get("model_name"):
        raise InputError(f"--model_name is missing: there is no JSON beside {statistics.path} that names the model")
    data = statistics.data_settings(settings.of(Data, job))
    results_file = job.results_file or str(Path(job.output_dir) / "results.csv")
    found = dataclasses.asdict(data) | dataclasses.asdict(model)
    if job.do_pgd_training and not job.adv_steps:
        raise InputError("--do_pgd_training 1 learns from the ascent steps; give --adv_steps of at least 1")
    names = perturbations.resolve(job.augment_chosen or (), datasets.modality(data.dataset_name))
    if by_gradient := [name for name in names if perturbations.CATALOGUE[name].needs_gradient]:
        raise InputError(f"--augment_chosen {by_gradient[0]} follows a gradient; --do_pgd_training 1 trains so")
    found["augment_chosen"] = names or None
    return training(replace(job, **found, results_file=results_file))
