"""A script's arguments resolved: every default filled in before the work begins, and nothing changed afterwards."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import perturbations
from registry import InputError, one_line
from robust_data.command_line import collect_on, conditions
from robust_data.command_line.options import BUILT_BY, LOADED_BY
from robust_data.packages import datasets, models
from robust_data.selection import SENSITIVITY
from robust_data.train import launch, saved_models

# By the kind of the data, unless one suits the data set better: on digits blur ranks the classes.
DEFAULT_PERTURBATION = {"digits": "random_shadow", "image": "blur", "text": "pgd"}
DEFAULT_METRIC = f"{SENSITIVITY}_r"
DEFAULT_SHARE = 0.3
# By the optimizer. SGD's are those of He et al. (2016), but for weight decay, which is the one in use today.
LEARNING_RATE = {"adamw": 1e-3, "sgd": 0.1}
LEARNING_RATE_FROM_PRETRAINED = {"adamw": 2e-5, "sgd": 1e-3}
WEIGHT_DECAY = {"adamw": 0.01, "sgd": 5e-4}


class Resolved(argparse.Namespace):
    """Arguments that are complete. Setting or deleting one raises AttributeError."""

    def __init__(self, **arguments: Any):
        vars(self).update(arguments)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"the arguments are resolved: {name} cannot become {value}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"the arguments are resolved: {name} cannot go")


def resolved(args: argparse.Namespace, **values: Any) -> Resolved:
    """These arguments, with some of the values replaced."""
    return Resolved(**vars(args) | values)


def data(args: argparse.Namespace, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by which data are loaded: those given, the others as a run recorded them.

    For another data set than the run's only the size of images and the length of texts are taken.
    """
    if args.dataset_name not in (None, recorded.get("dataset_name")):
        recorded = {name: recorded.get(name) for name in ("image_size", "max_seq_length")}
    loading = _taken_from(recorded, args, LOADED_BY)
    return loading | {name: loading[name] or 0 for name in ("download", "num_workers", "skip_corrupt")}


def model(args: argparse.Namespace, recorded: Mapping[str, Any], source: str | os.PathLike) -> dict[str, Any]:
    """The arguments by which a model is built: those given, or without --model_name the others as a run recorded them.

    source: the statistics file, for the error. Raises InputError if nothing names a model.
    """
    built = _taken_from(recorded if args.model_name is None else {}, args, BUILT_BY)
    if built["model_name"] is None:
        raise InputError(f"--model_name is missing: there is no JSON beside {source} that names the model")
    return built | {name: built[name] or 0 for name in ("keep_stem", "reinit_classifier", "freeze_encoder")}


