"""The operator in the simulation: the shipped one, assembled as ever, on a virtual clock and a played API server.

One process after another: each is killed wherever one likes, what it knows by itself is lost, and the next begins with
lists. All that stands in for something is here: the wire to the API server, the machine's clocks, and where passes are counted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slm_operator.assembly import PLANNERS, Outside, assemble
from slm_operator.kube.errors import Unavailable
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.settings import Settings

from .narrator import Narrator
from .objects import EPOCH, BrokenPromiseError
from .refusing import refusal
from .situations import Situation
from .watching import Watching

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from slm_operator.kube.transport import Answer, Request
    from slm_operator.planning.views import Assignment, FleetPlan, FleetView
    from slm_operator.reconcile.gather import Gatherer
    from slm_operator.reconcile.pending_writes import Ledger, Ref
    from slm_operator.reconcile.queue import WorkKey
    from slm_operator.watch.records import Key

    from .api import Api
    from .world import World

SETTINGS = Settings()


@dataclass(slots=True)
class Operator:
    """One process, or its successors."""

    world: World
    api: Api
    settings: Settings = SETTINGS
    plan_nodes: Callable[[FleetView, Settings, datetime], FleetPlan] = plan_fleet
    clock_error: float = 0.0
    """Seconds by which its clock is wrong."""
    kill_after: int | None = None
    """Effects after which it is killed, once."""
    kill_rate: float = 0.0
    effects: int = 0
    """Writes that did something in the cluster."""
    passes: int = 0
    kills: int = 0
    last_effect: float = 0.0
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.world.watchers.append(self._changed)
        self.start()

    def _changed(self, kind: str, key: Key) -> None:
        self.process.watching.changed(kind, key)

    def start(self) -> None:
        """A new process. NB: an administrator has changed the defaults of engines meanwhile, each time."""
        self.settings = with_other_defaults(self.settings, self.kills)
        self.process = Process(self)

    @property
    def gatherer(self) -> Gatherer:
        """What the process that runs knows."""
        return self.process.gatherer

    @property
    def assignments(self) -> Mapping[Key, Assignment]:
        """What the fleet's last plan gave to each deployment."""
        return self.gatherer.assignments

    def now(self) -> datetime:
        """Its own clock."""
        return EPOCH + timedelta(seconds=self.world.now + self.clock_error)

    def sets_clock(self, seconds: float) -> None:
        """Somebody sets the clock of its machine."""
        self.clock_error += seconds
        if seconds < 0:
            self.world.meets(Situation.CLOCK_SET_BACK)


def with_other_defaults(settings: Settings, times: int) -> Settings:
    """The settings with defaults of engines that nobody had before; at first those that are shipped."""
    others = (
        {"engine_image": f"mirror.example/vllm:{times}", "hub_endpoint": f"https://hub-{times}.example"}
        if times
        else {}
    )
    return settings.model_copy(update={"defaults": settings.defaults.model_copy(update=others)})


def count_waits(ledger: Ledger, world: World) -> None:
    """Have it counted how a process meets its own writes in what it is shown."""
    unconfirmed, wrote = ledger.unconfirmed, ledger.wrote

    def asked(work: WorkKey) -> float | None:
        late = any(one.until <= world.now for one in ledger._expected.get(work, {}).values())
        seconds = unconfirmed(work)
        if seconds is not None:
            world.meets(Situation.HELD)
        elif late:
            world.meets(Situation.NOT_SHOWN)
        return seconds

    def noted(work: WorkKey, ref: Ref, version: str, uid: str, *, echo: bool = False) -> None:
        wrote(work, ref, version, uid, echo=echo)
        seen = ledger._caches[ref.kind].get(ref.key) if ref.kind in ledger._caches else None
        if seen is not None and seen.meta.resource_version == version:
            world.meets(Situation.SHOWN_FIRST)

    ledger.unconfirmed, ledger.wrote = asked, noted  # type: ignore[method-assign]


