"""Parsers for command-line values, so that a wrong value is refused where it was typed.

Shared by `kubectl slm` and the profiler. Must never know a default or a bound: they come from `tuning`.
"""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from slm_core.tuning import Bounds

if TYPE_CHECKING:
    from collections.abc import Callable

ABOVE_ZERO, AT_LEAST_ONE = Bounds(above=0), Bounds(least=1)


def number(bounds: Bounds, hint: str = "") -> Callable[[str], float]:
    """An argument type: a finite number within bounds. `hint` ends the message."""

    def read(raw: str) -> float:
        try:
            value = float(raw)
        except ValueError:
            value = math.nan
        if not bounds.admit(value):
            raise argparse.ArgumentTypeError(f"{raw!r} is not a number {bounds.words}{hint}")
        return value

    return read


def count(bounds: Bounds) -> Callable[[str], int]:
    """An argument type: a whole number within bounds that are closed."""

    def read(raw: str) -> int:
        if not raw.isascii() or not raw.isdigit() or not bounds.admit(int(raw)):
            wanted = bounds.words if bounds.most is None else f"from {bounds.least:g} to {bounds.most}"
            raise argparse.ArgumentTypeError(f"{raw!r} is not a whole number {wanted}")
        return int(raw)

    return read