def as_trained(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments of evaluate_robustness.py, those of the data completed from the folder of the model, if it tells.

    `data_seed` drew the subset of --dataset_len and --val_len.
    """
    recorded = saved_models.trained_with(args.model_name)
    # They reduce the training split, from which --split val is taken.
    of_split = {"train": (), "val": ("dataset_len",), "test": ("dataset_len", "val_len")}[args.split]
    recorded = {name: value for name, value in recorded.items() if name not in of_split}
    loading = data(args, recorded)
    taken = [f"--{name} {value}" for name, value in loading.items() if value and getattr(args, name) is None]
    if taken:
        launch.say(one_line(f"data as {args.model_name} was trained on: {' '.join(taken)}"))
    same = loading["dataset_name"] == recorded.get("dataset_name")
    loading["dataset_name"] = loading["dataset_name"] or "digits"
    data_seed = recorded.get("data_seed") if same else None
    return argparse.Namespace(**vars(args) | loading | {"data_seed": args.seed if data_seed is None else data_seed})


def _taken_from(recorded: Mapping[str, Any], args: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    given = {name: getattr(args, name) for name in names}
    return {name: recorded.get(name) if value is None else value for name, value in given.items()}


def collection(args: argparse.Namespace) -> Resolved:
    """The arguments of data_statistics.py: canonical names of perturbations, severities, what the optimizer needs.

    `held_out` names the instances that a file of --collect_on holds out, see `collect_on.held_out_name`. Raises
    InputError for an unknown data set or perturbation, texts that are to be augmented, a file without indices, and
    several severities on a schedule.
    """
    severity = sorted(set(args.severity))
    if len(severity) > 1 and args.severity_schedule == "linear":
        several = " ".join(map(str, severity))
        raise InputError(
            f"--severity {several} cannot be combined with --severity_schedule linear, which takes every severity in "
            "turn; leave one of the two out"
        )
    if args.collect_on == "val" and args.val_len is None:
        raise InputError("--collect_on val needs --val_len N, which holds N instances out of the training split")
    held_out = collect_on.held_out_name(args.collect_on)
    args = resolved(training(args), perturbations=perturbation_names(args))
    return resolved(args, severity=severity, held_out=held_out)


def perturbation_names(args: argparse.Namespace) -> list[str]:
    """The canonical names that -t asks for, by default the one of the data set or its kind.

    See `perturbations.resolve`.
    """
    modality = datasets.modality(args.dataset_name)
    default = DEFAULT_PERTURBATION.get(args.dataset_name, DEFAULT_PERTURBATION[modality])
    return perturbations.resolve(args.perturbations or [default], modality)


def judging(args: argparse.Namespace) -> Resolved:
    """The arguments of evaluate_robustness.py: canonical names, each once, and the sizes of attacks, in order.

    The conditions that the same arguments ask for are those of `conditions.plan`, which raises what is wrong with them.
    """
    modality = datasets.modality(args.dataset_name)
    datasets.check_task(args.dataset_name, args.task_name)
    linf_eps, l2_eps = conditions.attack_sizes(args, modality)
    return resolved(
        args,
        perturbations=conditions.resolve(args.perturbations or [], modality),
        severities=sorted(set(args.severities)),
        attack_method=conditions.attack_methods(args, modality),
        linf_eps=linf_eps,
        l2_eps=l2_eps,
        pgd_step=sorted(set(args.pgd_step)),
        pgd_lr=None if args.pgd_lr is None else sorted(set(args.pgd_lr)),
        attack_loss=list(dict.fromkeys(args.attack_loss or ["ce"])),
    )


def training(args: argparse.Namespace) -> Resolved:
    """The arguments of a training: the learning rate and the weight decay, by default those of the optimizer.

    The learning rate is lower for a model that starts from pretrained weights. Raises InputError for a task of a data
    set without tasks, texts that are to be augmented, --judge_instances that would have no effect, and --tensorboard
    without its package.
    """
    modality = datasets.modality(args.dataset_name)
    datasets.check_task(args.dataset_name, args.task_name)
    if args.augment != "none" and modality != "image":
        raise InputError(f"--augment {args.augment} is for images; --dataset_name {args.dataset_name} holds texts")
    if args.judge_instances is not None and not args.judge_every_epoch:
        raise InputError(f"--judge_instances {args.judge_instances} has no effect without --judge_every_epoch N")
    if args.tensorboard and not _is_installed("tensorboard"):
        raise InputError(
            "--tensorboard 1 needs the package tensorboard, which is not installed; pip install tensorboard, or leave "
            "it out"
        )
    pretrained = None if args.pretrained is None else bool(args.pretrained)
    starts_pretrained = models.starts_pretrained(args.model_name, modality, pretrained)
    lr = (LEARNING_RATE_FROM_PRETRAINED if starts_pretrained else LEARNING_RATE)[args.optimizer]
    weight_decay = WEIGHT_DECAY[args.optimizer]
    return resolved(
        args,
        lr=lr if args.lr is None else args.lr,
        weight_decay=weight_decay if args.weight_decay is None else args.weight_decay,
    )


def _is_installed(package: str) -> bool:
    """Whether a package is there; a mere folder of that name, such as one that holds results, is none."""
    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None


def selection(args: argparse.Namespace) -> Resolved:
    """The arguments of a script that chooses instances: the metric, the share, the group's size, the two ends.

    args: of `add_selection_arguments`, and where the script has them of `add_group_arguments`, and `cycle_train`,
    `select_metric2` and `select_ratio2`. Raises InputError for arguments that exclude each other or would have no
    effect.
    """
    values: dict[str, Any] = {}
    if getattr(args, "group", None):
        for name in ("select_metric", "select_ratio"):
            if getattr(args, name) is not None:
                raise InputError(f"--group {args.group} chooses without --{name}; leave one of the two out")
    else:
        values |= {"select_metric": args.select_metric or DEFAULT_METRIC}
        values |= {"select_ratio": args.select_ratio or DEFAULT_SHARE}
    if hasattr(args, "group"):
        values["set_percentage"] = args.set_percentage or DEFAULT_SHARE
    args = resolved(args, **values)
    if hasattr(args, "cycle_train"):
        args = resolved(args, select_ratio2=_second_ratio(args))
    ranks_by_metric = args.select_metric is not None or getattr(args, "select_metric2", None) is not None
    if args.select_from_two_end and not ranks_by_metric:
        raise InputError(f"--select_from_two_end 1 has no effect on --group {args.group}; leave it out")
    if args.ratio_proportion is not None and not args.select_from_two_end:
        raise InputError("--ratio_proportion has no effect without --select_from_two_end 1")
    return resolved(args, ratio_proportion=0.5 if args.ratio_proportion is None else args.ratio_proportion)


def _second_ratio(args: argparse.Namespace) -> float | None:
    """The share of the second subset, by default that of the first; None without --cycle_train."""
    for name in ("select_metric2", "select_ratio2"):
        if getattr(args, name) is not None and not args.cycle_train:
            raise InputError(f"--{name} has no effect without --cycle_train 1")
    if not args.cycle_train:
        return None
    if args.select_metric2 is None:
        raise InputError("--cycle_train 1 needs --select_metric2, the metric of the other subset")
    return args.select_ratio2 or args.select_ratio or args.set_percentage


def fine_tuning(args: argparse.Namespace, loading: Mapping[str, Any], building: Mapping[str, Any]) -> Resolved:
    """The arguments of a fine-tuning script: those of `selection`, the data set's, the learning rate, the results file.

    args: as `selection` gives them. loading, building: by name the arguments that say which data to load and which
    model to build, completed from the statistics. The seed among them, by which the subset of --dataset_len was drawn,
    is not that of the run. Raises InputError as `training` does.
    """
    loading = {name: value for name, value in loading.items() if name != "seed"}
    results_file = args.results_file or str(Path(args.output_dir) / "results.csv")
    return training(resolved(args, **loading, **building, results_file=results_file))
