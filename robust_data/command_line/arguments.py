"""The options of the scripts, made from the fields of settings."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection
from typing import Any

from robust_data import perturbations, settings
from robust_data.settings import Settings

# An option that takes 0 or 1, and without a value is 1.
SWITCH = {"type": settings.switch, "nargs": "?", "const": 1}
# What an option takes, as argparse has it, by a field's `many`.
NARGS = {"?": {"nargs": "?", "const": 1}, "+": {"nargs": "+"}, "*": {"nargs": "*"}, None: {}}


def add(
    parser: argparse.ArgumentParser,
    *kinds: type[Settings],
    title: str | None = None,
    only: Collection[str] = (),
    hidden: Collection[str] = (),
    **defaults: Any,
) -> None:
    """Add the options of these settings, each kind in the group of its title, or all in that of another title.

    only: their names, where not all are wanted. hidden: names that --help does not show. defaults: others than the
    fields'.
    """
    for kind in kinds:
        groups = {group.title: group for group in parser._action_groups}
        group = groups.get(title or kind.title) or parser.add_argument_group(title or kind.title)
        for field in dataclasses.fields(kind):
            if not only or field.name in only:
                default = field.default_factory() if field.default is dataclasses.MISSING else field.default
                _add_field(group, field, defaults.get(field.name, default), field.name in hidden)


def _add_field(group: argparse._ArgumentGroup, field: dataclasses.Field, default: Any, hidden: bool) -> None:
    facts = field.metadata
    takes = NARGS[facts["many"]] | {"type": facts["read"]}
    takes |= {key: facts[key] for key in ("choices", "metavar", "required") if facts.get(key)}
    short = [name for name in facts["names"] if not name.startswith("--")]
    longer = [name for name in facts["names"] if name.startswith("--")]
    text = argparse.SUPPRESS if hidden or facts.get("hidden") else facts["help"]
    group.add_argument(*short, f"--{field.name}", *longer, dest=field.name, default=default, help=text, **takes)


def add_source(parser: argparse.ArgumentParser, shown: Collection[str] = ("dataset_name", "data_dir")) -> None:
    """The options of the data. Those left out are None, and then the values of the statistics count.

    shown: what --help names; all others are there for statistics without a JSON.
    """
    others = [name for name in settings.names(settings.Data) if name not in shown]
    left_open = dict.fromkeys(("dataset_name", "download", "num_workers", "skip_corrupt"))
    add(parser, settings.Data, hidden=others, **left_open)


def add_list(parser: argparse.ArgumentParser) -> None:
    """An option that prints the names of all perturbations, and ends the script."""
    parser.add_argument(
        "--list", action=_List, choices=("perturbations",), default=argparse.SUPPRESS, help="print their names, and end"
    )


class _List(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        for family in perturbations.families(None):
            print(f"{family}: {', '.join(perturbations.names(family))}")
        parser.exit()


def metric_suffix(args: argparse.Namespace) -> str:
    """The end of a file's name: the switches that are on and change the meaning of the metrics."""
    return "".join(f"_{name}" for name in reversed(settings.names(settings.Metrics)) if getattr(args, name, 0))


def add_repetition(parser: argparse.ArgumentParser) -> None:
    """Several runs by one command, and a run once more; neither is a setting of a run itself."""
    group = parser.add_argument_group("several runs")
    group.add_argument(
        "--config",
        metavar="FILE",
        help="take the arguments of an earlier run, from the JSON beside a statistics file or the args.json of a "
        "fine-tuned model, all but --overwrite; those given here win",
    )
    group.add_argument(
        "--seeds",
        nargs="+",
        type=settings.natural_int,
        metavar="SEED",
        help="instead of --seed: one run for each, in <output_dir>/seed<SEED>, or where --output_dir has {seed} in "
        "its place, and a table of means and standard deviations at the end",
    )


def add_fine_tuning(parser: argparse.ArgumentParser) -> None:
    """The options of every fine-tuning script; the data are by default those of the statistics."""
    add_source(parser, settings.names(settings.Data))
    # Those left out are None, and then the model is that of the statistics.
    of_model = dict.fromkeys(name for name in settings.names(settings.Model) if name != "memory_format")
    add(parser, settings.Model, **of_model)
    add(parser, settings.Metrics, settings.Choice, settings.Training)
    add(parser, settings.Curve, settings.PgdSize, title=settings.FineTuning.title)
    add(parser, settings.ChosenInputs, settings.PgdSteps, title=settings.ChosenInputs.title)
    add(parser, settings.FineTuning, settings.Log)
    add_repetition(parser)
    add(parser, settings.Resume, settings.AttackAtTheEnd, settings.WordAttacks, settings.Run)
