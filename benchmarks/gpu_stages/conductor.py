"""Runs the stages one after the other within the minutes, and keeps what each says.

Owns the time, the files and the processes: a stage has a process, a folder and a deadline of its own. Whatever ends a
run (the minutes, a signal, a dead stage), the record says so, and no process, daemon or folder is left. Assumes to be
the main process. Must never let a stage begin before the results of the one before it are on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_runtime import processes

from benchmarks.gpu_stages import record
from benchmarks.gpu_stages.machine import Kind
from benchmarks.gpu_stages.record import Lack, Record, State
from benchmarks.gpu_stages.table import STAGES, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

GRACE_SECONDS = 20.0
"""Kept of the minutes, and given to a stage that is ended: engines have 8 s for SIGTERM, a daemon 10 s for `quit`."""
MACHINE_SECONDS = 60.0
LOOK_SECONDS = 0.2
"""Between two looks at the clock while a stage runs."""
CPU_SLOWER = 4
"""How much longer a stage may take without a GPU, where an engine starts in minutes beside other work."""
LINE_BYTES = 2**24
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_COLOR": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


class MachineError(Exception):
    """The machine does not say what it is, or is not the one whose results the folder holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command was asked for."""

    minutes: float
    results: Path
    engine: tuple[str, ...]


class Conductor:
    """One run."""

    def __init__(self, asked: Asked, say: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._asked = asked
        self._say = say
        self._now = now
        self._until = now() + 60 * asked.minutes
        self._grace = min(GRACE_SECONDS, 60 * asked.minutes / 4)
        self._signal: signal.Signals | None = None
        self._running: asyncio.subprocess.Process | None = None

    async def run(self) -> int:
        """All stages that are left. Returns 0 when every stage is complete, 1 when one is not, 128 + n after a signal."""
        processes.adopt_orphans()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._interrupt, number)
        with _scratch() as scratch:
            try:
                machine = await self._machine(scratch)
                self._check(machine)
                for stage in STAGES:
                    if self._may_begin(stage):
                        await self._stage(stage, machine, scratch)
            except MachineError:
                if self._signal is None:
                    raise
            finally:
                self._sweep()
        return self._status()

    def _interrupt(self, number: signal.Signals) -> None:
        self._signal = self._signal or number
        self._end_stage()

    def _end_stage(self) -> None:
        if self._running:
            with contextlib.suppress(ProcessLookupError):
                self._running.terminate()

    def _may_begin(self, stage: Stage) -> bool:
        kept = record.read(self._asked.results, stage.name)
        if kept and kept.complete:
            self._say(f"{stage.name}: complete already")
            return False
        return self._signal is None and self._left() > 0

    def _left(self) -> float:
        return self._until - self._grace - self._now()

    async def _machine(self, scratch: Path) -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.gpu_stages.machine", *self._asked.engine]
        process = await asyncio.create_subprocess_exec(
            *command, env=_environment(scratch), stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
        self._running = process
        try:
            said, _ = await asyncio.wait_for(process.communicate(), MACHINE_SECONDS)
            machine: dict[str, Any] = json.loads(said)
        except (TimeoutError, ValueError) as error:
            raise MachineError("the machine could not be asked what it is") from error
        finally:
            self._running = None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        self._say(f"{machine['kind']}: {machine['product'] or 'no GPU'} ({machine['why']})")
        return machine

    def _check(self, machine: dict[str, Any]) -> None:
        """Results of several machines are not mixed. Raises MachineError."""
        for stage in STAGES:
            kept = record.read(self._asked.results, stage.name)
            if kept and any(kept.machine.get(key) != machine[key] for key in ("kind", "product", "memory_bytes")):
                theirs = kept.machine.get("product") or kept.machine.get("kind")
                raise MachineError(f"{stage.name}.json is of another machine ({theirs}): name another folder")

    async def _stage(self, stage: Stage, machine: dict[str, Any], scratch: Path) -> None:
        """One try of one stage, from its first line to the end of its last process."""
        slower = 1 if machine["kind"] == Kind.GPU else CPU_SLOWER
        seconds = min(slower * stage.most_seconds, self._left())
        deadline = self._now() + seconds
        folder = scratch / stage.name
        folder.mkdir()
        if stage.uid is not None and os.geteuid() == 0:
            os.chown(folder, stage.uid, stage.uid)
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        diary = _Diary(self._asked.results, Record(stage=stage.name, machine=machine, began=now), self._say)
        job = {"parent": os.getpid(), "kind": machine["kind"], "seconds": seconds, "folder": str(folder)}
        self._say(f"{stage.name}: {stage.title}, at most {seconds:.0f} s")
        with (folder / "stderr").open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.gpu_stages.child", stage.name),
                json.dumps({**job, "engine": self._asked.engine}),
                env=_environment(folder),
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                limit=LINE_BYTES,
            )
        self._running = process
        if self._signal:  # it came while the process did
            self._end_stage()
        late = await self._followed(process, diary, deadline)
        self._running = None
        self._sweep()
        diary.close(self._cut_short(process.returncode, folder / "stderr", seconds if late else None))
        shutil.rmtree(folder, ignore_errors=True)

    async def _followed(self, process: asyncio.subprocess.Process, diary: _Diary, deadline: float) -> bool:
        """Hear the stage until it ends, is ended, or has used up its grace too. True: its time was over."""
        hearing = asyncio.create_task(_hear(process, diary))
        late = False
        while not hearing.done():
            ended = late or self._signal is not None
            await asyncio.wait([hearing], timeout=self._grace if ended else LOOK_SECONDS)
            if hearing.done():
                break
            if ended:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                self._sweep(process.pid)  # whoever still holds its output
                await hearing
            elif self._now() >= deadline:
                late = True
                self._end_stage()
        await process.wait()
        return late

    def _cut_short(self, status: int | None, errors: Path, seconds: float | None) -> str:
        """Why a stage that did not say its own end has none. `seconds`: the time that was over, if it was."""
        if self._signal:
            return f"interrupted by {self._signal.name}"
        if seconds is not None:
            return f"its {seconds:.0f} s were over"
        said = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
        return f"it ended with status {status}: {said[-1] if said else 'it printed nothing'}"

    def _sweep(self, watched: int | None = None) -> None:
        for pid in processes.end_descendants(os.getpid(), watched):
            self._say(f"NB: process {pid} cannot be ended")

    def _status(self) -> int:
        kept = {stage.name: record.read(self._asked.results, stage.name) for stage in STAGES}
        for name, found in kept.items():
            state = "complete" if found and found.complete else found.incomplete_because if found else "not begun"
            self._say(f"{name:<8} {state}")
        if self._signal:
            return 128 + self._signal
        return 0 if all(found and found.complete for found in kept.values()) else 1


class _Diary:
    """The record of a stage while it runs: on disk after every line."""

    def __init__(self, results: Path, begun: Record, say: Callable[[str], None]) -> None:
        self._results = results
        self._record = begun
        self._began = time.monotonic()
        self._say = say
        self._ended = False
        self._keep("it has not ended")

    def hear(self, line: dict[str, Any]) -> None:
        """A line of the stage: see `job.py`."""
        if "figure" in line:
            self._record = self._record.with_figure(line["figure"], line["value"])
            self._say(f"  {line['figure']}")
        elif "lacks" in line:
            lack = Lack(state=State(line["state"]), why=line["why"])
            self._record = self._record.without(line["lacks"], lack)
            self._say(f"  {line['lacks']}: {lack.state}: {lack.why}")
        elif "end" in line:
            self._end(line["end"])
            return
        self._keep("it has not ended")

    def close(self, cut_short: str) -> None:
        """The stage's process is gone: unless it has said its end, that is why there is none."""
        if not self._ended:
            self._end(cut_short)

    def _end(self, because: str | None) -> None:
        self._ended = True
        self._record = replace(self._record, complete=because is None)
        self._keep(because)
        if because:
            self._say(f"  incomplete: {because}")

    def _keep(self, incomplete_because: str | None) -> None:
        seconds = round(time.monotonic() - self._began, 1)
        self._record = replace(self._record, seconds=seconds, incomplete_because=incomplete_because)
        record.keep(self._results, self._record)


async def _hear(process: asyncio.subprocess.Process, diary: _Diary) -> None:
    assert process.stdout, "opened with a pipe"
    async for line in process.stdout:
        diary.hear(json.loads(line))


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for everything, gone at the end. NB: a short path, since sockets lie below it."""
    folder = Path(tempfile.mkdtemp(prefix="slm-gpu-"))
    folder.chmod(0o755)  # an ordinary user finds its own folder below
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    return dict(os.environ) | OFFLINE | {"TMPDIR": str(folder)}


def _say(text: str) -> None:
    print(text, flush=True)


def conduct(minutes: float, results: Path, engine: Sequence[str]) -> int:
    """Run, from the command line. Raises MachineError."""
    results.mkdir(parents=True, exist_ok=True)
    return asyncio.run(Conductor(Asked(minutes=minutes, results=results, engine=tuple(engine)), _say).run())
