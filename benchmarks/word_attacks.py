#!/usr/bin/env python3
"""Attacks on words beside TextAttack's, on the same model and sentences of SST-2: accuracy, words changed, queries.

TextAttack runs in an environment of its own, which also holds NLTK's stop words and TextBlob.
"""

from __future__ import annotations

import argparse
import difflib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from robust_data import tables
from robust_data.command_line.parser import Parser, run_script
from robust_data.settings import natural_int, positive_int
from robust_data.words.words import TEXTFOOLER_STOP_WORDS, apart

# What became of each text, attack by attack, a list a seed: result, the text at the end, and queries.
Outcomes = dict[str, list[list[dict[str, Any]]]]


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--model_name", required=True, metavar="FOLDER", help="a classifier fine-tuned on SST-2")
    parser.add_argument("--data_dir", required=True, metavar="FOLDER", help="of SST-2")
    parser.add_argument("--textattack_python", required=True, metavar="FILE", help="the interpreter with TextAttack")
    parser.add_argument("--attacks", nargs="+", default=["deepwordbug", "textbugger"], metavar="NAME", help="which")
    parser.add_argument("--seeds", nargs="+", type=natural_int, default=[0, 1, 2, 3, 4], help="of the attacks")
    parser.add_argument("--sentences", type=positive_int, default=50, metavar="N", help="the first N of dev")
    parser.add_argument("--word_vectors", metavar="FILE", help="textfooler, textbugger: without a line of counts")
    parser.add_argument("--masked_lm", metavar="FOLDER", help="bertattack, bae")
    parser.add_argument(
        "--sentence_encoder", metavar="FOLDER", help="whole recipes; by default without meaning and grammar"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    import torch

    from robust_data import datasets

    dataset = datasets.load("glue", "test", task_name="sst2", data_dir=args.data_dir, tokenizer=args.model_name)
    dataset = dataset.subset(torch.arange(args.sentences))
    names = ("model_name", "attacks", "seeds", "word_vectors", "masked_lm", "sentence_encoder")
    job = {name: getattr(args, name) for name in names}
    sides = {"robust_data": ours(dataset, **job), "TextAttack": theirs(dataset, args.textattack_python, **job)}
    print(tables.markdown(lines_of(sides, dataset.columns[-1])))


def ours(dataset, model_name, attacks, seeds, word_vectors=None, masked_lm=None, sentence_encoder=None) -> Outcomes:
    """What becomes of the texts here; word_vectors: a file, masked_lm, sentence_encoder: folders."""
    import torch

    from robust_data import models
    from robust_data.words import attack, meaning, methods
    from robust_data.words import masked_lm as fillers
    from robust_data.words import word_vectors as vectors_of

    model = models.build(str(model_name), len(dataset.label_names), modality="text").eval()
    vectors = word_vectors and vectors_of.load(word_vectors)
    filler = masked_lm and fillers.load(masked_lm, torch.device("cpu"))

    encoder = sentence_encoder and meaning.load(sentence_encoder, torch.device("cpu"))

    def outcomes(name: str, seed: int) -> list[dict[str, Any]]:
        method = methods.method(name, vectors, filler)
        method = meaning.as_published(method, encoder) if encoder else method
        attacked = attack.attack_dataset(model, dataset, method, seed=seed, batch_size=32)
        return [{"result": one.result, "text": "".join(one.pieces), "queries": one.queries} for one in attacked]

    return {name: [outcomes(name, seed) for seed in seeds] for name in attacks}


def theirs(dataset, python: str, **job: Any) -> Outcomes:
    """The same by TextAttack, under another interpreter. Raises CalledProcessError if that fails."""
    job |= {"texts": list(zip(*dataset.columns)), "labels": dataset.labels.tolist()}
    job |= {"textfooler_stop_words": sorted(TEXTFOOLER_STOP_WORDS)}
    # From this folder: in the project's own, its package `datasets` would hide the one that TextAttack needs.
    command = [python, "-c", "import textattack_side; textattack_side.main()"]
    how = {"cwd": Path(__file__).parent, "stdout": subprocess.PIPE, "text": True, "check": True}
    done = subprocess.run(command, input=json.dumps(job, default=str), **how)
    return json.loads(done.stdout)


def measures(by_seed: list[list[dict[str, Any]]], originals: list[str]) -> dict[str, np.ndarray]:
    """Of each seed: the accuracy under attack, the mean share of words changed where it succeeded, the mean queries."""
    held = [[text["result"] == "failed" for text in texts] for texts in by_seed]
    changed = [
        [_changed(original, text["text"]) for original, text in zip(originals, texts) if text["result"] == "succeeded"]
        for texts in by_seed
    ]
    asked = [[text["queries"] for text in texts if text["result"] != "skipped"] for texts in by_seed]
    lists = {"accuracy": held, "changed": changed, "queries": asked}
    return {name: np.array([np.mean(values) for values in found]) for name, found in lists.items()}


def _changed(text: str, other: str) -> float:
    """The share of a text's words that the other one has not in their place, blanks put into words aside."""
    words, others = apart(text)[1::2], apart(other)[1::2]
    parts = difflib.SequenceMatcher(None, words, others, autojunk=False).get_opcodes()
    return sum(end - start for kind, start, end, _, _ in parts if kind != "equal") / max(1, len(words))


def lines_of(sides: dict[str, Outcomes], originals: list[str]) -> list[list[str]]:
    """The table that benchmarks/README.md keeps: mean, standard deviation and range over the seeds."""
    lines = [["attack", "by", "accuracy under attack", "range", "words changed", "queries"]]
    for name in sides["robust_data"]:
        for side, found in sides.items():
            under, changed, asked = measures(found[name], originals).values()
            reached = f"{under.mean():.3f} ± {under.std():.3f}", f"{under.min():.2f} to {under.max():.2f}"
            took = f"{changed.mean():.1%} ± {changed.std():.1%}", f"{asked.mean():.1f} ± {asked.std():.1f}"
            lines.append([name, side, *reached, *took])
    return lines


if __name__ == "__main__":
    run_script(build_parser(), main)
