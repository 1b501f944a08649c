import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from slm_operator.api.base import SUBDOMAIN
from slm_operator.kube.errors import Unavailable
from slm_operator.kube.events import LONGEST_QUEUE, PER_OBJECT_BURST, REMEMBERED, WINDOW_SECONDS, About, EventRecorder
from slm_operator.kube.rate import TokenBucket


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=self.seconds)


class Written:
    def __init__(self) -> None:
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.refuse_once: Unavailable | None = None

    async def create(self, resource: object, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.refuse_once is not None:
            refusal, self.refuse_once = self.refuse_once, None
            raise refusal
        self.events.put_nowait(body)
        return body


def recorder() -> tuple[EventRecorder, Written, Clock]:
    clock, written = Clock(), Written()
    client: Any = written
    return EventRecorder(client=client, controller="c", instance="i", clock=clock, now=clock.now), written, clock


def about(name: str = "a", namespace: str = "ns") -> About:
    return About(api_version="v1", kind="Node", namespace=namespace, name=name, uid=f"uid-{name}")


def test_event_bucket_gives_its_burst_then_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(10, 3, clock)
    assert [bucket.take() for _ in range(5)] == [0, 0, 0, 0.1, 0.2]
    clock.seconds += 0.5
    assert bucket.take() == 0


def test_event_bucket_saves_no_more_than_its_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(10, 3, clock)
    clock.seconds += 3600
    assert [bucket.try_take() for _ in range(4)] == [True, True, True, False]


async def written_by(events: EventRecorder, written: Written, count: int) -> list[dict[str, Any]]:
    writing = asyncio.create_task(events.run())
    found = [await written.events.get() for _ in range(count)]
    writing.cancel()
    return found


async def test_same_event_is_written_once_in_its_window() -> None:
    events, written, clock = recorder()
    said = [events.emit(about(), "Normal", "Profiling", "point 1/6") for _ in range(3)]
    assert said == [True, False, False]
    clock.seconds += WINDOW_SECONDS
    assert events.emit(about(), "Normal", "Profiling", "point 1/6")
    assert len({event["metadata"]["name"] for event in await written_by(events, written, 2)}) == 2


async def test_an_object_has_a_budget_and_others_keep_theirs() -> None:
    events, _, _ = recorder()
    said = [events.emit(about("noisy"), "Normal", "Profiling", f"point {n}") for n in range(100)]
    assert sum(said) == PER_OBJECT_BURST
    assert events.emit(about("quiet"), "Normal", "Profiling", "point 1")


async def test_memory_is_bounded_when_nobody_writes() -> None:
    events, _, clock = recorder()
    said = 0
    for n in range(REMEMBERED + 100):
        said += events.emit(about(str(n)), "Normal", "Profiling", "m")
        clock.seconds += 1
    assert said == LONGEST_QUEUE
    assert len(events._said) <= REMEMBERED
    assert len(events._budgets) <= REMEMBERED


async def test_latest_event_is_forgotten_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slm_operator.kube.events.REMEMBERED", 3)
    events, _, clock = recorder()
    for name in ("again", "once"):
        events.emit(about(name), "Normal", "Profiling", "m")
    clock.seconds += WINDOW_SECONDS
    for name in ("again", "other", "another"):
        assert events.emit(about(name), "Normal", "Profiling", "m")
    assert not events.emit(about("again"), "Normal", "Profiling", "m")


async def test_event_that_cannot_be_written_loses_no_other() -> None:
    events, written, _ = recorder()
    written.refuse_once = Unavailable("down")
    events.emit(about(), "Normal", "A", "first")
    events.emit(about(), "Normal", "A", "second")
    (event,) = await written_by(events, written, 1)
    assert event["note"] == "second"


@pytest.mark.parametrize("name", ["4b.chat", "x" * 253, f"{'x' * 219}.{'y' * 33}", f"{'x' * 218}--{'y' * 33}"])
async def test_an_event_of_any_object_has_a_valid_name(name: str) -> None:
    events, written, _ = recorder()
    events.emit(about(name), "Normal", "Profiling", "m")
    (event,) = await written_by(events, written, 1)
    assert re.fullmatch(SUBDOMAIN, event["metadata"]["name"])
    assert len(event["metadata"]["name"]) <= 253


async def test_cluster_scoped_events_go_to_default_with_cut_notes() -> None:
    events, written, _ = recorder()
    events.emit(about(namespace=""), "Warning", "ForeignPods", "x" * 5000)
    (event,) = await written_by(events, written, 1)
    assert event["metadata"]["namespace"] == "default"
    assert len(event["note"]) == 1024
