#!/usr/bin/env python3
"""How close judging under PGD comes to its limit, the bare passes that it needs, and what the checks of it add."""

from __future__ import annotations

import argparse
import statistics
import time

from robust_data.benchmarks.collection import random_images
from robust_data.command_line.parser import Parser, run_script
from robust_data.registry import LazyModule
from robust_data.settings import positive_int

torch = LazyModule("torch")

EPS = 1e-4  # so small that nobody is fooled, and every step is needed


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["small_cnn", "resnet20"], metavar="NAME")
    parser.add_argument("--instances", type=positive_int, default=1000, help="random images of 32 px")
    parser.add_argument("--steps", type=positive_int, default=10, help="of PGD")
    parser.add_argument("--repeats", type=positive_int, default=3, help="runs of which the median counts")
    return parser


def main(args: argparse.Namespace) -> None:
    from robust_data import models
    from robust_data.judge.believable import examine
    from robust_data.judge.conditions import CLEAN, AttackSettings, Condition
    from robust_data.judge.judge import Judge

    dataset = random_images(args.instances, torch.device("cpu"))
    conditions = [CLEAN, Condition("attack", "pgd", eps=EPS, norm="linf")]
    print("| model | limit (s) | judging | judging / limit | checks | checks / judging |\n|---|---|---|---|---|---|")
    for name in args.models:
        model = models.build(name, len(dataset.label_names)).eval()
        judge = Judge(model, attack=AttackSettings(args.steps))
        times = []
        for _ in range(args.repeats):
            began = time.perf_counter()
            bare(model, dataset, args.steps)
            limit = time.perf_counter()
            found = judge.judged(dataset, conditions)[1]
            judged = time.perf_counter()
            examine(judge, dataset, conditions, found, [])
            times.append((limit - began, judged - limit, time.perf_counter() - judged))
        limit, judged, checked = map(statistics.median, zip(*times))
        ratios = judged / limit, checked / judged
        print(f"| {name} | {limit:.2f} | {judged:.2f} | {ratios[0]:.3f} | {checked:.2f} | {ratios[1]:.3f} |")


def bare(model, dataset, steps: int) -> None:
    """The passes of a judgement: a clean one, forward and backward for each step, and one over the result."""
    for batch in dataset.batches(dataset.collection_order().split(256), "cpu"):
        with torch.no_grad():
            model(batch.inputs)
        for _ in range(steps):
            images = batch.inputs["pixel_values"].clone().requires_grad_()
            torch.autograd.grad(
                torch.nn.functional.cross_entropy(model({"pixel_values": images}), batch.labels), images
            )
        with torch.no_grad():
            model(batch.inputs)


if __name__ == "__main__":
    run_script(build_parser(), main)
