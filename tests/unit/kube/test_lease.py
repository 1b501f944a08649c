"""Candidates in virtual time against one Lease that obeys resourceVersions."""

import asyncio
import copy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.kube.errors import Conflict, NotFound, Unavailable
from slm_operator.kube.lease import Election, LeaseLost, LeaseTimes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TIMES = LeaseTimes(duration=15, deadline=10, renewal=3)


class Server:
    """One Lease, its version, and the requests made. `late`: so many reads are followed by a write of somebody's."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.requests: list[str] = []
        self.down = False
        self.late = 0

    async def get(self, resource: object, namespace: str, name: str) -> dict[str, Any]:
        self._asked("get")
        if self.lease is None:
            raise NotFound("no such Lease", 404)
        read = copy.deepcopy(self.lease)
        if self.late:
            self.late -= 1
            self.annotate()
        return read

    async def create(self, resource: object, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        self._asked("create")
        if self.lease is not None:
            raise Conflict("already exists", 409)
        return self._store(body)

    async def replace(self, resource: object, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        self._asked("update")
        if self.lease is None or body["metadata"]["resourceVersion"] != str(self.version):
            raise Conflict("modified", 409)
        return self._store(body)

    def annotate(self) -> None:
        assert self.lease is not None
        self._store(self.lease)

    def _store(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.lease)

    def _asked(self, verb: str) -> None:
        self.requests.append(verb)
        if self.down:
            raise Unavailable("connection refused")


class World:
    """Virtual time: a candidate's sleep runs what happens meanwhile."""

    def __init__(self) -> None:
        self.server = Server()
        self.seconds = 1000.0
        self.wall_offset = 0.0
        self.meanwhile: Callable[[], Awaitable[object] | None] = lambda: None

    def candidate(self, identity: str) -> Election:
        client: Any = self.server
        return Election(
            client=client,
            namespace="slm",
            name="slm-operator",
            identity=identity,
            clock=lambda: self.seconds,
            now=lambda: datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=self.seconds + self.wall_offset),
            times=TIMES,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        happens = self.meanwhile()
        if happens is not None:
            await happens


def test_the_first_candidate_leads_and_renews_without_reading() -> None:
    world = World()
    one = world.candidate("one")
    asyncio.run(one.acquire())
    assert one.leading
    world.server.requests.clear()
    stop_after(world, renewals=3)
    with pytest.raises(StopAsyncIteration):
        asyncio.run(one.hold())
    assert world.server.requests == ["update"] * 3
    assert one.leading


def test_standby_waits_until_lease_stood_still_for_its_duration() -> None:
    world = World()
    one, two = world.candidate("one"), world.candidate("two")
    asyncio.run(one.acquire())
    died_at = world.seconds
    asyncio.run(two.acquire())
    assert two.leading
    assert not one.leading
    assert world.seconds - died_at >= TIMES.duration


def test_a_leader_stops_being_one_before_anybody_may_take_over() -> None:
    world = World()
    one = world.candidate("one")
    asyncio.run(one.acquire())
    world.seconds += TIMES.deadline
    assert not one.leading
    assert TIMES.deadline < TIMES.duration


def test_a_clock_that_jumps_makes_no_second_leader() -> None:
    world = World()
    one, two = world.candidate("one"), world.candidate("two")
    asyncio.run(one.acquire())
    world.wall_offset = 3600
    assert not asyncio.run(two._try())


def test_a_released_lease_is_taken_at_once() -> None:
    world = World()
    one, two = world.candidate("one"), world.candidate("two")
    asyncio.run(one.acquire())
    asyncio.run(one.release())
    assert not one.leading
    before = world.seconds
    asyncio.run(two.acquire())
    assert world.seconds == before


def test_a_lease_is_released_after_a_cancelled_renewal_arrived() -> None:
    world = World()
    one, two = world.candidate("one"), world.candidate("two")
    asyncio.run(one.acquire())
    world.server.annotate()  # as the server does with a renewal whose answer nobody waits for any more
    asyncio.run(one.release())
    assert asyncio.run(two._try())


def test_lease_is_released_although_a_renewal_arrives() -> None:
    world = World()
    one, two = world.candidate("one"), world.candidate("two")
    asyncio.run(one.acquire())
    world.server.requests.clear()
    world.server.late = 2
    asyncio.run(one.release())
    assert world.server.requests == ["get", "update"] * 3
    assert asyncio.run(two._try())


def test_a_lease_that_somebody_else_took_is_not_released() -> None:
    world = World()
    one = world.candidate("one")
    asyncio.run(one.acquire())
    assert world.server.lease is not None
    world.server.lease["spec"]["holderIdentity"] = "two"
    world.server.annotate()
    asyncio.run(one.release())
    assert world.server.lease["spec"]["holderIdentity"] == "two"


def test_restarted_process_of_same_identity_leads_at_once() -> None:
    world = World()
    asyncio.run(world.candidate("pod-0").acquire())
    before = world.seconds
    asyncio.run(world.candidate("pod-0").acquire())
    assert world.seconds == before


def test_somebody_elses_annotation_does_not_end_leadership() -> None:
    world = World()
    one = world.candidate("one")
    asyncio.run(one.acquire())
    world.server.annotate()
    assert asyncio.run(one._try())
    assert one.leading


def test_a_lease_that_was_taken_ends_it() -> None:
    world = World()
    one = world.candidate("one")
    asyncio.run(one.acquire())
    assert world.server.lease is not None
    world.server.lease["spec"]["holderIdentity"] = "two"
    world.server.annotate()
    with pytest.raises(LeaseLost, match="two"):
        asyncio.run(one.hold())
    assert not one.leading


def test_server_down_for_less_than_the_deadline_keeps_lease() -> None:
    world = World()
    one = world.candidate("one")
    asyncio.run(one.acquire())
    until = world.seconds + 7

    def outage() -> None:
        world.server.down = world.seconds < until
        if world.seconds > until + 10:
            raise StopAsyncIteration

    world.meanwhile = outage
    with pytest.raises(StopAsyncIteration):
        asyncio.run(one.hold())
    assert one.leading


def test_a_server_that_is_down_for_longer_ends_it() -> None:
    world = World()
    one = world.candidate("one")
    asyncio.run(one.acquire())
    world.server.down = True
    with pytest.raises(LeaseLost):
        asyncio.run(one.hold())


def stop_after(world: World, renewals: int) -> None:
    left = iter(range(renewals))

    def count() -> None:
        if next(left, None) is None:
            raise StopAsyncIteration

    world.meanwhile = count
