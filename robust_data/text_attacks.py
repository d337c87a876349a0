"""Attacks that rewrite words until a classifier errs: DeepWordBug, TextFooler and TextBugger, by greedy search.

The words are tried in the order of their importance, which is how far the probability of the golden label
falls when the word is deleted. Of a word's candidates the first that makes the prediction wrong wins, else
the one that lowers the probability most. Many instances are attacked at once, so that all their candidates
share the batches.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import string
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from datasets.balance import balanced_subset
from perturbations import edit_distances
from perturbations.text import NEIGHBOURS, delete, delete_places, split, swap, swap_places
from registry import InputError
from robust_data import distributed, word_vectors
from robust_data.collection import autocast, evaluation_mode, progress_bar
from robust_data.files import atomic_write
from robust_data.word_vectors import STOP_WORDS, WordVectors

# How many instances are attacked at once.
AT_ONCE = 64
MOST_EDITS = 30
VISUALLY_SIMILAR = {"o": "0", "l": "1", "i": "1", "a": "@", "e": "3", "s": "5", "b": "6", "g": "9", "t": "7", "z": "2"}

# A word and the instance's own random numbers to the words that may take its place.
Candidates = Callable[[str, np.random.Generator], list[str]]
Scores = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Method:
    """An attack: the candidates for a word, and how many characters it may change in a text, None for any."""

    name: str
    candidates: Candidates
    most_edits: int | None = None


@dataclass(frozen=True)
class Attacked:
    """What became of one instance.

    pieces, original: the words, at the even places, and the blanks between them, after and before. other:
    the text of the pair that was left alone, or "". probability: of the golden label, at the end. queries:
    how many texts the model was asked about.
    """

    index: int
    label: int
    before: int
    after: int
    original: list[str]
    pieces: list[str]
    other: str
    probability: float
    queries: int

    @property
    def result(self) -> str:
        """ "skipped" where the model was wrong already, else whether the attack "succeeded" or "failed"."""
        if self.before != self.label:
            return "skipped"
        return "failed" if self.after == self.label else "succeeded"

    @property
    def share_changed(self) -> float:
        """Of the words, 0 to 1."""
        words = sum(1 for piece in self.original[::2] if piece)
        return sum(map(str.__ne__, self.original, self.pieces)) / max(1, words)


def method(name: str, vectors: WordVectors | None = None) -> Method:
    """One of `conditions.WORD_ATTACKS`.

    deepwordbug: Gao et al., DeepWordBug, 2018; a swap, a substitution, a deletion and an insertion of a
    character at drawn places, at most 30 edits a text. textfooler: Jin et al., AAAI 2020; the nearest words,
    at most 50, with a cosine of at least 0.5; stop words stay. Its constraints by sentence encoder and by
    part of speech are left out. textbugger: Li et al., NDSS 2019; a blank in the word, a deletion, a swap, a
    look-alike or neighbouring key, and with `vectors` the five nearest words. Raises InputError if
    `textfooler` has no vectors.
    """
    if name == "deepwordbug":
        return Method(name, deepwordbug, MOST_EDITS)
    if name == "textbugger":
        return Method(name, lambda word, draws: textbugger(word, draws) + _nearest(vectors, word, 5, 0.0))
    if vectors is None:
        raise InputError(f"attack {name} takes its words from --word_vectors FILE; give one")
    return Method(name, lambda word, draws: _nearest(vectors, word, 50, 0.5))


def deepwordbug(word: str, draws: np.random.Generator) -> list[str]:
    """A word with one character swapped, replaced, deleted and inserted, each at a place of its own."""
    place, letter = int(draws.integers(len(word))), _letter(draws)
    found = [swap(word, int(draws.choice(places)))] if (places := swap_places(word)) else []
    found.append(word[:place] + letter + word[place + 1 :])
    found += [delete(word, int(draws.choice(places)))] if (places := delete_places(word)) else []
    place = int(draws.integers(len(word) + 1))
    return [*found, word[:place] + _letter(draws) + word[place:]]


def textbugger(word: str, draws: np.random.Generator) -> list[str]:
    """A word with a blank in it, without an inner character, with two inner ones swapped, with a look-alike."""
    found = []
    if len(word) > 1:
        place = int(draws.integers(1, len(word)))
        found.append(word[:place] + " " + word[place:])
    if len(word) > 2:
        found.append(delete(word, int(draws.integers(1, len(word) - 1))))
    if inner := [place for place in swap_places(word) if 0 < place < len(word) - 2]:
        found.append(swap(word, int(draws.choice(inner))))
    if letters := [place for place, character in enumerate(word) if character.lower() in NEIGHBOURS]:
        place = int(draws.choice(letters))
        letter = word[place].lower()
        other = VISUALLY_SIMILAR.get(letter) or str(draws.choice([*NEIGHBOURS[letter]]))
        found.append(word[:place] + other + word[place + 1 :])
    return found


def _letter(draws: np.random.Generator) -> str:
    return string.ascii_lowercase[int(draws.integers(26))]


def _nearest(vectors: WordVectors | None, word: str, count: int, least: float) -> list[str]:
    """The nearest words, nearest first, with the word's own capitals; none for a stop word."""
    # Words are told apart by blanks; what else is around one stays.
    before, core, after = re.fullmatch(r"([\W_]*)(.*?)([\W_]*)", word, re.DOTALL).groups()
    if vectors is None or core.lower() in STOP_WORDS:
        return []
    found = vectors.nearest(core.lower(), count, least)
    return [before + (other.capitalize() if core[:1].isupper() else other) + after for other in found]


