"""The watch as it runs: whom it asks, what it tells the queue, and that it stays quiet when nothing changes."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.engines import registry
from slm_operator.kube.engine_metrics import NoMetrics, PodPage
from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.reconcile.gather import Gatherer
from slm_operator.reconcile.indexes import ProfileKeys, caches_for_planning
from slm_operator.reconcile.queue import KeyedQueue, WorkKey
from slm_operator.slo.scraper import AT_ONCE, NAMESPACE_SECONDS, OF_A_DEPLOYMENT, SloMonitor
from slm_operator.watch.records import Key

from tests import builders as build
from tests.light_engine.arguments import Settings as EngineSettings
from tests.light_engine.exposition import exposition
from tests.light_engine.scheduler import Scheduler
from tests.other_engine.port import OtherEngine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slm_core.engines.base import Engine
    from slm_operator.watch.records import DeploymentRecord, PodRecord, ProfileRecord

KEY = Key("team", "chat")
WORK = WorkKey("deployment", KEY)
LOAD = build.imported().workload


class Engines:
    """Counters of light engines."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.histograms: list[tuple[str, ...]] = []
        self.gone = False
        self.requests = 0
        self.serving: int | None = None

    async def page(self, url: str, engine: Engine, histograms: Iterable[str] = ()) -> PodPage:
        self.asked.append(url)
        self.histograms.append(tuple(histograms))
        if self.gone:
            raise NoMetrics("connection refused")
        scheduler = Scheduler(EngineSettings(), 8, 2048, 100)
        requests = self.requests
        prompt, output = int(LOAD.input_tokens_mean), int(LOAD.output_tokens_mean)
        scheduler.counters.update(
            request_success=requests, prompt_tokens=prompt * requests, generation_tokens=output * requests
        )
        scheduler.histograms["inter_token_latency"].observe(0.004, (output - 1) * requests)
        scheduler.histograms["time_to_first_token"].observe(0.05, requests)
        return PodPage(engine.read_counters(exposition(scheduler, "chat", {})), self.serving)


class Watched:
    """A deployment with two replicas, and the watch over it."""

    def __init__(self, *pods: PodRecord, command: Sequence[str] = (), slo: dict[str, Any] | None = None) -> None:
        shared = {"sharing": {"mode": "Exclusive"}, "engine": {"command": [*command]}}
        record = build.deployment(spec=shared | ({"slo": slo} if slo else {}))
        keys = ProfileKeys(build.SETTINGS.defaults)
        caches = caches_for_planning(keys, build.SETTINGS)
        profile = build.profile(record, build.imported())
        caches.deployments.put(record)
        caches.profiles.put(profile)
        caches.workloads.put(build.workload("chat", replicas=2, ready=2))
        for pod in pods:
            caches.pods.put(pod)
        self.engines = Engines()
        self.now = 0.0
        self.queue = KeyedQueue(lambda: self.now, random.Random(1).random)
        self.gatherer = Gatherer(
            caches=caches, keys=keys, settings=build.SETTINGS, advice_of=advice_of, demand_of=demand_of
        )
        self.watch = SloMonitor(
            gatherer=self.gatherer,
            queue=self.queue,
            interval_seconds=60,
            clock=lambda: self.now,
            fetch=self.engines.page,
        )

    def also_in(self, namespace: str, *pods: PodRecord) -> None:
        """The same deployment in another namespace, with these replicas."""
        caches = self.gatherer.caches
        copied: list[tuple[Any, Any]] = [(caches.pods, pod) for pod in pods]
        copied += [(cache, one) for cache in (caches.profiles, caches.workloads, caches.deployments) for one in cache]
        for cache, one in copied:
            meta = replace(one.meta, key=Key(namespace, one.meta.key.name))
            cache.put(replace(one, meta=meta))

    async def minute(self, requests: int) -> int:
        """One more minute with so many requests; how many passes it asked for."""
        self.now += 60
        self.engines.requests += requests
        before = len(self.queue)
        await self.watch.once()
        return len(self.queue) - before


def replica(name: str, address: str | None, *, ready: bool = True) -> PodRecord:
    return build.replica(name, address=address, ready=ready)


