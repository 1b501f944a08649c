import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from slm_operator.kube.events import PER_OBJECT_BURST, REMEMBERED, WINDOW_SECONDS, About, EventRecorder
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
        self.events: list[dict[str, Any]] = []

    async def create(self, resource: object, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        self.events.append(body)
        return body


def recorder() -> tuple[EventRecorder, Written, Clock]:
    clock, written = Clock(), Written()
    client: Any = written
    return EventRecorder(client=client, controller="c", instance="i", clock=clock, now=clock.now), written, clock


def about(name: str = "a", namespace: str = "ns") -> About:
    return About(api_version="v1", kind="Node", namespace=namespace, name=name, uid=f"uid-{name}")


def test_bucket_gives_its_burst_then_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(10, 3, clock)
    assert [bucket.take() for _ in range(5)] == [0, 0, 0, 0.1, 0.2]
    clock.seconds += 0.5
    assert bucket.take() == 0


def test_bucket_saves_no_more_than_its_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(10, 3, clock)
    clock.seconds += 3600
    assert [bucket.try_take() for _ in range(4)] == [True, True, True, False]


def test_same_message_is_said_once_in_the_window() -> None:
    events, written, clock = recorder()
    said = [asyncio.run(events.emit(about(), "Normal", "Profiling", "point 1/6")) for _ in range(3)]
    assert said == [True, False, False]
    clock.seconds += WINDOW_SECONDS
    assert asyncio.run(events.emit(about(), "Normal", "Profiling", "point 1/6"))
    assert len(written.events) == 2
    assert len({event["metadata"]["name"] for event in written.events}) == 2


def test_an_object_has_a_budget_and_others_keep_theirs() -> None:
    events, written, _ = recorder()
    for n in range(100):
        asyncio.run(events.emit(about("noisy"), "Normal", "Profiling", f"point {n}"))
    asyncio.run(events.emit(about("quiet"), "Normal", "Profiling", "point 1"))
    assert len(written.events) == PER_OBJECT_BURST + 1


def test_memory_is_bounded() -> None:
    events, _, clock = recorder()
    for n in range(REMEMBERED + 100):
        asyncio.run(events.emit(about(str(n)), "Normal", "Profiling", "m"))
        clock.seconds += 1
    assert len(events._said) <= REMEMBERED
    assert len(events._budgets) <= REMEMBERED


def test_events_of_cluster_scoped_objects_go_to_default_and_long_notes_are_cut() -> None:
    events, written, _ = recorder()
    asyncio.run(events.emit(about(namespace=""), "Warning", "ForeignPods", "x" * 5000))
    (event,) = written.events
    assert event["metadata"]["namespace"] == "default"
    assert len(event["note"]) == 1024
