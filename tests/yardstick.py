"""How fast this machine is at this moment, by work that never changes.

Exists because a test that a busy machine fails says nothing of the code: on two cores that others use at the same time
the same Python takes twice the processor time. So a test of speed measures the code and, turn by turn, this yardstick,
and asks how often the yardstick goes into the code. Must never change: every limit that is told in it would mean
something else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 0.0004
"""What one yardstick takes on a core of its own of the machine that the goals were set on."""


@dataclass(frozen=True, slots=True)
class _Thing:
    name: str
    number: float


def seconds_on_the_reference_machine(work: Callable[[], object], *, turns: int) -> float:
    """Processor seconds of `work`, the best of some turns, as they would be there.

    The best of many short turns is what the code costs; whoever interrupts it, interrupts the yardstick too.
    """
    best, yardstick = float("inf"), float("inf")
    for _ in range(turns):
        yardstick = min(yardstick, _seconds(_yardstick))
        best = min(best, _seconds(work))
    return best / yardstick * SECONDS


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _yardstick() -> int:
    """Makes, compares, sorts and looks up small things, as decisions do."""
    things = [_Thing(str(i * 7919 % 1009), i * 7919 % 1009 / 3) for i in range(600)]
    named = {thing.name: thing for thing in things}
    first = sorted(things, key=lambda thing: (thing.number, thing.name))[:300]
    return sum(named[thing.name] is thing and thing.number > 1 for thing in first)
