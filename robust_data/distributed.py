"""One process or many: the same code, told apart by the environment that torchrun sets."""

from __future__ import annotations

import contextlib
import datetime
import os
import resource
import sys
from collections.abc import Iterator

import torch
import torch.distributed as dist


def rank() -> int:
    """This process's number, 0 without a launcher."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes take part, 1 without a launcher."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process is the one that logs and writes."""
    return rank() == 0


def default_device() -> torch.device:
    """This process's GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Join the other processes if a launcher started several: NCCL on GPUs, gloo on CPUs."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    device = default_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def gather(part) -> list | None:
    """The parts of all processes, in order of rank, on the main process; None on the others."""
    if world_size() == 1:
        return [part]
    parts = [None] * world_size() if is_main() else None
    dist.gather_object(part, parts)
    return parts


def wait() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Let the main process go through the block before the others, as for a download."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


def first_to_fail() -> bool:
    """Whether this process is the first of the run to ask; the launcher's store, which outlives them all, decides."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    launcher_has_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        if not launcher_has_store:
            return is_main()
        store = dist.TCPStore(address, port, is_master=False, timeout=datetime.timedelta(seconds=10))
        return store.add(f"failed_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1
    except (RuntimeError, OSError):
        return True


def peak_memory_mib() -> float:
    """The most memory this process has held so far: on its GPU where it has one, else in RAM."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes / (2**20 if sys.platform == "darwin" else 2**10)


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Add up a tensor over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values
