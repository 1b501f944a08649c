"""Everything the operator looks at: which kinds are watched, how, and the caches they fill.

Kopf 1.45 watches, but keeps to itself when a list is complete and which objects vanished while a watch was cut; its
start is also linear in the objects listed with 0.5 ms each (10,000 pods: 5 s). So objects are taken out of the answers to
it as they pass (`kube.objects_taken`, through the session that Kopf is given), and Kopf is handed empty pages and
bookmarks: no worker an object, no raw object that is held for longer than its record takes to make, an exact moment at
which each cache is complete, and deletions missed in a gap are found.

    list page ... list page, last --> what was not listed is dropped; this scope is synced
    watch event, watch event ...  --> `see`

Must never decide anything, nor await.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

from slm_operator.watch.cache import Cache, Change, R, is_newer
from slm_operator.watch.projection import Raw, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from yarl import URL

    from slm_operator.watch.records import Key

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Filled(Generic[R]):
    """A cache and the projection that fills it. A projection that gives None drops the object."""

    cache: Cache[R]
    project: Callable[[Raw], R | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One kind that is watched, and what becomes of its objects."""

    api_version: str
    kind: str
    plural: str
    fills: tuple[Filled[Any], ...]
    label_selector: str = ""
    field_selector: str = ""
    cluster_scoped: bool = False

    @property
    def group_version(self) -> tuple[str, str]:
        """Group (empty for core) and version."""
        group, _, version = self.api_version.rpartition("/")
        return group, version

    def path(self, namespace: str = "") -> str:
        """Path of its collection."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" if namespace else f"{root}/{self.plural}"


class Scope(NamedTuple):
    """One list-and-watch: a kind, in one namespace or (empty) everywhere."""

    kind: str
    namespace: str


@dataclass(slots=True)
class _Listing:
    """What a list under way has named so far, and the version of the last list that ended."""

    seen: set[Key] = field(default_factory=set)
    horizon: str = "0"


class World:
    """The caches, fed by pages and events. `on_change` gets each change, in order. A `kube.objects_taken.Taker`."""

    def __init__(
        self, watched: Iterable[Watched], on_change: Callable[[Change[Any]], None], namespaces: Iterable[str] = ()
    ) -> None:
        self.watched = {one.kind: one for one in watched}
        self._on_change = on_change
        self._scopes: dict[str, Scope] = {}
        for one in self.watched.values():
            for namespace in [""] if one.cluster_scoped else list(namespaces) or [""]:
                self._scopes[one.path(namespace)] = Scope(one.kind, namespace)
        self._listings: dict[Scope, _Listing] = {}
        self._waits_for = set(self._scopes.values())
        self.synced = asyncio.Event()
        self.begun = asyncio.Event()
        """A first list has ended: the API server answers."""

    @property
    def unwatched(self) -> tuple[str, ...]:
        """Kinds that nobody has begun to list."""
        return tuple(sorted({scope.kind for scope in self._scopes.values() if scope not in self._listings}))

    def takes(self, url: URL) -> bool:
        """Whether this is a list or a watch of a kind that is watched here."""
        return url.path in self._scopes

    def begin_page(self, url: URL) -> None:
        """A page of a list begins; the first one has no token to continue from."""
        if "continue" not in url.query:
            self._listing(url).seen.clear()

    def take_item(self, url: URL, raw: Raw) -> None:
        """Take one object of a page."""
        self._listing(url).seen.add(key_of(raw))
        self._put(self.watched[self._scopes[url.path].kind], raw)

    def end_page(self, url: URL, page: Raw) -> None:
        """A page has ended. The last one says at which version the list was complete."""
        meta = page.get("metadata") or {}
        if not meta.get("continue"):
            self._listed(self._scopes[url.path], self._listing(url), meta.get("resourceVersion") or "0")

    def take_event(self, url: URL, event: Raw) -> Raw:
        """Take one event of a watch. Gives what Kopf is to see: how far the watch has come, or an error as it is."""
        if event.get("type") not in {"ADDED", "MODIFIED", "DELETED"}:
            return event
        self.see(self._scopes[url.path].kind, event["type"], event["object"])
        version = event["object"]["metadata"].get("resourceVersion")
        return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}

    def _listing(self, url: URL) -> _Listing:
        return self._listings.setdefault(self._scopes[url.path], _Listing())

    def see(self, kind: str, event_type: str | None, raw: Raw) -> None:
        """Take one watch event."""
        watched, key = self.watched[kind], key_of(raw)
        version = raw["metadata"].get("resourceVersion") or ""
        if event_type == "DELETED":
            self._drop(watched, key, version)
        elif any(key in one.cache for one in watched.fills) or not self._outdated(kind, key, version):
            self._put(watched, raw)

    def _outdated(self, kind: str, key: Key, version: str) -> bool:
        """Whether a list that ended later did not have the object: the event was under way when it was deleted."""
        listings = (self._listings.get(Scope(kind, namespace)) for namespace in (key.namespace, ""))
        return any(listing is not None and not is_newer(version, listing.horizon) for listing in listings)

    def _listed(self, scope: Scope, listing: _Listing, version: str) -> None:
        listing.horizon = version
        watched = self.watched[scope.kind]
        for filled in watched.fills:
            for key in filled.cache.keys():  # noqa: SIM118 - a Cache is no dict; the keys are copied
                if key not in listing.seen and scope.namespace in ("", key.namespace):
                    self._drop(watched, key, version)
        listing.seen.clear()
        self._waits_for.discard(scope)
        self.begun.set()
        if not self._waits_for:
            self.synced.set()

    def _put(self, watched: Watched, raw: Raw) -> None:
        for filled in watched.fills:
            try:
                record = filled.project(raw)
            except Exception:  # one odd object must end neither the list nor the watch that brought it
                because = "a bug in reading it: what was known of it stays"
                log.exception("object not read", extra={"object": f"{watched.kind} {key_of(raw)}", "because": because})
                continue
            if record is None:
                self._tell(filled.cache.drop(key_of(raw), raw["metadata"].get("resourceVersion")))
            else:
                self._tell(filled.cache.put(record))

    def _drop(self, watched: Watched, key: Key, version: str) -> None:
        for filled in watched.fills:
            self._tell(filled.cache.drop(key, version))

    def _tell(self, change: Change[Any] | None) -> None:
        if change is not None:
            self._on_change(change)
