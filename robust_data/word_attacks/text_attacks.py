"""Attacks that rewrite words until a classifier errs, by greedy search, as TextAttack's recipes define them.

DeepWordBug, TextBugger, TextFooler and BAE. Stop words stay, also those in capitals, which TextAttack changes. The
other words are tried once each, in the order of their importance, which is how far the probability of the golden
label falls when the word is deleted or the unknown token stands in its place. Of a word's candidates the one that
lowers the probability most wins, if it lowers it at all, until the prediction is wrong. Left out is what the recipes
hold candidates to a meaning and a grammar with: sentence encoders and parts of speech. Many instances are attacked at
once, so that all their candidates share the batches.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import re
import string
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from datasets.balance import balanced_subset
from perturbations import edit_distances
from perturbations.text import delete, swap
from registry import InputError
from robust_data.files import atomic_write
from robust_data.running import distributed
from robust_data.running.inference import autocast, evaluation_mode, progress_bar
from robust_data.word_attacks import masked_lm, stop_words, word_vectors
from robust_data.word_attacks.masked_lm import MaskedLM
from robust_data.word_attacks.word_vectors import WordVectors

# How many instances are attacked at once.
AT_ONCE = 64
MOST_EDITS = 30
UNKNOWN = "[UNK]"
# Of a character one that looks like it: those of the recipe, after Boucher et al., Bad Characters, 2021.
LOOK_ALIKES = dict(
    zip(
        "-9876543210'abcdefghijklmnopqrstuvwxyz",
        "˗৭Ȣ𝟕бƼᏎƷᒿlO`ɑЬϲԁе𝚏ɡհіϳ𝒌ⅼｍոорԛⲅѕ𝚝սѵԝ×уᴢ",
        strict=True,
    )
)
# As TextAttack tells words apart: letters, digits and look-alikes, with apostrophes and the like inside.
_CHARACTER = r"(?:[^\W_]|[˗`×])"
WORD = re.compile(rf"({_CHARACTER}(?:(?:{_CHARACTER}|['\-_*@])*{_CHARACTER})?)")


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
Scores = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Method:
    """An attack: the candidates for words, the words that stay, and how many characters it may change in a text.

    stand_in: what takes a word's place to tell its importance, nothing for a deletion. most_edits: None for any number.
    """

    name: str
    candidates: Candidates
    stop_words: frozenset[str] = stop_words.NLTK
    stand_in: str = ""
    most_edits: int | None = None


@dataclass(frozen=True)
class Attacked:
    """What became of one instance.

    pieces, original: the words, at the odd places, and what stands between them, after and before. other: the
    text of the pair that was left alone, or "". probability: of the golden label, at the end. queries: how many
    texts the model was asked about, each time it was asked, the text itself included.
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
        return sum(map(str.__ne__, self.original, self.pieces)) / max(1, len(self.original) // 2)


def method(name: str, vectors: WordVectors | None = None, filler: MaskedLM | None = None) -> Method:
    """One of `conditions.WORD_ATTACKS`.

    deepwordbug: Gao et al., DeepWordBug, 2018; a swap, a substitution, a deletion and an insertion of a
    character at drawn places, at most 30 edits a text. textbugger: Li et al., NDSS 2019; a blank in the word, a
    deletion, a swap, a look-alike at every place, and with `vectors` the five nearest words. textfooler: Jin et
    al., AAAI 2020; the nearest words, at most 50, with a cosine of at least 0.5. bae: BAE-R of Garg &
    Ramakrishnan, EMNLP 2020; the 50 likeliest words of `filler`. That textfooler has its vectors and bae its
    filler, `conditions.word_attacks` sees to.
    """
    if name == "deepwordbug":
        return Method(name, _each(deepwordbug), stand_in=UNKNOWN, most_edits=MOST_EDITS)
    if name == "textbugger":
        return Method(name, _each(lambda word, draws: _distinct(word, textbugger(word, draws) + _near(vectors, word))))
    if name == "textfooler":
        return Method(name, _each(lambda word, draws: _near(vectors, word, 50, 0.5)), stop_words.TEXTFOOLER)
    return Method(name, lambda slots: _filled(filler, slots))


def _each(candidates: Callable[[str, np.random.Generator], list[str]]) -> Candidates:
    """For attacks that look at nothing but the word."""
    return lambda slots: [candidates(slot.word, slot.draws) for slot in slots]


def deepwordbug(word: str, draws: np.random.Generator) -> list[str]:
    """A word with one character swapped, replaced, deleted and inserted, each at a place of its own.

    Of a single character there is the replacement alone; nothing is put behind the last one.
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


def search(
    text: str, label: int, method: Method, draws: np.random.Generator, around: tuple[str, str] = ("", "")
) -> Generator[list[str] | Slot, Any, tuple[list[str], int, int, float]]:
    """Attack one text: yields what it wants to know, and is sent it.

    For a list of K texts that is what the model says of them: the probability of the golden label and the predicted
    class, [K] each. For a Slot it is its candidates. around: what stands before and behind the text, of which only
    candidates know. Returns the pieces of the text at the end, the classes predicted before and after, and the
    probability.
    """
    (probability,), (before,) = yield [text]
    pieces, after, spent = apart(text), before, 0
    words = [place for place in range(1, len(pieces), 2) if pieces[place].lower() not in method.stop_words]
    if before != label or not words:
        return pieces, before, after, probability
    importance, _ = yield [_standing_in(pieces, word, method.stand_in) for word in words]
    for word in (words[rank] for rank in np.argsort(importance, kind="stable")):
        candidates = yield _slot(pieces, word, around, draws)
        candidates, distances = _affordable(pieces[word], candidates, method.most_edits, spent)
        if not candidates:
            continue
        probabilities, predicted = yield [_replaced(pieces, word, candidate) for candidate in candidates]
        best = probabilities.argmin()
        if probabilities[best] < probability:
            pieces[word], spent = candidates[best], spent + distances[best]
            probability, after = probabilities[best], predicted[best]
            if after != label:
                break
    return pieces, before, after, probability


def apart(text: str) -> list[str]:
    """A text in pieces: words at the odd places, and what stands between them at the even ones."""
    return WORD.split(text)


def _slot(pieces: list[str], place: int, around: tuple[str, str], draws: np.random.Generator) -> Slot:
    before, after = "".join(pieces[:place]), "".join(pieces[place + 1 :])
    return Slot(pieces[place], around[0] + before, after + around[1], draws)


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
    column: int | None = None,
    batch_size: int = 256,
    precision: str = "fp32",
    seed: int = 0,
    progress: bool = False,
) -> list[Attacked]:
    """Attack every text of a data set, `AT_ONCE` of them at a time; what becomes of one depends on no other.

    column: of pairs, which text may change, by default the last. Returns the instances by index; with several
    processes each attacks its share, and the main one has them all, the others none.
    """
    column = len(dataset.columns) - 1 if column is None else column
    questions = Questions(model, dataset, column, batch_size, precision)
    own = range(distributed.rank(), len(dataset), distributed.world_size())
    with evaluation_mode(model), progress_bar(method.name, len(own), "inst", progress) as bar:
        done = list(_run(dataset, method, column, own, questions, seed, bar.update))
    parts = distributed.gather(done) or []
    return sorted((attacked for part in parts for attacked in part), key=lambda attacked: attacked.index)


@dataclass
class _Running:
    """A search under way: where its instance is, what it wants to know, and how much it has asked the model."""

    position: int
    search: Generator
    wants: list[str] | Slot
    queries: int = 0


def _run(
    dataset, method: Method, column: int, positions: Iterable[int], questions: Questions, seed: int, on_end: Callable
) -> Iterable[Attacked]:
    """Keep `AT_ONCE` searches going, all of whose questions are asked together, once none of them wants candidates."""
    waiting, choosing, asking = iter(positions), [], []
    while True:
        asking += (_start(dataset, method, column, position, seed) for position in _next(waiting, asking, choosing))
        if choosing:
            turn, choosing = choosing, []
            answers = method.candidates([one.wants for one in turn])
        elif asking:
            turn, asking = asking, []
            answers = _asked(turn, questions)
        else:
            return
        for one, answer in zip(turn, answers, strict=True):
            try:
                one.wants = one.search.send(answer)
            except StopIteration as end:
                on_end()
                yield _attacked(dataset, column, one, *end.value)
            else:
                (choosing if isinstance(one.wants, Slot) else asking).append(one)


def _next(waiting: Iterator[int], *running: Sequence[_Running]) -> Iterator[int]:
    """As many positions as there is room for."""
    return itertools.islice(waiting, AT_ONCE - sum(map(len, running)))


def _asked(asking: Sequence[_Running], questions: Questions) -> list[Scores]:
    """What the model says to the texts of each search."""
    probability, predicted = questions(*zip(*((one.position, text) for one in asking for text in one.wants)))
    answers, first = [], 0
    for one in asking:
        rows = slice(first, first := first + len(one.wants))
        one.queries += len(one.wants)
        answers.append((probability[rows], predicted[rows]))
    return answers


def _start(dataset, method: Method, column: int, position: int, seed: int) -> _Running:
    draws = np.random.default_rng([seed, int(dataset.index[position])])
    texts = [column[position] for column in dataset.columns]
    around = "".join(f"{text}\n" for text in texts[:column]), "".join(f"\n{text}" for text in texts[column + 1 :])
    begun = search(texts[column], int(dataset.labels[position]), method, draws, around)
    return _Running(position, begun, next(begun))


def _attacked(dataset, column: int, one: _Running, pieces, before, after, probability) -> Attacked:
    texts = [texts[one.position] for texts in dataset.columns]
    original = apart(texts.pop(column))
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

    Raises InputError for a dataset that holds no texts, a column that is not there, and vectors or a masked language
    model that are missing or damaged.
    """
    if dataset.modality != "text":
        raise InputError(f"attack {names[0]} rewrites words; dataset '{dataset.name}' holds {dataset.modality}s")
    vectors = None if args.word_vectors is None else word_vectors.load(args.word_vectors)
    filler = masked_lm.load(args.masked_lm, distributed.default_device()) if "bae" in names else None
    methods = [method(name, vectors, filler) for name in names]
    options = {"batch_size": args.eval_size, "precision": args.precision, "seed": args.seed}
    options["column"] = attacked_column(dataset, args.attack_column)
    if args.num_examples is not None and args.num_examples < len(dataset):
        count = max(args.num_examples, len(dataset.labels.unique()))
        dataset = dataset.subset(torch.from_numpy(balanced_subset(dataset.labels.numpy(), count, args.seed)))
    return Planned(methods, dataset, options)


def attacked_column(dataset, named: str | None) -> int:
    """Which of the columns an attack may change, by name or counted from 1.

    By default the last, of pairs the hypothesis. Raises InputError if there is none such.
    """
    names = list(dataset.column_names)
    if named is None:
        return len(names) - 1
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
