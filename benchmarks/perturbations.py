"""Measure images/s of every perturbation, and the ratio to imagecorruptions and kornia where they are installed.

Severity 3, float32, at 32 px (256 images per batch) and 224 px (32 images per batch). Prints a Markdown
table and saves JSON. With --changes, measures instead how far each severity moves real images.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import math
import platform
import statistics
import sys
import time

# First on the path, or this file would be found under the name of the package.
from robust_data import perturbations, tables
from robust_data.command_line.parser import Parser, run_script
from robust_data.files import output_folder
from robust_data.metrics import out_of_order
from robust_data.perturbations.catalogue import SEVERITIES
from robust_data.registry import InputError, LazyModule
from robust_data.settings import positive_float, positive_int

torch = LazyModule("torch")

SEVERITY = 3
BATCHES = {32: 256, 224: 32}


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("-t", "--perturbations", nargs="+", default=["all"], metavar="NAME", help="names or families")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--runs", type=positive_int, default=5, help="the median of so many is taken")
    parser.add_argument("--seconds", type=positive_float, default=0.2, help="at least so long is each run")
    parser.add_argument(
        "--changes",
        metavar="FOLDER",
        help="print the mean change by severity of digits, of this folder's images (of 32 px) and of photographs, for "
        "what is out of order at one of their sizes",
    )
    parser.add_argument("--output_dir", default="results", metavar="FOLDER", help="for benchmark_perturbations.json")
    return parser


def main(args: argparse.Namespace) -> None:
    device = checked_device(args.device)
    if args.changes is not None:
        print_changes(perturbations.resolve(args.perturbations), args.changes)
        return
    path = output_folder(args.output_dir) / "benchmark_perturbations.json"
    requested = perturbations.resolve(args.perturbations)
    names = [name for name in requested if not perturbations.CATALOGUE[name].needs_gradient]
    peers = installed_peers()
    speeds = {}
    for name in names:
        print(f"\r{name:40}", end="", file=sys.stderr, flush=True)
        speeds[name] = {side: measure(name, side, device, peers, args) for side in BATCHES}
    print(f"\r{'':40}\r", end="", file=sys.stderr)
    report = {"environment": environment(device), "speeds": speeds, "summary": summary(speeds)}
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))


def checked_device(name):
    """The torch device of that name. Raises InputError if this machine has none."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name} cannot be used: {str(error).splitlines()[0]}") from None
    return torch.device(name)


def print_changes(names, folder):
    """A Markdown table of the perturbations that are out of order somewhere: l2 change per value, in hundredths."""
    digits = real_images("digits", None, None)
    # The data set has each pixel of the digits as 2x2.
    sets = {"digits, 8 px": digits[..., ::2, ::2], "digits, 16 px": digits}
    sets |= {f"{side} px": real_images("imagefolder", folder, side) for side in (16, 28, 32)}
    sets |= {"photographs, 64 px": natural_batch(64, 64), "224 px": natural_batch(8, 224)}
    lines = [["perturbation", *sets]]
    for name in names:
        entry, cells, anywhere = perturbations.CATALOGUE[name], [], False
        if entry.needs_gradient or entry.severities is None:
            continue
        for images in sets.values():
            per_value = images[0].numel() ** 0.5 / 100
            changes = {}
            for severity in SEVERITIES:
                changed = perturbations.perturb(name, images, severity, torch.arange(len(images))) - images
                changes[severity] = float(changed.flatten(1).norm(dim=1).mean()) / per_value
            fallen = out_of_order(changes)
            anywhere = anywhere or bool(fallen)
            cells.append(
                " ".join(
                    f"**{change:.1f}**" if level in fallen else f"{change:.1f}" for level, change in changes.items()
                )
            )
        if anywhere:
            lines.append([name, *cells])
    print(tables.markdown(lines))


def real_images(name, folder, side):
    """float32 [250, 3, side, side] in [0,1]: training images, as many of each class."""
    from robust_data import datasets

    dataset = datasets.load(name, "train", data_dir=folder, image_size=side, dataset_len=250)
    return next(dataset.batches([dataset.positions(dataset.index)], "cpu")).inputs["pixel_values"]