def search(
    text: str, label: int, method: Method, draws: np.random.Generator
) -> Generator[list[str], Scores, tuple[list[str], int, int, float]]:
    """Attack one text: yields the texts to ask the model about, and is sent what it says of them.

    What it is sent are the probability of the golden label and the predicted class, [K] each. Returns the
    pieces of the text at the end, the classes predicted before and after, and the probability.
    """
    (probability,), (before,) = yield [text]
    pieces, after = split(text), before
    words = [place for place in range(0, len(pieces), 2) if any(map(str.isalnum, pieces[place]))]
    if before != label or not words:
        return pieces, before, after, probability
    edits = dict.fromkeys(words, 0)
    importance, _ = yield [_replaced(pieces, word, "") for word in words]
    for word in (words[rank] for rank in np.argsort(importance, kind="stable")):
        spent = sum(edits.values())
        candidates, distances = _affordable(pieces[word], method, draws, spent)
        if not candidates:
            continue
        probabilities, predicted = yield [_replaced(pieces, word, candidate) for candidate in candidates]
        wrong = np.flatnonzero(predicted != label)
        best = wrong[0] if len(wrong) else probabilities.argmin()
        if len(wrong) or probabilities[best] < probability:
            pieces[word], edits[word] = candidates[best], distances[best]
            probability, after = probabilities[best], predicted[best]
        if len(wrong):
            break
    return pieces, before, after, probability


def _affordable(word: str, method: Method, draws: np.random.Generator, spent: int) -> tuple[list[str], list[int]]:
    """The candidates for a word, each once, that leave the text within the edits allowed; and their edits."""
    candidates = [other for other in dict.fromkeys(method.candidates(word, draws)) if other != word]
    distances = edit_distances([word] * len(candidates), candidates).tolist() if candidates else []
    allowed = math.inf if method.most_edits is None else method.most_edits - spent
    kept = [number for number, distance in enumerate(distances) if distance <= allowed]
    return [candidates[number] for number in kept], [distances[number] for number in kept]


def _replaced(pieces: list[str], place: int, word: str) -> str:
    return "".join([*pieces[:place], word, *pieces[place + 1 :]])