async def test_ready_replicas_are_asked_and_no_others() -> None:
    watched = Watched(
        replica("a", "10.0.0.1"), replica("b", "fd00::2"), replica("c", "10.0.0.3", ready=False), replica("d", None)
    )
    await watched.watch.once()
    assert sorted(watched.engines.asked) == ["http://10.0.0.1:8000/metrics", "http://[fd00::2]:8000/metrics"]


async def test_an_engine_is_asked_and_read_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    other = OtherEngine()
    monkeypatch.setattr(registry, "ENGINES", (*registry.ENGINES, other))
    watched = Watched(replica("a", "10.0.0.1"), command=other.command)
    asked: list[tuple[str, Engine]] = []

    async def fetch(url: str, engine: Engine, _: Iterable[str]) -> PodPage:
        asked.append((url, engine))
        raise NoMetrics("enough")

    watched.watch.fetch = fetch
    await watched.watch.once()
    assert asked == [("http://10.0.0.1:8000/stats", other)]


@pytest.mark.parametrize(("statistic", "read"), [("Mean", ()), ("P99", ("itl",))], ids=["a mean", "a percentile"])
async def test_histograms_are_read_for_limited_percentiles_alone(statistic: str, read: tuple[str, ...]) -> None:
    """Each costs as much as all counters together."""
    watched = Watched(replica("a", "10.0.0.1"), slo={"itl": {"maxMs": 30, "statistic": statistic}})
    await watched.minute(0)
    assert watched.engines.histograms == [read]


async def test_only_a_new_judgement_wakes_the_deployment() -> None:
    watched = Watched(replica("a", "10.0.0.1"), replica("b", "10.0.0.2"))
    assert await watched.minute(0) == 1  # nothing can be said yet, which is said
    assert await watched.queue.get() == WORK
    watched.queue.done(WORK)
    assert await watched.minute(100) == 1
    await watched.queue.get()
    watched.queue.done(WORK)
    assert [await watched.minute(100) for _ in range(10)] == [0] * 10
    assert watched.gatherer.verdicts[KEY].reason == "Met"
    assert watched.watch.figures[KEY].itl_ms == pytest.approx(4.0)


async def test_bug_about_one_deployment_is_reported_and_others_judged(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(replica("a", "10.0.0.1"))
    broken = build.deployment("broken", spec={"sharing": {"mode": "Exclusive"}})
    watched.gatherer.caches.deployments.put(broken)
    asked_for = watched.gatherer.profile_of

    def failing(record: DeploymentRecord) -> ProfileRecord | None:
        if record.meta.key == broken.meta.key:
            raise ZeroDivisionError
        return asked_for(record)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Gatherer, "profile_of", lambda _, record: failing(record))
        await watched.watch.once()
    assert KEY in watched.gatherer.verdicts
    assert "team/broken" in str([record.__dict__ for record in caplog.records])


async def test_engines_out_of_reach_become_a_condition() -> None:
    watched = Watched(replica("a", "10.0.0.1"))
    watched.engines.gone = True
    for _ in range(3):
        await watched.minute(0)
    assert watched.gatherer.verdicts[KEY].reason == "MetricsUnreadable"


async def test_slo_is_judged_while_the_profile_is_measured_anew() -> None:
    watched = Watched(replica("a", "10.0.0.1"))
    for _ in range(3):
        await watched.minute(requests=400)
    profiles = watched.gatherer.caches.profiles
    (profile,) = profiles
    profiles.drop(profile.meta.key, "9")
    asked = len(watched.engines.asked)
    for _ in range(3):
        await watched.minute(requests=400)
    assert len(watched.engines.asked) == asked + 3
    assert KEY in watched.watch.figures


async def test_a_deployment_that_is_gone_leaves_nothing_behind() -> None:
    watched = Watched(replica("a", "10.0.0.1"))
    await watched.minute(0)
    await watched.minute(100)
    watched.gatherer.caches.deployments.drop(KEY)
    await watched.watch.once()
    assert not watched.watch.figures
    assert not watched.gatherer.verdicts


async def test_an_interval_of_zero_watches_nothing() -> None:
    watched = Watched(replica("a", "10.0.0.1"))
    watched.watch.interval_seconds = 0
    await watched.watch.run()
    assert not watched.engines.asked


