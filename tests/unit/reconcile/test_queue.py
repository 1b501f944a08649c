"""The queue in virtual time."""

import asyncio
from collections.abc import Callable

import pytest
from slm_operator.reconcile.queue import (
    BACKOFF_SECONDS,
    FLEET,
    LONGEST_BACKOFF_SECONDS,
    KeyedQueue,
    Kind,
    WorkKey,
)
from slm_operator.watch.records import Key


class Time:
    def __init__(self, random: float = 1.0, waited: Callable[[float], None] = lambda _: None) -> None:
        self.seconds = 0.0
        self.queue = KeyedQueue(lambda: self.seconds, lambda: random, waited)


def key(name: str, kind: Kind = "deployment") -> WorkKey:
    return WorkKey(kind, Key("ns", name))


A, B = key("a"), key("b")


def test_a_key_is_there_once_however_often_it_is_added() -> None:
    queue = Time().queue
    for _ in range(3):
        queue.add(A)
    assert (queue.take(), queue.take()) == (A, None)


def test_a_key_added_during_its_pass_gets_another_one_after_it() -> None:
    queue = Time().queue
    queue.add(A)
    queue.take()
    queue.add(A)
    assert queue.take() is None
    queue.done(A)
    assert queue.take() == A


def test_queue_gives_kinds_their_turns() -> None:
    queue = Time().queue
    for n in range(100):
        queue.add(key(f"d{n}"))
    queue.add(key("p", "profile"))
    queue.add(FLEET)
    assert {taken.kind for taken in (queue.take(), queue.take(), queue.take()) if taken} == {
        "fleet",
        "profile",
        "deployment",
    }


def test_failures_come_back_later_and_later_up_to_a_limit() -> None:
    time = Time()
    delays = []
    time.queue.add(A)
    for _ in range(20):
        time.queue.take()
        delays.append(time.queue.failed(A))
        assert time.queue.take() is None
        time.seconds += delays[-1]
    assert delays[:4] == [BACKOFF_SECONDS * 2**n for n in range(4)]
    assert delays[-1] == LONGEST_BACKOFF_SECONDS


@pytest.mark.parametrize(("random", "share"), [(0.0, 0.5), (1.0, 1.0)])
def test_backoff_is_spread_over_its_upper_half(random: float, share: float) -> None:
    queue = Time(random).queue
    queue.add(A)
    queue.take()
    assert queue.failed(A) == BACKOFF_SECONDS * share


def test_the_server_may_ask_for_more_patience() -> None:
    queue = Time().queue
    queue.add(A)
    queue.take()
    assert queue.failed(A, at_least_seconds=30) == 30


def test_success_resets_the_backoff() -> None:
    time = Time()
    for _ in range(5):
        time.queue.add(A)
        time.queue.take()
        time.queue.failed(A)
    time.queue.add(A)
    time.queue.take()
    time.queue.done(A)
    time.queue.add(A)
    time.queue.take()
    assert time.queue.failed(A) == BACKOFF_SECONDS


def test_failing_key_is_not_kept_hot_by_its_own_writes() -> None:
    queue = Time().queue
    queue.add(A)
    queue.take()
    queue.add(A)
    queue.failed(A)
    assert queue.take() is None


def test_new_event_does_not_wait_for_the_backoff() -> None:
    time = Time()
    time.queue.add(A)
    time.queue.take()
    time.queue.failed(A, at_least_seconds=100)
    time.queue.add(A)
    assert time.queue.take() == A
    time.queue.done(A)
    time.seconds += 200
    assert time.queue.take() is None  # the delayed pass was for what has been looked at


def test_earliest_requeue_counts() -> None:
    time = Time()
    for seconds in (30, 10, 20):
        time.queue.add_after(A, seconds)
    assert time.queue.next_due() == 10
    time.seconds = 10
    assert (time.queue.take(), time.queue.take()) == (A, None)
    time.queue.done(A)
    time.seconds = 100
    assert time.queue.take() is None


def test_an_object_that_is_gone_leaves_nothing() -> None:
    queue = Time().queue
    queue.add(A)
    queue.take()
    queue.failed(A)
    queue.forget(A)
    assert queue.next_due() is None
    assert (queue._failures, queue._later, queue._since) == ({}, {}, {})


def test_queue_latency_is_reported() -> None:
    waited: list[float] = []
    time = Time(waited=waited.append)
    time.queue.add(A)
    time.seconds = 3
    time.queue.take()
    assert waited == [3]


async def test_get_wakes_for_added_keys_one_a_worker() -> None:
    queue = Time().queue
    workers = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add(A)
    queue.add(B)
    assert set(await asyncio.gather(*workers)) == {A, B}


async def test_a_key_wakes_one_worker_and_not_all_of_them() -> None:
    queue = Time().queue
    looked = 0

    def take() -> WorkKey | None:
        nonlocal looked
        looked += 1
        return KeyedQueue.take(queue)

    queue.take = take  # type: ignore[method-assign]
    workers = [asyncio.create_task(queue.get()) for _ in range(8)]
    await asyncio.sleep(0)
    assert looked == 1
    queue.add(A)
    await asyncio.sleep(0.01)
    assert looked == 3  # who gets it, and who waits from now on
    for worker in workers:
        worker.cancel()


async def test_what_is_due_while_workers_wait_is_got() -> None:
    queue = KeyedQueue(asyncio.get_running_loop().time, lambda: 1.0)
    workers = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add_after(A, 0.02)
    queue.add_after(B, 0.01)
    assert await asyncio.gather(*workers) == [B, A]
