"""--config FILE: the arguments that a run recorded, taken up again; those on the command line win."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_data.command_line.older import is_older
from robust_data.reading import read_json
from robust_data.registry import InputError, nearest
from robust_data.settings import number_or_all

# What a run works out for itself, and records beside its arguments; and what asks for something once.
NOT_TAKEN = {"held_out", "overwrite"}
# What is recorded of an option that another one on the command line stands for is not taken.
STANDS_FOR = {"group": ("select_metric", "select_ratio"), "select_metric": ("group",), "select_ratio": ("group",)}
STANDS_FOR |= {"output_dir": ("results_file",)}
REMEDY = "give the JSON beside a statistics file, or the args.json of a fine-tuned model"


def named_on(line: Sequence[str]) -> str | None:
    """The FILE of --config on a command line, the last one; None without it."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--config")
    try:
        return finder.parse_known_args(list(line))[0].config
    except argparse.ArgumentError:  # without a value, which the script's own parser tells
        return None


def words(parser: argparse.ArgumentParser, name: str) -> list[str]:
    """The recorded arguments as words of a command line.

    name: a JSON, a statistics file with its JSON beside it, or the folder of a fine-tuned model. Raises InputError for
    a file that cannot be read, for what is no option of the script, and for a value that is no number or text.
    """
    given = []
    for key, value in _recorded(name).items():
        if key in NOT_TAKEN:
            continue
        action = _action(parser, key)
        if action is None:
            known = nearest(key, dict.fromkeys(action.dest for action in parser._actions if _may_be_recorded(action)))
            raise InputError(
                f"--config {name}: {ascii(key)[1:-1][:60]} is no option of {parser.prog}; nearest: {', '.join(known)}"
            )
        given += _option(action, value, f"--config {name}: {key}")
    return given


def settled_by(line: Sequence[str], parser: argparse.ArgumentParser) -> set[str]:
    """The options of the file that those on the command line stand for."""
    options = (parser._option_string_actions.get(word.partition("=")[0]) for word in line)
    given = {action.dest for action in options if action is not None}
    return {other for name in given for other in STANDS_FOR.get(name, ())} - given


def _recorded(name: str) -> Mapping[str, Any]:
    path = Path(name)
    if path.suffix == ".npy":
        path = path.with_suffix(".json")
    elif path.is_dir():
        path /= "args.json"
    try:
        content = read_json(path, f"--config {path}", REMEDY)
    except FileNotFoundError:
        raise InputError(f"--config {path}: there is no such file; {REMEDY}") from None
    arguments = content.get("arguments", content)
    if not isinstance(arguments, dict):
        raise InputError(f"--config {path}: its arguments are no JSON object; {REMEDY}")
    return arguments


def _action(parser: argparse.ArgumentParser, key: str) -> argparse.Action | None:
    """The option that a key names, by its own or by another name."""
    named = [action for action in parser._actions if action.dest == key and _may_be_recorded(action)]
    other = parser._option_string_actions.get(f"--{key}")
    named += [other] if other is not None and _may_be_recorded(other) else []
    return named[0] if named else None


def _may_be_recorded(action: argparse.Action) -> bool:
    return action.dest not in ("help", "config", "list", *NOT_TAKEN) and not is_older(action)


def _option(action: argparse.Action, value: Any, where: str) -> list[str]:
    """An option and its values as words; none for null where that is what the option is without being given."""
    name = next(option for option in action.option_strings if option.startswith("--"))
    if value is None and action.type is number_or_all:
        value = -1
    if value is None and action.default is None:
        return []
    several = action.nargs in ("+", "*")
    values = value if several and isinstance(value, list) else [value]
    if any(isinstance(one, bool) or not isinstance(one, (str, int, float)) for one in values):
        raise InputError(f"{where} has the value {ascii(value)[:60]}; give a number or a text{' or several' * several}")
    return [name, *map(str, values)] if several else [f"{name}={values[0]}"]
