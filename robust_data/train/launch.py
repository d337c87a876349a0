"""How a process and its launcher, such as torchrun, end one another; without a slow import."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import NoReturn

from robust_data.registry import InputError

# Seconds that a process without its launcher has to save its run and end.
GRACE = 60.0


class Interrupted(BaseException):
    """A signal asked the run to stop, and the run has saved its state; as KeyboardInterrupt this is no `Exception`."""

    def __init__(self, signal_number: int):
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class NotMet(InputError):
    """The processes of a run could not meet, so none can be asked which of them tells it."""


def process_count() -> int:
    """How many processes the launcher started, 1 without one."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def rank() -> int:
    """This process's number among those that the launcher started, 0 without one."""
    return int(os.environ.get("RANK") or 0)


def check_environment() -> None:
    """Raise NotMet where a launcher's variables are incomplete: clusters set some of them without one.

    Called before torch is imported, it keeps torch from reporting, on many lines each, what is told in one.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if process_count() > 1 and missing:
        raise NotMet(
            f"WORLD_SIZE={process_count()} in the environment needs {missing[0]}, which is not set; start the script "
            "with torchrun, or unset WORLD_SIZE for one process"
        )


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
