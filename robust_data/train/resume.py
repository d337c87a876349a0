"""Runs that may be killed at any moment: their state on the disk, and the signals that ask them to stop."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from robust_data.files import atomic_write, full_disk_is_an_oserror, locked
from robust_data.reading import parse_json, readable
from robust_data.registry import InputError
from robust_data.train import distributed
from robust_data.train.identity import check_arguments
from robust_data.train.launch import Interrupted
from robust_data.train.training import Trainer

# Seconds in which a process that is about to end may release the run.
LOCK_PATIENCE = 1.0
# Several processes agree every so many steps whether to stop or to save; to agree costs each of them a message.
STEPS_BETWEEN_AGREEMENTS = 4
# How much training a killed run loses at most, beside the collection or the judgement that it was in.
SECONDS_BETWEEN_SAVES = 300
# So much of the end of a state tells it from another; the checksums of a thousand tensors take less.
LENGTH_OF_END = 2**20


class RunState:
    """The state of a run in one file, which the main process replaces atomically, and reads for all.

    arguments: the run's, which must be the same when it is continued.
    """

    def __init__(self, path: Path, arguments: Mapping[str, Any]):
        self.path = path
        self.arguments = dict(arguments)
        self._saved_at = time.monotonic()

    def is_old(self) -> bool:
        """Whether the last save was minutes ago, so that it is time for the next."""
        return time.monotonic() - self._saved_at >= SECONDS_BETWEEN_SAVES

    def save(self, content: Mapping[str, Any]) -> None:
        """Write the state: tensors, numbers, texts and containers of them. Every process must call it."""
        self._saved_at = time.monotonic()
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
        """The state last saved, the same on every process, or None; its tensors are a memory map of the file.

        The main process's file counts. Where a process does not see it, as on a machine that shares no folder with the
        main one's, the main process sends it. Raises InputError if it is damaged or belongs to other arguments.
        """
        of_main = distributed.from_main(self._known_by)
        if of_main is None:
            return None
        if distributed.most_over_processes([of_main != self._known_by()]) == [0]:
            return self._parse(self.path)
        return self._parse(io.BytesIO(distributed.from_main(self.path.read_bytes)))

    def remove_foreign(self) -> dict[str, Any] | None:
        """Remove a state that `load` would refuse; returns one that it would not. For the main process alone."""
        try:
            return self._parse(self.path) if self.path.exists() else None
        except InputError:
            self.remove()
            return None

    def _known_by(self) -> tuple[int, bytes] | None:
        """What tells the file from another: its size and its end, which has the checksums of all that is in it."""
        try:
            with open(self.path, "rb") as file:
                size = file.seek(0, io.SEEK_END)
                file.seek(max(0, size - LENGTH_OF_END))
                return size, hashlib.sha256(file.read()).digest()
        except FileNotFoundError:
            return None

    def _parse(self, content: Path | io.BytesIO) -> dict[str, Any]:
        with self.restoring(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of a file that is none of its own
            mapped = isinstance(content, Path)
            state = torch.load(content, map_location="cpu", weights_only=True, mmap=mapped)
            if not isinstance(state, dict) or not isinstance(state.get("arguments"), str):
                raise ValueError("it is no state of a run")
            saved = parse_json(state["arguments"])
        check_arguments(saved, self.arguments, self.path)
        return state

    def restoring(self) -> contextlib.AbstractContextManager[None]:
        """Turn whatever a state that is damaged, or another program's, raises in this block into InputError."""
        return readable(str(self.path), "use --overwrite 1 to start anew")

    def remove(self) -> None:
        """Remove the state, once the run is finished."""
        if distributed.is_main():
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def unless_bad_input(self, worth_keeping: Callable[[], Any]) -> Iterator[None]:
        """Remove the state if the block ends in bad input before there is anything worth keeping.

        Otherwise the state would refuse the other arguments that the error asks for.
        """
        try:
            yield
        except InputError:
            if not worth_keeping():
                self.path.unlink(missing_ok=True)  # by the process that met the error; the others may not know of it
            raise


class StopRequest:
    """Whether SIGINT, SIGTERM or SIGHUP has asked the run to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._at_once = False

    def raise_if_asked(self) -> None:
        """Raise Interrupted if this process was asked to stop."""
        if self.signal is not None:
            raise Interrupted(self.signal)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise Interrupted in the middle of this block: it takes long, and the run that goes on repeats it."""
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
    state: RunState,
    stop: StopRequest,
    save: Callable[[], None],
    save_every: int | None,
    end_epoch: Callable[[dict[str, Any]], None],
) -> None:
    """Have a trainer save the run every few minutes, and when it is asked to stop.

    save: saves the state; every process calls it after the same step. save_every: save after every so many steps
    too. end_epoch: takes the figures of an epoch; it may take long, and stops at once.
    """

    def on_step() -> None:
        asked, old = 0, False
        if distributed.world_size() == 1 or trainer.step % STEPS_BETWEEN_AGREEMENTS == 0:
            # A signal that comes while the processes agree stays for the next time.
            asked, old = distributed.most_over_processes([stop.signal or 0, int(state.is_old())])
        if asked or old or (save_every and trainer.step % save_every == 0):
            save()
        if asked:
            raise Interrupted(asked)

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
