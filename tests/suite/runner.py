"""Runs the stages of `make test` in lanes, to the end whatever fails, and says what came of each.

    python -m tests.suite [STAGE...]

A stage runs in a session of its own: no signal of a terminal reaches it but through us, and signals that a script or
nohup has us ignore are as they should be in what it starts. Whatever a stage has started and left is ended and counts
as its failure. Nothing is shared between two runs at once but the cache, which has its own locks.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.testbed.gotools import cache_dir

from . import marks
from .reporting import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .stages import Stage

ROOT = Path(__file__).parents[2]
SAY_EVERY_S = 60.0
MOST_MINUTES = 80
"""Of a stage. CI ends everything after 90; by then somebody must have said what hung."""
ENDING_S = 240.0
"""For a stage that was asked to end: clusters go in order."""
KEPT_RUNS = 5
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class Outcome:
    """What came of one stage, as it goes and when it has ended."""

    stage: Stage
    log: Path
    status: int | None = None
    seconds: float = 0.0
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    fixtures: dict[str, float] = field(default_factory=dict)
    """Seconds of setups and teardowns, by test and phase."""
    now: str = ""
    left_behind: list[str] = field(default_factory=list)
    ended_because: str = ""

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Tests that failed, with why."""
        return [one for one in self.tests.values() if one["outcome"] == "failed"]

    @property
    def passed(self) -> int:
        """How many tests passed."""
        return sum(one["outcome"] == "passed" for one in self.tests.values())

    @property
    def ok(self) -> bool:
        """Whether the command passed and left nothing."""
        return self.status == 0 and not self.left_behind and not self.ended_because

    def read(self) -> None:
        """Take in what the stage's tests have said so far."""
        with suppress(FileNotFoundError):
            written, _, _torn = self.log.with_suffix(".jsonl").read_text(encoding="utf-8").rpartition("\n")
            for line in written.splitlines():
                event = json.loads(line)
                self.now = event.get("begins", self.now)
                if "fixtures" in event:
                    self.fixtures[event["fixtures"]] = event["seconds"]
                # A test whose teardown fails is reported twice: what failed stays.
                if "test" in event and self.tests.get(event["test"], {}).get("outcome") != "failed":
                    self.tests[event["test"]] = event


@dataclass(slots=True)
class Run:
    """One run of all lanes."""

    folder: Path
    say: Callable[[str], None]
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def token(self) -> str:
        """What tells this run from another at the same time."""
        return self.folder.name

    async def lane(self, stages: Sequence[Stage]) -> None:
        """Stages one after the other; the end of one is no reason for another not to be run."""
        for stage in stages:
            outcome = Outcome(stage, self.folder / f"{stage.name}.log")
            self.outcomes.append(outcome)
            began = time.monotonic()
            try:
                await self._run(outcome)
            finally:
                outcome.seconds = time.monotonic() - began
                outcome.read()
                self._clean(outcome)
            self.say(f"{stage.name}: {'ok' if outcome.ok else 'FAILED'} after {outcome.seconds / 60:.1f} min")

    async def _run(self, outcome: Outcome) -> None:
        stage = outcome.stage
        own = {marks.STAGE: f"{self.token}/{stage.name}", EVENTS: str(outcome.log.with_suffix(".jsonl"))}
        inherited = {
            name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
        }
        with outcome.log.open("ab") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *stage.command, cwd=ROOT, env=inherited | own,
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                outcome.status, outcome.ended_because = 127, f"{stage.command[0]} cannot be started: {error.strerror}"
                return
        try:
            outcome.status = await asyncio.wait_for(process.wait(), MOST_MINUTES * 60)
        except TimeoutError:
            outcome.ended_because = f"not done after {MOST_MINUTES} minutes"
        except asyncio.CancelledError:
            outcome.ended_because = "ended from outside"
            raise
        finally:
            if process.returncode is None:
                outcome.status = await _ended(process)

    def _clean(self, outcome: Outcome) -> None:
        left = marks.left_by(marks.STAGE, f"{self.token}/{outcome.stage.name}")
        marks.end(left)
        if not outcome.ended_because:
            outcome.left_behind = [str(one) for one in left]

    async def tell(self) -> None:
        """A line a minute for each stage that runs."""
        while True:
            await asyncio.sleep(SAY_EVERY_S)
            for outcome in (one for one in self.outcomes if one.status is None):
                outcome.read()
                done = f"{outcome.passed} passed, {len(outcome.failures)} failed"
                self.say(f"{outcome.stage.name}: {done}; now {outcome.now or 'getting ready'}")


async def _ended(process: asyncio.subprocess.Process) -> int:
    """Ask the whole stage to end, as its terminal would, and kill it when it does not."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        return await asyncio.wait_for(process.wait(), ENDING_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return await process.wait()


async def run_all(lanes: Iterable[Sequence[Stage]], say: Callable[[str], None]) -> Run:
    """Run the lanes beside each other. Whoever ends us by a signal ends every stage in order, and gets what there is."""
    run = Run(_new_folder(), say)
    ourselves = asyncio.current_task()
    assert ourselves is not None
    _listen(asyncio.get_running_loop(), ourselves.cancel)
    telling = asyncio.create_task(run.tell())
    try:
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(run.lane(lane))
    except asyncio.CancelledError:
        say("ended from outside")
    finally:
        telling.cancel()
    if any(one.ended_because for one in run.outcomes):
        await _sweep(run)
    return run


async def _sweep(run: Run) -> None:
    """Remove the clusters of stages that were killed: they had no time for it. What has no dead owner stays."""
    with (run.folder / "sweep.log").open("ab") as log:
        words = (sys.executable, "-m", "tests.testbed", "sweep")
        sweeping = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=log, stderr=log)
    await sweeping.wait()


def _listen(loop: asyncio.AbstractEventLoop, end: Callable[[], object]) -> None:
    """Hear the signals that end us. One that we were started to ignore is heard and not followed.

    NB: to ignore it would make everything that we start ignore it too: tests send SIGINT to what they start.
    """
    for number in ENDINGS:
        ignored = signal.getsignal(number) is signal.SIG_IGN
        loop.add_signal_handler(number, (lambda: None) if ignored else end)


def _new_folder() -> Path:
    runs = cache_dir() / "test-runs"
    folder = runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    for old in sorted(path for path in runs.iterdir() if path.is_dir())[:-KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def say(line: str) -> None:
    """One line with the time of day, at once."""
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stdout, flush=True)