def installed_peers():
    """By name, each peer's function `(perturbation, images) -> callable and images per call, or None`."""
    peers = {}
    for name, make in (("imagecorruptions", imagecorruptions_call), ("kornia", kornia_call)):
        try:
            __import__(name)
            peers[name] = make
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return peers


def measure(name, side, device, peers, args):
    """Images/s of ours and of each peer that has the perturbation; they take turns, so that a busy moment hits all."""
    images = natural_batch(BATCHES[side], side).to(device)
    indices = torch.arange(len(images))
    calls = {"ours": (lambda: perturbations.perturb(name, images, SEVERITY, indices), len(images))}
    calls |= {peer: call for peer, make in peers.items() if (call := make(name, images)) is not None}
    for call, _ in calls.values():
        call()
    runs = {who: [] for who in calls}
    for _ in range(args.runs):
        for who, (call, count) in calls.items():
            runs[who].append(images_per_second(call, count, device, args.seconds))
    return {who: statistics.median(measured) for who, measured in runs.items()}


def images_per_second(call, count, device, seconds):
    """Repeat a call that handles `count` images for at least `seconds`."""
    now = clock(device)
    synchronize(device)
    started, calls = now(), 0
    while calls == 0 or now() - started < seconds:
        call()
        synchronize(device)
        calls += 1
    return count * calls / (now() - started)


