"""The loop with the real planners on a server that only remembers: bugs are contained, cost grows with what changed."""

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from slm_core.codec import to_json
from slm_operator.assembly import PLANNERS
from slm_operator.kube.errors import Unavailable
from slm_operator.planning.actions import Plan
from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.profile.log import NOTHING_PRINTED, ProfileLog
from slm_operator.reconcile.gather import Gatherer
from slm_operator.reconcile.loop import Reconciler
from slm_operator.reconcile.profile_logs import ProfileLogs
from slm_operator.reconcile.queue import FLEET, KeyedQueue, WorkKey
from slm_operator.settings import Settings
from slm_operator.watch.records import Key, PodRecord, ProfileRecord

from tests.builders import deployment, imported, job, measuring, profile, raw_gpu_node, raw_meta
from tests.unit.reconcile.bench import Bench

DOCUMENT = to_json(imported())
MEASURED = profile(deployment())
MEASURES = job(MEASURED)
RUNS = measuring(MEASURES)
SPEC = {
    "model": {"uri": "hf://facebook/opt-1.3b"},
    "profiling": {"policy": "Never", "profileRef": {"name": "measured"}},
    "sharing": {"mode": "Exclusive"},
    "replicas": 1,
}


@dataclass
class Passes:
    """What was counted."""

    results: Counter[tuple[str, str]] = field(default_factory=Counter)

    def passed(self, kind: str, result: str, seconds: float) -> None:
        self.results[kind, result] += 1


class Operator:
    """Everything between the watch and the API server, stepped by hand; the watch shows each write at once."""

    def __init__(self, deployments: int = 0, **planners: Any) -> None:
        self.bench = Bench()
        self.planned: Counter[str] = Counter()
        self.queue = KeyedQueue(self.bench.clock, lambda: 1.0)
        self.passes = Passes()
        settings = Settings()
        demand = planners.pop("demand_of", demand_of)
        gatherer = Gatherer(
            caches=self.bench.caches, keys=self.bench.keys, settings=settings, advice_of=advice_of, demand_of=demand
        )
        self.loop = Reconciler(
            gatherer=gatherer,
            executor=self.bench.executor,
            logs=ProfileLogs(self.bench.executor.client),
            ledger=self.bench.ledger,
            queue=self.queue,
            planners=replace(PLANNERS, **planners),
            settings=settings,
            clock=self.bench.clock,
            now=self.bench.clock.now,
            measured=self.passes,
        )
        self.bench.world._on_change = self.loop.changed
        self.loop._started = True
        self.see("SLMProfile", "measured", {"model": SPEC["model"], "measurements": DOCUMENT})
        for number in range(deployments):
            self.see("SLMDeployment", f"d{number}", SPEC)
            self.see("Node", f"n{number}", None)

    def see(self, kind: str, name: str, spec: Any, generation: int = 1) -> None:
        version = next(self.bench.server._versions)
        if kind == "Node":
            raw = raw_gpu_node(name, version=version)
        else:
            head = raw_meta(name, version=version, generation=generation)
            former = self.bench.server.objects.get((kind, name), {})
            raw = {"kind": kind, "metadata": head, "spec": copy.deepcopy(spec), "status": former.get("status") or {}}
            self.bench.server.objects[kind, name] = raw
        self.bench.world.see(kind, "ADDED", raw)

    async def settle(self) -> None:
        """Passes until none is due within a second of virtual time."""
        while (work := self.queue.take()) is not None or self._soon():
            if work is not None:
                asked = len(self.bench.server.asked)
                await self.loop.one_pass(work)
                self._show(asked)

    def status(self, name: str) -> Any:
        record = self.bench.caches.deployments.get(Key("team", name))
        assert record is not None
        return record.status

    def reason(self, name: str) -> str:
        return str(self.status(name)["conditions"][0]["reason"])

    def _soon(self) -> bool:
        due = self.queue.next_due()
        if due is None or due - self.bench.clock.seconds > 1:
            return False
        self.bench.clock.seconds = due
        return True

    def _show(self, since: int) -> None:
        for _, what in self.bench.server.asked[since:]:
            kind, name = what.split()
            if kind in self.bench.world.watched and (kind, name) in self.bench.server.objects:
                self.bench.show(kind, name)


