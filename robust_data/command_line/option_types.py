"""What the value of an option may be: types for argparse."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from registry import warn_once
from robust_data.command_line.conditions import STAND_INS, WORD_ATTACKS

SEVERITY_WORDS = {"weak": 1, "medium": 3, "strong": 5}


def switch(text: str) -> int:
    """0 or 1."""
    if text not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"'{text}' is not 0 or 1")
    return int(text)


# An option that takes 0 or 1, and without a value is 1.
SWITCH = {"type": switch, "nargs": "?", "const": 1}


def severity(text: str) -> int:
    """1..5, or weak, medium, strong."""
    number = SEVERITY_WORDS.get(text, text)
    if str(number) not in "12345" or len(str(number)) != 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not one of 1..5, weak (1), medium (3), strong (5)")
    return int(number)


# What a signed integer of 64 bits holds; torch and numpy take no larger one.
LARGEST = 2**63 - 1


def number(kind: Callable[[str], float], low: float, *, above: bool = False) -> Callable[[str], float]:
    """A type for argparse: a number of `kind`, at least `low`, or strictly above it."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
        # Written so that NaN fails.
        if not (value > low if above else value >= low) or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text} must be {'above' if above else 'at least'} {low}")
        if kind is int and value > LARGEST:
            raise argparse.ArgumentTypeError(f"{text[:30]} is too large; give at most {LARGEST}")
        return value

    return parse


def fraction(text: str) -> float:
    """A positive number, written as 0.03 or as 8/255."""
    numerator, _, denominator = text.partition("/")
    return positive_float(numerator) / positive_float(denominator or "1")


positive_int, natural_int = number(int, 1), number(int, 0)
positive_float, natural_float = number(float, 0, above=True), number(float, 0)


def number_or_never(text: str) -> int:
    """A whole number of at least 0; -1 is 0, as the older scripts wrote it."""
    return 0 if text == "-1" else natural_int(text)


def number_or_all(text: str) -> int | None:
    """A whole number of at least 1; -1 is None, for all there are."""
    return None if text == "-1" else positive_int(text)


def steps_or_share(text: str) -> float:
    """A number of steps; below 1 a share of an epoch; 0 and -1 for never."""
    value = 0.0 if text == "-1" else natural_float(text)
    if value > 1 and value != int(value):
        raise argparse.ArgumentTypeError(f"{text} is neither a whole number of steps nor a share of an epoch below 1")
    return value if 0 < value < 1 else int(value)


def folder_name(text: str) -> str:
    """The path of a folder."""
    if not text:
        raise argparse.ArgumentTypeError("'' names no folder; name one, or . for this one")
    return text


def attack_name(text: str) -> str:
    """The name of an attack; an attack of the older scripts may have another one in its place."""
    if text not in STAND_INS:
        return text
    name = STAND_INS[text]
    if name not in WORD_ATTACKS:
        raise argparse.ArgumentTypeError(f"{text} is not here; {name} takes its place")
    warn_once(f"--attack_method {text}: {name} takes its place")
    return name


def file_stem(text: str) -> str:
    """A file's path without its suffix."""
    if not Path(text).name:
        raise argparse.ArgumentTypeError(f"'{text}' names a folder; add the name of the files in it")
    return text


def share(text: str) -> float:
    """A number in (0, 1]."""
    value = positive_float(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is outside (0, 1]")
    return value
