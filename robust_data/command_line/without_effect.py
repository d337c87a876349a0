"""Options that a command line gives although nothing there uses them: each is told in one line, with the reason."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection

import perturbations
from registry import InputError, one_line, warn_once
from robust_data.command_line import resolve
from robust_data.command_line.conditions import DEFAULT_ATTACKS, WORD_ATTACKS
from robust_data.packages import datasets

Why = Callable[[argparse.Namespace], str | None]
# Switches that are off ask for nothing.
SWITCHES = {"download", "skip_corrupt", "keep_stem", "reinit_classifier", "freeze_encoder"}
SWITCHES |= {"attack_special_tokens", "use_untrained_model"}
TABLES = {"csv", "tsv"}
OWN_FILES = {"imagefolder", "npz", *TABLES}


def tell(args: argparse.Namespace, asked: Collection[str]) -> None:
    """Warn of options that were asked for and change nothing; args: as parsed, or the data's alone."""
    for name in sorted({*asked} & REASONS.keys()):
        value = getattr(args, name)
        if (why := REASONS[name](args)) is not None and not (name in SWITCHES and not value):
            values = value if isinstance(value, list) else [] if value is None else [value]
            warn_once(f"{one_line(' '.join(map(str, [f'--{name}', *values])), 100)} has no effect: {why}")


def _modality(args: argparse.Namespace) -> str | None:
    """The kind of the data; None where they are named by a statistics file, or by nobody."""
    name = getattr(args, "dataset_name", None)
    return datasets.modality(name) if name in datasets.names() else None


def _of(modality: str) -> Why:
    """For an option of data sets of one kind."""
    return lambda args: _unlike(args, modality)


def _unlike(args: argparse.Namespace, modality: str) -> str | None:
    found = _modality(args)
    return None if found in (None, modality) else f"--dataset_name {args.dataset_name} holds {found}s"


def _of_tables(args: argparse.Namespace) -> str | None:
    if _modality(args) is None or args.dataset_name in TABLES:
        return None
    return f"it is for csv and tsv, and --dataset_name is {args.dataset_name}"


def _of_files(args: argparse.Namespace) -> str | None:
    return "the digits come with scikit-learn" if getattr(args, "dataset_name", None) == "digits" else None


def _of_downloads(args: argparse.Namespace) -> str | None:
    own = getattr(args, "dataset_name", None) in OWN_FILES
    return f"--dataset_name {args.dataset_name} reads your own files" if own else _of_files(args)


def _attacks(args: argparse.Namespace) -> set[str]:
    """The attacks with which a script judges or ends a run, those on words included."""
    if "do_attack" in args:
        return {*(args.attack_method or WORD_ATTACKS[:1])} if args.do_attack else set()
    default = DEFAULT_ATTACKS[_modality(args) or "image"]
    return {*(args.attack_method or default)} | ({*default} if "all" in (args.attack_method or ()) else set())


def _of_word_attacks(*names: str) -> Why:
    """For an option of attacks on words."""

    def why(args: argparse.Namespace) -> str | None:
        if "do_attack" in args and not args.do_attack:
            return "it is for --do_attack 1"
        return _unlike(args, "text") or (None if _attacks(args) & {*names, "all"} else f"it is for {', '.join(names)}")

    return why


def _with_do_attack(args: argparse.Namespace) -> str | None:
    return "it is for --do_attack 1" if "do_attack" in args and not args.do_attack else None


def _of_judging_by(*names: str) -> Why:
    """For an option of attacks by gradient."""

    def why(args: argparse.Namespace) -> str | None:
        if "statistic_interval" in args:
            return None if args.judge_every_epoch else "it is for --judge_every_epoch N"
        if "do_attack" in args:
            return None if args.pgd_step else "--pgd_step 0 leaves pgd out"
        return None if _attacks(args) & {*names} else f"it is for the attack {' and '.join(names)}"

    return why


def _of_ascent(judges_too: bool) -> Why:
    """For an option of pgd as a perturbation, and as adversarial training; judges_too: also of pgd that judges."""

    def why(args: argparse.Namespace) -> str | None:
        if judges_too and args.pgd_step and ("do_attack" in args or args.judge_every_epoch):
            return None
        if "statistic_interval" in args:
            names = _perturbations(args)
            return None if names is None or "pgd" in names else "pgd is not among the perturbations"
        if getattr(args, "do_pgd_training", 0):
            return None
        return "--pgd_step 0 leaves pgd out" if judges_too else "it is for --do_pgd_training 1"

    return why


def _perturbations(args: argparse.Namespace) -> list[str] | None:
    """The names of the perturbations; None for what is refused later."""
    try:
        return resolve.perturbation_names(args)
    except InputError:
        return None


def _of_severities(args: argparse.Namespace) -> str | None:
    # Several are refused.
    if getattr(args, "severity_schedule", "constant") != "constant" and len(args.severity) == 1:
        return f"--severity_schedule {args.severity_schedule} goes through all of them"
    names = _perturbations(args)
    if names is None or any(perturbations.CATALOGUE[name].severities is not None for name in names):
        return None
    return f"{', '.join(names)} has no severity"


def _of_special_tokens(args: argparse.Namespace) -> str | None:
    return _unlike(args, "text") or (REASONS["adv_max_norm"](args) if "adv_max_norm" in args else None)


def _of_untrained_model(args: argparse.Namespace) -> str | None:
    return None if getattr(args, "with_untrained_model", 1) else "--with_untrained_model 0 records none"


def _of_corruptions(args: argparse.Namespace) -> str | None:
    return None if args.perturbations or args.corruptions_dir else "it is for -t and --corruptions_dir"


def _of_groups(args: argparse.Namespace) -> str | None:
    if "cycle_train" not in args or args.group:
        return None
    return "without --group the choice is of --select_ratio; only the groups in the log have this size"


# Why an option has no effect, by its name; None where it has one.
REASONS: dict[str, Why] = {
    **dict.fromkeys(("max_seq_length", "reinit_classifier", "freeze_encoder"), _of("text")),
    **dict.fromkeys(("image_size", "skip_corrupt", "keep_stem", "memory_format"), _of("image")),
    **dict.fromkeys(("text_column", "text_pair_column", "label_column", "encoding"), _of_tables),
    "data_dir": _of_files,
    "download": _of_downloads,
    "attack_method": _with_do_attack,
    "word_vectors": _of_word_attacks("textfooler", "textbugger"),
    "masked_lm": _of_word_attacks("bae"),
    **dict.fromkeys(("num_examples", "attack_column"), _of_word_attacks(*WORD_ATTACKS)),
    **dict.fromkeys(("pgd_lr", "restarts", "l2_eps"), _of_judging_by("pgd")),
    # In fine-tuning 0 asks for no pgd, which is an effect.
    "pgd_step": lambda args: None if "do_attack" in args else _of_judging_by("pgd")(args),
    "linf_eps": _of_judging_by("fgsm", "pgd"),
    **dict.fromkeys(("adv_steps", "adv_lr"), _of_ascent(judges_too=False)),
    **dict.fromkeys(("adv_init_mag", "adv_max_norm", "adv_norm_type"), _of_ascent(judges_too=True)),
    "attack_special_tokens": _of_special_tokens,
    "use_untrained_model": _of_untrained_model,
    "severity": _of_severities,
    "severities": _of_corruptions,
    "set_percentage": _of_groups,
    "adam_epsilon": lambda args: "--optimizer sgd has none" if args.optimizer == "sgd" else None,
}
