"""What a process owes to the signals and the launcher, such as torchrun, that end it; waits for no slow import."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import NoReturn

# How long, in seconds, a process that lost its launcher may take to save its run and end.
GRACE = 60.0


class Interrupted(BaseException):
    """The run was asked to stop by a signal and has saved what it had; like KeyboardInterrupt no `Exception`."""

    def __init__(self, signal_number: int):
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


def process_count() -> int:
    """How many processes the launcher started, 1 without one."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def say(message: str) -> None:
    """One line on stderr, from the main process alone."""
    if os.environ.get("RANK", "0") == "0":
        print(message, file=sys.stderr)


def end_with_launcher() -> None:
    """Ask this process to stop, as by SIGTERM, when torchrun is gone; end it if it has not stopped a minute later.

    A launcher that is killed cannot stop its processes, which would then wait for one another, or go on unwatched.
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
    """End the process with this status, without the interpreter's last clearing up.

    There torch's threads for talking to the other processes now and then abort one that has finished its work.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
