"""Attacks on the words of a whole data set: many searches at once, so that all their candidates share the batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from robust_data.collection import check_logits
from robust_data.datasets.base import Dataset
from robust_data.datasets.tokens import TextDataset
from robust_data.registry import InputError
from robust_data.train import distributed
from robust_data.train.inference import inference, predict
from robust_data.words.methods import Method, Slot
from robust_data.words.results import Attacked
from robust_data.words.search import search
from robust_data.words.words import apart

# How many instances are attacked at once.
AT_ONCE = 64
Scores = tuple[np.ndarray, np.ndarray]


# Columns of texts, one a text of a pair, to logits [B, C].
Ask = Callable[[list[list[str]]], torch.Tensor]


class Questions:
    """Asks about texts that stand in a column of a data set, in batches of texts of similar length."""

    def __init__(self, ask: Ask, dataset: Dataset, column: int, batch_size: int, temperature: float = 1.0):
        self.ask, self.dataset, self.column = ask, dataset, column
        self.batch_size, self.temperature = batch_size, temperature

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
            logits.append(self.ask(columns))
        # Only now, so that a GPU works on while the texts of the next batch are tokenised.
        return torch.cat(logits).cpu()[order.argsort()]


def asking(model: nn.Module, dataset: Dataset, precision: str) -> Ask:
    """What a model says of texts that the data set tokenises."""
    device = next(model.parameters()).device
    return lambda columns: predict(model, dataset.encode(columns, device), precision).float()


def attack_texts(
    classify: Callable[[list[str]], Any],
    texts: Sequence[str],
    labels: Sequence[int],
    method: Method,
    *,
    batch_size: int = 256,
    seed: int = 0,
) -> list[Attacked]:
    """Attack what any callable says of texts: B of them to their logits, floats [B, C], as a tensor or an array.

    texts, labels: [N], the classes by their number. Returns the results, [N], in their order. Raises InputError for
    answers that are no finite logits of this shape, and for texts and labels that do not fit.
    """
    texts, labels = list(texts), torch.as_tensor(labels)
    if labels.shape != (len(texts),) or (labels < 0).any() or not all(isinstance(text, str) for text in texts):
        raise InputError(
            f"{len(texts)} texts with labels of the shape {list(labels.shape)}: give strings, and for each the number "
            "of its class, from 0"
        )
    classes = max(2, 1 + max(labels.tolist(), default=0))

    def ask(columns: list[list[str]]) -> torch.Tensor:
        return _logits(classify(columns[0]), len(columns[0]), classes)

    dataset = TextDataset([texts], None, 0, "texts", "", [], torch.arange(len(texts)), labels)
    questions = Questions(ask, dataset, 0, batch_size)
    done = _run(dataset, method, 0, range(len(texts)), questions, seed, lambda: None)
    return sorted(done, key=lambda attacked: attacked.index)


def _logits(given: Any, count: int, classes: int) -> torch.Tensor:
    """What a callable gave for so many texts, float32 [count, C] on the CPU, C at least `classes`."""
    try:
        logits = torch.as_tensor(given).detach().float().cpu()
    except (TypeError, ValueError, RuntimeError):  # lists of unlike lengths, words, outputs of all kinds
        logits = torch.empty(0)
    if logits.ndim != 2 or len(logits) != count or logits.shape[1] < classes:
        shape = f"a {type(given).__name__} of the shape {getattr(given, 'shape', 'unknown')}"
        raise InputError(f"classify gave {shape}; give logits, [{count}, C] with C of at least {classes}")
    check_logits(logits, "classify")
    return logits


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
    questions = Questions(asking(model, dataset, precision), dataset, column, batch_size, temperature)
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
