"""Records of one kind, as last seen, with indexes kept incrementally.

Events may come late, twice, or after a newer list: a record only ever moves forward in resourceVersion. (Kubernetes
1.35 guarantees that resourceVersions of one kind compare as integers; KEP-5504.) An update costs as much as the record
has index entries, whatever the size of the cache. Must never decide anything.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    from slm_operator.watch.records import Key, Meta


class Recorded(Protocol):
    """Any record."""

    @property
    def meta(self) -> Meta:
        """What every object has."""


R = TypeVar("R", bound=Recorded)


@dataclass(frozen=True, slots=True)
class Change(Generic[R]):
    """A record that came, changed or went. `news` is false when nothing but its resourceVersion moved."""

    kind: str
    key: Key
    old: R | None
    new: R | None
    news: bool = True


class Cache(Generic[R]):
    """All records of one kind."""

    def __init__(self, kind: str, indexes: Mapping[str, Callable[[R], Iterable[Hashable]]] | None = None) -> None:
        self.kind = kind
        self._records: dict[Key, R] = {}
        self._index_of = dict(indexes or {})
        self._indexes: dict[str, dict[Hashable, dict[Key, None]]] = {name: defaultdict(dict) for name in self._index_of}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[R]:
        return iter(list(self._records.values()))

    def __contains__(self, key: object) -> bool:
        return key in self._records

    def get(self, key: Key) -> R | None:
        """One record."""
        return self._records.get(key)

    def keys(self) -> tuple[Key, ...]:
        """Keys of all records."""
        return tuple(self._records)

    def by(self, index: str, value: Hashable) -> tuple[R, ...]:
        """Records with this value in an index, in order of their keys, so that plans do not depend on arrival."""
        keys = self._indexes[index].get(value, ())
        return tuple(self._records[key] for key in sorted(keys))

    def values(self, index: str) -> tuple[Any, ...]:
        """What records have in an index, each once."""
        return tuple(self._indexes[index])

    def put(self, record: R) -> Change[R] | None:
        """Take a record. None when one as new is there."""
        key = record.meta.key
        old = self._records.get(key)
        if old is not None and not is_newer(record.meta.resource_version, old.meta.resource_version):
            return None
        self._unindex(key, old)
        self._records[key] = record
        for name, values in self._index_of.items():
            for value in values(record):
                self._indexes[name][value][key] = None
        return Change(self.kind, key, old, record, news=old is None or not _same(old, record))

    def drop(self, key: Key, resource_version: str | None = None) -> Change[R] | None:
        """Forget a record, unless a newer one (a namesake made since) is there."""
        old = self._records.get(key)
        if old is None or (resource_version and is_newer(old.meta.resource_version, resource_version)):
            return None
        self._unindex(key, old)
        del self._records[key]
        return Change(self.kind, key, old, None)

    def _unindex(self, key: Key, old: R | None) -> None:
        if old is None:
            return
        for name, values in self._index_of.items():
            index = self._indexes[name]
            for value in values(old):
                entries = index.get(value)
                if entries is not None:
                    entries.pop(key, None)
                    if not entries:
                        del index[value]


def is_newer(version: str, than: str) -> bool:
    """Whether a resourceVersion is later than another one of the same kind."""
    try:
        return int(version) > int(than)
    except ValueError:  # an aggregated API server may use opaque versions: then any difference counts
        return version != than


def _same(old: Any, new: Any) -> bool:
    """Whether nothing but the resourceVersion differs."""
    return _alike(old, new, "meta") and _alike(old.meta, new.meta, "resource_version")


def _alike(old: Any, new: Any, but: str) -> bool:
    return all(getattr(old, name) == getattr(new, name) for name in new.__dataclass_fields__ if name != but)
