"""One whole profile: search on real engines, tell what happens, and leave a document whatever happens.

Everything that ends a profile early (SIGTERM, the budget, a dead engine, a full disk) passes through here, so that
what was measured is always in the document, marked incomplete with the reason. Assumes to be the process's only task.
Must never end with a traceback, nor with engines running.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from slm_core.codec import to_json
from slm_core.failure import EXIT_STATUS, Failure, ProfileError
from slm_core.measurements import CPU
from slm_core.search.continuation import findings_of
from slm_core.search.steps import Done, Failed, Findings, Measured, Started, StartEngines
from slm_core.wording import several

from slm_runtime.device_checks import check_device, open_device
from slm_runtime.document import Documents, gpu_of
from slm_runtime.download import follow_download
from slm_runtime.former import read_former, with_former
from slm_runtime.rig import EngineRig
from slm_runtime.search_loop import Event, run_search
from slm_runtime.task import check_task, request_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from slm_core.measurements import MeasurementDocument

    from slm_runtime.events import Reporter
    from slm_runtime.task import Task


UNFINISHED = "the search is not finished"
"""Of a document that is reported while there is more to measure."""


@dataclass(slots=True)
class Ending:
    """How the search ended, as far as it is known."""

    findings: Findings = field(default_factory=Findings)
    done: Done | None = None
    failure: Failure | None = None
    because: str | None = None
    remedy: str | None = None
    """What to do about just this failure; None: what its class says."""

    def fail(self, failure: Failure, because: str, remedy: str | None = None) -> None:
        """The first cause counts; what follows from it does not."""
        if self.failure is None:
            self.failure, self.because, self.remedy = failure, because, remedy

    @property
    def incomplete_because(self) -> str | None:
        """Why what was measured is not all. None: it is."""
        if self.done is None:
            return self.because or "the search did not come to an end"
        return self.because if self.failure or not self.done.complete else None


async def run(task: Task, reporter: Reporter) -> int:
    """Profile, report and write. Returns the exit status."""
    ending = Ending()
    document = None
    with contextlib.ExitStack() as held:
        try:
            check_task(task)
            former = read_former(task.continue_from) if task.continue_from else None
            device = open_device(task.device, task.gpu_product)
            if device is not None:
                held.callback(device.close)
                await check_device(device, task.device, task.gpu_product, task.gpu_memory_bytes)
            if device is None and task.gpu_product not in {None, CPU}:
                reporter.note(f"the CPU is measured under the name of {task.gpu_product}: no GPU is like that")
            request = request_on(task, device, reporter.note)
            rig = EngineRig(task.subject, task.lengths, task.conditions, device, reporter.note)
            documents = Documents(task=task, request=request, rig=rig, gpu=gpu_of(task, device))
            if former is not None:
                documents = with_former(documents, former, reporter.note)
            if documents.former is not None:
                ending.findings = findings_of(documents.former, request)
                rig.know(documents.former)
            async with _download_reported(task.subject.model, rig, reporter) as downloading:
                await _search(documents, reporter, ending, downloading)
            document = documents.of(ending.findings, ending.incomplete_because)
        except ProfileError as error:
            ending.fail(error.failure, str(error), error.remedy)
    if document is not None:
        reporter.result(document)
        _write(task.output, document, ending)
    if ending.failure is None:
        return 0
    reporter.failed(ending.failure, ending.because or "", ending.remedy)
    return EXIT_STATUS[ending.failure]


@contextlib.asynccontextmanager
async def _download_reported(model: str, rig: EngineRig, reporter: Reporter) -> AsyncIterator[asyncio.Task[None]]:
    """Report how much of the model has been downloaded, until the yielded task is cancelled or the block is left."""

    def tell(said: str, seconds: float) -> None:
        rig.add_download(seconds)
        reporter.phase("Starting", said, rig.budget_seconds())

    following = asyncio.create_task(follow_download(model, os.environ, tell))
    try:
        yield following
    finally:
        following.cancel()
        await asyncio.wait([following])


async def _search(documents: Documents, reporter: Reporter, ending: Ending, downloading: asyncio.Task[None]) -> None:
    """Run the search to its end, or to a signal's, the budget's or an error's. Its first engine ends `downloading`."""
    request, rig = documents.request, documents.rig

    def hear(event: Event) -> None:
        ending.findings = event.findings
        if event.findings.has_started:  # the model is here: nothing looks at the disk while engines are measured
            downloading.cancel()
        _tell(event, rig, reporter, ending)
        if isinstance(event.outcome, Measured) and (so_far := documents.of(event.findings, UNFINISHED)):
            reporter.partial(so_far)

    searching = asyncio.create_task(run_search(request, rig, hear, ending.findings))
    try:
        with _interruptible(searching, request.max_gpu_seconds, rig, ending):
            ending.findings = await searching
        _judge(rig, ending)
    except asyncio.CancelledError:
        pass
    except ProfileError as error:
        ending.fail(error.failure, str(error), error.remedy)
    except Exception as error:  # noqa: BLE001 - what was measured must not be lost to a mistake of ours
        ending.fail(Failure.INTERNAL, f"{type(error).__name__}: {error}")
    if ending.failure is Failure.BUDGET and ending.findings.points:
        ending.failure = None  # an ended budget is an answer, as long as there is something to say


