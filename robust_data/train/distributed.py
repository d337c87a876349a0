"""One process or many: the same code for both; the environment that torchrun sets tells which."""

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

from robust_data.registry import InputError
from robust_data.train import launch
from robust_data.train.launch import NotMet

T = TypeVar("T")
# How long the processes wait for one another, while one of them downloads or judges its share.
PATIENCE = datetime.timedelta(hours=2)
# Seconds for which a process waits for the others to start.
RENDEZVOUS_TIMEOUT = 600.0
# Where the processes of this run have met.
_met: dist.Store | None = None


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
    """This process's GPU where there is one, else the CPU; more processes than GPUs share them."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK") or 0) % max(1, torch.cuda.device_count()))
    return torch.device("cpu")


def own_device(kind: str | None = None) -> torch.device:
    """This process's device of a kind, "cuda", "cpu" or "mps", by default `default_device`.

    Raises InputError for a kind that torch does not find here, and for several processes on mps.
    """
    if kind is None:
        return default_device()
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no GPU here that CUDA offers; leave it out, or give cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("--device mps: torch finds no GPU of Apple here; leave it out, or give cpu")
    if kind == "mps" and launch.process_count() > 1:
        raise InputError("--device mps is for one process, they cannot exchange anything there; give --device cpu")
    return default_device() if kind == "cuda" else torch.device(kind)


def set_arithmetic(device: torch.device, tf32: bool, fixed_size: bool) -> None:
    """How this process's GPU computes from now on; on a CPU nothing changes.

    tf32: multiply numbers of fp32 in TF32. fixed_size: whether the model's inputs are of one size, for which cudnn
    then tries its algorithms and keeps the fastest.
    """
    if device.type != "cuda":
        return
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32  # which torch allows by default
    torch.backends.cudnn.benchmark = fixed_size


@contextlib.contextmanager
def processes(device_kind: str | None = None, rendezvous_timeout: float = RENDEZVOUS_TIMEOUT) -> Iterator[None]:
    """Join the other processes if a launcher started several: NCCL on GPUs, gloo on CPUs and on GPUs that they share.

    device_kind: see `own_device`, which raises what it does before any process waits for another.
    rendezvous_timeout: seconds to wait for all of them. Within such a block another one changes nothing. Raises NotMet
    where they do not come.
    """
    if launch.process_count() == 1 or dist.is_initialized():
        yield
        return
    device = own_device(device_kind)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank, world_size = _meet(rendezvous_timeout)
    own_gpu = device.type == "cuda" and int(os.environ.get("LOCAL_WORLD_SIZE") or 1) <= torch.cuda.device_count()
    backend = "cpu:gloo,cuda:nccl" if own_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=PATIENCE)
    try:
        yield
    except BaseException:
        # Ask now: the others fail, too, as soon as this process is gone.
        first_to_fail()
        # Do not take the group down: that waits for the others, which wait for this process.
        raise
    dist.destroy_process_group()


def _meet(timeout: float) -> tuple[dist.Store, int, int]:
    """The store in which the processes meet, this one's rank and their number. timeout: in seconds. Raises NotMet."""
    global _met
    try:
        _met, rank, world_size = next(dist.rendezvous("env://", timeout=datetime.timedelta(seconds=timeout)))
    except RuntimeError as error:
        reason = str(error).partition("\n")[0][:200]
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        remedy = "see whether all run and reach this address, set another MASTER_PORT, or raise --rendezvous_timeout"
        raise NotMet(f"the {launch.process_count()} processes cannot meet at {address} ({reason}); {remedy}") from None
    _met.set_timeout(PATIENCE)
    if _launcher_lends_store():
        # The launcher that restarts the processes keeps it: without a prefix for each attempt a new process can read
        # the address of a dead one there, and fails to connect. (Each of several launchers counts its own attempts, so
        # `scripts/run_multinode.sh` lets them lend no store.)
        _met = dist.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", _met)
    return _met, rank, world_size


def _launcher_lends_store() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def gather(part: T) -> list[T] | None:
    """The parts of all processes, in order of rank, on the main process; None on the others."""
    if world_size() == 1:
        return [part]
    parts = [None] * world_size() if is_main() else None
    dist.gather_object(part, parts)
    return parts


def gather_rows(part: torch.Tensor) -> list[torch.Tensor] | None:
    """As `gather`, of tensors [n, ...] alike but for n, without pickling them; they come to the CPU."""
    if world_size() == 1:
        return [part.cpu()]
    lengths = torch.zeros(world_size(), dtype=torch.int64)
    lengths[rank()] = len(part)
    lengths = sum_over_processes(lengths).tolist()
    padded = part.new_zeros((max(lengths), *part.shape[1:]))
    padded[: len(part)] = part
    padded = _exchangeable(padded)
    parts = [torch.empty_like(padded) for _ in lengths] if is_main() else None
    dist.gather(padded, parts)
    return None if parts is None else [rows[:length].cpu() for rows, length in zip(parts, lengths)]


def from_main(compute: Callable[[], T]) -> T:
    """What the main process computes, on every process, so that machines need not share a folder.

    An InputError that it raises there is raised on every process.
    """
    if world_size() == 1:
        return compute()
    box: list[T | InputError | None] = [None]
    if is_main():
        try:
            box = [compute()]
        except InputError as error:
            box = [error]
    dist.broadcast_object_list(box, src=0)
    if isinstance(box[0], InputError):
        raise box[0]
    return box[0]


def wait() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """The main process runs the block before the others, as for a download.

    The first process of every other machine is next, as it may not share a folder with the main one, then the rest.
    """
    turn = 0 if is_main() else 1 if (os.environ.get("LOCAL_RANK") or "0") == "0" else 2
    for _ in range(turn):
        wait()
    yield
    for _ in range(turn, 2):
        wait()


@functools.cache
def first_to_fail() -> bool:
    """Whether this process was the first of the run to ask; before they have met, whether it is its machine's first."""
    if _met is None:
        return os.environ.get("LOCAL_RANK", "0") in ("", "0")
    try:
        return _met.add("failed", 1) == 1
    except (RuntimeError, OSError):
        # The store was the main process's, which has ended and has reported already, unless a launcher lent it.
        return _launcher_lends_store()


def peak_memory_mib(device: torch.device) -> float:
    """The most memory this process has held so far: on the device if CUDA offers it, else in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes / (2**20 if sys.platform == "darwin" else 2**10)


def share_buffers(model: nn.Module) -> None:
    """Give every process the main one's running statistics, as DistributedDataParallel does before a training step.

    They differ again after the step. So call this before several processes use the model.
    """
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def most_over_processes(numbers: list[int]) -> list[int]:
    """Of each of some numbers the greatest that a process has."""
    if world_size() == 1:
        return numbers
    box = _exchangeable(torch.tensor(numbers))
    dist.all_reduce(box, op=dist.ReduceOp.MAX)
    return box.tolist()


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes; the tensor itself stays as it is."""
    if world_size() == 1:
        return values
    total = _exchangeable(values.clone())
    dist.all_reduce(total)
    return total.to(values.device)


def _exchangeable(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor where the processes can exchange it.

    A program that records in a loop of its own may have made them a group of NCCL alone, which only takes GPUs.
    """
    return tensor if f"{tensor.device.type}:" in dist.get_backend_config() else tensor.cuda()
