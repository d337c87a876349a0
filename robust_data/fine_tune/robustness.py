"""The robustness of a fine-tuned model: accuracy under PGD, under a perturbation, and under attacks on words."""

from __future__ import annotations

from typing import Any

from torch import nn

from robust_data import settings
from robust_data.analysis.choice import Choice
from robust_data.datasets.base import Dataset
from robust_data.judge.conditions import WORD_ATTACKS, word_attacks
from robust_data.judge.curve import EpochJudge
from robust_data.registry import InputError
from robust_data.settings import FineTune
from robust_data.words.plan import Planned, plan
from robust_data.words.results import describe


def robustness(model: nn.Module, test_set: Dataset | None, chosen: Choice, job: FineTune) -> dict[str, Any]:
    """Test accuracy under PGD, with the size of the attack, and under the perturbation of the statistics file.

    None without a test split, under PGD also with --pgd_step 0, under the perturbation where it is not known.
    """
    figures: dict[str, Any] = {"pgd_accuracy": None, "perturbed_accuracy": None}
    if test_set is None:
        return figures
    return figures | settings.of(EpochJudge, job).perturbed_accuracies(
        model, test_set, chosen.statistics.perturbation()
    )


def plan_attack(job: FineTune, test_set: Dataset | None) -> Planned | None:
    """The attacks on words with which --do_attack 1 ends the run. Raises InputError where none is possible."""
    if not job.do_attack:
        return None
    if test_set is None:
        raise InputError("--do_attack 1 attacks the test split, and there is none")
    return plan(job, job, test_set, word_attacks(job.attack_method or WORD_ATTACKS[:1], job))


def attack_lines(attacked: dict[str, dict[str, Any]]) -> list[str]:
    """The results of the attacks on words, by their names, as lines for the terminal."""
    results = ((describe(name, figures), figures["sentences"]) for name, figures in attacked.items())
    return [line for described, sentences in results for line in (described, f"saved {sentences}")]


def attack_columns(attacked: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The columns of the results file for the attacks on words; the values of several attacks are joined by +."""
    if not attacked:
        return {}
    measured = ("accuracy_under_attack", "attack_success_rate", "words_changed", "queries")
    fields = {"attacked_instances": "instances", "attacked_accuracy": "accuracy"} | {name: name for name in measured}
    columns = {field: [figures[name] for figures in attacked.values()] for field, name in fields.items()}
    return {"attack_method": _joined(list(attacked))} | {field: _joined(values) for field, values in columns.items()}


def _joined(values: list[Any]) -> Any:
    """A single value as it is, several as text, joined by +."""
    return values[0] if len(values) == 1 else "+".join("" if value is None else str(value) for value in values)