async def test_a_scrape_over_many_leaves_the_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(replica("a", "10.0.0.1"))
    for number in range(500):
        watched.gatherer.caches.deployments.put(build.deployment(f"d{number}"))
    looked: list[str] = []
    look_at = SloMonitor._look_at

    async def counted(watch: SloMonitor, record: DeploymentRecord, turn: Any) -> None:
        looked.append(record.meta.key.name)
        await look_at(watch, record, turn)

    monkeypatch.setattr(SloMonitor, "_look_at", counted)
    scrape, turns = asyncio.create_task(watched.watch.once()), [0]
    while not scrape.done():
        await asyncio.sleep(0)
        turns.append(len(looked))
    assert len(looked) == 501
    assert max(after - before for before, after in pairwise(turns)) <= AT_ONCE


def many(count: int) -> list[PodRecord]:
    return [replica(f"r{number}", f"10.1.{number >> 8}.{number & 255}") for number in range(count)]


async def test_scrape_asks_a_bounded_number_of_replicas() -> None:
    watched = Watched(*many(1000))
    await watched.watch.once()
    assert len(watched.engines.asked) == OF_A_DEPLOYMENT


async def test_many_replicas_are_scraped_in_turn_and_slo_is_judged() -> None:
    watched = Watched(*many(2 * OF_A_DEPLOYMENT + 1))
    for _ in range(6):
        await watched.minute(100)
    assert len(set(watched.engines.asked)) == 2 * OF_A_DEPLOYMENT + 1
    assert watched.watch.figures[KEY].itl_ms == pytest.approx(4.0)


async def test_slow_replicas_delay_no_scrape_of_other_namespaces() -> None:
    watched = Watched(*many(1))
    watched.also_in("a-slow-one", *(replace(pod, address=f"evil{number}") for number, pod in enumerate(many(100))))
    deployments = watched.gatherer.caches.deployments
    mine = deployments.get(KEY)
    assert mine is not None
    deployments.drop(KEY)
    deployments.put(mine)  # after the slow one
    never, read = asyncio.Event(), asyncio.Event()
    page = watched.engines.page

    async def fetch(url: str, engine: Engine, _: Iterable[str]) -> PodPage:
        if "evil" in url:
            await never.wait()
            raise NoMetrics("slow")
        read.set()
        return await page(url, engine)

    watched.watch.fetch = fetch
    scrape = asyncio.create_task(watched.watch.once())
    await asyncio.wait_for(read.wait(), 60)
    never.set()
    await scrape


async def test_slow_scrape_ends_and_begins_next_with_the_unreached() -> None:
    """The clock moves by five seconds with each question, which is the time that one may take."""
    watched = Watched(*many(1))
    for number in range(30):
        one = watched.gatherer.caches.deployments.get(KEY)
        assert one is not None
        watched.gatherer.caches.deployments.put(replace(one, meta=replace(one.meta, key=Key("team", f"d{number:02}"))))
    looked: list[str] = []
    look_at = SloMonitor._look_at

    async def slow(watch: SloMonitor, record: DeploymentRecord, turn: Any) -> None:
        looked.append(record.meta.key.name)
        watched.now += 5
        await look_at(watch, record, turn)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SloMonitor, "_look_at", slow)
        await watched.watch.once()
        assert len(looked) == NAMESPACE_SECONDS / 5
        for _ in range(2):
            await watched.watch.once()
    assert len(set(looked)) == 31


async def test_deployment_of_slow_replicas_is_left_after_a_while() -> None:
    watched = Watched(*many(OF_A_DEPLOYMENT))

    async def fetch(url: str, engine: Engine, _: Iterable[str]) -> PodPage:
        watched.engines.asked.append(url)
        watched.now += 5
        await asyncio.sleep(0)
        raise NoMetrics("slow")

    watched.watch.fetch = fetch
    await watched.watch.once()
    assert len(watched.engines.asked) < OF_A_DEPLOYMENT / 4


async def test_engines_of_a_pack_that_serve_are_counted() -> None:
    watched = Watched(replica("a", "10.0.0.1"))
    watched.engines.serving = 3
    assert await watched.minute(0) == 1, "a new number wakes the deployment"
    assert list(watched.gatherer.serving[KEY].values()) == [3]
    assert await watched.minute(0) == 0, "the same number wakes nobody"
    watched.engines.gone = True
    await watched.minute(0)
    assert list(watched.gatherer.serving[KEY].values()) == [3], "who does not answer is as before"
