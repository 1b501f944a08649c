"""Every number that a user may set, with its default and its bounds, once.

Exists because one default stood in six places and one bound in three forms, so that the API admitted what the advisor
then refused. From this table derive the API's schema, both command lines and the advisor's own check of a question. The
limits of an SLO stand in `slo`, which is a table of its own. Must never depend on who asks: what is admitted is
admitted everywhere.

`KNOBS` are the numbers by which candidates are judged, by the search and by the advisor: another one is a `Knob`, a
field of `Tuning`, and the field of `spec.advisor` and of a profile's `spec.search`; whoever judges finds it in `Tuning`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from slm_core.units import GIB

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Between what a number must be. Absent: there is no such bound."""

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None

    def admit(self, value: float) -> bool:
        """Whether a finite number is inside."""
        return (
            -math.inf < value < math.inf
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        )

    @property
    def words(self) -> str:
        """`above 0 and below 1`."""
        named = (("above", self.above), ("at least", self.least), ("below", self.below), ("at most", self.most))
        return " and ".join(f"{what} {bound:g}" for what, bound in named if bound is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Default(Bounds, Generic[N]):
    """Bounds, and what holds where the user says nothing."""

    default: N


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob(Default[float]):
    """A fraction by which candidates are judged."""

    help: str
    """For a command line, without the default."""
    alias: str | None = None
    """A further flag of `kubectl slm`, beside that of its name."""
    hint: str = ""
    """What ends the message to who misses the bounds there."""

    @property
    def wanted(self) -> str:
        """`a fraction inside (0, 1), such as 0.1`."""
        low, high = "(" if self.least is None else "[", ")" if self.most is None else "]"
        ends = [
            next(end for end in ends if end is not None) for ends in ((self.above, self.least), (self.below, self.most))
        ]
        return f"a fraction inside {low}{ends[0]:g}, {ends[1]:g}{high}, such as {self.default:g}"


MIN_EFFICIENCY = Knob(
    default=0.1,
    above=0,
    below=1,
    help="least batching efficiency T(B) / (B T(1))",
    alias="--epsilon",
    hint="; the published value is 0.1",
)
MIN_GAIN = Knob(default=0.05, least=0, below=1, help="least gain of a pack over the best single engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How candidates are judged, by the search and by the advisor alike. Fields are named as in `spec.advisor`."""

    min_efficiency: float = MIN_EFFICIENCY.default
    """epsilon of the paper: batching efficiency T(B) / (B T(1)) must exceed it."""
    min_gain: float = MIN_GAIN.default
    """Least gain of a pack over the best single engine, and of one more engine on a GPU, as a fraction."""


KNOBS = {"min_efficiency": MIN_EFFICIENCY, "min_gain": MIN_GAIN}
"""By the field of `Tuning`, in the order in which they are shown."""


def flag(name: str) -> str:
    """How a command line spells a field: `--min-gain`."""
    return "--" + name.replace("_", "-")


def max_num_batched_tokens(device_bytes: int | None) -> int:
    """The token budget where the user gives none. None: the device's memory is not its own, as on a CPU."""
    if device_bytes is None:
        return MAX_NUM_BATCHED_TOKENS.default
    fitting = (tokens for below, tokens in TOKENS_BY_MEMORY if device_bytes < below)
    return next(fitting, MAX_NUM_BATCHED_TOKENS.default)


def tuned(source: object) -> dict[str, Any]:
    """The fields of `Tuning` from whatever has attributes of their names: a part of the API, parsed arguments."""
    return {name: getattr(source, name) for name in KNOBS}


MAX_SLICES, MAX_SLICES_OF_OLD_GPUS = 48, 16
"""Most clients of one GPU that MPS serves, from compute capability 7.5 and before it."""
ENGINES_PER_GPU = Bounds(least=1, most=MAX_SLICES)
"""The user's own number of engines on a GPU."""
MAX_ENGINES_PER_GPU = Default(default=4, least=1, most=MAX_SLICES)
"""Most engines on a GPU that are measured or advised."""
MAX_GPU_MINUTES = Default(default=15, above=0, most=1440)
"""What a profile may cost, beside the model's download."""
GPU_MINUTES_BY_HAND = 30.0
"""The same for who runs the profiler without Kubernetes and sees what it does."""
PRICE_PER_GPU_HOUR = Bounds(above=0, most=1_000_000)
"""In whatever currency."""
CURRENCY = r"^[A-Z]{3}$"
"""As ISO 4217 has it."""
MAX_BATCH_SIZE = Default(default=512, least=1)
"""Largest B that is tried."""
MAX_NUM_BATCHED_TOKENS = Default(default=8192, least=1)
"""Token budget per step of the engine that is swept, on a device with room for it."""
TOKENS_BY_MEMORY = ((32 * GIB, 2048),)
"""(device memory below, token budget): activations of a long step would take from a small card what packs need.

vLLM has 2048 there too (engine/arg_utils.py, `get_batch_defaults`).
"""
STARTUP_SECONDS = Default(default=900.0, above=0)
"""Patience with an engine that starts."""
INPUT_TOKENS = Default(default=161, least=1, most=1_000_000)
"""Mean prompt length: that of ShareGPT, as published."""
OUTPUT_TOKENS = Default(default=338, least=2, most=1_000_000)
"""Mean output length. With fewer than two tokens there is no time between tokens."""
CONCURRENCY = Bounds(least=1, most=100_000)
"""Requests in flight per GPU to decide for."""
REQUESTS_PER_SECOND = Bounds(above=0, most=100_000)
"""The same as a rate."""
GPU_MEMORY_BYTES = Bounds(least=1, most=1 << 50)
"""Memory of the GPU that will serve."""
