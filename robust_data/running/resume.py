"""Runs that may be killed at any moment: their state on the disk, and the signals that ask them to stop."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from registry import InputError
from robust_data.files import atomic_write, full_disk_is_an_oserror, locked
from robust_data.running import distributed
from robust_data.running.identity import check_arguments
from robust_data.running.launch import Interrupted

if TYPE_CHECKING:
    from robust_data.running.training import Trainer

# Seconds for who has just ended to give the run free.
LOCK_PATIENCE = 1.0
# Agreeing to stop costs the processes a message each, so they ask each other about once a second, or this often.
MOST_STEPS_BETWEEN_AGREEMENTS = 8


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
            with atomic_write(self.path) as file, full_disk_is_an_oserror(self.path.parent):
                torch.save({"arguments": json.dumps(self.arguments), **content}, file)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from the run in this block. Raises InputError if one is at work on it."""
        if not distributed.is_main():
            yield
            return
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path, LOCK_PATIENCE))
            except TimeoutError as error:
                raise InputError(
                    f"{self.path}: another process is at work on this run; "
                    f"wait for it, end it, or use another --output_dir ({error.strerror})"
                ) from None
            except OSError as error:
                raise InputError(f"{self.path}: its lock cannot be made: {error.strerror or error}") from None
            yield

    def load(self) -> dict[str, Any] | None:
        """The state last saved, the same on every process, or None.

        Raises InputError if it is damaged or belongs to other arguments.
        """
        return self._parse(distributed.from_main(self._read))

    def remove_foreign(self) -> dict[str, Any] | None:
        """Remove a state that `load` would refuse; returns one that it would not. For the main process alone."""
        try:
            return self._parse(self._read())
        except InputError:
            self.remove()
            return None

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

    @contextlib.contextmanager
    def unless_bad_input(self, worth_keeping: Callable[[], Any]) -> Iterator[None]:
        """Forget the state where the block ends in bad input before there is anything worth keeping.

        Else the state would refuse the other arguments that the error asks for.
        """
        try:
            yield
        except InputError:
            if not worth_keeping():
                self.path.unlink(missing_ok=True)  # by the process that met it; the others may know nothing of it
            raise


class StopRequest:
    """Whether SIGINT, SIGTERM or SIGHUP has asked the run to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._at_once = False
        # Of the last agreement of several processes: at which step, and when; and the step of the next.
        self._agreed_at, self._agreed_when, self._next = 0, 0.0, 0

    def agreed(self, step: int) -> bool:
        """Whether to stop after this step, the same answer on every process."""
        if distributed.world_size() == 1:
            return self.signal is not None
        if step < self._next:
            return False
        now = time.monotonic()
        seconds_per_step = (now - self._agreed_when) / max(1, step - self._agreed_at)
        ours = torch.tensor([self.signal or 0, seconds_per_step], dtype=torch.float64)
        dist.all_reduce(ours, op=dist.ReduceOp.MAX)
        asked, slowest = int(ours[0]), float(ours[1])
        # Computed from what all processes now have, so that they meet again.
        self._next = step + max(1, min(MOST_STEPS_BETWEEN_AGREEMENTS, int(1 / max(slowest, 1e-3))))
        self._agreed_at, self._agreed_when = step, now
        # A signal that came while they talked stays for the next time.
        self.signal = asked or self.signal
        return bool(asked)

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


def follow(
    trainer: Trainer,
    stop: StopRequest,
    save: Callable[[], None],
    save_every: int,
    end_epoch: Callable[[dict[str, Any]], None],
) -> None:
    """Have a trainer save the run every so many steps, before an epoch ends, and when it is asked to stop.

    end_epoch: what is to be done with an epoch's figures; may take long, and stops at once.
    """

    def on_step() -> None:
        asked = stop.agreed(trainer.step)
        if asked or trainer.step % save_every == 0 or trainer.epoch_end_is_due:
            save()
        if asked:
            stop.raise_if_asked()

    def on_epoch_end(figures: dict[str, Any]) -> None:
        with stop.at_once():
            end_epoch(figures)

    trainer.on_step, trainer.on_epoch_end = on_step, on_epoch_end


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn SIGINT, SIGTERM and SIGHUP into a request that the run meets at its next step; a second one acts as ever."""
    request = StopRequest()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if previous[signal.SIGHUP] == signal.SIG_IGN:  # under nohup a run outlives its terminal
        del previous[signal.SIGHUP]

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
