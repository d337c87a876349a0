"""Words and the words nearest to them, from a file of vectors in text format."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from robust_data.reading import check_regular, reason
from robust_data.registry import InputError


class WordVectors:
    """Vectors of words, of length 1: words [N], vectors float32 [N, D]."""

    def __init__(self, words: list[str], vectors: np.ndarray):
        self.words = words
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
        self._places = {word: place for place, word in enumerate(words)}
        self._ranked = functools.lru_cache(maxsize=100_000)(self._rank)

    def nearest(self, word: str, count: int, least: float) -> list[str]:
        """Up to `count` other words with a cosine of at least `least`, nearest first; none for an unknown word."""
        return list(self._ranked(word, count, least)) if word in self._places else []

    def _rank(self, word: str, count: int, least: float) -> tuple[str, ...]:
        place = self._places[word]
        cosines = self.vectors @ self.vectors[place]
        cosines[place] = -2
        best = np.argsort(-cosines, kind="stable")[:count]
        return tuple(self.words[other] for other in best if cosines[other] >= least)


def load(path: str | Path) -> WordVectors:
    """Read lines of a word and its numbers, after an optional first line of two counts.

    Of several lines for a word the first counts. Raises InputError for a file that is missing or holds anything else.
    """
    found: dict[str, np.ndarray] = {}
    width = None
    try:
        check_regular(path)
        with open(path, encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                # From the right, once the width is known: some words hold blanks.
                word, *values = line.rstrip().rsplit(" ", width or -1)
                if number == 1 and len(values) == 1:
                    continue
                vector = _vector(values)
                width = width or len(values)
                if vector is None or len(values) != width:
                    raise InputError(f"--word_vectors {path} line {number} is not a word and {width or 'its'} numbers")
                found.setdefault(word, vector)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"--word_vectors {path} cannot be read ({reason(error)}); give a file of vectors") from None
    if not found:
        raise InputError(f"--word_vectors {path} holds no vectors")
    return WordVectors(list(found), np.stack(list(found.values())))


def _vector(values: list[str]) -> np.ndarray | None:
    try:
        vector = np.array(values, dtype=np.float32)
    except ValueError:
        return None
    return vector if len(vector) and np.isfinite(vector).all() else None
