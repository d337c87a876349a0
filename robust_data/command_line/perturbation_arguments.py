"""The arguments of perturbations and attacks: how inputs are changed, in a collection, in judging, in training."""

from __future__ import annotations

import argparse

import perturbations
from robust_data.command_line.conditions import WORD_ATTACKS
from robust_data.command_line.option_types import (
    SWITCH,
    attack_name,
    fraction,
    natural_float,
    natural_int,
    number_or_all,
    number_or_never,
    positive_float,
    positive_int,
    severity,
)


def add_perturbation_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("perturbation")
    families = dict.fromkeys([*perturbations.families("image"), *perturbations.families("text")])
    listed = "; ".join(f"{family}: {', '.join(perturbations.names(family))}" for family in families)
    group.add_argument(
        "-t",
        "--perturbations",
        nargs="+",
        metavar="NAME",
        help=f"names, families (family:NAME), or all for the dataset's kind; by default blur, for digits glass_blur, "
        f"for texts pgd. {listed}",
    )
    group.add_argument(
        "--severity",
        nargs="+",
        type=severity,
        default=[3],
        metavar="1..5",
        help="or weak (1), medium (3), strong (5); of several each has a file of its own, from one training run",
    )
    _add_ascent_arguments(group)
    add_attack_size_arguments(group)


def _add_ascent_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--adv_steps", type=natural_int, default=5, help="pgd: ascent steps")
    group.add_argument("--adv_lr", type=positive_float, default=0.03, help="pgd: length of a step")


def add_attack_size_arguments(group: argparse._ArgumentGroup) -> None:
    """Start, bound and norm of pgd; of a perturbation and of judging after fine-tuning."""
    group.add_argument("--adv_init_mag", type=natural_float, default=0.05, help="pgd: size of the random start")
    group.add_argument(
        "--adv_max_norm", type=natural_float, default=0.0, help="pgd: longest perturbation allowed, 0 for any"
    )
    group.add_argument(
        "--adv_norm_type", choices=("l2", "linf"), default="l2", help="pgd: the norm of step, start and bound"
    )
    _add_special_tokens_argument(group)


def add_curve_arguments(group: argparse._ArgumentGroup) -> None:
    """When a model is judged while it is trained, on what, and the steps of the pgd that judges it."""
    group.add_argument(
        "--judge_every_epoch",
        "--attack_every_epoch",
        type=number_or_never,
        default=0,
        metavar="N",
        help="log the accuracy under pgd every N epochs, in fine-tuning also under the statistics' perturbation; 0 "
        "never before the end of fine-tuning",
    )
    group.add_argument(
        "--judge_instances",
        type=positive_int,
        metavar="M",
        help="with --judge_every_epoch: on M test instances, as many of each class, the same for every --seed, also "
        "clean; by default on all",
    )
    group.add_argument(
        "--pgd_step",
        type=natural_int,
        default=5,
        help="ascent steps of the pgd that judges the model; 0 leaves this judgement out",
    )
    group.add_argument(
        "--pgd_lr",
        type=positive_float,
        default=0.03,
        help="length of one of its steps; with --adv_norm_type linf every value moves by it, along the gradient's sign",
    )


def _add_special_tokens_argument(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--attack_special_tokens",
        **SWITCH,
        default=0,
        help="pgd on texts: 1 also moves the tokens that the tokenizer adds, as the older code did, but no padding",
    )


def add_adversarial_training_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("adversarial training")
    group.add_argument(
        "--do_pgd_training",
        **SWITCH,
        default=0,
        help="1 trains on the ascent steps of pgd (--adv_steps, --adv_lr, --adv_init_mag, --adv_max_norm, "
        "--adv_norm_type) instead of on clean inputs, as FreeLB does",
    )
    _add_ascent_arguments(group)


