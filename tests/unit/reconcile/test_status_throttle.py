"""How often a status is written whose words alone keep moving."""

from itertools import pairwise
from typing import Any

import pytest
from slm_operator.reconcile.status_throttle import (
    LEAST_MESSAGE_SECONDS,
    MOST_MESSAGE_SECONDS,
    StatusThrottle,
    same_status,
)


def reported(message: object, holds: str = "False") -> dict[str, Any]:
    return {"conditions": [{"type": "Ready", "status": holds, "message": str(message)}]}


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def written_at(throttle: StatusThrottle, clock: Clock, until_s: int, seen: dict[str, Any]) -> list[float]:
    """When a status is written whose message is another ten times a second."""
    found = []
    for tick in range(1, until_s * 10):
        clock.seconds = tick / 10
        wanted = reported(tick)
        if not throttle.wait_seconds("d", wanted, seen):
            throttle.wrote("d", wanted, seen)
            found.append(clock.seconds)
            seen = wanted
    return found


def test_message_changes_wait_longer_each_time() -> None:
    clock = Clock()
    throttle = StatusThrottle(clock)
    throttle.wrote("d", reported("first"), {})
    pauses = [later - earlier for earlier, later in pairwise(written_at(throttle, clock, 200, reported("first")))]
    assert pauses[0] == pytest.approx(LEAST_MESSAGE_SECONDS)
    assert [round(pause, 1) for pause in pauses] == sorted(round(pause, 1) for pause in pauses)
    assert pauses[-1] == pytest.approx(MOST_MESSAGE_SECONDS)


def test_change_beside_words_is_written_at_once() -> None:
    clock = Clock()
    throttle = StatusThrottle(clock)
    throttle.wrote("d", reported("first"), {})
    written_at(throttle, clock, 200, reported("first"))
    seen = reported("before")
    assert throttle.wait_seconds("d", reported("other words"), seen) > 0
    ready = reported("other words", holds="True")
    assert throttle.wait_seconds("d", ready, seen) == 0
    throttle.wrote("d", ready, seen)
    assert throttle.wait_seconds("d", reported("more words", holds="True"), ready) == pytest.approx(
        LEAST_MESSAGE_SECONDS
    )


@pytest.mark.parametrize(
    ("wanted", "seen", "same"),
    [
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1, "b": None, "c": [], "d": {}}, {"a": 1}, True),
        ({"a": {"b": {"c": None}}}, {}, True),
        ({"a": ({"b": None},)}, {"a": [{}]}, True),
        ({"a": [None]}, {}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": 0}, {}, False),
        ({"a": ""}, {"a": None}, False),
        ({"a": {"b": 1}}, {"a": 1}, False),
    ],
)
def test_what_the_api_server_drops_is_no_difference(wanted: dict[str, Any], seen: dict[str, Any], same: bool) -> None:  # noqa: FBT001
    assert same_status(wanted, seen) is same
    assert same_status(seen, wanted) is same
