"""What an argument may be, so that a wrong one is refused where it was typed."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def number(
    *, above: float | None = None, least: float | None = None, below: float | None = None, hint: str = ""
) -> Callable[[str], float]:
    """An argument type: a finite number inside open or closed bounds. `hint` ends the message."""

    def read(raw: str) -> float:
        try:
            value = float(raw)
        except ValueError:
            value = math.nan
        inside = (
            math.isfinite(value)
            and (above is None or value > above)
            and (least is None or value >= least)
            and (below is None or value < below)
        )
        if not inside:
            bounds = [
                f"above {above:g}" if above is not None else "",
                f"at least {least:g}" if least is not None else "",
                f"below {below:g}" if below is not None else "",
            ]
            wanted = " and ".join(filter(None, bounds))
            raise argparse.ArgumentTypeError(f"{raw!r} is not a number {wanted}{hint}")
        return value

    return read


def count(*, least: int = 1, most: int = 100_000) -> Callable[[str], int]:
    """An argument type: a whole number within bounds."""

    def read(raw: str) -> int:
        if not raw.isascii() or not raw.isdigit() or not least <= int(raw) <= most:
            raise argparse.ArgumentTypeError(f"{raw!r} is not a whole number from {least} to {most}")
        return int(raw)

    return read
