"""The attacks on words: by which candidates each replaces a word, and which words it leaves alone."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from robust_data.perturbations.text import delete, swap
from robust_data.words.masked_lm import MaskedLM
from robust_data.words.word_vectors import WordVectors
from robust_data.words.words import NLTK_STOP_WORDS, TEXTFOOLER_STOP_WORDS, WORD

MOST_EDITS = 30
UNKNOWN = "[UNK]"
# Of a character one that looks like it: those of the recipe, after Boucher et al., Bad Characters, 2021.
LOOK_ALIKES = dict(
    zip("-9876543210'abcdefghijklmnopqrstuvwxyz", "˗৭Ȣ𝟕бƼᏎƷᒿlO`ɑЬϲԁе𝚏ɡհіϳ𝒌ⅼｍոорԛⲅѕ𝚝սѵԝ×уᴢ", strict=True)
)


@dataclass(frozen=True)
class Slot:
    """A word that may be replaced, the text before and behind it, and the instance's own random numbers.

    original: what stood before and behind it at first. Of pairs the text around holds the other one, too, a line apart.
    """

    word: str
    before: str
    after: str
    draws: np.random.Generator | None
    original: tuple[str, str] = ("", "")


# Places of words to the words that may stand there.
Candidates = Callable[[Sequence[Slot]], list[list[str]]]


@dataclass(frozen=True)
class Method:
    """An attack: the candidates for words, the words that stay, and how much it may change in a text.

    stand_in: what takes a word's place to tell its importance, nothing for a deletion. most_edits: of characters, None
    for any number. most_words: the share of the words, rounded up.
    """

    name: str
    candidates: Candidates
    stop_words: frozenset[str] = NLTK_STOP_WORDS
    stand_in: str = ""
    most_edits: int | None = None
    most_words: float = 1.0


def method(name: str, vectors: WordVectors | None = None, filler: MaskedLM | None = None) -> Method:
    """One of `conditions.WORD_ATTACKS`.

    deepwordbug: Gao et al., DeepWordBug, 2018; a swap, a substitution, a deletion and an insertion of a
    character at drawn places, at most 30 edits a text. textbugger: Li et al., NDSS 2019; a blank in the word, a
    deletion, a swap, a look-alike at every place, and with `vectors` the five nearest words. textfooler: Jin et
    al., AAAI 2020; the nearest words, at most 50, with a cosine of at least 0.5. bertattack: Li et al., EMNLP 2020;
    the 8 likeliest words of `filler`, which sees the word, for 40 % of the words at most. bae: BAE-R of Garg &
    Ramakrishnan, EMNLP 2020; its 50 likeliest words for a gap. `conditions.word_attacks` makes sure that textfooler
    has its vectors, and bertattack and bae their filler.
    """
    if name == "deepwordbug":
        return Method(name, _each(deepwordbug), stand_in=UNKNOWN, most_edits=MOST_EDITS)
    if name == "textbugger":
        return Method(name, _each(lambda word, draws: _distinct(word, textbugger(word, draws) + _near(vectors, word))))
    if name == "textfooler":
        return Method(name, _each(lambda word, draws: _near(vectors, word, 50, 0.5)), TEXTFOOLER_STOP_WORDS)
    if name == "bertattack":
        return Method(name, lambda slots: _substituted(filler, slots), stand_in=UNKNOWN, most_words=0.4)
    return Method(name, lambda slots: _filled(filler, slots))


def _each(candidates: Callable[[str, np.random.Generator], list[str]]) -> Candidates:
    """The candidates of an attack that depend on the word alone."""
    return lambda slots: [candidates(slot.word, slot.draws) for slot in slots]


def deepwordbug(word: str, draws: np.random.Generator) -> list[str]:
    """A word with one character swapped, replaced, deleted and inserted, each at a place of its own.

    A word of one character is only replaced; nothing is inserted after the last character.
    """
    if len(word) < 2:
        return _distinct(word, [_letter(draws)])
    swapped = swap(word, int(draws.integers(len(word) - 1)))
    place = int(draws.integers(len(word)))
    substituted = word[:place] + _letter(draws) + word[place + 1 :]
    deleted = delete(word, int(draws.integers(len(word))))
    place = int(draws.integers(len(word)))
    return _distinct(word, [swapped, substituted, deleted, word[:place] + _letter(draws) + word[place:]])


def textbugger(word: str, draws: np.random.Generator) -> list[str]:
    """A word with a blank in it, without an inner character, with two inner ones swapped, with each look-alike."""
    found = []
    if len(word) > 2:
        place = int(draws.integers(1, len(word) - 1))
        found.append(word[:place] + " " + word[place:])
        found.append(delete(word, int(draws.integers(1, len(word) - 1))))
    if len(word) > 3:
        found.append(swap(word, int(draws.integers(1, len(word) - 2))))
    for place, character in enumerate(word):
        if character in LOOK_ALIKES:
            found.append(word[:place] + LOOK_ALIKES[character] + word[place + 1 :])
    return _distinct(word, found)


def _letter(draws: np.random.Generator) -> str:
    return string.ascii_letters[int(draws.integers(len(string.ascii_letters)))]


def _distinct(word: str, candidates: Iterable[str]) -> list[str]:
    return [other for other in dict.fromkeys(candidates) if other != word]


def _near(vectors: WordVectors | None, word: str, count: int = 5, least: float = -1.0) -> list[str]:
    """The nearest words, nearest first, in capitals where the word is."""
    found = [] if vectors is None else vectors.nearest(word.lower(), count, least)
    return [other for other in (_in_case_of(word, other) for other in found) if other != word]


def _in_case_of(word: str, other: str) -> str:
    if word.islower():
        return other.lower()
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other.capitalize() if word[:1].isupper() and word[1:].islower() else other


def _substituted(filler: MaskedLM, slots: Sequence[Slot]) -> list[list[str]]:
    found = filler.substitute([(slot.before, slot.word, slot.after) for slot in slots], 8)
    return [_distinct(slot.word, words) for slot, words in zip(slots, found, strict=True)]


def _filled(filler: MaskedLM, slots: Sequence[Slot]) -> list[list[str]]:
    """What the model would write in the places of the words, but for numbers and the words themselves.

    In the place of a word in Latin letters stands one with some, too, as in TextAttack.
    """
    found = filler.fill([(slot.before, slot.after) for slot in slots], 50)
    return [
        [
            other
            for other in words
            if other != slot.word
            and WORD.fullmatch(other)
            and not other.isdecimal()
            and (re.search("[a-zA-Z]", other) or not slot.word.isascii())
        ]
        for slot, words in zip(slots, found, strict=True)
    ]
