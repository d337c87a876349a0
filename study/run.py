#!/usr/bin/env python3
"""Run the study of plan.md: what is finished is skipped, what was stopped goes on.

Keeps --workers runs of one thread each going, at low priority; several runners may share the folders. Every finished
run adds a line to rows.csv in --results_dir, and small files of single instances beside it. Start it from a clone at a
commit that stays:

    python study/data.py --images cifar10_jpeg --sst2 SST-2
    python study/run.py --only images,H1
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from robust_data import files
from robust_data.command_line.parser import Parser, run_script
from robust_data.registry import InputError
from robust_data.settings import natural_int, positive_int
from robust_data.study.rows import JUDGE, Row, hours_of, rows, seeds

ROOT = Path(__file__).resolve().parents[1]
FIELD = re.compile(r"\{(\w+)(?::([^}]+))?\}")
SOURCES = ("files.txt", "lines.txt")
# What is made in a row's own folder, by the field that names it in the row's commands.
MADE = {"half": "half.npy", "tilted": "half.npy", "planted": "images.npz"}
STOPPED = 128 + signal.SIGTERM
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# glibc is to keep what torch frees: large tensors that come from the kernel anew each time took 8 % of an attack.
KEPT_MEMORY = {f"MALLOC_{name}_THRESHOLD_": str(2**32) for name in ("MMAP", "TRIM")}


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="TAG[,TAG]",
        help="runs that have all of these tags: images, texts, study1, A1 to C (parts of study 2), a block, an arm, "
        "H1 to H5, replicate1, tier1, ...; of several such lists any",
    )
    parser.add_argument("--list", action="store_true", help="print the runs and which are finished, and run nothing")
    parser.add_argument("--data_dir", metavar="FOLDER", help="what data.py made; by default data in --work_dir")
    parser.add_argument("--text_model", metavar="FOLDER", help="the text encoder; texts need it")
    parser.add_argument("--results_dir", default="study/results", metavar="FOLDER", help="default: %(default)s")
    parser.add_argument(
        "--work_dir", default="results/study_work", metavar="FOLDER", help="models, statistics files and logs"
    )
    parser.add_argument("--workers", type=positive_int, default=2, metavar="N", help="runs at a time")
    parser.add_argument("--nice", type=natural_int, default=15, metavar="N", help="added to the priority's number")
    return parser


def main(args: argparse.Namespace) -> None:
    planned = chosen(args.only)
    study = Study(args)
    if args.list:
        for row in planned:
            print(f"{'finished' if row.name in study.finished else 'to do':8}  {row.name}")
        print(study.left(planned))
        return
    study.check()
    os.nice(args.nice)
    failed = study.run(planned)
    left = sum(row.name not in study.finished for row in planned)
    print(f"{study.left(planned)}; results in {args.results_dir}")
    if failed:
        raise InputError(f"{len(failed)} runs failed, first {failed[0]}; see its log in {args.work_dir}")
    if left:
        print("the same command continues")
        sys.exit(STOPPED)


def chosen(only: list[str]) -> list[Row]:
    """The rows that are asked for. Raises InputError for a tag that none has."""
    every = rows()
    wanted = [set(tags.split(",")) for tags in only]
    for tags in wanted:
        if not any(tags <= row.tags for row in every):
            raise InputError(f"--only {','.join(sorted(tags))}: no run has these tags; --list shows the names")
    return [row for row in every if not wanted or any(tags <= row.tags for tags in wanted)]


# What another runner of the same folders is at work on; this one comes back to it.
ELSEWHERE = "made elsewhere"


class Study:
    """The folders of the study, what is finished, and the processes that run."""

    def __init__(self, args: argparse.Namespace):
        self.work, self.results = Path(args.work_dir).absolute(), Path(args.results_dir).absolute()
        self.data = Path(args.data_dir).absolute() if args.data_dir else self.work / "data"
        self.model = None if args.text_model is None else str(Path(args.text_model).absolute())
        self.workers = args.workers
        self.by_name = {row.name: row for row in rows()}
        self.finished = self._lines()
        self.commit = _commit()
        self.condition = threading.Condition()
        self.stopping = False
        self.children: set[subprocess.Popen] = set()

    def check(self) -> None:
        """Raise InputError for what would make every run fail, or its results worthless."""
        if self.commit is None:
            raise InputError(
                "the study runs from a clone without changes, so that its commit tells the code; commit them"
            )
        if not self.data.is_dir():
            raise InputError(f"--data_dir {self.data} is missing; make it with study/data.py")
        for folder in (self.work, self.results):
            folder.mkdir(parents=True, exist_ok=True)
        for name in SOURCES:
            # Which instances of the original the scores are of.
            if (self.data / name).exists():
                with files.atomic_write(self.results / name) as file:
                    file.write((self.data / name).read_bytes())

    def _lines(self) -> dict[str, dict[str, str]]:
        return {line["row"]: line for line in _kept().read_rows(self.results / "rows.csv")}

    def left(self, planned: list[Row]) -> str:
        """How many of these runs are finished, and how long the others take a processor."""
        to_do = [row for row in planned if row.name not in self.finished]
        hours = hours_of(to_do, self.finished.values())
        left = f", some {hours:.1f} hours of a processor are left" if hours else ""
        return f"{len(planned) - len(to_do)} of {len(planned)} runs are finished{left}"

    def run(self, planned: list[Row]) -> list[str]:
        """Run what is not finished, and first what it needs; returns the names of the runs that failed."""
        self.planned = planned
        self.to_do = self._with_needs([row for row in planned if row.name not in self.finished])
        self.ready = {row.name for row in self.by_name.values() if self._is_there(row)}
        self.failed: list[str] = []
        with self._stopped_by_signals():
            workers = [threading.Thread(target=self._work) for _ in range(self.workers)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        return self.failed

    def _with_needs(self, wanted: list[Row]) -> list[Row]:
        names: dict[str, None] = {}

        def add(row: Row) -> None:
            for name in row.needs:
                if not self._is_there(self.by_name[name]):
                    add(self.by_name[name])
            names[row.name] = None

        for row in wanted:
            add(row)
        return [row for row in self.by_name.values() if row.name in names]

    def _is_there(self, row: Row) -> bool:
        """Whether the files of a row that others need are there: its line may be, and they gone."""
        return row.name in self.finished and (self.work / row.name / "done").exists()

    @contextlib.contextmanager
    def _stopped_by_signals(self):
        def stop(*_):
            self.stopping = True
            for child in list(self.children):
                child.terminate()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _work(self) -> None:
        while (row := self._next()) is not None:
            try:
                state = self._finish(row)
            except Exception as error:  # a worker that died would leave the others waiting
                state = f"failed: {error}"
            with self.condition:
                if state == "finished":
                    self.ready.add(row.name)
                elif state == ELSEWHERE:
                    self.to_do.append(row)
                    self.condition.wait(1)
                    continue
                elif not self.stopping:
                    self.failed.append(row.name)
                self.condition.notify_all()
            if state != "finished":
                print(f"{row.name}: {state}", flush=True)

    def _next(self) -> Row | None:
        """The next row whose needs are there; waits for them while somebody makes them."""
        with self.condition:
            while not self.stopping:
                # What needs a failed run cannot run.
                self.to_do = [row for row in self.to_do if not set(row.needs) & set(self.failed)]
                for row in self.to_do:
                    if set(row.needs) <= self.ready:
                        self.to_do.remove(row)
                        return row
                if not self.to_do:
                    return None
                self.condition.wait(1)
        return None

    def _finish(self, row: Row) -> str:
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(files.locked(self.work / row.name, patience=0))
            except TimeoutError:
                return ELSEWHERE
            with self.condition:
                self.finished |= self._lines()
            return "finished" if self._is_there(row) else self._make(row)

    def _make(self, row: Row) -> str:
        started = time.time()
        folder = self.work / row.name
        folder.mkdir(parents=True, exist_ok=True)
        # Of a finished run that others need, only what they need is made again, not its judgement.
        commands = (row.again or row.commands[0],) if row.name in self.finished else row.commands
        for number, command in enumerate(commands):
            filled = [self._filled(part, row) for part in command]
            done = folder / f"done{number}"
            if done.exists() and done.read_text() == "\n".join(filled):
                continue
            status, seconds = self._call(filled, folder / f"command{number}.log")
            # Also of what is stopped, and goes on later.
            with open(folder / "seconds", "a") as file:
                file.write(f"{seconds:.2f}\n")
            if status:
                return "stopped" if self.stopping else f"failed with status {status}, see {folder}/command{number}.log"
            done.write_text("\n".join(filled))
        if row.name not in self.finished:
            line = self._keep(row, folder) | {"processor_seconds": _total(folder / "seconds")}
            with self.condition:
                _kept().add_row(self.results / "rows.csv", line)
                self.finished[row.name] = {name: str(value) for name, value in line.items()}
        (folder / "done").touch()
        took = time.time() - started
        print(f"{datetime.now():%H:%M:%S}  {row.name}: {took:.0f} s; {self.left(self.planned)}", flush=True)
        return "finished"

    def _call(self, command: list[str], log: Path) -> tuple[int, float]:
        """Run a script of this clone with one thread; returns its status and its processor seconds."""
        environment = os.environ | ONE_THREAD | KEPT_MEMORY
        with open(log, "ab") as output:
            # A session of its own: Ctrl-C reaches it once, through stop.
            child = subprocess.Popen(
                [sys.executable, str(ROOT / command[0]), *command[1:]],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
            self.children.add(child)
            with contextlib.suppress(OSError):
                # Linux weighs sessions against one another; without this the priority counts within its own alone.
                Path(f"/proc/{child.pid}/autogroup").write_text(f"{os.nice(0)}\n")
            if self.stopping:
                child.terminate()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            self.children.discard(child)
        return child.returncode, usage.ru_utime + usage.ru_stime

    def _filled(self, part: str, row: Row) -> str:
        def value(match: re.Match) -> str:
            kind, name = match.groups()
            if kind == "statistics":
                return str(self._statistics(row.needs[0], name))
            if kind == "loss":
                return self.finished[name]["train_cross_entropy"]
            if kind == "model":
                return self.model_of(row) if name is None else str(self.work / name / "model")
            if kind in MADE:
                return str(self._made(kind, row))
            return str({"data": self.data, "folder": self.work / row.name}[kind])

        return FIELD.sub(value, part)

    def model_of(self, row: Row) -> str:
        """The text encoder. Raises InputError where none was named."""
        if self.model is None:
            raise InputError(f"{row.name} trains a text encoder; name it with --text_model FOLDER")
        return self.model

    def _statistics(self, name: str, perturbation: str) -> Path:
        found = sorted((self.work / name).glob(f"robust_statistics_*_t{perturbation}_severity*.npy"))
        # Of several severities the highest, as the plan ranks.
        if not found:
            raise InputError(f"{self.work / name} has no statistics under {perturbation}; remove its file done")
        return found[-1]

    def _made(self, kind: str, row: Row) -> Path:
        """A file that a row alone is made on: the indices of a half of the training images, or images of its own."""
        from robust_data.study import halves, planted
        from robust_data.study.results import arrays

        path = self.work / row.name / MADE[kind]
        if kind == "tilted":
            scores = [arrays(self.results / "scores" / f"{name}.npz") for name in row.needs]
            halves.save(path, halves.tilted(scores, row.replicate))
        elif kind == "half":
            halves.save(path, halves.random(self.data / "images.npz", row.replicate))
        elif not path.exists():
            planted.write(self.data / "images.npz", path, row.replicate)
        return path

    def _keep(self, row: Row, folder: Path) -> dict[str, Any]:
        """Keep the small files of a finished run; returns its line for rows.csv."""
        kept = _kept()
        line: dict[str, Any] = {
            "row": row.name,
            "data": row.data,
            "block": row.block,
            "arm": row.arm,
            "replicate": row.replicate,
        }
        line |= self._circumstances(row)
        found = sorted(folder.glob("robust_statistics_*.npy"))
        if row.arm == "halves":
            kept.losses_over_training(found, self.results / "overfitting" / f"{row.name}.npz")
            return line
        if found:
            kept.scores(found, self.results / "scores" / f"{row.name}.npz")
            if row.block == "planted":
                kept.planted(folder / MADE["planted"], self.results / "planted" / f"{row.name}.npz")
            return line
        if row.block == "tilted":
            scores = self.results / "scores" / f"{row.needs[0]}.npz"
            kept.half(folder / MADE["tilted"], scores, self.results / "halves" / f"{row.name}.npz")
        judged = [folder / f"judged{number}" for number in range(sum(command[0] == JUDGE for command in row.commands))]
        log = folder / "log.jsonl"
        line |= kept.training(log, folder / "results.csv") if log.exists() else {}
        if not judged:
            return line | json.loads((folder / f"{row.block}.json").read_text(encoding="utf-8"))
        return line | kept.judged(judged, log if log.exists() else None, self.results / "instances" / f"{row.name}.npz")

    def _circumstances(self, row: Row) -> dict[str, Any]:
        statistics_seed, training_seed = seeds(row)
        return {
            "statistics_seed": statistics_seed,
            "training_seed": training_seed,
            "commit": self.commit,
            "torch": version("torch"),
            "processor": _processor(),
            "precision": "bf16" if "bf16" in row.commands[0] else "fp32",
            "finished": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


@functools.cache
def _kept():
    """The module that reads and writes results; it imports numpy, which --help does without."""
    from robust_data.study import kept

    return kept


def _total(path: Path) -> float | None:
    """The sum of the lines of a file; None where there is none."""
    return sum(map(float, path.read_text().split())) if path.exists() else None


def _commit() -> str | None:
    """The commit of this clone, None where its tracked files have changes."""

    def git(*arguments: str) -> str:
        called = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
        return called.stdout.strip() if called.returncode == 0 else "?"

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!study/results")
    return None if changed else git("rev-parse", "HEAD")


def _processor() -> str:
    """The processor's name, and whether it has bfloat16 arithmetic."""
    with contextlib.suppress(OSError):
        about = Path("/proc/cpuinfo").read_text()
        name = re.search(r"model name\s*:\s*(.+)", about)
        return f"{name[1] if name else platform.machine()}{', bf16' if 'avx512_bf16' in about else ''}"
    return platform.machine()


if __name__ == "__main__":
    run_script(build_parser(), main)
