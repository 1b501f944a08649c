"""Our own writes: what was applied, and which writes the caches have not shown us yet.

A cache that lags behind our own write would make the next pass write again. So a key is not planned while one of its
writes is unconfirmed; a deadline keeps a lost watch from stopping it for ever. Memory only: after a restart the objects
themselves tell (watch/applied.py).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from slm_operator.watch.cache import is_newer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from slm_operator.reconcile.queue import WorkKey
    from slm_operator.watch.cache import Cache, Change
    from slm_operator.watch.records import Key

CONFIRM_SECONDS = 5.0


class Ref(NamedTuple):
    """An object."""

    kind: str
    key: Key


@dataclass(frozen=True, slots=True)
class Applied:
    """What the API server answered to our last apply of an object."""

    uid: str
    manifest_hash: str
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class _Expected:
    """The cache must show this version or a later one; or, for a removal, another uid, none, or one that is going."""

    version: str | None
    uid: str
    until: float
    echo: bool


class Ledger:
    """Kept by the executor, asked by the loop."""

    def __init__(self, caches: Mapping[str, Cache[Any]], clock: Callable[[], float]) -> None:
        self._caches = caches
        self.clock = clock
        self._expected: dict[WorkKey, dict[Ref, _Expected]] = {}
        self._waiting: dict[Ref, set[WorkKey]] = defaultdict(set)
        self._held: set[WorkKey] = set()
        self.applied: dict[Ref, Applied] = {}

    def wrote(self, work: WorkKey, ref: Ref, version: str, uid: str, *, echo: bool = False) -> None:
        """We wrote an object. `echo`: the event that shows it brings nothing new (our own status)."""
        self._expect(work, ref, _Expected(version, uid, self.clock() + CONFIRM_SECONDS, echo))

    def removed(self, work: WorkKey, ref: Ref, uid: str) -> None:
        """We deleted or evicted an object."""
        self._expect(work, ref, _Expected(None, uid, self.clock() + CONFIRM_SECONDS, echo=False))

    def unconfirmed(self, work: WorkKey) -> float | None:
        """Seconds until the key may be planned at the latest; None: now. Asking holds the key for `confirmed`."""
        expected = self._expected.get(work, {})
        now = self.clock()
        for ref, what in list(expected.items()):
            if what.until <= now or self._shown(ref, what):
                self._settle(work, ref)
        left = self._expected.get(work)
        if not left:
            self._held.discard(work)
            return None
        self._held.add(work)
        return max(what.until for what in left.values()) - now

    def confirmed_by(self, change: Change[Any]) -> tuple[set[WorkKey], set[WorkKey]]:
        """An object changed: keys that were held for it and are free now; keys to whom it is a mere echo."""
        ref = Ref(change.kind.removeprefix("owned/"), change.key)
        if change.new is None and change.old is not None:
            self._forget_applied(ref, change.old.meta.uid)
        free: set[WorkKey] = set()
        echoes: set[WorkKey] = set()
        for work in tuple(self._waiting.get(ref, ())):
            what = self._expected[work][ref]
            if not self._shown(ref, what):
                continue
            if what.echo and _only_status_moved(change, what.version):
                echoes.add(work)
            self._settle(work, ref)
            if work in self._held and work not in self._expected:
                self._held.discard(work)
                free.add(work)
        return free, echoes

    def _forget_applied(self, ref: Ref, uid: str) -> None:
        """NB: news of a deletion may come when a namesake has been applied already."""
        if (applied := self.applied.get(ref)) is not None and applied.uid == uid:
            del self.applied[ref]

    def forget(self, work: WorkKey) -> None:
        """The key's object is gone."""
        for ref in tuple(self._expected.get(work, ())):
            self._settle(work, ref)
        self._held.discard(work)

    def _expect(self, work: WorkKey, ref: Ref, what: _Expected) -> None:
        if ref.kind in self._caches and not self._shown(ref, what):
            self._expected.setdefault(work, {})[ref] = what
            self._waiting[ref].add(work)

    def _settle(self, work: WorkKey, ref: Ref) -> None:
        self._expected[work].pop(ref)
        if not self._expected[work]:
            del self._expected[work]
        self._waiting[ref].discard(work)
        if not self._waiting[ref]:
            del self._waiting[ref]

    def _shown(self, ref: Ref, what: _Expected) -> bool:
        record = self._caches[ref.kind].get(ref.key)
        if what.version is None:
            return record is None or record.meta.uid != what.uid or record.meta.deleting
        if record is None:
            return False
        # NB: whatever its uid: a former namesake that is still shown is older than what we wrote in its place.
        return not is_newer(what.version, record.meta.resource_version)


def _only_status_moved(change: Change[Any], version: str | None) -> bool:
    """Whether this is our very write. NB: after a list, spec may have changed under the same event."""
    if change.old is None or change.new is None or change.new.meta.resource_version != version:
        return False
    return bool(replace(change.old.meta, resource_version=version) == change.new.meta)
