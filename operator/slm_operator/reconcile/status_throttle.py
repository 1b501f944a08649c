"""Whether a planned status is worth a write: not when it equals the present one, and a message-only update can wait.

Assumes that planning keeps a condition's lastTransitionTime while its status stays: else no two would ever be equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

MESSAGE_SHARE = 0.25
LEAST_MESSAGE_SECONDS, MOST_MESSAGE_SECONDS = 1.0, 15.0
MOST_REMEMBERED = 10_000
"""More than are written within MOST_MESSAGE_SECONDS at the client's rate, so that forgetting the others is rare."""


def same_status(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Whether writing would change nothing."""
    return _alike(wanted, seen)


def only_messages_differ(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Whether a person would read something new, but no condition, phase or count is another."""
    return _alike(_without_messages(wanted), _without_messages(seen))


def _alike(one: Any, other: Any) -> bool:
    """Whether two values differ by nothing but None, empty lists and empty objects. The API server adds and drops those.

    NB: parts that are equal are compared as they are: a status is compared several times a pass, and has hundreds of values.
    """
    if one == other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_alike(one.get(name), other.get(name)) for name in one.keys() | other.keys())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return _is_nothing(one) and _is_nothing(other)


def _is_nothing(value: Any) -> bool:
    return value is None or value in ([], ()) or (isinstance(value, dict) and all(map(_is_nothing, value.values())))


def _without_messages(status: Mapping[str, Any]) -> dict[str, Any]:
    states = [{"type": one.get("type"), "status": one.get("status")} for one in status.get("conditions") or ()]
    return {**status, "conditions": states}


class _Write(NamedTuple):
    """When a status was last written, and when something else than its messages last changed."""

    at: float
    moved_at: float


@dataclass(slots=True)
class StatusThrottle:
    """When a status that differs from the last one by its messages only may be written.

    A node in a change has many messages, and each is a write for every deployment that waits for it. So message-only updates
    are debounced: the longer nothing else has changed, the longer they wait (a quarter of that time, 1 to 15 seconds).
    """

    clock: Callable[[], float]
    _writes: dict[Hashable, _Write] = field(default_factory=dict, init=False)

    def wait_seconds(self, who: Hashable, wanted: Mapping[str, Any], seen: Mapping[str, Any] | None) -> float:
        """Seconds until this status is worth a write; 0: now."""
        last = self._writes.get(who)
        if last is None or seen is None or same_status(wanted, seen) or not only_messages_differ(wanted, seen):
            return 0.0
        pause = min(MOST_MESSAGE_SECONDS, max(LEAST_MESSAGE_SECONDS, MESSAGE_SHARE * (last.at - last.moved_at)))
        return max(0.0, last.at + pause - self.clock())

    def wrote(self, who: Hashable, wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> None:
        """A status was written over the one that was seen."""
        now, last = self.clock(), self._writes.get(who)
        self._writes[who] = _Write(
            now, last.moved_at if last is not None and only_messages_differ(wanted, seen) else now
        )
        if len(self._writes) > MOST_REMEMBERED:  # those of objects that are gone, for one
            self._writes = {one: write for one, write in self._writes.items() if now - write.at < MOST_MESSAGE_SECONDS}