def clock(device):
    """Processor time where one thread does all the work, since other processes hardly disturb it; else wall time."""
    return time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def natural_batch(count, side):
    """float32 [count, 3, side, side] in [0,1]: parts of two photographs."""
    from sklearn.datasets import load_sample_images

    photographs = torch.stack([torch.tensor(photograph) for photograph in load_sample_images().images])
    photographs = photographs.permute(0, 3, 1, 2).float()
    starts = torch.linspace(0, photographs.shape[-1] - photographs.shape[-2], count // 2).long().tolist()
    squares = torch.cat([photographs[..., start : start + photographs.shape[-2]] for start in starts])
    return torch.nn.functional.interpolate(squares, (side, side), mode="bilinear", antialias=True).round() / 255


def imagecorruptions_call(name, images):
    """imagecorruptions takes one image at a time, on the CPU: these in turn."""
    from robust_data.benchmarks import published

    if name not in published.COMMON_CORRUPTIONS:
        return None
    pixels = itertools.cycle(images.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    corrupt = published.package_function(name, small=max(images.shape[-2:]) <= published.SMALL_SIDE)
    return lambda: corrupt(next(pixels), SEVERITY), 1


def kornia_call(name, images):
    """kornia's nearest counterpart, with parameters that cost it about the same as ours."""
    counterpart = kornia_counterparts(images).get(name)
    return None if counterpart is None else (lambda: counterpart(images), len(images))


def kornia_counterparts(images):
    """By perturbation, a function of the images."""
    from kornia import augmentation, color, enhance, filters, geometry

    small = max(images.shape[-2:]) <= 64
    batch, side = len(images), images.shape[-1]
    each = torch.ones(batch, device=images.device)
    sigma = perturbations.CATALOGUE["gaussian_blur"].parameter(SEVERITY, side, side)
    reach = 2 * math.ceil(3 * sigma) + 1
    box = 2 * max(1, round((10.2 * side / 224 - 1) / 2)) + 1
    length = 13 if small else 31
    shift = torch.tensor([[0.23 * side, 0.0]], device=images.device).expand(batch, 2)
    lighter = torch.tensor([0.0, 0.0, 0.3], device=images.device).view(3, 1, 1)
    field = torch.rand(batch, 2, side, side, device=images.device) * 2 - 1
    return {
        "gaussian_noise": augmentation.RandomGaussianNoise(std=0.18, p=1.0),
        "impulse_noise": augmentation.RandomSaltAndPepperNoise(amount=(0.09, 0.0901), p=1.0),
        "blur": lambda x: filters.box_blur(x, (box, box)),
        "gaussian_blur": lambda x: filters.gaussian_blur2d(x, (reach, reach), (sigma, sigma)),
        "motion_blur": augmentation.RandomMotionBlur(length, 45.0, 0.5, p=1.0),
        "rain_heavy_slant_10": augmentation.RandomRain(
            number_of_drops=(120, 121), drop_height=(side // 4, side // 4 + 1), drop_width=(1, 2), p=1.0
        ),
        "brightness": lambda x: color.hsv_to_rgb(color.rgb_to_hsv(x) + lighter).clamp(0, 1),
        "brightness_raise": lambda x: enhance.adjust_brightness(x, 0.3),
        "contrast": lambda x: enhance.adjust_contrast_with_mean_subtraction(x, 0.2),
        "contrast_raise": lambda x: enhance.adjust_contrast_with_mean_subtraction(x, 1.3),
        "saturate": lambda x: enhance.adjust_saturation(x, 2.0),
        "jpeg_compression": lambda x: enhance.jpeg_codec_differentiable(x, (58 if small else 15) * each),
        "elastic_transform": lambda x: geometry.elastic_transform2d(x, field, (9, 9), (2.0, 2.0), (1.0, 1.0)),
        "gamma_bright": lambda x: enhance.adjust_gamma(x, 0.7),
        "gamma_dark": lambda x: enhance.adjust_gamma(x, 1.5),
        "solarize": lambda x: enhance.solarize(x, 0.5),
        "rotate": lambda x: geometry.rotate(x, 108 * each),
        "horizontal_flip": geometry.hflip,
        "vertical_flip": geometry.vflip,
        "horizontal_vertical_flip": geometry.rot180,
        "translate_horizontal": lambda x: geometry.translate(x, shift),
        "translate_vertical": lambda x: geometry.translate(x, shift.flip(1)),
        "zoom_center": lambda x: geometry.scale(x, torch.full((batch, 2), 1.68, device=x.device)),
        "random_grid_shuffle": augmentation.RandomJigsaw((4, 4), p=1.0),
        "fisheye": augmentation.RandomFisheye(
            torch.tensor([-0.1, 0.1]), torch.tensor([-0.1, 0.1]), torch.tensor([0.5, 1.0]), p=1.0
        ),
    }


def environment(device):
    """What the speeds depend on, and the versions of all that took part."""
    installed = {found.name: found.version for found in importlib.metadata.distributions()}
    packages = ("torch", "numpy", "imagecorruptions", "opencv-python-headless", "scikit-image", "kornia")
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "threads": torch.get_num_threads(),
        "clock": clock(device).__name__,
        "python": platform.python_version(),
        "severity": SEVERITY,
        "batches": BATCHES,
        "versions": {package: installed.get(package) for package in packages},
    }


def ratios(speeds, side, peer):
    """By perturbation, how many times as fast as the peer ours is."""
    measured = {name: by_side[side] for name, by_side in speeds.items()}
    return {name: speed["ours"] / speed[peer] for name, speed in measured.items() if peer in speed}


def summary(speeds):
    """For each size and peer: how many perturbations it shares, the geometric mean of the ratios, those below 1."""
    summed = {}
    for side in BATCHES:
        for peer in ("imagecorruptions", "kornia"):
            found = ratios(speeds, side, peer)
            if found:
                mean = statistics.geometric_mean(found.values())
                slower = sorted(name for name, ratio in found.items() if ratio < 1)
                summed[f"{peer} at {side} px"] = {"shared": len(found), "geometric_mean": mean, "slower": slower}
    return summed


def markdown(report):
    """The table for benchmarks/README.md, with the summary beneath it."""
    lines = [["perturbation"]]
    for side in BATCHES:
        lines[0] += [f"{side} px, images/s", "x imagecorruptions", "x kornia"]
    for name, by_side in report["speeds"].items():
        cells = [name]
        for speed in by_side.values():
            cells.append(f"{speed['ours']:,.0f}")
            cells += [
                f"{speed['ours'] / speed[peer]:.3g}" if peer in speed else "" for peer in ("imagecorruptions", "kornia")
            ]
        lines.append(cells)
    return "\n".join([tables.markdown(lines), "", *map(sentence, report["summary"].items())])


def sentence(item):
    comparison, found = item
    slower = ", ".join(found["slower"]) or "none"
    mean = f"geometric mean of {found['shared']} ratios {found['geometric_mean']:.1f}"
    return f"- {comparison}: {mean}; slower than it: {slower}"


if __name__ == "__main__":
    run_script(build_parser(), main)
