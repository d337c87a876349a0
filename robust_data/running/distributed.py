"""One process or many: the same code, told apart by the environment that torchrun sets."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import resource
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from registry import InputError
from robust_data.running import launch

T = TypeVar("T")
# How long the processes wait for each other: as long as one of them downloads, or judges its share.
PATIENCE = datetime.timedelta(hours=2)
# How long a process looks for the launcher that started it, and may have been killed since.
LAUNCHER_PATIENCE = datetime.timedelta(seconds=30)


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
    if launch.process_count() == 1:
        yield
        return
    device = default_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group(backend, store=_store(), rank=rank, world_size=world_size, timeout=PATIENCE)
    try:
        yield
    except BaseException:
        # Asked now, because the others fail too as soon as this process is gone.
        first_to_fail()
        # The group is not taken down: that waits for the others where they wait for this process. It ends instead.
        raise
    dist.destroy_process_group()


@functools.cache
def _store() -> dist.Store:
    """Where the processes meet: in the launcher's store, which outlives them, or else in the main process's own.

    torchrun keeps the same store when it restarts the processes; without a prefix for each attempt a new
    process can read the address of a dead one there and fail to connect. (The launchers of several machines
    count their attempts each for itself, so `scripts/run_multinode.sh` has them lend no store.)
    """
    address, port, world_size = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), int(os.environ["WORLD_SIZE"])
    if _launcher_lends_store():
        # It was there before this process was.
        try:
            store = dist.TCPStore(address, port, is_master=False, timeout=LAUNCHER_PATIENCE)
        except RuntimeError:
            raise InputError(f"the launcher does not answer at {address}:{port}; start it again") from None
        store.set_timeout(PATIENCE)
        return dist.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    return dist.TCPStore(address, port, world_size, is_master=os.environ["RANK"] == "0", timeout=PATIENCE)


def _launcher_lends_store() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def gather(part) -> list | None:
    """The parts of all processes, in order of rank, on the main process; None on the others."""
    if world_size() == 1:
        return [part]
    parts = [None] * world_size() if is_main() else None
    dist.gather_object(part, parts)
    return parts


def from_main(compute: Callable[[], T]) -> T:
    """What the main process computes, on every process: machines need not share a folder to look into."""
    if world_size() == 1:
        return compute()
    box = [compute() if is_main() else None]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def wait() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Let the main process go through the block before the others, as for a download.

    After it goes the first process of every other machine, which may share no folder with it, then the rest.
    """
    turn = 0 if is_main() else 1 if os.environ.get("LOCAL_RANK", "0") == "0" else 2
    for _ in range(turn):
        wait()
    yield
    for _ in range(turn, 2):
        wait()


@functools.cache
def first_to_fail() -> bool:
    """Whether this process was the first of the run to ask."""
    try:
        return _store().add("failed", 1) == 1
    except (RuntimeError, OSError, InputError):
        # The main process's own store went with it, and it has told what there was to tell.
        return _launcher_lends_store()


def peak_memory_mib() -> float:
    """The most memory this process has held so far: on its GPU where it has one, else in RAM."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes / (2**20 if sys.platform == "darwin" else 2**10)


def share_buffers(model: nn.Module) -> None:
    """Give every process the main one's running statistics, as DistributedDataParallel does before a training step.

    After the step they differ again, so whoever looks at the model with several processes does this first.
    """
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def least_over_processes(number: int) -> int:
    """The least of the numbers that the processes have."""
    if world_size() == 1:
        return number
    box = torch.tensor(number)
    dist.all_reduce(box, op=dist.ReduceOp.MIN)
    return int(box)


def most_over_processes(numbers: list[int]) -> list[int]:
    """Of each of some numbers the greatest that a process has."""
    if world_size() == 1:
        return numbers
    box = torch.tensor(numbers)
    dist.all_reduce(box, op=dist.ReduceOp.MAX)
    return box.tolist()


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Add up a tensor over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values
