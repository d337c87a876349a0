"""Texts: slips of the pen in a share of the words, and words dropped or swapped."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable, Sequence
from typing import Any

from robust_data.perturbations.catalogue import perturbation
from robust_data.perturbations.sampling import InstanceRandom
from robust_data.registry import LazyModule

np = LazyModule("numpy")
regex = LazyModule("regex")

# The share of the words that is touched at severity 1..5; one word at least.
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)

# A character of the scripts that are written without blanks between words, with the marks on it.
SPACELESS = r"(?:[\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*)"

KEYBOARD_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

# Of the words and blanks of a text, the words to touch and for each two draws in [0,1): what becomes of it.
Change = Callable[[list[str], list[int], Any], None]


def _keyboard_neighbours() -> dict[str, str]:
    """The letters around each letter of a US keyboard, whose rows are set off by half a key."""
    rows = enumerate(KEYBOARD_ROWS)
    places = {letter: (row, 2 * column + row) for row, keys in rows for column, letter in enumerate(keys)}
    return {
        letter: "".join(
            other
            for other, (other_row, other_column) in places.items()
            if other != letter and abs(row - other_row) <= 1 and abs(column - other_column) <= 2
        )
        for letter, (row, column) in places.items()
    }


NEIGHBOURS = _keyboard_neighbours()


def swap_places(word: str) -> list[int]:
    """Where in a word two characters that differ stand side by side."""
    return [place for place in range(len(word) - 1) if word[place] != word[place + 1]]


def delete_places(word: str) -> list[int]:
    """Every character of a word of two or more."""
    return list(range(len(word))) if len(word) > 1 else []


def insert_places(word: str) -> list[int]:
    """Before, between and behind the characters."""
    return list(range(len(word) + 1))


def keyboard_places(word: str) -> list[int]:
    """The letters that a keyboard has."""
    return [place for place, character in enumerate(word) if character.lower() in NEIGHBOURS]


def swap(word: str, place: int) -> str:
    """A word with the character at `place` and the one behind it exchanged."""
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def delete(word: str, place: int) -> str:
    """A word without the character at `place`."""
    return word[:place] + word[place + 1 :]


def _pick(choices: Sequence, draw: float) -> Any:
    return choices[int(draw * len(choices))]


def _in_words(name: str, places_of: Callable[[str], list[int]]):
    """Register a function `(word, place, draw) -> word` that changes a word at one of the places for it."""

    def register(change: Callable[[str, int, float], str]):
        def touch(pieces: list[str], chosen: list[int], draws: Any) -> None:
            for word, (where, what) in zip(chosen, draws, strict=True):
                pieces[word] = change(pieces[word], _pick(places_of(pieces[word]), where), what)

        def apply(texts: list[str], touched: float, random: InstanceRandom) -> list[str]:
            return _touched(texts, touched, random, lambda word: bool(places_of(word)), touch)

        _register(name, "character", apply)
        return change

    return register


def _register(name: str, family: str, apply: Callable) -> None:
    perturbation(
        name,
        family=family,
        severities=SHARES,
        unit="share of the words",
        modality="text",
        source="slips as in Belinkov & Bisk, ICLR 2018" if family == "character" else "Wei & Zou (EDA), EMNLP 2019",
    )(apply)


@_in_words("char_swap", swap_places)
def char_swap(word: str, place: int, draw: float) -> str:
    """Exchange two neighbouring characters."""
    return swap(word, place)


@_in_words("char_delete", delete_places)
def char_delete(word: str, place: int, draw: float) -> str:
    """Leave a character out."""
    return delete(word, place)


@_in_words("char_insert", insert_places)
def char_insert(word: str, place: int, draw: float) -> str:
    """Put in a letter drawn from the alphabet."""
    return word[:place] + _pick(string.ascii_lowercase, draw) + word[place:]


@_in_words("char_keyboard", keyboard_places)
def char_keyboard(word: str, place: int, draw: float) -> str:
    """Hit the key beside a letter's, upper case for upper case."""
    letter = _pick(NEIGHBOURS[word[place].lower()], draw)
    return word[:place] + (letter.upper() if word[place].isupper() else letter) + word[place + 1 :]


def word_drop(texts: list[str], touched: float, random: InstanceRandom) -> list[str]:
    """Leave words out, with the blank behind each; one word always stays."""

    def drop(pieces: list[str], chosen: list[int], draws: Any) -> None:
        words = sum(1 for piece in pieces[::2] if piece)
        for word in chosen[: words - 1]:
            pieces[word] = ""
            if word + 1 < len(pieces):
                pieces[word + 1] = ""

    return _touched(texts, touched, random, bool, drop)


