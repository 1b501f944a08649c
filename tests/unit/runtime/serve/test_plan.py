"""What the supervisor of a pack does next, as stories: what is heard, what is done."""

from dataclasses import dataclass, field

import pytest
from slm_core.failure import EXIT_STATUS, Failure
from slm_runtime.serve.pack import (
    Action,
    Answered,
    ControlLost,
    Daemon,
    DaemonGone,
    DaemonRuns,
    Death,
    Doomed,
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
from slm_runtime.serve.plan import backoff_seconds, heard, new_pack, step, waits_for

DIED = Death(failure=Failure.DIED, message="the engine died (killed by SIGKILL)")
NO_MPS = Death(failure=Failure.SHARING, message="0 of 1 engines are attached")
WRONG_FLAG = Death(failure=Failure.ARGUMENTS, message="unrecognized arguments: --nonsense")
GIB = 2**30


@dataclass
class Story:
    """A pack, and the clock of its world."""

    pack: Pack
    now: float = 1000.0
    free_bytes: int | None = None
    done: list[Action] = field(default_factory=list)

    def hear(self, *events: Event) -> list[Action]:
        """What is done after all of these."""
        for event in events:
            self.pack = heard(self.pack, event, self.now)
        return self.act()

    def after(self, seconds: float) -> list[Action]:
        """What is done so much later; every engine is well until then."""
        for _ in range(int(seconds)):
            self.now += 1
            for index in range(len(self.pack.engines)):
                self.pack = heard(self.pack, Healthy(index), self.now)
            if actions := self.act():
                return actions
        return []

    def act(self) -> list[Action]:
        self.pack, actions = step(self.pack, self.now, self.free_bytes)
        return list(actions)

    @property
    def phases(self) -> list[Phase]:
        return [one.phase for one in self.pack.engines]


def new(engines: int = 3, *, needs_daemon: bool = False) -> Story:
    return Story(new_pack(engines, Patience(), 1000.0, need_bytes=2 * GIB, needs_daemon=needs_daemon))


def serving(engines: int = 3, *, needs_daemon: bool = False) -> Story:
    """A pack of which every engine serves."""
    story = new(engines, needs_daemon=needs_daemon)
    story.act()
    story.hear(*([DaemonRuns()] if needs_daemon else []))
    story.hear(Answered(0))
    story.hear(*(Answered(index) for index in range(1, engines)))
    assert story.phases == [Phase.READY] * engines
    return story


def test_the_first_engine_starts_alone_and_the_rest_together() -> None:
    story = new()
    assert story.act() == [Start(0)]
    assert waits_for(story.pack, 1, story.now, None) == "the first engine, which fills the caches for all"
    assert story.after(600) == []
    assert story.hear(Answered(0)) == [Start(1), Start(2)]


def test_a_first_engine_that_dies_starts_again_and_still_alone() -> None:
    story = new()
    story.act()
    assert story.hear(Fell(0, DIED)) == []
    assert story.hear(Gone(0)) == [Start(0)]
    assert story.hear(Fell(0, DIED), Gone(0)) == []  # the second failure in a row has a backoff
    assert story.after(20) == [Start(0)]


def test_an_engine_starts_only_once_the_daemon_runs() -> None:
    story = new(needs_daemon=True)
    assert story.act() == [StartDaemon()]
    assert story.after(30) == []
    assert story.hear(DaemonRuns()) == [Start(0)]


def test_an_engine_that_dies_starts_again_beside_its_neighbours() -> None:
    story = serving()
    assert story.hear(Fell(1, DIED)) == []
    assert story.hear(Gone(1)) == [Start(1)]
    assert story.phases == [Phase.READY, Phase.STARTING, Phase.READY]


def test_an_engine_starts_again_only_when_its_memory_is_free() -> None:
    story = serving()
    story.free_bytes = GIB
    assert story.hear(Fell(1, DIED), Gone(1)) == []
    assert story.after(3600) == []
    reason = waits_for(story.pack, 1, story.now, story.free_bytes)
    assert reason == f"{2 * GIB} bytes of the device's memory, of which {GIB} are free"
    story.free_bytes = 2 * GIB
    assert story.act() == [Start(1)]


def test_two_engines_start_again_only_with_memory_for_both() -> None:
    story = serving()
    story.free_bytes = 3 * GIB
    assert story.hear(Fell(1, DIED), Fell(2, DIED), Gone(1), Gone(2)) == [Start(1)]
    assert story.after(10) == []
    assert story.hear(Answered(1)) == [Start(2)]


def test_the_memory_that_the_first_engine_took_is_what_one_needs() -> None:
    story = new()
    story.act()
    story.hear(Answered(0, took_bytes=5 * GIB))
    story.hear(Answered(1, took_bytes=9 * GIB), Answered(2))  # beside others: not its own alone
    assert story.pack.need_bytes == 5 * GIB


def test_an_engine_in_a_crash_loop_has_a_growing_backoff() -> None:
    story = serving()
    waited = []
    for _ in range(9):
        began = story.now
        if not story.hear(Fell(1, DIED), Gone(1)):
            assert story.after(400) == [Start(1)]
        waited.append(story.now - began)
    assert waited == [0, 10, 20, 40, 80, 160, 300, 300, 300]
    assert story.phases[0] is story.phases[2] is Phase.READY


def test_an_engine_that_served_long_has_no_failures_behind_it() -> None:
    story = serving()
    for _ in range(4):
        story.hear(Fell(1, DIED), Gone(1))
        story.after(400)
    story.hear(Answered(1))
    story.after(600)
    assert story.hear(Fell(1, DIED), Gone(1)) == [Start(1)]
    assert story.pack.engines[1].failures == 1


def test_a_backoff_never_overflows() -> None:
    assert backoff_seconds(10**6, Patience()) == Patience().most_backoff_seconds


def test_a_lost_server_ends_all_and_a_new_daemon_comes_first() -> None:
    story = serving(needs_daemon=True)
    assert story.hear(ServerLost()) == [End(0, drains=False), End(1, drains=False), End(2, drains=False)]
    assert story.hear(Gone(0), Gone(1)) == []
    assert story.hear(Gone(2)) == [StopDaemon()]
    assert story.hear(DaemonGone()) == [StartDaemon()]
    assert story.hear(DaemonRuns()) == [Start(0), Start(1), Start(2)]  # the caches are full
    assert [one.failures for one in story.pack.engines] == [0, 0, 0]


def test_engines_that_die_with_their_server_have_not_failed() -> None:
    story = serving(needs_daemon=True)
    story.hear(ServerLost(), Fell(0, DIED))
    assert (story.pack.engines[0].failures, story.pack.engines[0].death) == (0, DIED)


def test_engines_serve_on_when_only_the_control_process_is_gone() -> None:
    story = serving(needs_daemon=True)
    assert story.hear(ControlLost()) == []
    assert story.after(3600) == []
    assert story.pack.daemon is Daemon.ORPHANED


def test_an_orphaned_daemon_is_replaced_once_one_has_to_start() -> None:
    story = serving(2, needs_daemon=True)
    story.hear(ControlLost())
    assert story.hear(Fell(0, DIED)) == [Probe(1, (1,))]
    assert story.hear(Gone(0)) == [End(1, drains=True)]
    assert waits_for(story.pack, 0, story.now, None) == "the MPS daemon"
    assert story.hear(Gone(1)) == [StopDaemon()]
    assert story.hear(DaemonGone()) == [StartDaemon()]
    assert story.hear(DaemonRuns()) == [Start(0), Start(1)]


def test_an_orphaned_daemon_ends_with_the_pack() -> None:
    story = serving(1, needs_daemon=True)
    story.hear(ControlLost())
    assert story.hear(EndAsked()) == [End(0, drains=True)]
    assert story.hear(Gone(0)) == [StopDaemon()]
    assert story.hear(DaemonGone()) == [Exit(0)]


def test_neighbours_of_a_dead_engine_are_asked_under_a_daemon() -> None:
    story = serving(needs_daemon=True)
    assert story.hear(Fell(1, DIED)) == [Probe(1, (0, 2))]
    assert story.hear(Probed(1, any_answered=True), Gone(1)) == [Start(1)]


def test_neighbours_that_answer_nothing_have_lost_their_server() -> None:
    story = serving(needs_daemon=True)
    story.hear(Fell(1, DIED))
    assert story.hear(Probed(1, any_answered=False)) == [End(0, drains=False), End(2, drains=False)]


def test_an_answer_about_a_former_daemon_says_nothing() -> None:
    story = serving(needs_daemon=True)
    story.hear(Fell(1, DIED), ServerLost())
    story.hear(Gone(0), Gone(1), Gone(2))
    story.hear(DaemonGone())
    story.hear(DaemonRuns())
    assert story.hear(Probed(1, any_answered=False)) == []
    assert story.pack.daemon is Daemon.RUNNING


def test_a_lone_engine_that_cannot_join_gets_a_new_daemon() -> None:
    story = new(2, needs_daemon=True)
    story.act()
    story.hear(DaemonRuns())
    story.hear(Fell(0, NO_MPS))
    assert story.hear(Gone(0)) == [StopDaemon()]


@pytest.mark.parametrize("needs_daemon", [False, True])
def test_an_end_drains_what_serves_and_leaves_nothing(*, needs_daemon: bool) -> None:
    story = serving(2, needs_daemon=needs_daemon)
    story.hear(Fell(1, DIED), Gone(1))
    assert story.phases[1] is Phase.STARTING
    assert story.hear(EndAsked()) == [End(0, drains=True), End(1, drains=False)]
    assert story.hear(EndAsked(), Gone(0)) == []
    if needs_daemon:
        assert story.hear(Gone(1)) == [StopDaemon()]
        assert story.hear(DaemonGone()) == [Exit(0)]
    else:
        assert story.hear(Gone(1)) == [Exit(0)]


def test_an_engine_that_dies_while_the_pack_drains_stays_dead() -> None:
    story = serving(2)
    story.hear(EndAsked())
    assert story.hear(Fell(0, DIED), Gone(0)) == []
    assert story.after(600) == []
    assert story.hear(Gone(1)) == [Exit(0)]


def test_an_engine_that_was_asked_to_end_has_not_failed() -> None:
    story = new()
    story.act()
    assert story.hear(EndAsked()) == [End(0, drains=False)]
    story.hear(Fell(0, WRONG_FLAG))
    assert story.hear(Gone(0)) == [Exit(0)]


def test_a_daemon_that_starts_while_the_pack_ends_is_ended_too() -> None:
    story = new(needs_daemon=True)
    story.act()
    assert story.hear(EndAsked()) == []
    assert story.hear(DaemonRuns()) == [StopDaemon()]
    assert story.hear(DaemonGone()) == [Exit(0)]


def test_a_first_start_that_cannot_succeed_ends_the_pack() -> None:
    story = new()
    story.act()
    story.hear(Fell(0, WRONG_FLAG))
    assert story.hear(Gone(0)) == [Exit(EXIT_STATUS[Failure.ARGUMENTS])]


def test_the_same_failure_beside_engines_that_serve_ends_nothing() -> None:
    story = serving(2)
    story.hear(Fell(1, WRONG_FLAG))
    assert story.hear(Gone(1)) == [Start(1)]


def test_a_daemon_that_never_started_ends_the_pack() -> None:
    story = new(needs_daemon=True)
    story.act()
    assert story.hear(DaemonGone(NO_MPS)) == [Exit(EXIT_STATUS[Failure.SHARING])]


def test_a_daemon_that_does_not_start_is_tried_with_backoff() -> None:
    story = serving(1, needs_daemon=True)
    story.hear(ServerLost())
    assert story.hear(Gone(0)) == [StopDaemon()]
    assert story.hear(DaemonGone()) == [StartDaemon()]
    assert story.hear(DaemonGone(NO_MPS)) == [StartDaemon()]
    assert story.hear(DaemonGone(NO_MPS)) == []
    assert waits_for(story.pack, 0, story.now, None) == "the MPS daemon"
    assert story.after(20) == [StartDaemon()]


def test_a_lost_device_ends_the_pack_at_once() -> None:
    story = serving(1)
    lost = Death(failure=Failure.GPU_UNREADABLE, message="it can no longer be read")
    assert story.hear(Doomed(lost)) == [End(0, drains=False)]
    assert story.hear(Gone(0)) == [Exit(EXIT_STATUS[Failure.GPU_UNREADABLE])]


def silent(story: Story, seconds: float) -> list[Action]:
    """What is done after so long without a word of engine 0."""
    for _ in range(int(seconds)):
        story.now += 1
        story.pack = heard(story.pack, Healthy(1), story.now)
        if actions := story.act():
            return actions
    return []


def test_an_engine_that_is_silent_is_not_counted_as_ready() -> None:
    story = serving(2)
    assert silent(story, 60) == []
    assert story.pack.ready(story.now) == 1


def test_an_engine_that_hangs_is_ended_and_starts_again() -> None:
    story = serving(2)
    (end,) = silent(story, 600)
    assert isinstance(end, End)
    assert (end.index, end.drains) == (0, False)
    assert end.death
    assert end.death.failure is Failure.HANGS
    assert story.hear(Gone(0)) == [Start(0)]


def test_a_supervisor_that_was_held_up_blames_no_engine() -> None:
    story = serving(2)
    story.now += 3600
    assert story.act() == []
    assert story.pack.ready(story.now) == 2
