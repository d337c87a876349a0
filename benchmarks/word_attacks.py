#!/usr/bin/env python3
"""Attacks on words beside TextAttack's, on the same model and sentences of SST-2: accuracy under attack and queries.

TextAttack runs in an environment of its own, which also holds NLTK's stop words.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from robust_data import tables
from robust_data.command_line.parser import Parser, run_script
from robust_data.settings import natural_int, positive_int
from robust_data.words.words import TEXTFOOLER_STOP_WORDS

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
    parser.add_argument("--masked_lm", metavar="FOLDER", help="bae")
    return parser


def main(args: argparse.Namespace) -> None:
    import torch

    from robust_data import datasets

    dataset = datasets.load("glue", "test", task_name="sst2", data_dir=args.data_dir, tokenizer=args.model_name)
    dataset = dataset.subset(torch.arange(args.sentences))
    job = {name: getattr(args, name) for name in ("model_name", "attacks", "seeds", "word_vectors", "masked_lm")}
    sides = {"robust_data": ours(dataset, **job), "TextAttack": theirs(dataset, args.textattack_python, **job)}
    print(tables.markdown(lines_of(sides)))


def ours(dataset, model_name, attacks, seeds, word_vectors=None, masked_lm=None) -> Outcomes:
    """What becomes of the texts here; word_vectors: a file, masked_lm: a folder."""
    import torch

    from robust_data import models
    from robust_data.words import attack, methods
    from robust_data.words import masked_lm as fillers
    from robust_data.words import word_vectors as vectors_of

    model = models.build(str(model_name), len(dataset.label_names), modality="text").eval()
    vectors = word_vectors and vectors_of.load(word_vectors)
    filler = masked_lm and fillers.load(masked_lm, torch.device("cpu"))

    def outcomes(name: str, seed: int) -> list[dict[str, Any]]:
        method = methods.method(name, vectors, filler)
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


def measures(by_seed: list[list[dict[str, Any]]]) -> dict[str, np.ndarray]:
    """Of each seed: the accuracy under attack, 0 to 1, and the mean queries of the texts that were attacked."""
    asked = [[text["queries"] for text in texts if text["result"] != "skipped"] for texts in by_seed]
    held = [[text["result"] == "failed" for text in texts] for texts in by_seed]
    return {name: np.array(list(map(np.mean, lists))) for name, lists in (("accuracy", held), ("queries", asked))}


def lines_of(sides: dict[str, Outcomes]) -> list[list[str]]:
    """The table that benchmarks/README.md keeps: mean, standard deviation and range over the seeds."""
    lines = [["attack", "by", "accuracy under attack", "range", "queries"]]
    for name in sides["robust_data"]:
        for side, found in sides.items():
            under, asked = measures(found[name]).values()
            reached = f"{under.mean():.3f} ± {under.std():.3f}", f"{under.min():.2f} to {under.max():.2f}"
            lines.append([name, side, *reached, f"{asked.mean():.1f} ± {asked.std():.1f}"])
    return lines


if __name__ == "__main__":
    run_script(build_parser(), main)
