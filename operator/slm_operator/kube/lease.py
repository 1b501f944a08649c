"""Leader election by a Lease: of several operators one acts, the others watch and wait.

    standby --lease free or expired--> leading --renewal overdue or Lease taken--> lost (the process must end)
                                          |
                                          +--stop--> released (the next one need not wait)

Own code, although `kubernetes.aio.leaderelection` exists: that one compares wall clocks (a clock step makes two
leaders), reads before each renewal, cannot release, and cannot say "I may write now". Here an expired Lease is one that
did not change for its whole duration on our own monotonic clock, as in client-go, and `leading` turns false by itself
before anybody else may take over.

Must never write anything but the Lease.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_operator.kube.errors import ApiError, Conflict, NotFound
from slm_operator.kube.resources import LEASE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from slm_operator.kube.client import Client, Object

log = logging.getLogger(__name__)


class LeaseLost(Exception):  # noqa: N818 - an event in this process's life
    """Leadership ended without being given up. Whatever was planned may be stale: start anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """Seconds. `renewal` + one request must fit into `deadline`, and `deadline` into `duration`."""

    duration: float = 15.0
    deadline: float = 10.0
    renewal: float = 3.0


@dataclass(slots=True, kw_only=True)
class Election:
    """One candidate. `client` must not ask this election whether it may write."""

    client: Client
    namespace: str
    name: str
    identity: str
    clock: Callable[[], float]
    now: Callable[[], datetime]
    times: LeaseTimes = LeaseTimes()
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    _valid_until: float = field(default=float("-inf"), init=False)
    _lease: Object | None = field(default=None, init=False)
    _seen: tuple[str, float] = field(default=("", 0.0), init=False)
    _held_by: str = field(default="", init=False)

    @property
    def leading(self) -> bool:
        """Whether this process may write now."""
        return self.clock() < self._valid_until

    async def acquire(self) -> None:
        """Wait until this candidate leads."""
        said = False
        while not await self._try():
            if not said:
                log.info("standing by", extra={"because": f"the Lease is held by {self._held_by or 'nobody we know'}"})
            said = True
            await self.sleep(self.times.renewal)
        log.info("leading", extra={"object": f"Lease {self.namespace}/{self.name}", "because": "the Lease was free"})

    async def hold(self) -> None:
        """Renew until leadership is lost. Raises LeaseLost."""
        while True:
            await self.sleep(self.times.renewal)
            if not await self._try() and not self.leading:
                raise LeaseLost(
                    f"Lease {self.namespace}/{self.name} is held by {self._held_by or 'nobody we know'} now"
                )

    async def release(self) -> None:
        """Give the Lease up, so that a standby takes over at once. Best effort.

        NB: read anew each time: a renewal that was called off on our side may still be carried out by the server.
        """
        if not self.leading:
            return
        self._valid_until = float("-inf")
        try:
            while (lease := await self._read()) is not None and self._holder_of(lease) == self.identity:
                try:
                    given_up = lease["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self.client.replace(LEASE, self.namespace, lease | {"spec": given_up})
                except Conflict:
                    continue
                return
        except ApiError as error:
            log.warning("Lease not released", extra={"because": error.message})

    async def _try(self) -> bool:
        """Take or renew. A renewal is one PUT at the version that we wrote last: no read."""
        started = self.clock()
        try:
            if not await self._take():
                self._valid_until = float("-inf")
                return False
        except ApiError as error:
            log.warning("Lease not renewed", extra={"because": error.message})
            return False
        self._valid_until = started + self.times.deadline
        return True

    async def _take(self) -> bool:
        for _ in range(2):
            if self._lease is None:
                self._lease = await self._read()
            if self._lease is not None and not self._free():
                self._held_by, self._lease = self._holder_of(self._lease), None  # a standby reads anew each time
                return False
            try:
                self._lease = await self._put(self._lease)
            except Conflict:
                self._lease = None  # somebody wrote in between (a candidate, or a person's annotation): read and decide
                continue
            return True
        return False

    async def _read(self) -> Object | None:
        try:
            lease = await self.client.get(LEASE, self.namespace, self.name)
        except NotFound:
            return None
        version = lease["metadata"]["resourceVersion"]
        if self._seen[0] != version:
            self._seen = (version, self.clock())
        return lease

    def _free(self) -> bool:
        if self._holder_of(self._lease) in {"", self.identity}:
            return True
        seconds = float((self._lease or {}).get("spec", {}).get("leaseDurationSeconds") or self.times.duration)
        return self.clock() >= self._seen[1] + seconds

    @staticmethod
    def _holder_of(lease: Object | None) -> str:
        return str((lease or {}).get("spec", {}).get("holderIdentity") or "")

    async def _put(self, lease: Object | None) -> Object:
        now = self.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = (lease or {}).get("spec", {})
        mine = old.get("holderIdentity") == self.identity
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self.times.duration),
            "acquireTime": old.get("acquireTime", now) if mine else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if mine or lease is None else 1),
        }
        if lease is None:
            head = {"apiVersion": LEASE.api_version, "kind": LEASE.kind}
            body = head | {"metadata": {"name": self.name, "namespace": self.namespace}, "spec": spec}
            return await self.client.create(LEASE, self.namespace, body)
        return await self.client.replace(LEASE, self.namespace, lease | {"spec": spec})
