"""The options of the two older repositories, which our scripts accept, too."""

from __future__ import annotations

import argparse
from typing import Any

from robust_data.command_line.arguments import SWITCH
from robust_data.registry import warn_once
from robust_data.settings import options_with

# All older scripts took the same options. Some have another name here, see `settings.option`; these have no effect,
# for the reason given or because another option takes their place: ...
REPLACED = {
    "num_labels": "the classes are counted in the data",
    "attack_every_step": "--judge_every_epoch N judges the model every N epochs",
    "show_data": "scripts/select_instances.py writes the chosen instances",
}
# ... and these belong to one of our scripts, and have no effect on the others.
OF_OTHER_SCRIPTS = (
    *("statistic_interval", "with_untrained_model", "use_cur_preds", "adv_steps", "adv_lr", "adv_init_mag"),
    *("adv_max_norm", "adv_norm_type", "pgd_step", "pgd_lr", "do_attack", "attack_all", "attack_method"),
    *("attack_every_epoch", "num_examples", "results_file", "save_steps"),
)


def add_older_arguments(parser: argparse.ArgumentParser, others: bool = True) -> None:
    """Accept the options of the two older repositories; --help does not show them.

    Call it after all other options are added. others: accept the options that belong to other scripts, too; a warning
    then says that they have no effect.
    """
    own = parser._option_string_actions
    hidden: dict[str, Any] = {"help": argparse.SUPPRESS, "default": argparse.SUPPRESS}
    for name, older in options_with("older").items():
        if f"--{name}" in own:
            parser.add_argument(f"--{older}", dest=name, action=_Switch, **SWITCH, **hidden)
        elif others:
            parser.add_argument(f"--{older}", action=_Older, **SWITCH, **hidden)
    if "--attack_method" in own:
        parser.add_argument("--attack_all", action=_Older, **SWITCH, **hidden)
    for older in (*REPLACED, *OF_OTHER_SCRIPTS) if others else ():
        if f"--{older}" not in own:
            parser.add_argument(f"--{older}", action=_Older, nargs="*", **hidden)


class _Switch(argparse.Action):
    """The older name of an option: where it is on, the option has the value that it stands for."""

    def __call__(self, parser, namespace, values, option_string=None):
        if values:
            setattr(namespace, self.dest, options_with("older_value").get(self.dest, 1))


class _Older(argparse.Action):
    """Keeps the value of an older option for `settle`, apart from the arguments of the run."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.older = {**getattr(namespace, "older", {}), self.dest: values}


def is_older(action: argparse.Action) -> bool:
    """Whether an option is there for the older command lines alone."""
    return isinstance(action, _Older)


def settle(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Follow the older options that were given, or warn that they have no effect."""
    given = vars(args).pop("older", {})
    # An option that is switched off asks for nothing.
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