def failing_for(name: str, plan: Any) -> Any:
    """A planning function with a bug that shows for one object only."""

    def buggy(subject: Any, *rest: Any) -> Any:
        record = getattr(subject, "deployment", subject)
        if record.meta.key.name == name:
            raise KeyError("no such figure")
        return plan(subject, *rest)

    return buggy


@pytest.mark.parametrize("function", [demand_of, PLANNERS.plan_deployment], ids=["demand_of", "plan_deployment"])
async def test_bug_over_one_deployment_stops_no_other(function: Callable[..., Any]) -> None:
    operator = Operator(3, **{function.__name__: failing_for("d1", function)})
    await operator.settle()
    assert operator.reason("d1") == "OperatorBug"
    assert "KeyError: 'no such figure'" in operator.status("d1")["conditions"][0]["message"]
    assert [operator.reason(name) for name in ("d0", "d2")] == ["Starting", "Starting"]
    assert operator.passes.results["deployment", "error"] > 0
    assert operator.passes.results["fleet", "error"] == 0


async def test_a_bug_is_reported_once_and_keeps_what_was_true() -> None:
    operator = Operator(1)
    await operator.settle()
    before = operator.status("d0")
    failing = failing_for("d0", PLANNERS.plan_deployment)
    operator.loop.planners = replace(PLANNERS, plan_deployment=failing)
    operator.see("SLMDeployment", "d0", SPEC | {"replicas": 2}, generation=2)
    asked = len(operator.bench.server.asked)
    for _ in range(3):
        operator.queue.add(WorkKey("deployment", Key("team", "d0")))
        await operator.settle()
    assert operator.bench.server.asked[asked:] == [("apply status", "SLMDeployment d0")]
    after = operator.status("d0")
    assert after["observedGeneration"] == 2
    types = [one["type"] for one in after["conditions"]]
    assert len(types) == len(set(types))
    assert {"Profiled", "Advised"} <= set(types)
    assert after.get("url") == before.get("url")


async def test_internal_error_condition_goes_with_the_bug() -> None:
    operator = Operator(1, demand_of=failing_for("d0", demand_of))
    await operator.settle()
    assert operator.reason("d0") == "OperatorBug"
    operator.loop.gatherer.demand_of = demand_of
    operator.see("SLMDeployment", "d0", SPEC | {"replicas": 0}, generation=2)
    await operator.settle()
    assert operator.reason("d0") != "OperatorBug"


async def delays_under(error: Unavailable, attempts: int) -> list[float]:
    """Seconds until each next attempt, while the server answers every request with this error."""
    operator = Operator(1)
    operator.bench.server.refuse = error
    work, clock = WorkKey("deployment", Key("team", "d0")), operator.bench.clock
    delays = []
    for _ in range(attempts):
        while (taken := operator.queue.take()) != work:
            assert taken is not None
        await operator.loop.one_pass(work)
        due = operator.queue._later[work]
        delays.append(due - clock.seconds)
        clock.seconds = due
    return delays


async def test_server_that_cannot_answer_is_retried_with_backoff() -> None:
    assert await delays_under(Unavailable("etcd is not there", 503), 4) == [0.25, 0.5, 1.0, 2.0]


async def test_retry_after_is_obeyed() -> None:
    assert await delays_under(Unavailable("too many requests", 429, retry_after_seconds=7.0), 2) == [7.0, 7.0]


async def test_unanswered_deployments_are_planned_first_at_start() -> None:
    operator = Operator(3)
    await operator.settle()
    operator.loop._started = False  # as a process that has just listed what another one left
    operator.see("SLMDeployment", "d1", SPEC | {"replicas": 2}, generation=2)
    operator.see("SLMDeployment", "new", SPEC)
    operator.loop._add_everything()
    order = [work.key.name for work in iter(operator.queue.take, None) if work.kind == "deployment"]
    assert order == ["d1", "new", "d0", "d2"]


async def test_changes_that_come_together_plan_the_fleet_once() -> None:
    operator = Operator(20)
    await operator.settle()
    assert operator.passes.results["fleet", "ok"] <= 3


