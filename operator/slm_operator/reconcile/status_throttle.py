"""Whether a status that was planned is worth a write: not when it is the one that is there, and words alone can wait.

Assumes that planning keeps a condition's lastTransitionTime while its status stays: else no two would ever be equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

WORDS_SHARE = 0.25
LEAST_WORDS_SECONDS, MOST_WORDS_SECONDS = 1.0, 15.0
MOST_REMEMBERED = 10_000
"""More than are written within MOST_WORDS_SECONDS at the client's rate, so that forgetting the others is rare."""


def significant(value: Any) -> Any:
    """A value without what means nothing: None, empty lists and empty objects. The API server adds and drops those."""
    if isinstance(value, dict):
        kept = {str(name): significant(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item is not None and item not in ([], {})}
    if isinstance(value, list | tuple):
        return [significant(item) for item in value]
    return value


def same_status(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Whether writing would change nothing."""
    return bool(significant(dict(wanted)) == significant(dict(seen)))


def only_words_moved(wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Whether a person would read something new, but no condition, phase or count is another."""
    return bool(significant(_without_words(wanted)) == significant(_without_words(seen)))


def _without_words(status: Mapping[str, Any]) -> dict[str, Any]:
    told = [{"type": one.get("type"), "status": one.get("status")} for one in status.get("conditions") or ()]
    return {**status, "conditions": told}


class _Told(NamedTuple):
    """When a status was last written, and when something else than its words last moved."""

    at: float
    moved_at: float


@dataclass(slots=True)
class Pace:
    """When a status that differs from the last one by words only may be written.

    A node in a change has many words, and each is a write for every deployment that waits for it. So the longer nothing else
    has moved, the longer words wait: a quarter of that time, within bounds.
    """

    clock: Callable[[], float]
    _told: dict[Hashable, _Told] = field(default_factory=dict, init=False)

    def wait_seconds(self, who: Hashable, wanted: Mapping[str, Any], seen: Mapping[str, Any] | None) -> float:
        """Seconds until this status is worth a write; 0: now."""
        told = self._told.get(who)
        if told is None or seen is None or same_status(wanted, seen) or not only_words_moved(wanted, seen):
            return 0.0
        pause = min(MOST_WORDS_SECONDS, max(LEAST_WORDS_SECONDS, WORDS_SHARE * (told.at - told.moved_at)))
        return max(0.0, told.at + pause - self.clock())

    def wrote(self, who: Hashable, wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> None:
        """A status was written over the one that was seen."""
        now, told = self.clock(), self._told.get(who)
        self._told[who] = _Told(now, told.moved_at if told is not None and only_words_moved(wanted, seen) else now)
        if len(self._told) > MOST_REMEMBERED:  # those of objects that are gone, for one
            self._told = {one: told for one, told in self._told.items() if now - told.at < MOST_WORDS_SECONDS}
