"""How a process and its launcher, such as torchrun, end one another; without a slow import."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import NoReturn

from registry import InputError

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
    """How many processes the launcher started, 1 without one; what is no number, `check_environment` refuses."""
    return max(1, _number("WORLD_SIZE"))


def rank() -> int:
    """This process's number among those that the launcher started, 0 without one."""
    return _number("RANK")


def _number(variable: str) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isascii() and value.isdecimal() else 0


def check_environment() -> None:
    """Raise NotMet where the variables of a launcher, some of which clusters set, do not fit together."""
    remedy = "start the script with torchrun, or unset WORLD_SIZE for one process"
    count = os.environ.get("WORLD_SIZE", "")
    if count and not _number("WORLD_SIZE"):
        raise NotMet(f"WORLD_SIZE={count} in the environment is no number of processes; {remedy}")
    if process_count() == 1:
        return
    for variable, highest in (("RANK", process_count() - 1), ("MASTER_ADDR", None), ("MASTER_PORT", 65535)):
        value = os.environ.get(variable, "")
        if not value:
            raise NotMet(f"WORLD_SIZE={count} in the environment needs {variable}, which is not set; {remedy}")
        if highest is not None and not (value.isascii() and value.isdecimal() and int(value) <= highest):
            raise NotMet(f"{variable}={value} in the environment is not one of 0..{highest}; {remedy}")


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
