"""What the supervisor of a pack does next: a state, what is heard of the world, and the steps that follow. Pure.

An engine's life, and what of the pack holds it back:

    Down --start--> Starting --answers--> Ready --dies, or is to end--> Ending --nothing is left of it--> Down
      ^ waits for: the MPS daemon; its backoff; memory that is really free; the first engine, until the pack is warm

The first engine starts alone, because it fills the page cache and the compile cache that all of them use; once any has
answered the pack is warm. An engine's own death touches no neighbour. A death of the MPS server is everybody's: all are
ended, and a new daemon is started once none is left, because a faulted server takes no client before all have gone. A
control process that is gone while its server lives only takes no new client: engines serve on until one has to start.

Must never start an engine of which something is left, nor one while the pack drains; must never end an engine that
serves because another one failed. Time is a parameter, in seconds of a clock that never goes back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from slm_core.failure import EXIT_STATUS, FINAL, Failure

from slm_runtime.serve.pack import (
    Answered,
    ControlLost,
    Daemon,
    DaemonGone,
    DaemonRuns,
    Death,
    Doomed,
    End,
    EndAsked,
    EngineState,
    Exit,
    Fell,
    Gone,
    Healthy,
    Pack,
    Patience,
    Phase,
    Probe,
    Probed,
    ServerLost,
    Start,
    StartDaemon,
    StopDaemon,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slm_runtime.serve.pack import Action, Event


def new_pack(engines: int, patience: Patience, now: float, *, need_bytes: int, needs_daemon: bool) -> Pack:
    """Before anything is started."""
    daemon = Daemon.DOWN if needs_daemon else Daemon.NOT_NEEDED
    return Pack(engines=(EngineState(since=now),) * engines, patience=patience, need_bytes=need_bytes, daemon=daemon)


def backoff_seconds(failures: int, patience: Patience) -> float:
    """How long to wait after so many failures in a row.

    >>> [backoff_seconds(failures, Patience()) for failures in (1, 2, 3, 9)]
    [0.0, 10.0, 20.0, 300.0]
    """
    if failures < 2:
        return 0.0
    return min(patience.most_backoff_seconds, patience.backoff_seconds * 2.0 ** min(failures - 2, 30))


def heard(pack: Pack, event: Event, now: float) -> Pack:
    """What is known after an event. What no longer matters changes nothing."""
    match event:
        case Doomed(death=death):
            return replace(pack, fatal=pack.fatal or death)
        case EndAsked():
            return replace(pack, is_draining=True)
        case DaemonRuns() | DaemonGone() | ControlLost() | ServerLost() | Probed():
            return _heard_of_daemon(pack, event, now)
        case Answered() | Healthy() | Fell() | Gone():
            return _heard_of_engine(pack, event, now)
        case _:
            assert_never(event)


def _heard_of_daemon(
    pack: Pack, event: DaemonRuns | DaemonGone | ControlLost | ServerLost | Probed, now: float
) -> Pack:
    match event:
        case DaemonRuns():
            return replace(pack, daemon=Daemon.RUNNING) if pack.daemon is Daemon.STARTING else pack
        case DaemonGone(death=death):
            return _daemon_gone(pack, death, now)
        case ControlLost():
            return replace(pack, daemon=Daemon.ORPHANED) if pack.daemon is Daemon.RUNNING else pack
        case ServerLost():
            return _server_lost(pack)
        case Probed(daemon=daemon, any_answered=any_answered):
            return pack if any_answered or daemon != pack.daemon_starts else _server_lost(pack)
        case _:
            assert_never(event)


def _heard_of_engine(pack: Pack, event: Answered | Healthy | Fell | Gone, now: float) -> Pack:
    engine = pack.engines[event.index]
    match event:
        case Answered(index=index, took_bytes=took_bytes) if engine.phase is Phase.STARTING:
            return _answered(pack, index, took_bytes, now)
        case Healthy(index=index) if engine.phase is Phase.READY:
            return _with(pack, index, replace(engine, healthy_at=now))
        case Fell(index=index, death=death) if engine.phase in {Phase.STARTING, Phase.READY}:
            return _fell(pack, index, death, now)
        case Gone(index=index):
            return _with(pack, index, replace(engine, phase=Phase.DOWN, since=now))
        case _:
            return pack


def step(pack: Pack, now: float, free_bytes: int | None) -> tuple[Pack, tuple[Action, ...]]:
    """What is done now, and what is known once it is begun. `free_bytes`: of the device; None: it is not to be asked."""
    pack = _without_blame(pack, now)
    actions: list[Action] = []
    for action in _due(pack, now, free_bytes):
        pack = _begun(pack, action, now)
        actions.append(action)
    return pack, tuple(actions)


def _without_blame(pack: Pack, now: float) -> Pack:
    """NB: a supervisor that was held up itself has heard of no engine meanwhile: that makes none of them silent."""
    held_up = pack.stepped_at is not None and now - pack.stepped_at >= pack.patience.silent_seconds
    engines = tuple(replace(one, healthy_at=now) for one in pack.engines) if held_up else pack.engines
    return replace(pack, engines=engines, stepped_at=now)


def waits_for(pack: Pack, index: int, now: float, free_bytes: int | None) -> str | None:
    """What holds back the start of an engine that has no process; None: nothing does, or it has one."""
    engine = pack.engines[index]
    if engine.phase is not Phase.DOWN or pack.is_ending:
        return None
    if pack.daemon not in {Daemon.NOT_NEEDED, Daemon.RUNNING}:
        return "the MPS daemon"
    if not pack.is_warm and index != 0:
        return "the first engine, which fills the caches for all"
    if now < engine.not_before:
        return f"its backoff after {engine.failures} failures in a row"
    if engine.starts and free_bytes is not None and free_bytes < _wanted_bytes(pack):
        return f"{_wanted_bytes(pack)} bytes of the device's memory, of which {free_bytes} are free"
    return None


def _due(pack: Pack, now: float, free_bytes: int | None) -> Iterator[Action]:
    """In order: what ends, the daemon, what starts. Each generator sees the pack as it was before its own actions."""
    if pack.is_ending:
        yield from _ends(pack, drains=pack.fatal is None)
        if pack.all_down:
            yield from _after_all(pack)
        return
    if _must_clear(pack):
        yield from _ends(pack, drains=pack.daemon is Daemon.ORPHANED)
        if pack.all_down:
            yield StopDaemon()
        return
    if pack.daemon is Daemon.DOWN and now >= pack.daemon_not_before:
        yield StartDaemon()
    yield from _hung(pack, now)
    if pack.is_probe_due:
        yield Probe(pack.daemon_starts, tuple(i for i, one in enumerate(pack.engines) if one.phase is Phase.READY))
    yield from _starts(pack, now, free_bytes)


def _hung(pack: Pack, now: float) -> Iterator[Action]:
    for index, engine in enumerate(pack.engines):
        silent = now - engine.healthy_at
        if engine.phase is Phase.READY and silent >= pack.patience.hung_seconds:
            message = f"the engine answered no health check for {silent:.0f} s"
            yield End(index, drains=False, death=Death(failure=Failure.HANGS, message=message))


def _ends(pack: Pack, *, drains: bool) -> Iterator[Action]:
    for index, engine in enumerate(pack.engines):
        if engine.phase in {Phase.STARTING, Phase.READY}:
            yield End(index, drains=drains and engine.phase is Phase.READY)


def _after_all(pack: Pack) -> Iterator[Action]:
    if pack.daemon in {Daemon.RUNNING, Daemon.ORPHANED, Daemon.BROKEN}:
        yield StopDaemon()
    elif pack.daemon in {Daemon.NOT_NEEDED, Daemon.DOWN}:
        yield Exit(EXIT_STATUS[pack.fatal.failure] if pack.fatal else 0)


def _must_clear(pack: Pack) -> bool:
    """Whether every engine has to go before any can start."""
    wants_one = any(one.phase is Phase.DOWN for one in pack.engines)
    return pack.daemon is Daemon.BROKEN or (pack.daemon is Daemon.ORPHANED and wants_one)


def _starts(pack: Pack, now: float, free_bytes: int | None) -> Iterator[Action]:
    for index, engine in enumerate(pack.engines):
        if engine.phase is Phase.DOWN and waits_for(pack, index, now, free_bytes) is None:
            yield Start(index)
            pack = _begun(pack, Start(index), now)


def _wanted_bytes(pack: Pack) -> int:
    """What must be free before one more engine starts: an engine that is starting has not taken all of its own yet."""
    return pack.need_bytes * (1 + sum(one.phase is Phase.STARTING for one in pack.engines))


def _begun(pack: Pack, action: Action, now: float) -> Pack:
    match action:
        case StartDaemon():
            return replace(pack, daemon=Daemon.STARTING, daemon_starts=pack.daemon_starts + 1)
        case StopDaemon():
            return replace(pack, daemon=Daemon.ENDING)
        case Start(index=index):
            engine = pack.engines[index]
            return _with(pack, index, replace(engine, phase=Phase.STARTING, since=now, starts=engine.starts + 1))
        case End(index=index, death=death):
            engine = pack.engines[index]
            if death is not None:
                engine = _failed(engine, death, pack.patience, now)
            return _with(pack, index, replace(engine, phase=Phase.ENDING, since=now))
        case Probe():
            return replace(pack, is_probe_due=False)
        case Exit():
            return pack
        case _:
            assert_never(action)


def _answered(pack: Pack, index: int, took_bytes: int, now: float) -> Pack:
    ready = replace(pack.engines[index], phase=Phase.READY, since=now, healthy_at=now)
    if not pack.is_warm:  # it has started alone: what is gone of the device's memory is its own
        pack = replace(pack, is_warm=True, need_bytes=max(pack.need_bytes, took_bytes))
    return _with(replace(pack, daemon_failures=0), index, ready)


def _fell(pack: Pack, index: int, death: Death, now: float) -> Pack:
    """What a death means: the end of all where no start can help; a fault of the server's; or the engine's own."""
    engine = pack.engines[index]
    if pack.daemon is Daemon.BROKEN:
        return _with(pack, index, replace(_dead(engine, death), phase=Phase.ENDING, since=now))
    pack = _with(pack, index, _failed(engine, death, pack.patience, now))
    if not pack.is_warm and death.failure in FINAL:
        return replace(pack, fatal=pack.fatal or death)
    if pack.daemon not in {Daemon.RUNNING, Daemon.ORPHANED}:
        return pack
    if any(one.phase is Phase.READY for one in pack.engines):
        return replace(pack, is_probe_due=True)
    return _server_lost(pack) if death.failure is Failure.SHARING else pack


def _failed(engine: EngineState, death: Death, patience: Patience, now: float) -> EngineState:
    was_steady = engine.phase is Phase.READY and now - engine.since >= patience.steady_seconds
    failures = 1 if was_steady else engine.failures + 1
    not_before = now + backoff_seconds(failures, patience)
    return replace(_dead(engine, death), phase=Phase.ENDING, since=now, failures=failures, not_before=not_before)


def _dead(engine: EngineState, death: Death) -> EngineState:
    counts = dict(engine.deaths)
    counts[death.failure] = counts.get(death.failure, 0) + 1
    return replace(engine, death=death, deaths=tuple(counts.items()))


def _server_lost(pack: Pack) -> Pack:
    if pack.daemon not in {Daemon.RUNNING, Daemon.ORPHANED}:
        return pack
    return replace(pack, daemon=Daemon.BROKEN, is_probe_due=False)


def _daemon_gone(pack: Pack, death: Death | None, now: float) -> Pack:
    pack = replace(pack, daemon=Daemon.DOWN)
    if death is None:
        return pack
    if not pack.is_warm:
        return replace(pack, fatal=pack.fatal or death)
    failures = pack.daemon_failures + 1
    not_before = now + backoff_seconds(failures, pack.patience)
    return replace(pack, daemon_failures=failures, daemon_not_before=not_before)


def _with(pack: Pack, index: int, engine: EngineState) -> Pack:
    return replace(pack, engines=(*pack.engines[:index], engine, *pack.engines[index + 1 :]))
