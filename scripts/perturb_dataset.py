#!/usr/bin/env python3
"""Write a data set perturbed, for any program to use: by each perturbation, at each severity.

Image files become OUTPUT_DIR/<perturbation>/<severity>/<class>/<file>.png, as in ImageNet-C; arrays become
OUTPUT_DIR/<perturbation>.npy and labels.npy, severity by severity, as in CIFAR-10-C; texts become
OUTPUT_DIR/<perturbation>/<severity>/<split>.csv. The same command goes on where it was stopped.

python scripts/perturb_dataset.py --dataset_name imagefolder --data_dir photos -t fog pixelate --output_dir photos-c

python scripts/perturb_dataset.py --dataset_name csv --data_dir reviews -t char_swap --severities 3 --output_dir swapped
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from robust_data import datasets, files, perturbations, settings, tables
from robust_data.command_line import arguments
from robust_data.command_line.parser import Parser, run_script
from robust_data.datasets.base import Batch, Dataset
from robust_data.judge import conditions
from robust_data.plot_utils.instances import pixels
from robust_data.reading import read_json
from robust_data.registry import InputError, LazyModule

torch = LazyModule("torch")

BY_DEFAULT = {"image": "common", "text": "all"}


def build_parser() -> Parser:
    parser = Parser(("dataset_name", "data_dir", "perturbations", "severities", "output_dir"), description=__doc__)
    arguments.add_list(parser)
    arguments.add(parser, settings.Data)
    parser.add_argument(
        "-t",
        "--perturbations",
        nargs="+",
        metavar="NAME",
        help="names, families (family:NAME), all, or common: the 15 corruptions of ImageNet-C; by default common, for "
        "texts all",
    )
    arguments.add(parser, settings.Judging, only=["split", "severities"])
    arguments.add(parser, settings.Run, only=["seed", "eval_size", "output_dir"], output_dir="results/perturbed")
    return parser


def main(args: argparse.Namespace) -> None:
    modality = datasets.modality(args.dataset_name)
    names = conditions.resolve(args.perturbations or [BY_DEFAULT[modality]], modality)
    severities = sorted(set(args.severities))
    data = dataclasses.asdict(settings.of(settings.Data, args))
    dataset = datasets.load(data.pop("dataset_name"), args.split, seed=args.seed, **data)
    perturbations.check_size(itertools.product(names, severities), dataset.image_size)
    folder = files.output_folder(args.output_dir)
    keep_to_one(folder, args, dataset, severities)
    for path in writer(dataset)(dataset, names, severities, folder, args):
        print(f"saved {path}")


def writer(dataset: Dataset) -> Callable[..., Iterator[Path]]:
    """What writes the copies of a data set: of texts, of image files, or of arrays."""
    if dataset.modality == "text":
        return write_texts
    return write_arrays if dataset.sources is None else write_images


def keep_to_one(folder: Path, args: argparse.Namespace, dataset: Dataset, severities: Sequence[int]) -> None:
    """Note in the folder what is perturbed and how. Raises InputError where that of the folder is something else."""
    note = {"dataset_name": args.dataset_name, "split": args.split, "seed": args.seed, "instances": len(dataset)}
    note |= {"image_size": dataset.image_size and list(dataset.image_size), "label_names": dataset.label_names}
    # An array holds all severities; a further one has files or folders of its own elsewhere.
    note |= {"severities": severities} if writer(dataset) is write_arrays else {}
    path = folder / "perturbed.json"
    if not path.exists():
        files.write_json(path, note)
    elif (there := read_json(path, str(path), "remove it")) != note:
        other = next(name for name in note if there.get(name) != note[name])
        raise InputError(f"--output_dir {folder} is of another {other}, {there.get(other)}; name another folder")


def write_images(
    dataset: Dataset, names: Sequence[str], severities: Sequence[int], folder: Path, args: argparse.Namespace
) -> Iterator[Path]:
    """A file for each image, perturbation and severity; those that are there stay. Yields the folders."""
    from PIL import Image
    from tqdm import tqdm

    combined = list(itertools.product(names, severities))
    files_of = image_files(dataset)
    for name, severity in combined:
        for label_name in dataset.label_names:
            (folder / name / str(severity) / label_name).mkdir(parents=True, exist_ok=True)
    left = [
        position
        for position, file in enumerate(files_of)
        if not all((folder / name / str(severity) / file).exists() for name, severity in combined)
    ]
    batches = torch.tensor(left).split(args.eval_size) if left else ()
    with tqdm(total=len(left), desc="perturbing", unit="image", leave=False, disable=None) as bar:
        for batch in dataset.batches(batches, "cpu"):
            for name, severity in combined:
                for position, image in zip(batch.positions.tolist(), perturbed(batch, name, severity, args.seed)):
                    with files.atomic_write(folder / name / str(severity) / files_of[position]) as file:
                        Image.fromarray(image).save(file, format="png")
            bar.update(len(batch))
    yield from (folder / name / str(severity) for name, severity in combined)


def image_files(dataset: Dataset) -> list[Path]:
    """<class>/<file>.png for each image; where several of a class would have one name, its index tells them apart."""
    places = [
        Path(dataset.label_names[label], Path(source).stem) for label, source in zip(dataset.labels, dataset.sources)
    ]
    count = Counter(places)
    return [
        place.with_name(f"{place.name}{'' if count[place] == 1 else f'_{index}'}.png")
        for place, index in zip(places, dataset.index.tolist())
    ]


def write_arrays(
    dataset: Dataset, names: Sequence[str], severities: Sequence[int], folder: Path, args: argparse.Namespace
) -> Iterator[Path]:
    """One array for each perturbation, uint8 [S * N,H,W,3], and the labels, int64 [S * N]; yields their files."""
    from tqdm import tqdm

    with files.atomic_write(folder / "labels.npy") as file:
        np.save(file, np.tile(dataset.labels.numpy(), len(severities)))
    yield folder / "labels.npy"
    batches = torch.arange(len(dataset)).split(args.eval_size)
    shape = (len(severities) * len(dataset), *dataset.image_size, 3)
    for name in tqdm(names, desc="perturbing", unit="perturbation", leave=False, disable=None):
        path = folder / f"{name}.npy"
        if not path.exists():
            with files.atomic_write(path) as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for severity in severities:
                    for batch in dataset.batches(batches, "cpu"):
                        file.write(perturbed(batch, name, severity, args.seed).tobytes())
        yield path


def write_texts(
    dataset: Dataset, names: Sequence[str], severities: Sequence[int], folder: Path, args: argparse.Namespace
) -> Iterator[Path]:
    """A table for each perturbation and severity, with the texts, the label and the index; yields their files."""
    header = (*dataset.column_names, args.label_column or "label", "index")
    labels = [dataset.label_names[label] for label in dataset.labels]
    for name, severity in itertools.product(names, severities):
        path = folder / name / str(severity) / f"{args.split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = [
            perturbations.perturb_texts(name, texts, severity, dataset.index, args.seed, column=number)
            for number, texts in enumerate(dataset.columns)
        ]
        yield tables.write(path, [header, *zip(*columns, labels, dataset.index.tolist())])


def perturbed(batch: Batch, name: str, severity: int, seed: int) -> np.ndarray:
    """The images of a batch as uint8 [B,H,W,3], each by the draw that it has in judging with this seed."""
    return pixels(perturbations.perturb(name, batch.inputs["pixel_values"], severity, batch.index, seed))


if __name__ == "__main__":
    run_script(build_parser(), main)
