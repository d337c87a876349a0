"""The results of an attack on words: figures, a line for the terminal, a CSV of the sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_data import tables


@dataclass(frozen=True)
class Attacked:
    """The result of an attack on one instance.

    before, after: the classes predicted before and after the attack. original, pieces: the text before and after it,
    with the words at the odd places. other: the other text of a pair, which does not change, or "". probability: that
    of the golden label after the attack. queries: how many texts went through the model, the original included.
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


def summary(attacked: Sequence[Attacked]) -> dict[str, Any]:
    """The accuracy before and under attack, and what the attack took.

    Shares are 0 to 1. The share of words changed is a mean over the successful attacks, the queries over all attacked
    instances; both are None where there are no such instances.
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


def describe(name: str, figures: Mapping[str, Any]) -> str:
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
    header = ("index", "label", "predicted", "predicted_after", "result", "queries", "words_changed")
    lines = [(*header, "original", "attacked", "other_text")]
    for one in attacked:
        names = [label_names[label] for label in (one.label, one.before, one.after)]
        share = round(one.share_changed, 4)
        texts = (_marked(one.original, one.pieces), _marked(one.pieces, one.original), one.other)
        lines.append((one.index, *names, one.result, one.queries, share, *texts))
    tables.write(path, lines)


def _marked(pieces: list[str], other: list[str]) -> str:
    return "".join(f"[[{piece}]]" if piece != changed else piece for piece, changed in zip(pieces, other, strict=True))
