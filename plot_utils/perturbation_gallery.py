#!/usr/bin/env python3
"""Draw every perturbation at every severity: one labelled contact sheet (PNG) per family.

A random one makes the same draw at every severity, so that a row shows what severity does.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

from robust_data import datasets, files, perturbations
from robust_data.command_line.parser import Parser, run_script
from robust_data.perturbations.catalogue import SEVERITIES
from robust_data.perturbations.sampling import InstanceRandom
from robust_data.plot_utils.figures import pyplot
from robust_data.reading import reason
from robust_data.registry import InputError, LazyModule
from robust_data.settings import folder_name, natural_int, positive_int

np = LazyModule("numpy")
torch = LazyModule("torch")

SAMPLE_IMAGES = ("china.jpg", "flower.jpg")
DEFAULT_SIZE = 224
SMALLEST_SIZE = 8
# Small images are enlarged to about this side on the sheet, so that their pixels can be seen.
CELL_SIDE = 160
GAP = 6


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("-t", "--perturbations", nargs="+", default=["all"], metavar="NAME", help="names or families")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--image", default=SAMPLE_IMAGES[0], help=f"a file, or one of {', '.join(SAMPLE_IMAGES)}")
    source.add_argument("--dataset_name", metavar="NAME", help=f"instead of --image: {', '.join(datasets.names())}")
    parser.add_argument("--data_dir", metavar="PATH", help="folder (npz: file) of the data; digits needs none")
    parser.add_argument("--instance", type=natural_int, default=0, help="index in the dataset's training split")
    parser.add_argument(
        "--size",
        type=positive_int,
        metavar="PX",
        help=f"side to which the image is cropped and scaled before it is perturbed; by default {DEFAULT_SIZE}, for a "
        "dataset its own; up to 64 the constants are CIFAR-10-C's",
    )
    parser.add_argument("--seed", type=natural_int, default=0, help="of the random perturbations")
    parser.add_argument(
        "--output_dir", type=folder_name, default="results/gallery", metavar="FOLDER", help="where the sheets go"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    named = perturbations.resolve(args.perturbations)
    requested = drawable(named)
    image, title = load_image(args)
    perturbations.check_size(itertools.product(requested, SEVERITIES), image.shape[-2:])
    folder = files.output_folder(args.output_dir)
    for family in perturbations.families():
        chosen = [name for name in perturbations.names(family) if name in requested]
        if chosen:
            path = folder / f"{sheet_name(args, family, chosen)}.png"
            draw_sheet(image, chosen, args.seed, f"{family}: {title}", path)
            print(path)
    if left_out := [name for name in named if name not in requested]:
        print(f"left out, since they follow the gradient of a model: {', '.join(left_out)}")


def sheet_name(args: argparse.Namespace, family: str, chosen: Sequence[str]) -> str:
    """What a family's sheet is called; one of another image, size or seed, or of a part of it, has its own name."""
    parts = [family]
    parts += chosen if len(chosen) < len(drawable(perturbations.names(family))) else []
    if args.dataset_name is not None:
        parts += [Path(args.data_dir or "").name or args.dataset_name, str(args.instance)]
    elif args.image != SAMPLE_IMAGES[0]:
        parts.append(Path(args.image).stem)
    parts += [f"{args.size}px"] if args.size else []
    parts += [f"seed{args.seed}"] if args.seed else []
    return files.fitting("_".join(parts))


def drawable(names: Sequence[str]) -> list[str]:
    """The names without those that need a model. Raises InputError if none is left."""
    kept = [name for name in names if not perturbations.CATALOGUE[name].needs_gradient]
    if not kept:
        raise InputError(f"-t {' '.join(names)}: nothing to draw without a model; name another perturbation")
    return kept


def load_image(args: argparse.Namespace) -> tuple[torch.Tensor, str]:
    """The image to perturb, float32 [1, 3, H, W] in [0,1], and what to call it."""
    if args.size is not None and args.size < SMALLEST_SIZE:
        raise InputError(f"--size {args.size} is too small; give {SMALLEST_SIZE} or more")
    if args.dataset_name is None:
        image, title = crop_square(read_image(args.image), args.size or DEFAULT_SIZE), Path(args.image).name
    else:
        image, title = read_instance(args), f"{args.dataset_name} {args.instance}"
    height, width = image.shape[-2:]
    return image, f"{title}, {width} x {height} px, seed {args.seed}"


