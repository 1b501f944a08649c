"""The commands and their arguments, and nothing else.

Exists apart so that `--help`, a typing error and shell completion cost no import. Must never read a file nor import
what a command needs to run: every command names the module that does.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

EXAMPLES = """examples:
  kubectl slm advise --from-csv batch_sweep.csv --model opt-1.3b --itl-factor 2
  kubectl slm advise -f profile.yaml --itl-ms 40 -o json
  kubectl slm report -f profile.yaml --itl-ms 40 -o report.html
"""


def parser() -> argparse.ArgumentParser:
    """Every command of `kubectl slm`. `run` is the module whose `run(arguments)` does the work."""
    root = argparse.ArgumentParser(
        prog="kubectl slm",
        description="Small language models on shared GPUs: advice, evidence and what the cluster makes of them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _advise(commands)
    _report(commands)
    return root


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
