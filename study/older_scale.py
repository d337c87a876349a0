#!/usr/bin/env python3
"""What the older image code's mix of scales does to sensitivity: clean images in [0,1], perturbed ones in [0,255].

Reads the models that a training saved on the way (--save_steps), and compares, over all training images, sensitivity
as it is meant with the loss on perturbed images times 255. Writes scale.json into --output_dir.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from robust_data import files
from robust_data.command_line.parser import Parser, run_script
from robust_data.registry import InputError
from robust_data.settings import severity


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--models",
        required=True,
        metavar="FOLDER",
        help="the training's --output_dir, with model_step<N> and model",
    )
    parser.add_argument("--data_dir", required=True, metavar="FILE", help="the .npz of the training images")
    parser.add_argument("--perturbation", default="gaussian_blur", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--severity", type=severity, default=5, metavar="1..5", help="default: %(default)s")
    parser.add_argument("--output_dir", required=True, metavar="FOLDER")
    return parser


def main(args: argparse.Namespace) -> None:
    models = Path(args.models)
    folders = sorted(models.glob("model_step*"), key=lambda path: int(path.name.removeprefix("model_step")))
    if not folders or not (models / "model").is_dir():
        raise InputError(f"--models {models} lacks model_step<N> or model; train to the end with --save_steps")
    folders.append(models / "model")
    output = files.output_folder(args.output_dir)
    found = compared(folders, args.data_dir, args.perturbation, args.severity)
    files.write_json(output / "scale.json", found)
    print(f"saved {output / 'scale.json'}")


def compared(folders: list[Path], data: str, perturbation: str, severity: int) -> dict[str, float]:
    """The comparison over all checkpoints: rank correlations -1..1, accuracies 0..1 at the last one."""
    import torch

    from robust_data import datasets, models
    from robust_data.metrics import rank_correlation

    dataset = datasets.load("npz", "train", data_dir=data)
    losses = []
    for folder in folders:
        model = models.build(str(folder), len(dataset.label_names)).eval()
        with torch.inference_mode():
            losses.append([losses_of(model, batch, perturbation, severity) for batch in in_parts(dataset)])
    # [kind, checkpoint, instance, (loss, right)]
    measured = torch.stack([torch.cat(of_model, dim=1) for of_model in losses], dim=1).double().numpy()
    clean, meant, scaled = measured[..., 0].mean(axis=1)
    right = measured[:, -1, :, 1].mean(axis=1)
    return {
        "scale: rank correlation with sensitivity": rank_correlation(scaled, meant),
        "scale: rank correlation with clean loss": rank_correlation(scaled, clean),
        "scale: accuracy clean": float(right[0]),
        "scale: accuracy perturbed": float(right[1]),
        "scale: accuracy perturbed times 255": float(right[2]),
    }


def in_parts(dataset):
    """The instances in batches of 256, in their order."""
    import torch

    return dataset.batches(torch.arange(len(dataset)).split(256), "cpu")


def losses_of(model, batch, perturbation: str, severity: int):
    """Loss and whether it was right, of the clean images, the perturbed ones, and these times 255: float [3, B, 2]."""
    import torch

    from robust_data import perturbations

    pixels = batch.inputs["pixel_values"]
    perturbed = perturbations.perturb(perturbation, pixels, severity, batch.index)
    found = []
    for images in (pixels, perturbed, 255 * perturbed):
        logits = model({"pixel_values": images})
        loss = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="none")
        found.append(torch.stack([loss, (logits.argmax(dim=1) == batch.labels).float()], dim=1))
    return torch.stack(found)


if __name__ == "__main__":
    run_script(build_parser(), main)
