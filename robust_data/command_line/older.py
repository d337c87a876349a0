"""The options of the two older repositories, which our command lines accept beside their own."""

from __future__ import annotations

import argparse
from typing import Any

from registry import warn_once
from robust_data.command_line.option_types import SWITCH

# Of the older scripts' options, which were the same for all of them: those of another name here, ...
RENAMED = {"freeze_bert": "freeze_encoder", "do_freelb_training": "do_pgd_training"}
# ... those that had to be given, or have another form, with what takes their place, ...
REPLACED = {
    "num_labels": "the classes are counted in the data",
    "attack_every_step": "--attack_every_epoch N judges the model every N epochs",
}
# ... and those that belong to one of our scripts alone, and change nothing in what another one does.
OF_OTHER_SCRIPTS = (
    *("statistic_interval", "with_untrained_model", "use_cur_preds", "adv_steps", "adv_lr", "adv_init_mag"),
    *("adv_max_norm", "adv_norm_type", "pgd_step", "pgd_lr", "do_attack", "attack_all", "attack_method"),
    *("attack_every_epoch", "num_examples", "results_file", "save_steps", "show_data"),
)


def add_older_arguments(parser: argparse.ArgumentParser, others: bool = True) -> None:
    """Accept what the command lines of the two older repositories say beside our own options; --help is silent on it.

    To be called last. others: also the options that belong to other scripts, which are told and left alone.
    """
    own = parser._option_string_actions
    hidden: dict[str, Any] = {"help": argparse.SUPPRESS, "default": argparse.SUPPRESS}
    for older, name in RENAMED.items():
        if f"--{name}" in own:
            parser.add_argument(f"--{older}", dest=name, **SWITCH, **hidden)
        elif others:
            parser.add_argument(f"--{older}", action=_Older, **SWITCH, **hidden)
    if "--attack_method" in own:
        parser.add_argument("--attack_all", action=_Older, **SWITCH, **hidden)
    for older in (*REPLACED, *OF_OTHER_SCRIPTS) if others else ():
        if f"--{older}" not in own:
            parser.add_argument(f"--{older}", action=_Older, nargs="*", **hidden)


class _Older(argparse.Action):
    """Keeps what an option of the older scripts was given for `settle`, out of the arguments of the run."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.older = {**getattr(namespace, "older", {}), self.dest: values}


def settle(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Do what the options of the older scripts ask for, or say in one line what takes their place."""
    given = vars(args).pop("older", {})
    # Switched off, an option asks for nothing.
    asked = [name for name, values in given.items() if values not in (0, ["0"], ["-1"])]
    if "do_freelb_training" in asked:
        parser.error("--do_freelb_training: finetune_with_select_data.py trains so, with --do_pgd_training 1")
    if "attack_all" in asked and hasattr(args, "attack_method"):
        args.attack_method = ["all"]
        warn_once("--attack_all attacks by every method, as --attack_method all; for all texts give --num_examples -1")
        asked.remove("attack_all")
    for name in asked:
        if name in REPLACED:
            warn_once(f"--{name} has no effect: {REPLACED[name]}")
    if others := [f"--{name}" for name in asked if name not in REPLACED]:
        warn_once(f"{', '.join(others)}: without effect here, of use to other scripts")
