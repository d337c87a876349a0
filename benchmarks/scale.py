#!/usr/bin/env python3
"""How time and memory of collection, metrics, selection and plotting grow with the number of instances.

Each stage runs in a process of its own on synthetic records, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import importlib
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from robust_data import records
from robust_data.command_line.parser import Parser, run_script
from robust_data.registry import LazyModule
from robust_data.settings import positive_int

Image = LazyModule("PIL.Image")

CLASSES = 10
CHECKPOINTS = 10
IMAGENET = 1_281_167
PERTURBATIONS = 15


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--instances", nargs="+", type=positive_int, default=[10**4, 10**5, 10**6, 10**7], help="sizes")
    parser.add_argument(
        "--photographs", type=positive_int, metavar="N", help="instead, images/s of N JPEGs with and without --cache"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Print the table that benchmarks/README.md keeps, row by row, or that of photographs."""
    if args.photographs is not None:
        print_image_speeds(args.photographs)
        return
    stages = (write, collect, metrics, selection, plotting, compare, report, csv, older)
    print("| instances | " + " | ".join(stage.__name__ for stage in stages) + " |")
    print("|---" * (len(stages) + 1) + "|")
    for instances in args.instances:
        with tempfile.TemporaryDirectory() as folder:
            cells = [cost(stage, instances, Path(folder) / "statistics.npy") for stage in stages]
        print(f"| {instances:,} | " + " | ".join(cells) + " |", flush=True)


def cost(stage: Callable, instances: int, path: Path) -> str:
    """Processor seconds and peak memory of a stage in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        return alone.submit(measured, stage, instances, path).result()


def measured(stage: Callable, instances: int, path: Path) -> str:
    """Processor seconds of a stage, and the most memory of this process but for pages of files that it maps."""
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            status = Path("/proc/self/status").read_text()
            peak[0] = max(peak[0], int(status.partition("RssAnon:")[2].split()[0]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.process_time()
    stage(instances, path)
    seconds = time.process_time() - started
    ended.set()
    watcher.join()
    return f"{seconds:.1f} s, {peak[0] / 1024:,.0f} MiB"


def write(instances: int, path: Path) -> None:
    """Append synthetic checkpoints to a statistics file, as a collection does."""
    draws = np.random.default_rng(0)
    file = records.RecordFile(path, CHECKPOINTS, instances)
    rows = np.zeros(instances, dtype=records.DTYPE)
    rows["index"], rows["golden_label"] = np.arange(instances), np.arange(instances) % CLASSES
    for checkpoint in range(CHECKPOINTS):
        rows["global_step"] = checkpoint
        for prefix in ("original", "after_perturb"):
            rows[f"{prefix}_loss"] = draws.exponential(size=instances)
            rows[f"{prefix}_pred"] = rows[f"{prefix}_loss"] < 0.7
        file.append(rows)
    file.finish(lambda rows: {"instances": instances})


def collect(instances: int, path: Path) -> None:
    """One checkpoint of images of 8 px, 15 times unperturbed, through a linear model: what it costs beside that."""
    import torch

    from robust_data import collection
    from robust_data.datasets.catalogue import Options
    from robust_data.datasets.images import ImageArrays
    from robust_data.models.vision import ImageClassifier

    images = np.zeros((instances, 8, 8, 3), dtype=np.uint8)
    source = ImageArrays(images, np.arange(instances) % CLASSES, list(map(str, range(CLASSES))))
    dataset = source.build("zeros", "train", np.arange(instances), Options())
    backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, CLASSES))
    model = ImageClassifier(backbone, (0.5,) * 3, (0.5,) * 3)
    conditions = dict.fromkeys(range(PERTURBATIONS), ("identity", collection.Draws()))
    for _ in collection.collect_all(model, dataset, conditions, batch_size=1024):
        pass


def metrics(instances: int, path: Path) -> None:
    from robust_data.metrics import instance_metrics

    np.savez(path.with_name("metrics.npz"), **instance_metrics(records.load(path)[0]))


def selection(instances: int, path: Path) -> None:
    from robust_data.selection import select

    select(dict(np.load(path.with_name("metrics.npz"))), "perturbed_loss_mean_r", 0.3)


def plotting(instances: int, path: Path) -> None:
    run("plot_utils.plotting", "--statistics", path)


def compare(instances: int, path: Path) -> None:
    """Four files, which are one under four names."""
    names = [path.with_name(f"{number}.npy") for number in range(4)]
    for name in names:
        name.hardlink_to(path)
    run("scripts.compare_statistics", *names)


def report(instances: int, path: Path) -> None:
    run("plot_utils.report", "--statistics", path)


def csv(instances: int, path: Path) -> None:
    run("plot_utils.plotting", "--statistics", path, "--csv")


def older(instances: int, path: Path) -> None:
    run("scripts.convert_statistics", "--input", path, "--output", path.with_name("older.npy"))


def run(script: str, *given: object) -> None:
    """The whole script, so with the metrics."""
    module = importlib.import_module(f"robust_data.{script}")
    with contextlib.redirect_stdout(None):
        module.main(module.build_parser().parse_args(list(map(str, given))))


def print_image_speeds(count: int) -> None:
    """Images/s of processor time, from JPEGs of 500 x 375 px to floats of 224 px, and the hours of ImageNet's."""
    import torch
    from torchvision import io
    from torchvision.transforms import v2

    from robust_data import datasets

    fit = v2.Compose([v2.Resize(224), v2.CenterCrop(224)])
    order = torch.arange(count)

    def peer(paths: list[str], read: Callable) -> None:
        for part in order.split(64):
            torch.stack([v2.functional.to_image(fit(read(paths[row]))) for row in part]).float().div_(255)

    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder) / "images", count)
        load = functools.partial(datasets.load, "imagefolder", data_dir=Path(folder) / "images")
        datasets.images.MEMORY_LIMIT = 0  # as if they were too many for the memory
        plain, cache = load(), Path(folder) / "cache"
        jobs = {
            "Pillow": lambda: peer(plain.sources, lambda path: Image.open(path).convert("RGB")),
            "torchvision.io": lambda: peer(plain.sources, io.decode_image),
            "decoding": lambda: collections.deque(plain.batches(order.split(64), "cpu"), maxlen=0),
            "making the cache": lambda: load(cache=cache),
            "from the cache": lambda: collections.deque(load(cache=cache).batches(order.split(64), "cpu"), maxlen=0),
            "from it, shuffled": lambda: collections.deque(
                load(cache=cache).batches(torch.randperm(count).split(64), "cpu"), maxlen=0
            ),
        }
        print("| by | images/s | hours |\n|---|---|---|")
        for name, job in jobs.items():
            started = time.process_time()
            job()
            speed = count / (time.process_time() - started)
            print(f"| {name} | {speed:,.0f} | {IMAGENET / speed / 3600:.1f} |", flush=True)


def write_photographs(root: Path, count: int) -> None:
    """So many JPEGs, smooth noise of 500 x 375 px, some a row higher, of two classes."""
    draws = np.random.default_rng(0)
    for row in range(count):
        small = Image.fromarray(draws.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        path = root / "train" / str(row % 2) / f"{row}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small.resize((500, 375 + row % 3), Image.Resampling.BICUBIC).save(path, quality=92)


if __name__ == "__main__":
    run_script(build_parser(), main)
