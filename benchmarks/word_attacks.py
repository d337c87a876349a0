#!/usr/bin/env python3
"""Attacks on words beside TextAttack's, on the same model and sentences of SST-2: accuracy under attack and queries.

TextAttack runs in an environment of its own, which also holds NLTK's stop words.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from robust_data.command_line.parser import Parser, run_script
from robust_data.settings import natural_int, positive_int
from robust_data.words.words import TEXTFOOLER_STOP_WORDS

# What became of each text, attack by attack and seed by seed: result, the text at the end, and queries.
Outcomes = dict[str, dict[int, list[dict[str, Any]]]]


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--model_name", required=True, metavar="FOLDER", help="a classifier fine-tuned on SST-2")
    parser.add_argument("--data_dir", required=True, metavar="FOLDER", help="of SST-2")
    parser.add_argument("--textattack_python", required=True, metavar="FILE", help="the interpreter with TextAttack")
    parser.add_argument("--attacks", nargs="+", default=["deepwordbug", "textbugger"], metavar="NAME", help="which")
    parser.add_argument("--seeds", nargs="+", type=natural_int, default=[0, 1, 2, 3, 4], help="of the attacks")
    parser.add_argument("--sentences", type=positive_int, default=50, metavar="N", help="the first N of dev")
    parser.add_argument("--word_vectors", metavar="FILE", help="textfooler, textbugger: without a line of counts")
    parser.add_argument("--masked_lm", metavar="FOLDER", help="bae")
    return parser


def main(args: argparse.Namespace) -> None:
    import torch

    import datasets

    dataset = datasets.load("glue", "test", task_name="sst2", data_dir=args.data_dir, tokenizer=args.model_name)
    dataset = dataset.subset(torch.arange(args.sentences))
    given = {"word_vectors": args.word_vectors, "masked_lm": args.masked_lm}
    what = job(args.model_name, dataset, args.attacks, args.seeds, **given)
    sides = {"robust_data": ours(what, dataset), "TextAttack": theirs(what, args.textattack_python)}
    print(markdown_table(sides))


def job(model: str, dataset, attacks: Sequence[str], seeds: Sequence[int], **given: str | None) -> dict[str, Any]:
    """What both sides are to do; given: word_vectors and masked_lm, file and folder."""
    return {
        "model": str(model),
        "texts": [list(texts) for texts in zip(*dataset.columns)],
        "labels": dataset.labels.tolist(),
        "attacks": list(attacks),
        "seeds": list(seeds),
        "textfooler_stop_words": sorted(TEXTFOOLER_STOP_WORDS),
        "word_vectors": given.get("word_vectors"),
        "masked_lm": given.get("masked_lm"),
    }


def ours(job: dict[str, Any], dataset) -> Outcomes:
    """What becomes of the texts here."""
    import torch

    import models
    from robust_data.words import attack, masked_lm, methods, word_vectors

    model = models.build(job["model"], len(dataset.label_names), modality="text").eval()
    vectors = word_vectors.load(job["word_vectors"]) if job["word_vectors"] else None
    filler = masked_lm.load(job["masked_lm"], torch.device("cpu")) if job["masked_lm"] else None
    found: Outcomes = {}
    for name in job["attacks"]:
        method = methods.method(name, vectors, filler)
        for seed in job["seeds"]:
            attacked = attack.attack_dataset(model, dataset, method, seed=seed, batch_size=32)
            found.setdefault(name, {})[seed] = [
                {"result": one.result, "text": "".join(one.pieces), "queries": one.queries} for one in attacked
            ]
    return found


def theirs(job: dict[str, Any], python: str) -> Outcomes:
    """The same by TextAttack, under another interpreter. Raises CalledProcessError if that fails."""
    # From this folder: in the project's own, its package `datasets` would hide the one that TextAttack needs.
    command = [python, "-c", "import textattack_side; textattack_side.main()"]
    done = subprocess.run(
        command, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent
    )
    return {
        name: {int(seed): outcomes for seed, outcomes in by_seed.items()}
        for name, by_seed in json.loads(done.stdout).items()
    }


def accuracies(by_seed: dict[int, list[dict[str, Any]]]) -> np.ndarray:
    """Under attack, 0 to 1, of each seed."""
    return np.array([np.mean([one["result"] == "failed" for one in outcomes]) for outcomes in by_seed.values()])


def queries(by_seed: dict[int, list[dict[str, Any]]]) -> np.ndarray:
    """The mean over the texts that were attacked, of each seed."""
    return np.array(
        [np.mean([one["queries"] for one in texts if one["result"] != "skipped"]) for texts in by_seed.values()]
    )


def markdown_table(sides: dict[str, Outcomes]) -> str:
    """The table that benchmarks/README.md keeps: mean, standard deviation and range over the seeds."""
    lines = ["| attack | by | accuracy under attack | range | queries |", "|---|---|---|---|---|"]
    for name in sides["robust_data"]:
        for side, found in sides.items():
            under, asked = accuracies(found[name]), queries(found[name])
            lines.append(
                f"| {name} | {side} | {under.mean():.3f} ± {under.std():.3f} | {under.min():.2f} to {under.max():.2f} "
                f"| {asked.mean():.1f} ± {asked.std():.1f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(build_parser(), main)