@contextlib.contextmanager
def counting_looks() -> Iterator[Counter[str]]:
    """Records that the caches hand out: the cost of a pass, whatever the machine."""
    from slm_operator.watch.cache import Cache  # noqa: PLC0415 - replaced only here

    looks: Counter[str] = Counter()
    get, by, walk = Cache.get, Cache.by, Cache.__iter__

    def counted_get(self: Any, key: Key) -> Any:
        looks[self.kind] += 1
        return get(self, key)

    def counted_by(self: Any, index: str, value: Any) -> Any:
        found = by(self, index, value)
        looks[self.kind] += 1 + len(found)
        return found

    def counted_walk(self: Any) -> Any:
        looks[self.kind] += len(self)
        return walk(self)

    Cache.get, Cache.by, Cache.__iter__ = counted_get, counted_by, counted_walk  # type: ignore[method-assign, assignment]
    try:
        yield looks
    finally:
        Cache.get, Cache.by, Cache.__iter__ = get, by, walk  # type: ignore[method-assign]


async def cost_of_settling(deployments: int) -> tuple[int, int]:
    """Records looked at and requests made, from nothing until all is planned."""
    with counting_looks() as looks:
        operator = Operator(deployments)
        await operator.settle()
    return looks.total(), len(operator.bench.server.asked)


@pytest.mark.slow
async def test_ten_times_the_deployments_cost_ten_times_the_work() -> None:
    few_looks, few_writes = await cost_of_settling(10)
    many_looks, many_writes = await cost_of_settling(100)
    assert few_writes >= 4 * 10
    assert many_writes <= 10 * few_writes
    assert many_looks <= 11 * few_looks


async def cost_of_one_change(deployments: int) -> tuple[int, int]:
    """Records looked at outside the fleet's pass, and requests made, for one edit among so many."""
    operator = Operator(deployments)
    await operator.settle()
    asked = len(operator.bench.server.asked)
    with counting_looks() as looks:
        operator.see("SLMDeployment", "d0", SPEC | {"replicas": 0}, generation=2)
        while (work := operator.queue.take()) is not None:
            assert work != FLEET
            await operator.loop.one_pass(work)
    return looks.total(), len(operator.bench.server.asked) - asked


class SlowLogs:
    """A kubelet that answers only after the pod has ended, with what was printed when it was asked."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator

    async def read(self, _profile: Key, pod: PodRecord | None) -> ProfileLog:
        ended = replace(RUNS, phase="Succeeded", meta=replace(RUNS.meta, resource_version="2"))
        printed = NOTHING_PRINTED if pod != ended else replace(NOTHING_PRINTED, document=imported())
        self.operator.bench.caches.pods.put(ended)
        return printed


async def test_pod_that_ends_while_its_log_comes_lost_no_result() -> None:
    """NB: planned as ended with the log of before, a measurement that is complete would count for none, and never be read."""
    views: list[Any] = []
    operator = Operator(plan_profile=lambda view, *_: views.append(view) or Plan())
    for cache, record in (("profiles", MEASURED), ("jobs", MEASURES), ("pods", RUNS)):
        getattr(operator.bench.caches, cache).put(record)
    operator.loop.logs = SlowLogs(operator)  # type: ignore[assignment]
    for _ in range(2):
        await operator.loop.one_pass(WorkKey("profile", MEASURED.meta.key))
    assert [(view.pod.phase, view.log.has_ended) for view in views] == [("Running", False), ("Succeeded", True)]


@pytest.mark.slow
async def test_one_change_costs_the_same_among_ten_times_as_many() -> None:
    looks, writes = await cost_of_one_change(10)
    assert writes > 0
    assert await cost_of_one_change(100) == (looks, writes)


@pytest.mark.slow
async def test_view_of_one_deployment_does_not_grow_with_others() -> None:
    views: list[Any] = []

    def seen(view: Any, *rest: Any) -> Any:
        views.append(view)
        return PLANNERS.plan_deployment(view, *rest)

    operator = Operator(50, plan_deployment=seen)
    await operator.settle()
    assert {len(view.pods) for view in views} == {0}
    assert isinstance(views[0].profile, ProfileRecord)
