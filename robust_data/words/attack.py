"""Attacks on the words of a whole data set: many searches at once, so that all their candidates share the batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from robust_data.datasets.base import Dataset
from robust_data.train import distributed
from robust_data.train.inference import inference, predict
from robust_data.words.methods import Method, Slot
from robust_data.words.results import Attacked
from robust_data.words.search import search
from robust_data.words.words import apart

# How many instances are attacked at once.
AT_ONCE = 64
Scores = tuple[np.ndarray, np.ndarray]


class Questions:
    """Asks a model about texts, in batches of texts of similar length."""

    def __init__(
        self, model: nn.Module, dataset: Dataset, column: int, batch_size: int, precision: str, temperature: float = 1.0
    ):
        self.model, self.dataset, self.column, self.temperature = model, dataset, column, temperature
        self.batch_size, self.precision = batch_size, precision
        self.device = next(model.parameters()).device

    def __call__(self, positions: Sequence[int], texts: Sequence[str]) -> Scores:
        """The probability of the golden label and the predicted class, [K] each; see `logits`.

        The probability is that of logits divided by the temperature.
        """
        found = self.logits(positions, texts) / self.temperature
        probability = found.softmax(dim=1)[torch.arange(len(texts)), self.dataset.labels[list(positions)]]
        return probability.numpy().astype(np.float64), found.argmax(dim=1).numpy()

    def logits(self, positions: Sequence[int], texts: Sequence[str]) -> torch.Tensor:
        """What the model says of these texts, float32 [K, C] on the CPU.

        positions: those of the instances whose texts are replaced by these, [K].
        """
        order = np.argsort([len(text) for text in texts], kind="stable")
        logits = []
        for rows in np.split(order, range(self.batch_size, len(order), self.batch_size)):
            columns = [[column[positions[row]] for row in rows] for column in self.dataset.columns]
            columns[self.column] = [texts[row] for row in rows]
            logits.append(predict(self.model, self.dataset.encode(columns, self.device), self.precision).float())
        # Only now, so that a GPU works on while the texts of the next batch are tokenised.
        return torch.cat(logits).cpu()[order.argsort()]


def attack_dataset(
    model: nn.Module,
    dataset: Dataset,
    method: Method,
    *,
    column: int | None = None,
    batch_size: int = 256,
    precision: str = "fp32",
    seed: int = 0,
    temperature: float = 1.0,
) -> list[Attacked]:
    """Attack every text of a data set, `AT_ONCE` of them at a time; the result of one does not depend on the others.

    column: which text of a pair may change, by default the last. temperature: see `Questions`. Returns the results in
    the order of the index; with several processes each attacks its share, the main one gets all results, the others
    get none.
    """
    column = len(dataset.columns) - 1 if column is None else column
    questions = Questions(model, dataset, column, batch_size, precision, temperature)
    own = range(distributed.rank(), len(dataset), distributed.world_size())
    with inference(model, method.name, len(own)) as counted:
        done = list(_run(dataset, method, column, own, questions, seed, counted.update))
    parts = distributed.gather(done) or []
    return sorted((attacked for part in parts for attacked in part), key=lambda attacked: attacked.index)


@dataclass
class _Running:
    """A search that is running: the position of its instance, what it asks for next, and its number of queries."""

    position: int
    search: Generator
    wants: list[str] | Slot
    queries: int = 0


def _run(
    dataset: Dataset,
    method: Method,
    column: int,
    positions: Iterable[int],
    questions: Questions,
    seed: int,
    on_end: Callable[[], object],
) -> Iterable[Attacked]:
    """Run `AT_ONCE` searches at a time; their texts go through the model together, once all candidates are there."""
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


def _start(dataset: Dataset, method: Method, column: int, position: int, seed: int) -> _Running:
    draws = np.random.default_rng([seed, int(dataset.index[position])])
    texts = [column[position] for column in dataset.columns]
    around = "".join(f"{text}\n" for text in texts[:column]), "".join(f"\n{text}" for text in texts[column + 1 :])
    begun = search(texts[column], int(dataset.labels[position]), method, draws, around)
    return _Running(position, begun, next(begun))


def _attacked(
    dataset: Dataset, column: int, one: _Running, pieces: list[str], before: int, after: int, probability: float
) -> Attacked:
    texts = [texts[one.position] for texts in dataset.columns]
    original = apart(texts.pop(column))
    index, label = int(dataset.index[one.position]), int(dataset.labels[one.position])
    return Attacked(
        index, label, int(before), int(after), original, pieces, "".join(texts), float(probability), one.queries
    )
