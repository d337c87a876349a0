#!/usr/bin/env python3
"""Kill a collection at random moments, start it again until it is done, and compare it with an undisturbed run."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from robust_data.command_line.parser import Parser, run_script
from robust_data.settings import natural_int, positive_int

ROOT = Path(__file__).resolve().parent.parent

RUN = "--dataset_len 200 --epochs 3 --statistic_interval 0.5 --save_every 3 -t blur gaussian_noise".split()


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--kills", type=positive_int, default=50, help="SIGKILLs in all, over as many runs as it takes")
    parser.add_argument(
        "--processes", type=positive_int, default=1, help="per run; with several, one of them is killed"
    )
    parser.add_argument("--kills_per_run", type=positive_int, default=3, help="before a run is left to finish")
    parser.add_argument("--seed", type=natural_int, default=0, help="of the moments")
    return parser


def main(args: argparse.Namespace) -> None:
    draws = random.Random(args.seed)
    killed, runs, survived = 0, 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        peaceful = Path(temporary) / "peaceful"
        started = time.monotonic()
        finish(peaceful, args.processes)
        duration = time.monotonic() - started
        while killed < args.kills:
            folder = Path(temporary) / f"run_{runs}"
            kills = min(args.kills_per_run, args.kills - killed)
            killed += sum(kill_once(folder, args.processes, draws.uniform(0, duration), draws) for _ in range(kills))
            finish(folder, args.processes)
            runs += 1
            survived += results(folder) == results(peaceful)
            print(f"{killed} kills, {survived} of {runs} runs ended with the same bytes", file=sys.stderr)
            shutil.rmtree(folder)
    print(f"survived / tried: {survived} / {runs} runs, {killed} kills, {args.processes} processes each")
    if survived < runs:
        raise SystemExit(1)


def start(folder: Path, processes: int) -> subprocess.Popen:
    """Start the collection in a session of its own, so that its processes can be found and ended together."""
    launcher = f"-m torch.distributed.run --standalone --nproc_per_node {processes}".split() if processes > 1 else []
    command = [sys.executable, *launcher, str(ROOT / "data_statistics.py"), *RUN, "--output_dir", str(folder)]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True, **silent)


def finish(folder: Path, processes: int) -> None:
    if (status := start(folder, processes).wait()) != 0:
        raise SystemExit(f"a run that nobody killed ended with status {status}")


def kill_once(folder: Path, processes: int, delay: float, draws: random.Random) -> bool:
    """Start the run and kill it, or one of its processes, after a delay; False if it was done before that."""
    run = start(folder, processes)
    try:
        run.wait(timeout=delay)
        return False
    except subprocess.TimeoutExpired:
        children = _children(run.pid) if processes > 1 else []
        os.kill(draws.choice(children) if children else run.pid, signal.SIGKILL)
    run.wait()
    return True


def _children(pid: int) -> list[int]:
    """The processes that this one started; Linux's /proc tells."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


if __name__ == "__main__":
    run_script(build_parser(), main)
