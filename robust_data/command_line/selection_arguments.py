"""The arguments of metrics and selection, and of the scripts that fine-tune on what they select."""

from __future__ import annotations

import argparse

from robust_data.command_line import arguments, perturbation_arguments
from robust_data.command_line.conditions import WORD_ATTACKS
from robust_data.command_line.older import add_older_arguments
from robust_data.command_line.option_types import (
    SWITCH,
    attack_name,
    natural_float,
    number_or_never,
    share,
    steps_or_share,
)


def add_metric_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("metrics")
    arguments.add_untrained_argument(group)
    group.add_argument(
        "--only_original_pred",
        **SWITCH,
        default=0,
        help="1 counts only the checkpoints at which the clean input was classified correctly",
    )
    group.add_argument(
        "--within_class",
        **SWITCH,
        default=0,
        help="1 takes every quantity as its difference from the mean of the instance's class",
    )


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the data. Those left out are None, and then the values of the statistics count."""
    arguments.add_data_arguments(parser)
    parser.set_defaults(dataset_name=None, download=None, num_workers=None, skip_corrupt=None)


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("selection")
    group.add_argument(
        "--statistics_source",
        "--select_from",
        "--statistics",
        required=True,
        metavar="FILE",
        help="a file that data_statistics.py wrote",
    )
    group.add_argument(
        "--select_metric",
        metavar="METRIC",
        help="NAME takes the highest, NAME_r the lowest; A+B, with or without _r, those nearest to that corner; "
        "top_left, top_right, bottom_left, bottom_right are corners of loss_diff_mean (right) by loss_diff_std (up); "
        "residual is the rank of sensitivity without what the rank of mean clean loss explains; random is drawn by "
        "--seed; non_robust_METRIC is what METRIC leaves over. By default perturbed_loss_mean_r, the most robust",
    )
    group.add_argument(
        "--select_ratio", type=share, metavar="SHARE", help="of the instances, in (0, 1]; by default 0.3"
    )
    group.add_argument("--select_from_two_end", **SWITCH, default=0, help="1 takes from both ends of the ranking")
    group.add_argument(
        "--ratio_proportion",
        type=natural_float,
        metavar="SHARE",
        help="with --select_from_two_end 1: the share, in [0, 1], that comes from the best end; by default 0.5",
    )
    group.add_argument(
        "--do_balance_labels", **SWITCH, default=0, help="1 takes the same number of instances of every class"
    )
    group.add_argument(
        "--permute_statistics",
        **SWITCH,
        default=0,
        help="1 first gives the metrics of each instance to another of its class, drawn by --seed: a negative control",
    )


def add_group_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("groups")
    group.add_argument(
        "--group",
        choices=("robust", "swing", "non_robust", "random"),
        help="instead of --select_metric: the first, the middle or the last by sensitivity, or as many drawn by --seed",
    )
    group.add_argument(
        "--set_percentage",
        type=share,
        metavar="SHARE",
        help="size of each group, in (0, 1], by default 0.3; above 1/3 they overlap",
    )


def add_fine_tuning_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("fine-tuning")
    perturbation_arguments.add_curve_arguments(group)
    perturbation_arguments.add_attack_size_arguments(group)
    group.add_argument(
        "--results_file", metavar="FILE", help="CSV to which the run adds a row; by default results.csv in --output_dir"
    )
    group.add_argument(
        "--save_steps",
        type=steps_or_share,
        default=0,
        metavar="N",
        help="also save the model every N steps, as model_step<N>, or below 1 every such share of an epoch; 0 only at "
        "the end",
    )
    group.add_argument(
        "--show_data",
        type=number_or_never,
        default=0,
        metavar="N",
        help="write the first N chosen instances to shown_data.csv in --output_dir",
    )


def add_fine_tuning_script_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of every fine-tuning script; the data are by default those of the statistics."""
    add_source_arguments(parser)
    arguments.add_model_arguments(parser)
    add_metric_arguments(parser)
    add_selection_arguments(parser)
    arguments.add_training_arguments(parser)
    add_fine_tuning_arguments(parser)
    arguments.add_log_arguments(parser)
    arguments.add_repetition_arguments(parser)
    arguments.add_resume_arguments(parser)
    group = parser.add_argument_group("attack at the end")
    group.add_argument("--do_attack", **SWITCH, default=0, help="1 attacks the words of test texts at the end")
    group.add_argument(
        "--attack_method",
        nargs="+",
        type=attack_name,
        choices=(*WORD_ATTACKS, "all"),
        metavar="NAME",
        help=f"with --do_attack 1: {', '.join(WORD_ATTACKS)}; all; by default {WORD_ATTACKS[0]}",
    )
    perturbation_arguments.add_word_attack_arguments(parser)
    arguments.add_run_arguments(parser)
    add_older_arguments(parser)
