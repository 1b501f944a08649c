"""Whatever happens to a pack, and in whatever order: what may never be done, and that it comes to serve again."""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from slm_core.failure import Failure
from slm_runtime.serve.pack import (
    Answered,
    ControlLost,
    Daemon,
    DaemonGone,
    DaemonRuns,
    Death,
    End,
    EndAsked,
    Event,
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
from slm_runtime.serve.plan import heard, new_pack, step

NEED, TOTAL = 10, 100
FAILURES = st.sampled_from([Failure.DIED, Failure.SHARING, Failure.ARGUMENTS, Failure.MEMORY, Failure.NEVER_HEALTHY])


@dataclass
class Process:
    """An engine's, or the daemon's."""

    is_up: bool = False
    is_ending: bool = False


@dataclass
class World:
    """The machine: its processes and memory, and what was refused to happen on it."""

    engines: dict[int, Process] = field(default_factory=dict)
    daemon: Process | None = None
    probe: int | None = None
    leaked: int = 0
    exited: int | None = None

    @property
    def free(self) -> int:
        return TOTAL - self.leaked - NEED * len(self.engines)


class Packs(RuleBasedStateMachine):
    @initialize(engines=st.integers(1, 4), needs_daemon=st.booleans())
    def begin(self, *, engines: int, needs_daemon: bool) -> None:
        self.pack: Pack = new_pack(engines, Patience(), 0.0, need_bytes=NEED, needs_daemon=needs_daemon)
        self.world, self.now = World(), 0.0
        self.act()

    def hear(self, event: Event) -> None:
        self.pack = heard(self.pack, event, self.now)
        self.act()

    def act(self) -> None:
        if self.world.exited is not None:
            return
        before, free = self.pack, self.world.free
        self.pack, actions = step(before, self.now, free)
        for action in actions:
            match action:
                case Start(index=index):
                    self.start(index, before, free)
                case End(index=index):
                    process = self.world.engines[index]  # it has one
                    assert not process.is_ending
                    self.end(index, before)
                    process.is_ending = True
                case StartDaemon():
                    assert self.world.daemon is None
                    assert not before.is_ending
                    self.world.daemon = Process()
                case StopDaemon():
                    assert self.world.engines == {}
                    assert self.world.daemon is not None
                    self.world.daemon.is_ending = True
                case Probe(daemon=daemon, indices=indices):
                    assert indices
                    self.world.probe = daemon
                case Exit(status=status):
                    assert (self.world.engines, self.world.daemon) == ({}, None)
                    self.world.exited = status

    def start(self, index: int, before: Pack, free: int) -> None:
        engine = before.engines[index]
        assert index not in self.world.engines
        assert not before.is_ending
        assert engine.not_before <= self.now
        assert before.is_warm or not self.world.engines
        if before.daemon is not Daemon.NOT_NEEDED:
            assert self.world.daemon is not None
            assert self.world.daemon.is_up
        if engine.starts:
            assert free >= NEED
        self.world.engines[index] = Process()

    def end(self, index: int, before: Pack) -> None:
        """An engine that serves is ended for a reason that is its own or everybody's."""
        hangs = self.now - before.engines[index].healthy_at >= before.patience.hung_seconds
        assert hangs or before.is_ending or before.daemon in {Daemon.BROKEN, Daemon.ORPHANED}

    # What happens.

    def one(self, data: st.DataObject, *, ending: bool) -> int | None:
        those = [i for i, process in self.world.engines.items() if process.is_ending is ending]
        return data.draw(st.sampled_from(those)) if those else None

    @rule(data=st.data())
    def an_engine_answers(self, data: st.DataObject) -> None:
        if (index := self.one(data, ending=False)) is not None and not self.world.engines[index].is_up:
            self.world.engines[index].is_up = True
            self.hear(Answered(index, NEED))

    @rule(data=st.data(), failure=FAILURES)
    def an_engine_falls(self, data: st.DataObject, failure: Failure) -> None:
        if (index := self.one(data, ending=False)) is not None:
            self.world.engines[index].is_ending = True
            self.hear(Fell(index, Death(failure=failure, message="it fell")))

    @rule(data=st.data(), word=st.sampled_from([Answered, Healthy, Fell]))
    def a_word_of_an_engine_comes_late(self, data: st.DataObject, word: type) -> None:
        """It was said before the engine was asked to end, and is heard after."""
        if (index := self.one(data, ending=True)) is not None:
            self.hear(Fell(index, Death(failure=Failure.DIED, message="late")) if word is Fell else word(index))

    @rule(data=st.data())
    def nothing_is_left_of_an_engine(self, data: st.DataObject) -> None:
        if (index := self.one(data, ending=True)) is not None:
            del self.world.engines[index]
            self.hear(Gone(index))

    @rule(starts=st.booleans())
    def the_daemon_comes_or_goes(self, *, starts: bool) -> None:
        daemon = self.world.daemon
        if daemon is None or (daemon.is_up and not daemon.is_ending):
            return
        if daemon.is_ending or not starts:
            self.world.daemon = None
            lost = Death(failure=Failure.SHARING, message="it refused")
            self.hear(DaemonGone(None if daemon.is_ending else lost))
        else:
            daemon.is_up = True
            self.hear(DaemonRuns())

    @rule(event=st.sampled_from([ControlLost(), ServerLost()]))
    def a_process_of_the_daemon_is_lost(self, event: Event) -> None:
        if self.world.daemon is not None and self.world.daemon.is_up:
            self.hear(event)

    @rule(any_answered=st.booleans())
    def neighbours_were_asked(self, *, any_answered: bool) -> None:
        if self.world.probe is not None:
            asked, self.world.probe = self.world.probe, None
            self.hear(Probed(asked, any_answered))

    @rule(seconds=st.sampled_from([0.5, 5.0, 29.0]), well=st.booleans())
    def time_passes(self, *, seconds: float, well: bool) -> None:
        self.now += seconds
        for index, process in list(self.world.engines.items()):
            if well and process.is_up and not process.is_ending:
                self.hear(Healthy(index))
        self.act()

    @rule(leaked=st.sampled_from([0, 70, 100]))
    def memory_is_held_by_others(self, leaked: int) -> None:
        self.world.leaked = leaked
        self.act()

    @precondition(lambda self: self.now > 20)
    @rule()
    def the_end_is_asked_for(self) -> None:
        self.hear(EndAsked())

    @invariant()
    def phases_are_those_of_the_processes(self) -> None:
        for index, engine in enumerate(self.pack.engines):
            process = self.world.engines.get(index)
            assert (engine.phase is Phase.DOWN) is (process is None)
            if process is not None:
                assert (engine.phase is Phase.ENDING) is process.is_ending

    def teardown(self) -> None:
        """Once nothing goes wrong any more the pack serves, or has ended."""
        if not hasattr(self, "pack"):
            return
        self.world.leaked = 0
        for _ in range(100):
            for index, process in list(self.world.engines.items()):
                if process.is_ending:
                    del self.world.engines[index]
                    self.hear(Gone(index))
                elif not process.is_up:
                    process.is_up = True
                    self.hear(Answered(index, NEED))
            self.the_daemon_comes_or_goes(starts=True)
            self.neighbours_were_asked(any_answered=True)
            self.time_passes(seconds=29.0, well=True)
        if self.pack.is_ending:
            assert self.world.exited is not None
        else:
            assert [one.phase for one in self.pack.engines] == [Phase.READY] * len(self.pack.engines)


TestPacks = Packs.TestCase
