"""The engine's own counters, as one value per scrape.

They measure throughput and mean latency exactly and at no client cost. Under which names is for `engines` to say. Must
never guess: a missing name is an error that says which.

NB: prometheus_client's parser takes 25 ms for such a page; the few names needed here are found in 1 ms, and the load
generator must not be what is measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from math import nan
from typing import TYPE_CHECKING

from slm_core.codec import LARGEST
from slm_core.failure import Failure, ProfileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What one scrape of one engine shows, or the sum over engines. Times in seconds."""

    running: float
    waiting: float
    kv_usage: float
    """Fraction of the KV pool in use; over engines the largest, not the sum."""
    preemptions: float
    prompt_tokens: float
    output_tokens: float
    finished: float
    itl_sum: float
    itl_count: float
    ttft_sum: float
    ttft_count: float
    queue_sum: float


class CounterReader:
    """Reads pages of one engine, which calls each field of Counters by a name of its own."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """`names`: by field of Counters, the name of the sample."""
        self.names = dict(names)
        self._line = re.compile(rf"^({'|'.join(names.values())})(?:\{{.*\}})? (\S+)", re.MULTILINE)

    def read(self, page: str) -> Counters:
        """The counters of a page, summed over labels. Raises ProfileError naming what is missing or odd."""
        sums: dict[str, float] = {}
        for name, value in self._line.findall(page):
            sums[name] = sums.get(name, 0.0) + _figure(name, value)
        missing = [name for name in self.names.values() if name not in sums]
        if missing:
            raise ProfileError(Failure.METRICS, f"the engine's /metrics lacks {', '.join(missing)}")
        return Counters(**{field: sums[name] for field, name in self.names.items()})


def _figure(name: str, text: str) -> float:
    try:
        figure = float(text)
    except ValueError:
        figure = nan
    if not 0 <= figure <= LARGEST:  # NB: refuses NaN as well
        raise ProfileError(Failure.METRICS, f"the engine's /metrics shows {name} as no number from 0 to {LARGEST}")
    return figure


def over_engines(counters: Iterable[Counters]) -> Counters:
    """The sum over engines; of KV use the largest."""
    every = list(counters)
    summed = {f.name: sum(getattr(c, f.name) for c in every) for f in fields(Counters)}
    return replace(Counters(**summed), kv_usage=max(c.kv_usage for c in every))