@contextlib.contextmanager
def _interruptible(
    searching: asyncio.Task[Findings], max_gpu_seconds: float, rig: EngineRig, ending: Ending
) -> Iterator[None]:
    """While the block lasts, a signal and the end of the budget, which no download counts in, cancel the search."""

    def interrupt(failure: Failure, because: str) -> None:
        # Once: a second cancellation would interrupt the clean-up that the first has begun. SIGKILL always can.
        if ending.failure is None:
            ending.fail(failure, because)
            searching.cancel()

    async def end_budget() -> None:
        while (left := ends + rig.download_seconds() - loop.time()) > 0:  # noqa: ASYNC110 - what is awaited is the clock
            await asyncio.sleep(left)
        interrupt(Failure.BUDGET, f"the budget of {max_gpu_seconds / 60:g} GPU-minutes is spent")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, interrupt, Failure.INTERRUPTED, f"interrupted by {number.name}")
    ends = loop.time() + max_gpu_seconds
    budget = asyncio.create_task(end_budget())
    try:
        yield
    finally:
        budget.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _judge(rig: EngineRig, ending: Ending) -> None:
    """A search that came to its own end may still have found nothing but failures."""
    done = ending.done
    if done is None or done.complete:
        return
    ending.because = done.because
    found = ending.findings
    if found.lasting_failures or (found.failures and not found.points):
        ending.fail(rig.fault or Failure.NOTHING_MEASURED, done.because, rig.remedy)
    elif not found.points:
        ending.fail(Failure.BUDGET, done.because)


def _tell(event: Event, rig: EngineRig, reporter: Reporter, ending: Ending) -> None:
    seconds = rig.budget_seconds()
    match event.outcome:
        case Measured(point=point):
            reporter.point(point)
            return
        case Started(step=start, report=report) if start.configuration.kv_cache_bytes is None:
            reporter.ledger(report.ledger)
            return
        case Started():
            return
        case Failed(reason=reason):
            reporter.note(f"failed: {reason}")
            return
        case None:
            pass
        case _:
            assert_never(event.outcome)
    step = event.step
    if isinstance(step, Done):
        ending.done = step
        reporter.phase("Finished", step.because, seconds)
    elif isinstance(step, StartEngines):
        engines = step.configuration
        what = f"{several(engines.engines_per_gpu, 'engine')}, {engines.sharing_mode}, B up to {engines.batch_size}"
        reporter.phase("Starting", f"{what}: {step.because}", seconds)
    else:
        number = len(event.findings.points) + 1
        reporter.progress(number, f"measuring B={step.batch_size}: {step.because}", seconds)


def _write(output: Path | None, document: MeasurementDocument, ending: Ending) -> None:
    """Write the file whole or not at all."""
    if output is None:
        return
    partial = output.with_name(f".{output.name}.partial")
    try:
        partial.write_text(json.dumps(to_json(document), indent=2) + "\n")
        partial.replace(output)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        ending.fail(Failure.DISK, f"--output {output}: {error.strerror}; the document is in the events only")