def read_instance(args: argparse.Namespace) -> torch.Tensor:
    """float32 [1, 3, H, W] in [0,1]: the training instance with this index."""
    dataset = datasets.load(args.dataset_name, "train", data_dir=args.data_dir, image_size=args.size)
    if dataset.modality != "image":
        raise InputError(f"--dataset_name {args.dataset_name} holds no images; name another")
    position = (dataset.index == args.instance).nonzero().flatten()
    if len(position) == 0:
        raise InputError(f"--instance {args.instance} is not in the dataset; the last is {int(dataset.index[-1])}")
    return next(dataset.batches([position], "cpu")).inputs["pixel_values"]


def read_image(name: str) -> torch.Tensor:
    """uint8 [1, 3, H, W], from a file, or from scikit-learn's sample photographs."""
    from robust_data.datasets.decoding import open_image, rgb

    try:
        if name in SAMPLE_IMAGES and not Path(name).exists():
            from sklearn.datasets import load_sample_image

            pixels = np.array(load_sample_image(name))
        else:
            with open_image(name) as opened:
                pixels = np.array(rgb(opened))
    except Exception as error:  # Pillow's decoders raise whatever their formats suggest
        remedy = f"give an image file or one of {', '.join(SAMPLE_IMAGES)}"
        raise InputError(f"--image {name} cannot be read ({reason(error)}); {remedy}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def crop_square(image: torch.Tensor, side: int) -> torch.Tensor:
    """The centre of the image, scaled to side x side: uint8 [1, 3, H, W] to float32 in [0,1]."""
    shorter = min(image.shape[-2:])
    top, left = ((length - shorter) // 2 for length in image.shape[-2:])
    square = image[..., top : top + shorter, left : left + shorter].float()
    scaled = torch.nn.functional.interpolate(square, (side, side), mode="bilinear", antialias=True)
    return (scaled / 255).clamp(0, 1)


def draw_sheet(image: torch.Tensor, names: Sequence[str], seed: int, title: str, path: Path) -> None:
    """Write one row per perturbation: the clean image, then severities 1 to 5."""
    rows = [perturbed_row(image, name, seed) for name in names]
    height, width = (length + GAP for length in rows[0][0].shape[:2])
    sheet = arrange(rows)
    dpi, left, top = 100, 2.6, 0.7
    inches = (sheet.shape[1] / dpi + left, sheet.shape[0] / dpi + top)
    figure = pyplot().figure(figsize=inches, dpi=dpi)
    axis = figure.add_axes((left / inches[0], 0, 1 - left / inches[0], 1 - top / inches[1]))
    axis.imshow(sheet, interpolation="none", aspect="auto")
    axis.set_axis_off()
    for row, name in enumerate(names):
        label = name.replace("_", " ") + ("" if has_severity(name) else "\n(has no severity)")
        axis.text(-8, (row + 0.5) * height, label, ha="right", va="center", fontsize=11)
    for column, label in enumerate(["clean", *(f"severity {severity}" for severity in SEVERITIES)]):
        axis.text((column + 0.5) * width, -8, label, ha="center", va="bottom", fontsize=11)
    figure.text(0.5, 1 - 0.08 / inches[1], title, ha="center", va="top", fontsize=12)
    with files.atomic_write(path) as file:
        figure.savefig(file, format="png")
    pyplot().close(figure)


def perturbed_row(image: torch.Tensor, name: str, seed: int) -> list[np.ndarray]:
    """uint8 [H, W, 3] per cell: the clean image and each severity, once where there is none to choose."""

    def draws():
        return InstanceRandom(seed, name, SEVERITIES[0], 0, torch.zeros(1, dtype=torch.long), image.device)

    severities = SEVERITIES if has_severity(name) else SEVERITIES[:1]
    perturbed = [perturbations.CATALOGUE[name](image, severity, draws()) for severity in severities]
    return [as_cell(picture) for picture in (image, *perturbed)]


def has_severity(name: str) -> bool:
    return perturbations.CATALOGUE[name].severities is not None


def as_cell(picture: torch.Tensor) -> np.ndarray:
    """float [1, 3, H, W] in [0,1] to uint8 [H, W, 3], enlarged by whole pixels if small."""
    repeat = max(1, CELL_SIDE // max(picture.shape[-2:]))
    pixels = picture[0].mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return pixels.repeat(repeat, axis=0).repeat(repeat, axis=1)


def arrange(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """One white uint8 sheet with a row of cells per perturbation; rows may be shorter than the longest."""
    height, width = (length + GAP for length in rows[0][0].shape[:2])
    sheet = np.full((len(rows) * height, (1 + len(SEVERITIES)) * width, 3), 255, dtype=np.uint8)
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            y, x = row * height + GAP // 2, column * width + GAP // 2
            sheet[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
    return sheet


if __name__ == "__main__":
    run_script(build_parser(), main)
