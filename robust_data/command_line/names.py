"""The names of files that the arguments decide."""

from __future__ import annotations

import argparse

from robust_data.files import LONGEST_NAME, fitting
from robust_data.packages import models

# Each changes the meaning of the metrics; in the order of their names in a file's.
METRIC_SWITCHES = ("within_class", "only_original_pred", "use_untrained_model")


def metric_suffix(args: argparse.Namespace) -> str:
    """The end of a file's name: the switches of `add_metric_arguments` that are on."""
    return "".join(f"_{name}" for name in METRIC_SWITCHES if getattr(args, name, 0))


# The end of the name of a file of instances that are not trained on.
NOT_TRAINED_ON = {"train": "", "test": "_on_test", "val": "_on_val", "held_out": "_held_out"}


def statistics_name(
    args: argparse.Namespace, perturbation: str | None = None, severity: int | None = None, on: str = "train"
) -> str:
    """The name of a run's statistics file; without `perturbation`, the part that all its files share.

    severity: by default the first of --severity. on: the instances, one of `NOT_TRAINED_ON`.
    A name that is too long is cut before the perturbation, and a hash stands for the rest; the JSON has all of it.
    """
    parts = {
        "model": models.short_name(args.model_name),
        "dataset": args.dataset_name,
        "task": args.task_name,
        "seed": args.seed,
        "shuffle": args.do_train_shuffle,
        "len": args.dataset_len,
        "adv_steps": args.adv_steps,
        "adv_lr": args.adv_lr,
        "epoch": args.epochs,
        "lr": args.lr,
        "interval": args.statistic_interval,
        "with_untrained_model": args.with_untrained_model,
        "use_cur_preds": args.use_cur_preds,
    }
    name = "robust_statistics_" + "_".join(f"{key}{value}" for key, value in parts.items())
    if getattr(args, "held_out", None):
        name += f"_without{args.held_out}"
    severity_name = severity or args.severity[0] if args.severity_schedule == "constant" else "1to5"
    end = ".npy" if perturbation is None else f"_t{perturbation}_severity{severity_name}{NOT_TRAINED_ON[on]}.npy"
    return fitting(name, LONGEST_NAME - len(end)) + end