class Process:
    """From its start until it is killed. It is the `Connection` and the `Metrics` of the operator, too."""

    def __init__(self, of: Operator) -> None:
        self._of, self._world = of, of.world
        self.is_alive = True
        self._under_way = 0
        self._effects_of: dict[object, int] = {}
        """Writes so far of the pass that each task is in."""
        self._written: dict[str, tuple[bytes | None, float]] = {}
        """By path what was written last and answered, and when."""
        loop, chance = of.world.loop, of.world.chance
        outside = Outside(clock=loop.time, now=of.now, random=chance.random)
        me: Any = self
        operator = assemble(me, of.settings, me, namespace="slm-operator", leader_election=False, outside=outside)
        self._loop = operator.reconciler
        self.gatherer = operator.reconciler.gatherer
        self.watching = Watching(of.world, operator.world)
        self.narrator = Narrator(of.world)
        self._loop.planners = self.narrator.told(replace(PLANNERS, plan_fleet=self._plan_fleet))
        count_waits(operator.reconciler.ledger, of.world)
        self._task = loop.create_task(self._loop.run(operator.world.synced))
        self._task.add_done_callback(self._ended)

    def _plan_fleet(self, view: FleetView, settings: Settings, now: datetime) -> FleetPlan:
        """It takes time, on which depends how long the loop collects what comes meanwhile."""
        self._world.loop.now += self._world.lag(0.005, 0.5)
        return self._of.plan_nodes(view, settings, now)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.is_alive:
            self._world.loop.breaks(RuntimeError(f"the operator ended: {task}"))

    # -- the wire

    async def send(self, request: Request) -> Answer:
        """One request, late, and its answer, later. Raises Unavailable."""
        world, of = self._world, self._of
        if request.path.endswith("/events"):  # nobody waits for them
            return self._fails() if world.happens(of.api.error_rate) else of.api.answer(request)
        self._under_way += 1
        if self._under_way > 1:
            world.meets(Situation.SIDE_BY_SIDE)
        try:
            await asyncio.sleep(world.lag(0.001, 0.1))
            if world.happens(of.api.error_rate):
                return self._fails()
            is_lost = world.happens(of.api.error_rate / 2)
            await self._may_die(request, before=True)
            answer = await self._answer(request)
            if is_lost:
                self._written.pop(request.path, None)  # it does not know that it wrote
                if request.method != "GET":
                    world.meets(Situation.ANSWER_LOST)
                raise Unavailable("the connection was lost")
            if world.happens(0.1):
                await asyncio.sleep(world.lag(0.1, 2))
            if request.method == "PATCH" and answer.status == 200:
                self._written[request.path] = request.body, world.now
            return answer
        finally:
            self._under_way -= 1

    def _fails(self) -> Answer:
        world = self._world
        what = world.chance.choice((Situation.THROTTLED, Situation.UNAVAILABLE, None))
        if what is None:
            raise Unavailable("no answer in time")
        world.meets(what)
        is_busy = what is Situation.THROTTLED
        return refusal(429 if is_busy else 503, "too many requests, please try again later", "1" if is_busy else None)

    async def _answer(self, request: Request) -> Answer:
        of, api = self._of, self._of.api
        before = api.writes, api.statuses
        try:
            answer = api.answer(request)
            if request.method == "PATCH" and answer.status == 200 and before == (api.writes, api.statuses):
                self._repeats(request)
        except BrokenPromiseError as error:
            self._world.loop.breaks(error)
            return await self.dies()
        if api.writes > before[0]:
            of.effects += 1
            of.last_effect = self._world.now
            task = asyncio.current_task()
            self._effects_of[task] = self._effects_of.get(task, 0) + 1
            if of.effects == of.kill_after:
                await self.dies()
            await self._may_die(request, before=False)
        return answer

    def _repeats(self, request: Request) -> None:
        """A write that changes nothing: only who has not heard of the first one may do it again. Raises BrokenPromiseError."""
        body, at = self._written.get(request.path, (None, 0.0))
        if body == request.body and not self.watching.was_cut_since(at):
            raise BrokenPromiseError(f"{request.path} is written again as it was at {at:.0f} s, and that was answered")

    async def _may_die(self, request: Request, *, before: bool) -> None:
        """At a write, more often after it than before."""
        if request.method == "GET" or not self._world.happens(self._of.kill_rate * (0.02 if before else 1)):
            return
        if before:
            self._world.meets(Situation.KILLED_UNANSWERED)
            if self._effects_of.get(asyncio.current_task(), 0):
                self._world.meets(Situation.KILLED_BETWEEN_WRITES)
        await self.dies()

    async def dies(self) -> Any:
        """Killed: nothing of it goes on. It comes again some time later."""
        world, of = self._world, self._of
        of.kills += 1
        world.tell("operator", "is killed")
        if any(node.changes for node in world.nodes.values()):
            world.meets(Situation.KILLED_IN_A_CHANGE)
        self.is_alive = self.watching.is_on = False
        self._task.cancel()
        world.at(world.lag(1, 40), of.start)
        await world.loop.create_future()  # until its task is cancelled

    # -- where it is counted

    def waited(self, seconds: float) -> None: ...

    def requested(self, verb: str, plural: str) -> None: ...

    def expose_gauges(self, *_: Any) -> None: ...

    def passed(self, kind: str, result: str, seconds: float) -> None:
        if not self._world.loop.is_running():
            return  # NB: what a broken run leaves waiting ends whenever Python collects it, outside of any loop
        self._of.passes += 1
        self._effects_of.pop(asyncio.current_task(), None)
