"""One progress bar for all that a command does, with the time that is left of all of it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from tqdm import tqdm

from robust_data.running import launch

# A pass with a gradient, forward and backward, takes about as long as three that only go forward.
WITH_GRADIENT = 3
# Seconds between two drawings of the bar, each of which takes a few tenths of a millisecond.
DRAWN_EVERY = 0.5


@dataclass(frozen=True)
class Work:
    """Work of one kind: visits of instances, each of them as often as it comes, and passes through the model a visit.

    A pass with a gradient counts as `WITH_GRADIENT`.
    """

    visits: int
    passes: float = 1.0

    def __add__(self, other: Work) -> Work:
        visits = self.visits + other.visits
        passes = self.visits * self.passes + other.visits * other.passes
        return Work(visits, passes / visits if visits else self.passes)


# By the names of its kinds.
Plan = Mapping[str, Work]


def together(plans: Iterable[Plan]) -> dict[str, Work]:
    """All work of several plans."""
    total: dict[str, Work] = {}
    for plan in plans:
        for kind, work in plan.items():
            total[kind] = total[kind] + work if kind in total else work
    return total


class RunBar:
    """A bar that tells how far a command has come, and in what time it will be done with all of its runs.

    How far: the share of the passes through the model, see `Work`. The time left: what is left of each kind of work,
    times the time that a visit of it has taken in this process; each pass of a kind that has not come yet is taken to
    last as long as those of the others. Whatever lies between two steps counts with the later one. Several runs, those
    of several seeds, count as equally large.

    runs: how many there are. shown: whether the bar is wanted; it shows on the main process, and where the stream is a
    terminal, and only while work is at hand, so that it stands in the way of no line. Hidden it does nothing.
    stream: stderr by default. clock: gives seconds.
    """

    def __init__(
        self,
        runs: int = 1,
        shown: bool = True,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.stream = sys.stderr if stream is None else stream
        self.shown = shown and launch.rank() == 0 and self.stream is not None and self.stream.isatty()
        self._runs, self._ended, self._clock = runs, 0, clock
        self._plan: dict[str, Work] = {}
        # By kind: the visits that are done of the run at hand; those of this process, and how long they took.
        self._done: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._started = self._last = clock()
        self._resumed_at: float | None = None

    def begin(self, plan: Plan, done: Plan | None = None) -> None:
        """Say what the next run is to do in all, and what of it an earlier process has done."""
        self._plan = {kind: work for kind, work in plan.items() if work.visits}
        self._done = {kind: work.visits for kind, work in (done or {}).items()}
        self._last = self._clock()
        if self._resumed_at is None:
            self._resumed_at = self._passes_done()

    def cut_short(self, left: Plan) -> None:
        """Say that this alone is left of the run, which has ended its training before the last epoch."""
        left_of = {kind: work.visits for kind, work in left.items()}
        self._done = {kind: work.visits - left_of.get(kind, 0) for kind, work in self._plan.items()}

    def end(self) -> None:
        """Say that a run is over, or was found finished."""
        self._ended, self._done = self._ended + 1, {}

    @property
    def share(self) -> float:
        """How much is done, 0..1."""
        total = self._passes_in_all()
        return self._passes_done() / total if total else self._ended / self._runs

    def seconds_left(self) -> float | None:
        """The time that is left; None before anything has been timed."""
        passes = sum(visits * self._plan[kind].passes for kind, visits in self._seen.items() if kind in self._plan)
        if not passes:
            return None
        a_pass = sum(seconds for kind, seconds in self._seconds.items() if kind in self._plan) / passes
        left = 0.0
        for kind, work in self._plan.items():
            visits = (self._runs - self._ended) * work.visits - self._done.get(kind, 0)
            seen = self._seen.get(kind)
            left += max(visits, 0) * (self._seconds[kind] / seen if seen else work.passes * a_pass)
        return left

    @contextlib.contextmanager
    def phase(self, kind: str, own: int, visits: int, title: str | None = None) -> Iterator[Phase]:
        """Show the bar in this block, in which work of a kind is done; yields what counts it.

        own: what this process will count. visits: the instances that all processes visit. title: by default the kind.
        """
        title = title or kind
        if self._runs > 1:
            title = f"run {self._ended + 1}/{self._runs}, {title}"
        with Phase(self, kind, visits / own if own else 0.0, title) as phase:
            yield phase
            # Other processes may have visited more than this one.
            phase.complete(visits)

    def count(self, kind: str, visits: float) -> None:
        """Count visits that have been made since the last call."""
        now = self._clock()
        self._seconds[kind] = self._seconds.get(kind, 0.0) + now - self._last
        self._seen[kind] = self._seen.get(kind, 0.0) + visits
        self._done[kind] = self._done.get(kind, 0.0) + visits
        self._last = now

    def figures(self) -> dict[str, Any]:
        """What tqdm draws a bar from."""
        done, total, left = self._passes_done(), self._passes_in_all(), self.seconds_left()
        # tqdm takes the time that is left from a rate.
        rate = (total - done) / left if left else None
        elapsed = self._clock() - self._started
        return {"n": done, "total": total, "initial": self._resumed_at or 0.0, "elapsed": elapsed, "rate": rate}

    def _passes_of_a_run(self) -> float:
        return sum(work.visits * work.passes for work in self._plan.values())

    def _passes_in_all(self) -> float:
        return self._runs * self._passes_of_a_run()

    def _passes_done(self) -> float:
        done = self._ended * self._passes_of_a_run()
        for kind, work in self._plan.items():
            done += min(self._done.get(kind, 0), work.visits) * work.passes
        return done


class Phase(tqdm):
    """Counts work of one kind, and shows the bar of the whole command meanwhile; see `RunBar.phase`.

    each: the visits for each instance of this process.
    """

    def __init__(self, bar: RunBar, kind: str, each: float, title: str):
        self._bar, self._kind, self._each = bar, kind, each
        self._counted, self._began = 0.0, time.monotonic()
        look = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        how = {"leave": False, "dynamic_ncols": True, "miniters": 0, "mininterval": DRAWN_EVERY, "bar_format": look}
        super().__init__(total=1, desc=title, file=bar.stream, disable=not bar.shown, **how)

    def update(self, n: int = 1) -> None:
        """Count n more instances of this process."""
        if not self.disable:
            self._count(n * self._each)
            super().update(0)

    def complete(self, visits: int) -> None:
        """Count what is left of so many visits, and show it."""
        if not self.disable:
            self._count(visits - self._counted)
            self.refresh()

    @property
    def format_dict(self) -> dict[str, Any]:
        seconds = time.monotonic() - self._began
        pace = self._counted / seconds if seconds else 0.0
        postfix = f"{pace:.0f} inst/s" if pace >= 10 else f"{pace:.2g} inst/s" if pace else None
        return super().format_dict | self._bar.figures() | {"postfix": postfix}

    def _count(self, visits: float) -> None:
        self._counted += visits
        self._bar.count(self._kind, visits)


@contextlib.contextmanager
def phase(
    progress: RunBar | bool, kind: str, own: int, visits: int | None = None, title: str | None = None
) -> Iterator[Phase]:
    """Count a block of work in the bar of the whole command, or with True in a bar of its own, with False in none.

    own, visits, title: see `RunBar.phase`; visits is by default `own`.
    """
    visits = own if visits is None else visits
    bar = progress if isinstance(progress, RunBar) else RunBar(shown=progress)
    if bar is not progress:
        bar.begin({kind: Work(visits)})
    with bar.phase(kind, own, visits, title) as counted:
        yield counted