def add_judging_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("judging")
    group.add_argument(
        "--split", choices=("train", "val", "test"), default="test", help="the instances to judge the model on"
    )
    group.add_argument(
        "--max_instances",
        type=positive_int,
        metavar="N",
        help="judge on N of them, as many of each class, drawn by --seed; by default on all",
    )
    group.add_argument(
        "-t",
        "--perturbations",
        nargs="+",
        metavar="NAME",
        help="names, families (family:NAME), all, or common: the 15 corruptions of ImageNet-C; by default none",
    )
    group.add_argument(
        "--severities",
        nargs="+",
        type=severity,
        default=[1, 2, 3, 4, 5],
        metavar="1..5",
        help="of the perturbations and of the published corruptions",
    )
    group.add_argument(
        "--corruptions_dir",
        metavar="FOLDER",
        help="published corruptions as CIFAR-10-C lays them out: labels.npy and <corruption>.npy, severity by severity",
    )
    group.add_argument(
        "--reference", metavar="FILE", help="JSON of another model judged likewise; gives the mean corruption error"
    )
    group.add_argument(
        "--attack_method",
        "--attacks",
        nargs="+",
        type=attack_name,
        choices=("fgsm", "pgd", *WORD_ATTACKS, "all", "none"),
        metavar="NAME",
        help=f"fgsm, pgd on pixels or word embeddings; on words {', '.join(WORD_ATTACKS)}; all; none; by default "
        "fgsm pgd, for texts pgd",
    )
    group.add_argument(
        "--linf_eps",
        nargs="*",
        type=fraction,
        metavar="EPS",
        help="fgsm, pgd: largest changes of a value of an image in [0,1], as 0.03 or 8/255; empty for none; "
        "by default 2/255 4/255 8/255",
    )
    group.add_argument(
        "--l2_eps",
        nargs="*",
        type=fraction,
        metavar="EPS",
        help="pgd: largest l2 norms of the change of an image in [0,1]; empty for none; by default 0.25 0.5 1; for "
        "texts both sizes are in the units of the embeddings, and pgd is by default held back by its steps alone",
    )
    group.add_argument(
        "--pgd_step",
        nargs="+",
        type=positive_int,
        default=[20],
        metavar="N",
        help="pgd: ascent steps; without eps, on texts, also several numbers, each judged",
    )
    group.add_argument(
        "--pgd_lr",
        nargs="+",
        type=positive_float,
        metavar="LENGTH",
        help="pgd: length of a step; by default 2.5 eps / steps, 0.03 without eps, where several are judged with every "
        "number of steps",
    )
    group.add_argument("--restarts", type=positive_int, default=1, help="pgd: random starts; the worst of them counts")
    group.add_argument(
        "--attack_loss",
        nargs="+",
        choices=perturbations.ATTACK_LOSSES,
        metavar="LOSS",
        help="pgd: what it climbs, ce (cross-entropy, the default), margin, dlr (of at least three classes); the worst "
        "of several counts",
    )
    group.add_argument(
        "--source_model",
        metavar="FOLDER",
        help="attacks are made on this model and shown to the one that is judged",
    )
    group.add_argument(
        "--temperature",
        type=positive_float,
        default=1.0,
        metavar="T",
        help="attacks see logits divided by T",
    )
    _add_special_tokens_argument(group)


def add_word_attack_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("attacks on words")
    group.add_argument(
        "--num_examples",
        type=number_or_all,
        default=500,
        metavar="N",
        help="texts to attack, as many of each class, drawn by --seed; -1 for all",
    )
    group.add_argument(
        "--attack_column", metavar="NAME", help="of pairs, the column that may change, or 1 or 2; by default the last"
    )
    group.add_argument(
        "--word_vectors",
        metavar="FILE",
        help="textfooler, textbugger: lines of a word and its numbers, such as the counter-fitted vectors",
    )
    group.add_argument(
        "--masked_lm",
        metavar="FOLDER_OR_NAME",
        help="bae: the masked language model whose words it takes, such as bert-base-uncased",
    )
