"""A greedy search for words that make a classifier err, as TextAttack's recipes define it.

Stop words stay, also those in capitals, which TextAttack changes. The other words are tried once each, in the order of
their importance, which is how far the probability of the golden label falls when the word is deleted or the unknown
token stands in its place. Of a word's candidates the one that lowers the probability most wins, if it lowers it at
all, until the prediction is wrong. `meaning` has what the recipes hold candidates to beside.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import numpy as np

from robust_data.perturbations import edit_distances
from robust_data.words.methods import Method, Slot
from robust_data.words.words import apart


def search(
    text: str, label: int, method: Method, draws: np.random.Generator, around: tuple[str, str] = ("", "")
) -> Generator[list[str] | Slot, Any, tuple[list[str], int, int, float]]:
    """Attack one text: yields questions, and is sent the answers.

    The answer to a list of K texts is the probability of the golden label and the predicted class, [K] each. The answer
    to a Slot is its candidates. around: what stands before and behind the text; only the candidates depend on it.
    Returns the pieces of the text at the end, the classes predicted before and after, and the probability.
    """
    (probability,), (before,) = yield [text]
    pieces, after, spent = apart(text), before, 0
    words = [place for place in range(1, len(pieces), 2) if pieces[place].lower() not in method.stop_words]
    if before != label or not words:
        return pieces, before, after, probability
    importance, _ = yield [_standing_in(pieces, word, method.stand_in) for word in words]
    original, most, changed = list(pieces), math.ceil(method.most_words * (len(pieces) // 2)), 0
    for word in (words[rank] for rank in np.argsort(importance, kind="stable")):
        if changed == most:
            break
        candidates = yield Slot(pieces[word], *_beside(pieces, word, around), draws, _beside(original, word, around))
        candidates, distances = _affordable(pieces[word], candidates, method.most_edits, spent)
        if not candidates:
            continue
        probabilities, predicted = yield [_replaced(pieces, word, candidate) for candidate in candidates]
        best = probabilities.argmin()
        if probabilities[best] < probability:
            pieces[word], spent, changed = candidates[best], spent + distances[best], changed + 1
            probability, after = probabilities[best], predicted[best]
            if after != label:
                break
    return pieces, before, after, probability


def _beside(pieces: list[str], place: int, around: tuple[str, str]) -> tuple[str, str]:
    return around[0] + "".join(pieces[:place]), "".join(pieces[place + 1 :]) + around[1]


def _affordable(word: str, candidates: list[str], most_edits: int | None, spent: int) -> tuple[list[str], list[int]]:
    """The candidates for a word that leave the text within the edits allowed; and their edits."""
    if most_edits is None:
        return candidates, [0] * len(candidates)
    distances = edit_distances([word] * len(candidates), candidates).tolist() if candidates else []
    kept = [number for number, distance in enumerate(distances) if distance <= most_edits - spent]
    return [candidates[number] for number in kept], [distances[number] for number in kept]


def _standing_in(pieces: list[str], place: int, other: str) -> str:
    """The text with another word in a word's place, or without the word and a blank beside it."""
    before, after = "".join(pieces[:place]), "".join(pieces[place + 1 :])
    if not other:
        first = place == 1
        before, after = (before, after.removeprefix(" ")) if first else (before.removesuffix(" "), after)
    return before + other + after


def _replaced(pieces: list[str], place: int, word: str) -> str:
    return "".join([*pieces[:place], word, *pieces[place + 1 :]])
