"""One command for several seeds: a run and a folder for each, one after the other, and a table at the end."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from robust_data.registry import LazyModule
from robust_data.train import launch

distributed = LazyModule("robust_data.train.distributed")

# Where it stands in --output_dir, each seed takes its place; else the folders are seed1, seed2, ... within.
PLACE = "{seed}"


def each(
    args: argparse.Namespace,
    run: Callable[[argparse.Namespace], argparse.Namespace],
    tell: Callable[[Sequence[argparse.Namespace]], None],
) -> None:
    """Call `run` with the arguments of every seed of --seeds, or without it with those of --seed alone.

    args: as parsed; the run's own are without --seeds, so that each run is the one that its seed alone would make.
    run: returns its arguments once they are resolved. tell: gets those of all seeds, on the main process alone.
    """
    alone = argparse.Namespace(**{name: value for name, value in vars(args).items() if name != "seeds"})
    if not args.seeds:
        run(alone)
        return
    # Once for all seeds; one process alone may have nothing left to do that takes torch.
    several = launch.process_count() > 1
    with distributed.processes(args.device, args.rendezvous_timeout) if several else nullcontext():
        finished = [run(of_seed(alone, seed)) for seed in dict.fromkeys(args.seeds)]
        if launch.rank() == 0:
            tell(finished)


def of_seed(args: argparse.Namespace, seed: int) -> argparse.Namespace:
    """The arguments of one seed; fine-tunings add their rows to one file, by default beside the seeds' folders."""
    output_dir = Path(args.output_dir.replace(PLACE, str(seed)))
    if PLACE not in args.output_dir:
        output_dir /= f"seed{seed}"
    changed = {"seed": seed, "output_dir": str(output_dir)}
    if "results_file" in args and args.results_file is None:
        changed["results_file"] = str(output_dir.parent / "results.csv")
    return argparse.Namespace(**vars(args) | changed)
