"""Runs a script with a mishap planned: `python dying.py WHAT WHERE NUMBER script.py arguments...`.

WHERE is a function, such as robust_data.train.training.Trainer._train_step, and at its call NUMBER (from 1, counted
after the imports) this happens instead: WHAT is `kill` (SIGKILL), `term`, `int` or `hup` (SIGTERM, SIGINT or SIGHUP,
then the call goes on), or `term_launcher` (SIGTERM to the process that started this one). With RANK_TO_DIE set, only
the process of that rank has the mishap, and with ONCE set to a path only if that file does not exist yet; it is made
then.
"""

import importlib
import os
import runpy
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIGNALS = {
    "kill": signal.SIGKILL,
    "term": signal.SIGTERM,
    "term_launcher": signal.SIGTERM,
    "int": signal.SIGINT,
    "hup": signal.SIGHUP,
}


def plan(what: str, where: str, number: int) -> None:
    module_name, _, attribute = where.rpartition(".")
    try:
        owner = importlib.import_module(module_name)
    except ModuleNotFoundError:  # a method: one level up is the class
        module_name, _, class_name = module_name.rpartition(".")
        owner = getattr(importlib.import_module(module_name), class_name)
    original, calls = getattr(owner, attribute), []

    def mishap(*arguments, **named):
        calls.append(1)
        if len(calls) == number and is_due():
            os.kill(os.getppid() if what == "term_launcher" else os.getpid(), SIGNALS[what])
        return original(*arguments, **named)

    setattr(owner, attribute, mishap)


def is_due() -> bool:
    if os.environ.get("RANK", "0") != os.environ.get("RANK_TO_DIE", os.environ.get("RANK", "0")):
        return False
    once = os.environ.get("ONCE")
    if once and Path(once).exists():
        return False
    if once:
        Path(once).touch()
    return True


if __name__ == "__main__":
    what, where, number, script, *rest = sys.argv[1:]
    sys.path.insert(0, str(ROOT))
    plan(what, where, int(number))
    sys.argv = [script, *rest]
    runpy.run_path(script, run_name="__main__")
