"""What a stage is given, and how it says what it has found.

Exists so that a stage knows nothing of files, deadlines and other stages: it says a figure, and the figure is kept
whatever happens next. Figures go to standard output as JSON lines, which the conductor reads, so that a stage may run
as a user who can write nothing. Must never say a figure that was not measured.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slm_core.failure import EngineFault, ProfileError

from benchmarks.gpu_stages.cuda import Refused
from benchmarks.gpu_stages.machine import Kind
from benchmarks.gpu_stages.record import State
from benchmarks.gpu_stages.shapes import OPT_1_3B, OPT_SMALL, QWEN_1_5B, QWEN_SMALL, Shape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Unavailable(Exception):  # noqa: N818 - it says what the machine is
    """This machine does not have what a figure takes."""


class Unfinished(Exception):  # noqa: N818 - it says what the stage is
    """A stage that ends before it has an answer, and is to be tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much a machine is asked."""

    published: Shape
    """The model of the published figures."""
    modern: Shape
    """A model of today's shape."""
    lengths: tuple[str, str]
    """Prompts and outputs, in the profiler's words. ShareGPT's means are 111 and 292 tokens."""
    batch_sizes: tuple[int, ...]
    """B of the decode stage; the last is the one at which CPUs and streams are compared."""
    hold_seconds: float
    """Of each window of the decode stage."""
    cpus: tuple[int, int]
    """CPUs of an engine, few against many."""
    shares: tuple[int, ...]
    """R of the clients that each take what the device plugin would give them."""
    work_seconds: float
    """Of each piece of a CUDA client's work."""
    profile_words: tuple[str, ...]


FULL = Scale(
    published=OPT_1_3B,
    modern=QWEN_1_5B,
    lengths=("lognormal:111,800", "lognormal:292,1000"),
    batch_sizes=(1, 32, 256),
    hold_seconds=8.0,
    cpus=(2, 8),
    shares=(2, 4),
    work_seconds=1.0,
    profile_words=("--max-batch-size", "512", "--max-window-seconds", "10", "--max-engines-per-gpu", "2"),
)
SMALL = Scale(
    published=OPT_SMALL,
    modern=QWEN_SMALL,
    lengths=("24", "16"),
    batch_sizes=(1, 8, 16),
    hold_seconds=0.5,
    cpus=(1, 2),
    shares=(2, 3),
    work_seconds=0.2,
    profile_words=(
        *("--max-batch-size", "48", "--max-num-batched-tokens", "512", "--max-engines-per-gpu", "2"),
        *("--min-window-seconds", "0.5", "--max-window-seconds", "1", "--poll-seconds", "0.05"),
    ),
)
"""Without a GPU, the same stages on models of some MB: they show that everything works, and nothing of any GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One try of one stage."""

    parent: int
    """Process id of the conductor."""
    kind: Kind
    seconds: float
    """After so long the stage is ended; an end of its own before that is better."""
    folder: str
    """The stage's own, for its files."""
    engine: tuple[str, ...] = field(default=())
    """The engine's command."""

    @property
    def scale(self) -> Scale:
        """What this machine is asked."""
        return FULL if self.kind is Kind.GPU else SMALL

    def keep(self, name: str, value: Any) -> None:
        """Say a figure; a later one of the same name replaces it."""
        _say({"figure": name, "value": value})

    def lacks(self, name: str, state: State, why: str) -> None:
        """Say that there is no such figure."""
        _say({"lacks": name, "state": str(state), "why": why})

    async def figure(self, name: str, measure: Callable[[], Awaitable[Any]]) -> Any:
        """Measure one figure and say it, or say why there is none; returns it, or None. The next ones are tried anyway."""
        try:
            value = await measure()
        except Unavailable as lack:
            self.lacks(name, State.NOT_AVAILABLE, str(lack))
        except (EngineFault, ProfileError) as fault:
            self.lacks(name, State.FAILED, f"{fault.failure}: {fault}")
        except (Refused, OSError) as refused:
            self.lacks(name, State.FAILED, str(refused))
        else:
            self.keep(name, value)
            return value
        return None

    def end(self, because: str | None) -> None:
        """The stage came to its end, or it says why it is to be tried again."""
        _say({"end": because})


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
