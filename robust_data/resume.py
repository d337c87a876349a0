"""Runs that may be killed at any moment: their state on the disk, and the signals that ask them to stop."""

from __future__ import annotations

import contextlib
import io
import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from registry import InputError
from robust_data import distributed
from robust_data.arguments import Interrupted
from robust_data.records import atomic_write

# Arguments that change neither the result nor where it is looked for.
FREE_ARGUMENTS = {"output_dir", "overwrite", "save_every", "num_workers", "download", "data_dir", "results_file"}
# Agreeing to stop costs the processes a message each, so they ask each other only every so many steps.
STEPS_BETWEEN_AGREEMENTS = 8


def check_arguments(saved: Mapping[str, Any], current: Mapping[str, Any], where: Path) -> None:
    """Refuse to go on with what other arguments have begun; names those that differ, and their values."""
    saved = json.loads(json.dumps(saved))
    current = json.loads(json.dumps(current))
    differing = [
        f"--{name} was {saved.get(name)}, is {current.get(name)}"
        for name in sorted({*saved, *current} - FREE_ARGUMENTS)
        if saved.get(name) != current.get(name)
    ]
    if differing:
        raise InputError(
            f"{where} was made with other arguments: {'; '.join(differing)}; use those, --overwrite 1, or another --output_dir"
        )


class RunState:
    """The state of a run in one file, replaced atomically; the main process writes, all read.

    arguments: the run's, which must not differ when it is continued.
    """

    def __init__(self, path: Path, arguments: Mapping[str, Any]):
        self.path = path
        self.arguments = dict(arguments)

    def save(self, content: Mapping[str, Any]) -> None:
        """Write the state: tensors, numbers, texts and containers of them."""
        if distributed.is_main():
            with atomic_write(self.path) as file:
                torch.save({"arguments": json.dumps(self.arguments), **content}, file)

    def load(self) -> dict[str, Any] | None:
        """The state last saved, the same on every process, or None.

        Raises InputError if it is damaged or belongs to other arguments.
        """
        return self._parse(distributed.from_main(self._read))

    def remove_foreign(self) -> bool:
        """Remove a state that `load` would refuse; whether one is there that it would not. For the main process alone."""
        try:
            return self._parse(self._read()) is not None
        except InputError:
            self.remove()
            return False

    def _read(self) -> bytes | None:
        return self.path.read_bytes() if self.path.exists() else None

    def _parse(self, content: bytes | None) -> dict[str, Any] | None:
        if content is None:
            return None
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            saved = json.loads(state["arguments"])
        except Exception as error:  # a damaged file raises almost anything
            reason = str(error).strip().partition("\n")[0]
            raise InputError(f"{self.path} cannot be read ({reason}); use --overwrite 1 to start anew") from None
        check_arguments(saved, self.arguments, self.path)
        return state

    def remove(self) -> None:
        """Forget the state, once the run is finished."""
        if distributed.is_main():
            self.path.unlink(missing_ok=True)


class StopRequest:
    """Whether SIGINT or SIGTERM has asked the run to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._at_once = False

    def agreed(self, step: int) -> bool:
        """Whether to stop after this step, the same answer on every process."""
        if distributed.world_size() == 1:
            return self.signal is not None
        if step % STEPS_BETWEEN_AGREEMENTS:
            return False
        asked = torch.tensor(self.signal or 0)
        dist.all_reduce(asked, op=dist.ReduceOp.MAX)
        self.signal = int(asked) or None
        return self.signal is not None

    def raise_if_asked(self) -> None:
        """Raise Interrupted if this process was asked to stop."""
        if self.signal is not None:
            raise Interrupted(self.signal)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise Interrupted in the middle of this block, which takes long and which the state saved before repeats."""
        self._at_once = True
        try:
            self.raise_if_asked()
            yield
        finally:
            self._at_once = False

    def ask(self, number: int) -> None:
        """What the handler of a signal does."""
        self.signal = number
        if self._at_once:
            raise Interrupted(number)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request that the run meets at its next step; a second one acts as ever."""
    request = StopRequest()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: Any) -> None:
        signal.signal(number, previous[number])
        request.ask(number)

    for number in previous:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
