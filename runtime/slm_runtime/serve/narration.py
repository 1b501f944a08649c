"""What the supervisor does and hears, in lines for whoever reads the pack's log. Pure. Nothing reads them back: see `status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.failure import REMEDY, Failure
from slm_core.units import GIB
from slm_core.wording import several

from slm_runtime.serve.memory import Ending
from slm_runtime.serve.pack import (
    Answered,
    Daemon,
    DaemonGone,
    Doomed,
    End,
    EndAsked,
    Fell,
    Gone,
    Phase,
    Start,
    StartDaemon,
    StopDaemon,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slm_runtime.serve.memory import Remembered
    from slm_runtime.serve.pack import Action, Death, Event, Pack
    from slm_runtime.serve.settings import Settings


REMEDIES: Mapping[Failure, str] = REMEDY | {
    Failure.PORT: "end what listens there, or give another --port",
    Failure.HOST_MEMORY: "give the container more memory, or serve fewer engines (--engines-per-gpu)",
    Failure.STATE_BLOCKS: "lower --batch-size to the number of blocks that the engine names",
    Failure.HANGS: "read what the engine's debug log says last",
    Failure.GPU_NOT_AS_ASKED: "serve on a GPU like the one that was measured, or measure this one; where several GPUs are "
    "visible, name one by CUDA_VISIBLE_DEVICES",
    Failure.GPU_PARTITIONED: "serve on a whole GPU: switch MIG off on the node (nvidia-smi -mig 0), or choose another node",
    Failure.DISK: "free space where TMPDIR, the caches and the model's files are",
}
"""What to do about a class of failure while serving."""
_DAEMON = {
    Daemon.RUNNING: ("the MPS daemon runs",),
    Daemon.ORPHANED: ("the MPS control process is gone: engines serve on, and all start again once one has to",),
    Daemon.BROKEN: ("the MPS server is lost to all engines: they start again with a new daemon",),
}


_ENDINGS = {
    Ending.OUT_OF_MEMORY: "the kernel killed all of it, with hardly any memory left",
    Ending.MACHINE_RESTARTED: "the machine was started anew",
    Ending.OVERDUE: "it was killed while it was ending, because its grace was over",
    Ending.KILLED: "all of it was killed from outside",
}


def doing(pack: Pack, action: Action, settings: Settings) -> Iterator[str]:
    """Lines for what is begun."""
    match action:
        case StartDaemon():
            yield "the MPS daemon starts"
        case StopDaemon():
            yield "the MPS daemon is ended"
        case Start(index=index):
            alone = "" if pack.is_warm else ", alone: it fills the caches for all"
            again = f", start {starts}" if (starts := pack.engines[index].starts) > 1 else ""
            yield f"engine {index} starts on port {settings.ports[index]}{again}{alone}"
        case End(index=index, drains=drains, death=death):
            how = f"and may drain for {settings.drain_seconds} s" if drains else "at once"
            yield f"engine {index} is ended {how}"
            if death is not None:
                yield from _why(death, settings)
        case _:
            pass


def hearing(before: Pack, after: Pack, event: Event, settings: Settings) -> Iterator[str]:
    """Lines for what was heard, as far as it changed anything."""
    if after == before:
        return
    match event:
        case Answered(index=index):
            serve = sum(one.phase is Phase.READY for one in after.engines)
            took = after.engines[index].since - before.engines[index].since
            yield f"engine {index} serves, {took:.1f} s after its start: {serve} of {len(after.engines)} do"
        case Fell(index=index, death=death):
            yield f"engine {index} failed"
            yield from _why(death, settings)
        case Gone(index=index):
            yield f"engine {index} is gone"
        case DaemonGone(death=death) if death is not None:
            yield "the MPS daemon did not start"
            yield from _why(death, settings)
        case Doomed(death=death):
            yield from _why(death, settings)
        case EndAsked() if not before.is_draining:
            yield f"the end was asked for: {several(len(after.engines), 'engine')} finish what they have begun"
        case _:
            pass
    if after.daemon is not before.daemon:
        yield from _DAEMON.get(after.daemon, ())


def former_pack(former: Remembered | None, ending: Ending | None) -> Iterator[str]:
    """Lines for what became of a pack here that did not end in order."""
    if former is None or ending is None:
        return
    yield f"a pack of {several(former.engines, 'engine')} was here, of which {former.served} served: {_ENDINGS[ending]}"
    if ending in {Ending.OUT_OF_MEMORY, Ending.KILLED} and former.grown_most is not None:
        yield (
            f"  engine {former.grown_most} had grown most, by {former.grown_bytes / GIB:.1f} GiB to "
            f"{former.resident_bytes / GIB:.1f}; {former.used_bytes / GIB:.1f} of {former.limit_bytes / GIB:.1f} GiB were used"
        )
    if ending is Ending.OUT_OF_MEMORY:
        yield f"  -> {REMEDIES[Failure.HOST_MEMORY]}"


def remedy_of(death: Death, settings: Settings) -> str:
    """What to do about it."""
    return death.remedy or settings.kind.remedies.get(death.failure) or REMEDIES[death.failure]


def _why(death: Death, settings: Settings) -> Iterator[str]:
    yield f"{death.failure}: {death.message}"
    yield f"  -> {remedy_of(death, settings)}"
