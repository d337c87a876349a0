#!/usr/bin/env python3
"""Make the data of the study: 10,000 training and 2,000 test images of CIFAR-10 (JPEG), 4,000 sentences of SST-2.

Writes into --output_dir: images.npz and images_validation.npz (the same training images; what is judged on is the test
split, or training images that are not trained on), and the folders texts and texts_validation in the layout of GLUE.
Beside them files.txt and lines.txt tell which file, or which line of train.tsv from 0 without the header, each training
instance is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from robust_data import files
from robust_data.command_line.parser import Parser, run_script
from robust_data.registry import InputError

TRAINED_ON, JUDGED_ON = 1000, 200  # images of each class
SENTENCES, VALIDATION_SENTENCES = 2000, 500  # of each class
SEED = 0


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--images", metavar="FOLDER", help="CIFAR-10 (JPEG), as {train,test}/<class>/<n>.jpg")
    parser.add_argument("--sst2", metavar="FOLDER", help="SST-2 unpacked, with train.tsv and dev.tsv")
    parser.add_argument(
        "--output_dir", default="results/study_work/data", metavar="FOLDER", help="default: %(default)s"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    if args.images is None and args.sst2 is None:
        raise InputError("nothing to make: give --images FOLDER, --sst2 FOLDER, or both")
    output = files.output_folder(args.output_dir)
    made = [] if args.images is None else make_images(Path(args.images), output)
    made += [] if args.sst2 is None else make_texts(Path(args.sst2), output)
    for path in made:
        print(f"saved {path}")


def make_images(folder: Path, output: Path) -> list[Path]:
    """The image files of every class by number: the first are trained on, the next are for validation."""
    import numpy as np

    train = _image_files(folder / "train", 0, TRAINED_ON)
    judged = {
        "images.npz": _image_files(folder / "test", 0, JUDGED_ON),
        "images_validation.npz": _image_files(folder / "train", TRAINED_ON, TRAINED_ON + JUDGED_ON),
    }
    pixels, labels = _decoded(train), _labels(train)
    for name, paths in judged.items():
        test = {"test_images": _decoded(paths), "test_labels": _labels(paths)}
        with files.atomic_write(output / name) as file:
            np.savez(file, images=pixels, labels=labels, **test)
    with files.atomic_write(output / "files.txt", "w") as file:
        file.writelines(f"{path.relative_to(folder).as_posix()}\n" for path in train)
    return [output / name for name in (*judged, "files.txt")]


def _image_files(folder: Path, start: int, stop: int) -> list[Path]:
    classes = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found = [sorted(path.glob("*.jpg"), key=lambda file: int(file.stem))[start:stop] for path in classes]
    if not found or any(len(of_class) != stop - start for of_class in found):
        raise InputError(
            f"--images: {folder} lacks {stop} images <n>.jpg in every class; unpack all of CIFAR-10 (JPEG)"
        )
    return [path for of_class in found for path in of_class]


def _decoded(paths):
    import numpy as np
    from PIL import Image

    decoded = []
    for path in paths:
        with Image.open(path, formats=["JPEG"]) as image:
            decoded.append(np.asarray(image.convert("RGB")))
    return np.stack(decoded)


def _labels(paths):
    import numpy as np

    return np.unique([path.parent.name for path in paths], return_inverse=True)[1]


def make_texts(folder: Path, output: Path) -> list[Path]:
    """Sentences of each class, drawn once; others of the training split are for validation."""
    import numpy as np

    header, lines = _table(folder / "train.tsv")
    dev_header, dev = _table(folder / "dev.tsv")
    label = header.split("\t").index("label")
    draws = np.random.default_rng(SEED)
    trained, held_out = [], []
    for name in ("0", "1"):
        of_class = draws.permutation([place for place, line in enumerate(lines) if line.split("\t")[label] == name])
        trained += of_class[:SENTENCES].tolist()
        held_out += of_class[SENTENCES : SENTENCES + VALIDATION_SENTENCES].tolist()
    trained.sort()
    made = []
    judged = {"texts": (dev_header, dev), "texts_validation": (header, [lines[place] for place in sorted(held_out)])}
    for name, (its_header, its_lines) in judged.items():
        of_split = {"train.tsv": (header, [lines[place] for place in trained]), "dev.tsv": (its_header, its_lines)}
        (output / name / "SST-2").mkdir(parents=True, exist_ok=True)
        for split, (first, rest) in of_split.items():
            made.append(output / name / "SST-2" / split)
            with files.atomic_write(made[-1], "w") as file:
                file.writelines(f"{line}\n" for line in (first, *rest))
    made.append(output / "lines.txt")
    with files.atomic_write(made[-1], "w") as file:
        file.writelines(f"{place}\n" for place in trained)
    return made


def _table(path: Path) -> tuple[str, list[str]]:
    try:
        header, *lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(
            f"--sst2: {path} cannot be read ({error}); give the folder with train.tsv and dev.tsv"
        ) from None
    if "label" not in header.split("\t"):
        raise InputError(f"--sst2: {path} has no column label; give SST-2 as GLUE publishes it")
    return header, lines


if __name__ == "__main__":
    run_script(build_parser(), main)