def word_swap(texts: list[str], touched: float, random: InstanceRandom) -> list[str]:
    """Exchange words with the word behind them, the last with the one before it."""

    def exchange(pieces: list[str], chosen: list[int], draws: Any) -> None:
        words = [place for place in range(0, len(pieces), 2) if pieces[place]]
        behind = dict(zip(words, [*words[1:], *words[-2:-1]]))
        exchanged = set()
        for one in chosen if len(words) > 1 else ():
            other = behind[one]
            # A word moves once: a second exchange could undo the first.
            if exchanged.isdisjoint((one, other)):
                pieces[one], pieces[other] = pieces[other], pieces[one]
                exchanged |= {one, other}

    return _touched(texts, touched, random, bool, exchange)


_register("word_drop", "word", word_drop)
_register("word_swap", "word", word_swap)


def split(text: str) -> list[str]:
    """A text in pieces: words at the even places, the blanks between them, which may be empty, at the odd ones.

    Two characters of a script without blanks count as a word: with one, no two could be swapped within it.
    """
    pieces = re.split(r"(\s+)", text)
    if text.isascii():
        return pieces
    for place in range(len(pieces) - 1, -1, -2):
        words = regex.findall(rf"\p{{P}}*{SPACELESS}{{1,2}}\p{{P}}*|(?:(?!{SPACELESS}).)+", pieces[place])
        pieces[place : place + 1] = [part for word in words for part in (word, "")][:-1] or [""]
    return pieces


def _touched(
    texts: list[str], share: float, random: InstanceRandom, possible: Callable[[str], bool], change: Change
) -> list[str]:
    """Change a share of the words of each text, drawn among those for which it is possible."""
    texts = [split(text) for text in texts]
    candidates = [[place for place in range(0, len(pieces), 2) if possible(pieces[place])] for pieces in texts]
    # Three draws a word: whether it is chosen, and two for what becomes of it. Those of a word do not depend
    # on how many words there are.
    most = max(map(len, candidates), default=0)
    draws = random.uniform(shape=(most, 3)).double().numpy()
    for pieces, places, own in zip(texts, candidates, draws, strict=True):
        words = sum(1 for piece in pieces[::2] if piece)
        count = min(max(1, round(share * words)), len(places))
        rows = np.sort(own[: len(places), 0].argsort(kind="stable")[:count])
        change(pieces, [places[row] for row in rows], own[rows, 1:])
    return ["".join(pieces) for pieces in texts]


def changed_characters(texts: Sequence[str], others: Sequence[str]):
    """How many characters of each text were changed to make the other, int64 [B].

    The edit distances of the words that stand at the same place, summed; where words were left out the characters
    that are missing. The edit distance of the whole texts would take the square of their length.
    """
    words, others_words, owners = [], [], []
    missing = np.zeros(len(texts), dtype=np.int64)
    for number, (text, other) in enumerate(zip(texts, others, strict=True)):
        pieces, other_pieces = split(text), split(other)
        if len(pieces) != len(other_pieces):
            missing[number] = abs(len(text) - len(other))
            continue
        for piece, other_piece in zip(pieces, other_pieces):
            if piece != other_piece:
                words.append(piece), others_words.append(other_piece), owners.append(number)
    changed = edit_distances(words, others_words)
    return missing + np.bincount(owners, weights=changed, minlength=len(texts)).astype(np.int64)


def edit_distances(texts: Sequence[str], others: Sequence[str]):
    """How many characters are inserted, deleted or replaced from each text to the other, int64 [B] (Levenshtein)."""
    changed = [_changed(text, other) for text, other in zip(texts, others, strict=True)]
    one, lengths = _characters([text for text, _ in changed])
    other, other_lengths = _characters([other for _, other in changed])
    columns = np.arange(other.shape[1] + 1)
    row = np.repeat(columns[None], len(texts), axis=0)
    distances = row[np.arange(len(texts)), other_lengths]
    for place in range(one.shape[1]):
        step = np.empty_like(row)
        step[:, 0] = row[:, 0] + 1
        step[:, 1:] = np.minimum(row[:, 1:] + 1, row[:, :-1] + (one[:, place, None] != other))
        # Insertions along the row, for all columns at once: the least of what came before plus the way from there.
        row = np.minimum.accumulate(step - columns, axis=1) + columns
        ends = lengths == place + 1
        distances[ends] = row[ends, other_lengths[ends]]
    return distances


def _changed(text: str, other: str) -> tuple[str, str]:
    """Both without their common beginning and end, which no edit touches."""
    begin = len(os.path.commonprefix((text, other)))
    text, other = text[begin:], other[begin:]
    end = len(os.path.commonprefix((text[::-1], other[::-1])))
    return text[: len(text) - end], other[: len(other) - end]


def _characters(texts: Sequence[str]):
    """Code points, int32 [B, L], padded with -1, and lengths, int64 [B]."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    points = np.full((len(texts), lengths.max(initial=0)), -1, dtype=np.int32)
    for number, text in enumerate(texts):
        points[number, : len(text)] = [ord(character) for character in text]
    return points, lengths
