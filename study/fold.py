#!/usr/bin/env python3
"""What flooding does to the loss around an input: a model's lead along the ascent of plain training's model.

Walks from every test instance along the gradient of the plain model, and notes by how much the golden label leads there
under both; how the gradients of the two agree; and whether the leads of the robust training instances pile up where
their loss is the flood level. Writes fold.json into --output_dir.
"""

from __future__ import annotations

import argparse
import functools
import math

from robust_data import files
from robust_data.command_line.parser import Parser, run_script
from robust_data.registry import LazyModule
from robust_data.settings import positive_float

collection, evaluation = LazyModule("robust_data.collection"), LazyModule("robust_data.evaluation")

# Where on the way, as shares of --reach, and within which share of the flood level's lead others count as at it.
OFFSETS, NEAR = (-1.0, -0.5, 0.0, 0.5, 1.0), 0.1
SHARE = 0.3


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--model_name", required=True, metavar="FOLDER", help="the model that is looked at")
    parser.add_argument("--plain", required=True, metavar="FOLDER", help="one trained alike without flooding")
    parser.add_argument("--statistics_source", required=True, metavar="FILE", help="tells the robust instances")
    parser.add_argument("--within_class", type=int, default=0, metavar="0|1", help="rank them within the class")
    parser.add_argument("--b", type=positive_float, required=True, metavar="NATS", help="the flood level")
    parser.add_argument("--reach", type=positive_float, required=True, metavar="L2", help="how far to walk")
    parser.add_argument("--dataset_name", required=True, metavar="NAME")
    parser.add_argument("--task_name", metavar="NAME")
    parser.add_argument("--data_dir", required=True, metavar="PATH")
    parser.add_argument("--output_dir", required=True, metavar="FOLDER")
    return parser


def main(args: argparse.Namespace) -> None:
    output = files.output_folder(args.output_dir)
    found = measured(args)
    files.write_json(output / "fold.json", found)
    print(f"saved {output / 'fold.json'}")


def measured(args: argparse.Namespace) -> dict[str, float]:
    """By what is measured: mean leads in nats, the median cosine, shares 0..1, the median ratio of gradient lengths.

    Of the test instances that both models get right; the last two of the robust training instances.
    """
    import numpy as np
    import torch

    from robust_data import datasets, metrics, models, records, selection

    more = {"tokenizer": args.model_name, "task_name": args.task_name} if args.task_name else {}
    load = functools.partial(datasets.load, args.dataset_name, data_dir=args.data_dir, **more)
    train, test = load("train"), load("test")
    model, plain = (
        models.build(folder, len(train.label_names), modality=train.modality).eval()
        for folder in (args.model_name, args.plain)
    )
    parts = [walked(model, plain, batch, args.reach) for batch in in_parts(test)]
    leads, cosine, ratio = (torch.cat(of_all, dim=-1).double() for of_all in zip(*parts))
    known_by = metrics.instance_metrics(records.load(args.statistics_source)[0])
    robust = selection.select(
        known_by, "perturbed_loss_mean_r", SHARE, balance=True, within_class=bool(args.within_class)
    )
    places = np.flatnonzero(np.isin(train.index.numpy(), robust))
    chosen = train.subset(torch.from_numpy(places))
    with torch.inference_mode():
        ends = torch.cat([evaluation.margins_of(model(batch.inputs), batch.labels) for batch in in_parts(chosen)])
    # Of two classes the lead at which cross-entropy is the flood level.
    level = math.log(math.exp(-args.b) / -math.expm1(-args.b))
    found = {f"lead at {offset * args.reach:+.2f}": lead.mean() for offset, lead in zip(OFFSETS, leads)}
    found |= {"cosine": cosine.median(), "share of cosines below 0": (cosine < 0).double().mean()}
    found |= {"gradient length over plain's": ratio.median(), "lead of the robust": ends.median()}
    found |= {"share of the robust near the flood level": ((ends / level - 1).abs() <= NEAR).double().mean()}
    return {f"fold: {name}": float(value) for name, value in found.items()}


def in_parts(dataset):
    """The instances, in batches in which texts are about as long."""
    return dataset.batches(dataset.collection_order().split(64), "cpu")


def walked(model, plain, batch, reach: float):
    """Leads along the way [T, B], cosines of the two gradients [B], and the ratio of their lengths [B]."""
    import torch

    (_, from_plain, uphill), (key, clean, own) = (ascent(one, batch) for one in (plain, model))
    length, own_length = (gradient.flatten(1).norm(dim=1).clamp_min(1e-30) for gradient in (uphill, own))
    step = reach * uphill / length.view(-1, *[1] * (uphill.ndim - 1))
    with torch.inference_mode():
        leads = [
            evaluation.margins_of(model(batch.inputs | {key: clean + offset * step}), batch.labels)
            for offset in OFFSETS
        ]
        of_plain = evaluation.margins_of(plain(batch.inputs | {key: from_plain}), batch.labels)
    leads = torch.stack(leads)
    right = (of_plain > 0) & (leads[OFFSETS.index(0.0)] > 0)
    cosine = torch.cosine_similarity(uphill.flatten(1), own.flatten(1))
    return leads[:, right], cosine[right], (own_length / length)[right]


def ascent(model, batch):
    """What may move of a batch: its name, its values, and the gradient along which the golden label's lead falls."""
    import torch

    key, clean, mask, _ = collection.movable(batch, model)
    with torch.enable_grad():
        values = clean.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(
            -evaluation.margins_of(model(batch.inputs | {key: values}), batch.labels).sum(), values
        )
    return key, clean.detach(), gradient if mask is None else gradient * mask


if __name__ == "__main__":
    run_script(build_parser(), main)
