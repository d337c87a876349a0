"""How a process and its launcher, such as torchrun, end one another; without a slow import."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import NoReturn

# Seconds that a process without its launcher has to save its run and end.
GRACE = 60.0


class Interrupted(BaseException):
    """A signal asked the run to stop, and the run has saved its state; as KeyboardInterrupt this is no `Exception`."""

    def __init__(self, signal_number: int):
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


def process_count() -> int:
    """How many processes the launcher started, 1 without one."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def rank() -> int:
    """This process's number among those that the launcher started, 0 without one."""
    return int(os.environ.get("RANK") or 0)


def say(message: str) -> None:
    """One line on stderr, from the main process alone."""
    if rank() == 0:
        print(message, file=sys.stderr)


def end_with_launcher() -> None:
    """Once torchrun is gone, ask this process to stop, as by SIGTERM, and end it a minute later if it still runs.

    A launcher that is killed cannot stop its processes; they would wait for one another, or run on unwatched.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def leave(status: int) -> NoReturn:
    """End the process with this status, without the last steps of the interpreter.

    In those steps torch's threads sometimes abort a process that has finished its work.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
