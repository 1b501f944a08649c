"""Many runs on all cores, as one answer: how much was played, and the first seed that broke a promise.

Processes are spawned and not forked, so that nothing of the caller's (threads, open files, patches) is in a run. None is
left over: they end with the pool, and by themselves when whoever started them is gone.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, fields
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, Any

from .objects import BrokenPromiseError
from .run import run

if TYPE_CHECKING:
    from collections.abc import Mapping

CHUNK = 25
"""Seeds a task: a fraction of a second, which is what remains to be waited for when a seed is broken or the user gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was played."""

    runs: int = 0
    steps: int = 0
    """Moments at which something happened in a cluster."""
    passes: int = 0
    """Of the operator."""
    writes: int = 0
    kills: int = 0
    met: Mapping[str, int] = field(default_factory=dict)
    """How often each hard situation came to pass."""
    broken: str | None = None
    """The first seed that broke a promise, what it was, and how to look at it."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            runs=self.runs + other.runs,
            steps=self.steps + other.steps,
            passes=self.passes + other.passes,
            writes=self.writes + other.writes,
            kills=self.kills + other.kills,
            met=Counter(self.met) + Counter(other.met),
            broken=self.broken or other.broken,
        )

    def document(self) -> dict[str, Any]:
        """All of it, for a file. NB: `asdict` would count the pairs of a Counter."""
        return {one.name: getattr(self, one.name) for one in fields(self)} | {"met": dict(self.met)}

    def __str__(self) -> str:
        what = f"{self.steps:,} steps, {self.passes:,} passes, {self.writes:,} writes, {self.kills:,} kills"
        return f"{self.runs:,} simulated runs: {what}"


def play(seeds: range, **operator: Any) -> Tally:
    """Runs, one after the other, up to the first that breaks a promise or cannot go on for a bug."""
    tally = Tally()
    for seed in seeds:
        try:
            made = run(seed, **operator)
        except BrokenPromiseError as error:
            return tally + Tally(runs=1, broken=_broken(seed, str(error)))
        except Exception:  # noqa: BLE001 - whatever it is, the seed must be reported with it
            return tally + Tally(runs=1, broken=_broken(seed, traceback.format_exc()))
        tally += Tally(
            runs=1,
            steps=made.world.loop.steps,
            passes=made.operator.passes,
            writes=made.api.writes,
            kills=made.operator.kills,
            met=made.world.met,
        )
    return tally


def play_in_parallel(seeds: range, processes: int, **operator: Any) -> Tally:
    """The same on several cores. When a seed is broken, no more are begun. `operator` must be picklable."""
    chunks = [seeds[first : first + CHUNK] for first in range(0, len(seeds), CHUNK)]
    tally = Tally()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        try:
            for done in as_completed([pool.submit(play, chunk, **operator) for chunk in chunks]):
                tally += done.result()
                if tally.broken is not None:
                    break
        finally:
            pool.shutdown(cancel_futures=True)
    return tally


def _broken(seed: int, why: str) -> str:
    return f"seed {seed}: {why}\nlook at it: python -m tests.simulation {seed}"


def _end_with_parent() -> None:
    """NB: Ctrl-C reaches the whole group; the parent ends the pool, and a worker's own traceback would only hide that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
