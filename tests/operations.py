"""How much work something is, counted and not timed: a busy machine must not change the answer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def calls_of(work: Callable[[], object]) -> int:
    """How many functions are called, Python's and C's: the same number on every machine of one Python version.

    NB: it counts this thread only, and not what happens inside one C function (a sort is one call).
    """
    count = 0

    def on_event(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    former = sys.getprofile()
    sys.setprofile(on_event)
    try:
        work()
    finally:
        sys.setprofile(former)
    return count