class Questions:
    """Asks a model about texts, in batches of a length."""

    def __init__(self, model: nn.Module, dataset, column: int, batch_size: int, precision: str):
        self.model, self.dataset, self.column = model, dataset, column
        self.batch_size, self.precision = batch_size, precision
        self.device = next(model.parameters()).device

    def __call__(self, positions: Sequence[int], texts: Sequence[str]) -> Scores:
        """The probability of the golden label and the predicted class, [K] each.

        positions: of the instances, in the place of whose texts these are.
        """
        probability, predicted = np.empty(len(texts)), np.empty(len(texts), dtype=np.int64)
        order = np.argsort([len(text) for text in texts], kind="stable")
        for rows in np.split(order, range(self.batch_size, len(order), self.batch_size)):
            columns = [[column[positions[row]] for row in rows] for column in self.dataset.columns]
            columns[self.column] = [texts[row] for row in rows]
            with torch.inference_mode(), autocast(self.device, self.precision):
                logits = self.model(self.dataset.encode(columns, self.device)).float().cpu()
            labels = self.dataset.labels[[positions[row] for row in rows]]
            probability[rows] = logits.softmax(dim=1)[torch.arange(len(rows)), labels].numpy()
            predicted[rows] = logits.argmax(dim=1).numpy()
        return probability, predicted


def attack_dataset(
    model: nn.Module,
    dataset,
    method: Method,
    *,
    column: int = 0,
    batch_size: int = 256,
    precision: str = "fp32",
    seed: int = 0,
    progress: bool = False,
) -> list[Attacked]:
    """Attack every text of a data set, `AT_ONCE` of them at a time; what becomes of one depends on no other.

    column: of pairs, which text may change. Returns the instances by index; with several processes each
    attacks its share, and the main one has them all, the others none.
    """
    questions = Questions(model, dataset, column, batch_size, precision)
    own = range(distributed.rank(), len(dataset), distributed.world_size())
    with evaluation_mode(model), progress_bar(method.name, len(own), "inst", progress) as bar:
        done = list(_run(dataset, method, column, own, questions, seed, bar.update))
    parts = distributed.gather(done) or []
    return sorted((attacked for part in parts for attacked in part), key=lambda attacked: attacked.index)


@dataclass
class _Running:
    """A search under way: where its instance is, what it wants to know, and how much it has asked."""

    position: int
    search: Generator
    texts: list[str]
    queries: int = 0


def _run(
    dataset, method: Method, column: int, positions: Iterable[int], questions: Questions, seed: int, on_end: Callable
) -> Iterable[Attacked]:
    """Keep `AT_ONCE` searches going, all of whose questions are asked together."""
    waiting, running = iter(positions), []
    while True:
        for position in waiting:
            running.append(_start(dataset, method, column, position, seed))
            if len(running) == AT_ONCE:
                break
        if not running:
            return
        asked = [(one.position, text) for one in running for text in one.texts]
        probability, predicted = questions(*zip(*asked))
        still, first = [], 0
        for one in running:
            rows = slice(first, first := first + len(one.texts))
            one.queries += len(one.texts)
            try:
                one.texts = one.search.send((probability[rows], predicted[rows]))
                still.append(one)
            except StopIteration as end:
                on_end()
                yield _attacked(dataset, column, one, *end.value)
        running = still


def _start(dataset, method: Method, column: int, position: int, seed: int) -> _Running:
    draws = np.random.default_rng([seed, int(dataset.index[position])])
    begun = search(dataset.columns[column][position], int(dataset.labels[position]), method, draws)
    return _Running(position, begun, next(begun))


def _attacked(dataset, column: int, one: _Running, pieces, before, after, probability) -> Attacked:
    texts = [texts[one.position] for texts in dataset.columns]
    original = split(texts.pop(column))
    index, label = int(dataset.index[one.position]), int(dataset.labels[one.position])
    return Attacked(
        index, label, int(before), int(after), original, pieces, "".join(texts), float(probability), one.queries
    )


@dataclass(frozen=True)
class Planned:
    """The attacks on words that a run is asked for, ready to be run on a model."""

    methods: list[Method]
    dataset: Any
    options: dict[str, Any]

    def run(self, model: nn.Module, stem: Path) -> dict[str, Any]:
        """Attack; returns the `summary` by name of the attack.

        The sentences go to <stem>_<name>.csv, the entry `sentences` of the summary. Several processes share
        the work, and the main one has the result, the others an empty dict.
        """
        found = {}
        for method in self.methods:
            main = distributed.is_main()
            attacked = attack_dataset(model, self.dataset, method, **self.options, progress=main)
            if main:
                path = stem.with_name(f"{stem.name}_{method.name}.csv")
                write_csv(path, attacked, self.dataset.label_names)
                found[method.name] = summary(attacked) | {"sentences": str(path)}
        return found


