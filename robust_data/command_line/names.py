"""What the arguments say in the names of files."""

from __future__ import annotations

import argparse
from pathlib import Path

from robust_data.files import LONGEST_NAME, fitting

# Each gives the metrics another meaning.
METRIC_SWITCHES = ("within_class", "only_original_pred", "use_untrained_model")


def metric_suffix(args: argparse.Namespace) -> str:
    """What a file's name says of the switches of `add_metric_arguments` that are on, as they change its meaning."""
    return "".join(f"_{name}" for name in METRIC_SWITCHES if getattr(args, name, 0))


def statistics_name(args: argparse.Namespace, perturbation: str | None = None) -> str:
    """The name of a run's statistics file, plain without `perturbation`.

    One that would be too long ends, before the perturbation, in a hash of what is cut off; the JSON has all of it.
    """
    parts = {
        "model": Path(args.model_name).name,
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
    severity_name = args.severity if args.severity_schedule == "constant" else "1to5"
    end = ".npy" if perturbation is None else f"_t{perturbation}_severity{severity_name}.npy"
    return fitting(name, LONGEST_NAME - len(end)) + end
