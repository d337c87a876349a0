"""The attacks on words that a command line asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from robust_data import datasets
from robust_data.datasets.base import Dataset
from robust_data.evaluation import margins_of
from robust_data.registry import InputError
from robust_data.settings import Run, WordAttacks
from robust_data.train import distributed
from robust_data.train.inference import inference
from robust_data.words import masked_lm, meaning, word_vectors
from robust_data.words.attack import Questions, asking, attack_dataset
from robust_data.words.methods import Method, method
from robust_data.words.results import Attacked, summary, write_csv


@dataclass(frozen=True)
class Planned:
    """The attacks on words that a run is asked for, ready to be run on a model."""

    methods: list[Method]
    dataset: Dataset
    options: dict[str, Any]

    def run(self, model: nn.Module, stem: Path) -> dict[str, Any]:
        """Attack; returns what `written` does by name of the attack; on other processes than the main one {}."""
        return {name: self.written(name, attacked, stem) for name, attacked in self.attacks(model)}

    def attacks(self, model: nn.Module) -> Iterator[tuple[str, list[Attacked]]]:
        """Attack; yields the name of each attack, and the instances by index.

        Several processes share the work, and the main one has the results, the others none.
        """
        for attack in self.methods:
            attacked = attack_dataset(model, self.dataset, attack, **self.options)
            if distributed.is_main():
                yield attack.name, attacked

    def written(self, name: str, attacked: Sequence[Attacked], stem: Path) -> dict[str, Any]:
        """The `summary` of an attack; its sentences go to <stem>_<name>.csv, the entry `sentences`."""
        path = stem.with_name(f"{stem.name}_{name}.csv")
        write_csv(path, attacked, self.dataset.label_names)
        return summary(attacked) | {"sentences": str(path)}

    def shown(
        self, model: nn.Module, attacked: Sequence[Attacked], dataset: Dataset | None = None
    ) -> tuple[list[Attacked], np.ndarray]:
        """What a model says of the attacked texts, at a temperature of 1.

        dataset: the same instances for this model, where the attack was made on another one. Returns the results, and
        the margin of each instance, float32 [N].
        """
        column, batch_size, precision = (self.options[name] for name in ("column", "batch_size", "precision"))
        asked = dataset or self.dataset
        questions = Questions(asking(model, asked, precision), asked, column, batch_size)
        places, texts = range(len(attacked)), ["".join(one.pieces) for one in attacked]
        with inference(model, "judge", len(attacked)):
            after = questions.logits(places, texts)
            before = None if dataset is None else questions.logits(places, dataset.columns[column])
        labels = self.dataset.labels
        if dataset is not None or self.options["temperature"] != 1:
            probabilities = after.softmax(dim=1)[torch.arange(len(labels)), labels].tolist()
            known = [one.before for one in attacked] if before is None else before.argmax(dim=1).tolist()
            answers = zip(attacked, known, after.argmax(dim=1).tolist(), probabilities, strict=True)
            attacked = [replace(one, before=b, after=a, probability=p) for one, b, a, p in answers]
        return list(attacked), margins_of(after, labels).numpy()


def plan(settings: WordAttacks, run: Run, dataset: Dataset, names: Sequence[str], temperature: float = 1.0) -> Planned:
    """The attacks on words of these names, ready to be run.

    Raises InputError for a dataset that holds no texts, a column that is not there, and vectors or models that are
    missing or damaged.
    """
    if dataset.modality != "text":
        raise InputError(f"attack {names[0]} rewrites words; dataset '{dataset.name}' holds {dataset.modality}s")
    vectors = None if settings.word_vectors is None else word_vectors.load(settings.word_vectors)
    device = distributed.own_device(run.device)
    filler = masked_lm.load(settings.masked_lm, device) if {"bertattack", "bae"} & {*names} else None
    methods = [method(name, vectors, filler) for name in names]
    if settings.sentence_encoder is not None:
        encoder = meaning.load(settings.sentence_encoder, device)
        methods = [meaning.as_published(one, encoder) for one in methods]
    options = {"batch_size": run.eval_size, "precision": run.precision, "seed": run.seed}
    # Fine-tuning ends with an attack that sees the logits as they are.
    options["temperature"] = temperature
    options["column"] = attacked_column(dataset, settings.attack_column)
    if settings.num_examples is not None and settings.num_examples < len(dataset):
        count = max(settings.num_examples, len(dataset.labels.unique()))
        kept = datasets.balance.balanced_subset(dataset.labels.numpy(), count, run.seed)
        dataset = dataset.subset(torch.from_numpy(kept))
    return Planned(methods, dataset, options)


def attacked_column(dataset: Dataset, named: str | None) -> int:
    """Which of the columns an attack may change, by name or counted from 1.

    By default the last, of pairs the hypothesis. Raises InputError if no column has that name or number.
    """
    names = list(dataset.column_names)
    if named is None:
        return len(names) - 1
    if named in names:
        return names.index(named)
    if named.isdecimal() and 1 <= int(named) <= len(names):
        return int(named) - 1
    raise InputError(f"--attack_column {named}: the texts of dataset '{dataset.name}' are {', '.join(names)}")
