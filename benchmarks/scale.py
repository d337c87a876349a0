#!/usr/bin/env python3
"""How time and memory of collection, metrics, selection and plotting grow with the number of instances.

Each stage runs in a process of its own on synthetic records, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from robust_data import files, records
from robust_data.command_line.parser import Parser, run_script
from robust_data.settings import positive_int

STAGES = ("imports", "write", "collect", "metrics", "selection", "plotting")
CLASSES = 10


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--instances", nargs="+", type=positive_int, default=[10**4, 10**5, 10**6, 10**7], help="sizes")
    parser.add_argument("--checkpoints", type=positive_int, default=10, help="of the synthetic records")
    parser.add_argument("--output", default=str(ROOT / "results" / "benchmark_scale.json"), metavar="FILE", help="JSON")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser


def main(args: argparse.Namespace) -> None:
    if args.stage:
        measure_stage(args.stage, args.instances[0], args.checkpoints, Path(args.folder))
        return
    rows = []
    for instances in args.instances:
        with tempfile.TemporaryDirectory() as folder:
            for stage in STAGES:
                rows.append(run_stage(stage, instances, args.checkpoints, folder))
                print(
                    f"{instances:>10,} {stage:<10} {rows[-1]['seconds']:>9.2f} s {rows[-1]['peak_mib']:>8.0f} MiB",
                    file=sys.stderr,
                )
    files.output_folder(str(Path(args.output).parent))
    files.write_json(args.output, {"checkpoints": args.checkpoints, "rows": rows})
    print(markdown_table(rows))
    print(f"\nsaved {args.output}")


def run_stage(stage: str, instances: int, checkpoints: int, folder: str) -> dict:
    command = [
        sys.executable,
        __file__,
        "--stage",
        stage,
        "--instances",
        instances,
        "--checkpoints",
        checkpoints,
        "--folder",
        folder,
    ]
    output = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True).stdout
    return {"instances": instances, "stage": stage, **json.loads(output.splitlines()[-1])}


def measure_stage(stage: str, instances: int, checkpoints: int, folder: Path) -> None:
    """Run one stage in this process; print its seconds and this process's peak memory as JSON."""
    started = time.perf_counter()
    globals()[f"stage_{stage}"](instances, checkpoints, folder / "statistics.npy")
    seconds = time.perf_counter() - started
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": round(seconds, 3), "peak_mib": round(peak_mib, 1)}))


def stage_imports(instances: int, checkpoints: int, path: Path) -> None:
    """What the other stages' memory starts from."""


def stage_write(instances: int, checkpoints: int, path: Path) -> None:
    """Append synthetic checkpoints to a statistics file, as a collection does."""
    draws = np.random.default_rng(0)
    file = records.RecordFile(path, checkpoints, instances)
    rows = np.zeros(instances, dtype=records.DTYPE)
    rows["index"], rows["golden_label"] = np.arange(instances), np.arange(instances) % CLASSES
    for checkpoint in range(checkpoints):
        rows["global_step"] = checkpoint
        for prefix in ("original", "after_perturb"):
            rows[f"{prefix}_loss"] = draws.exponential(size=instances)
            rows[f"{prefix}_pred"] = rows[f"{prefix}_loss"] < 0.7
        file.append(rows)
    file.finish(lambda rows: {"instances": instances})


def stage_collect(instances: int, checkpoints: int, path: Path) -> None:
    """One checkpoint of images of 8 px through a linear model: what collecting costs beside the model."""
    import torch

    from datasets.catalogue import Options
    from datasets.images import ImageArrays
    from models.vision import ImageClassifier
    from robust_data.collection import collect

    images = np.zeros((instances, 8, 8, 3), dtype=np.uint8)
    source = ImageArrays(images, np.arange(instances) % CLASSES, list(map(str, range(CLASSES))))
    dataset = source.build("zeros", "train", np.arange(instances), Options())
    backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, CLASSES))
    collect(ImageClassifier(backbone, (0.5,) * 3, (0.5,) * 3), dataset, ["identity"], batch_size=1024)


def stage_metrics(instances: int, checkpoints: int, path: Path) -> None:
    from robust_data.metrics import instance_metrics

    metrics = instance_metrics(records.load(path)[0])
    np.savez(path.with_name("metrics.npz"), **metrics)


def stage_selection(instances: int, checkpoints: int, path: Path) -> None:
    from robust_data.selection import select

    metrics = dict(np.load(path.with_name("metrics.npz")))
    select(metrics, "perturbed_loss_mean_r", 0.3)


def stage_plotting(instances: int, checkpoints: int, path: Path) -> None:
    """The whole script, so with the metrics."""
    from plot_utils import plotting

    plotting.main(plotting.build_parser().parse_args(["--statistics", str(path)]))


def markdown_table(rows: list[dict]) -> str:
    """The table that benchmarks/README.md keeps."""
    lines = ["| instances | " + " | ".join(STAGES) + " |", "|---" * (len(STAGES) + 1) + "|"]
    for instances in dict.fromkeys(row["instances"] for row in rows):
        cells = {
            row["stage"]: f"{row['seconds']:.2f} s, {row['peak_mib']:,.0f} MiB"
            for row in rows
            if row["instances"] == instances
        }
        lines.append(f"| {instances:,} | " + " | ".join(cells[stage] for stage in STAGES) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(build_parser(), main)