def plan(args: argparse.Namespace, dataset, names: Sequence[str]) -> Planned:
    """What the arguments of `add_word_attack_arguments` ask for, before any work is done.

    Raises InputError for a dataset that holds no texts, a column that is not there, and vectors that are
    missing or damaged.
    """
    if dataset.modality != "text":
        raise InputError(f"attack {names[0]} rewrites words; dataset '{dataset.name}' holds {dataset.modality}s")
    vectors = None if args.word_vectors is None else word_vectors.load(args.word_vectors)
    methods = [method(name, vectors) for name in names]
    options = {"batch_size": args.eval_size, "precision": args.precision, "seed": args.seed}
    options["column"] = attacked_column(dataset, args.attack_column)
    if args.num_examples is not None and args.num_examples < len(dataset):
        count = max(args.num_examples, len(dataset.labels.unique()))
        dataset = dataset.subset(torch.from_numpy(balanced_subset(dataset.labels.numpy(), count, args.seed)))
    return Planned(methods, dataset, options)


def attacked_column(dataset, named: str | None) -> int:
    """Which of the columns an attack may change, by name or counted from 1. Raises InputError if there is none such."""
    names = list(dataset.column_names)
    if named is None:
        return 0
    if named in names:
        return names.index(named)
    if named.isdecimal() and 1 <= int(named) <= len(names):
        return int(named) - 1
    raise InputError(f"--attack_column {named}: the texts of dataset '{dataset.name}' are {', '.join(names)}")


def summary(attacked: Sequence[Attacked]) -> dict[str, Any]:
    """How the model fared.

    Shares are 0 to 1; of words changed over the successful attacks, of queries over all that were attacked;
    None where there were none.
    """
    tried = [one for one in attacked if one.result != "skipped"]
    fooled = [one for one in tried if one.result == "succeeded"]
    losses = [-math.log(max(one.probability, 1e-45)) for one in attacked]
    return {
        "instances": len(attacked),
        "accuracy": len(tried) / len(attacked),
        "accuracy_under_attack": (len(tried) - len(fooled)) / len(attacked),
        "attack_success_rate": len(fooled) / len(tried) if tried else None,
        "words_changed": sum(one.share_changed for one in fooled) / len(fooled) if fooled else None,
        "queries": sum(one.queries for one in tried) / len(tried) if tried else None,
        "loss": sum(losses) / len(losses),
    }


def describe(name: str, figures: dict[str, Any]) -> str:
    """A summary as one line for the terminal."""
    shown = {
        "accuracy": figures["accuracy"],
        "under attack": figures["accuracy_under_attack"],
        "success rate": figures["attack_success_rate"],
        "words changed": figures["words_changed"],
    }
    shares = "  ".join(f"{label} {'-' if share is None else f'{share:.2%}'}" for label, share in shown.items())
    queries = "-" if figures["queries"] is None else f"{figures['queries']:.1f}"
    return f"{name}, {figures['instances']} instances: {shares}  queries {queries}"


def write_csv(path: Path, attacked: Iterable[Attacked], label_names: Sequence[str]) -> None:
    """Write one line per instance, atomically; changed words stand in [[double brackets]]."""
    with atomic_write(path, "w") as file:
        lines = csv.writer(file, lineterminator="\n")
        header = ("index", "label", "predicted", "predicted_after", "result", "queries", "words_changed")
        lines.writerow([*header, "original", "attacked", "other_text"])
        for one in attacked:
            names = [label_names[label] for label in (one.label, one.before, one.after)]
            share = round(one.share_changed, 4)
            texts = (_marked(one.original, one.pieces), _marked(one.pieces, one.original), one.other)
            lines.writerow([one.index, *names, one.result, one.queries, share, *texts])


def _marked(pieces: list[str], other: list[str]) -> str:
    return "".join(f"[[{piece}]]" if piece != changed else piece for piece, changed in zip(pieces, other, strict=True))
