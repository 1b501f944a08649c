"""The engine's own counters, as one value per scrape.

They measure throughput and mean latency exactly and at no client cost. Under which names is for `engines` to say. Must
never guess: a missing name is an error that says which.

NB: prometheus_client's parser takes 25 ms for such a page; the few names needed here are found in 1 ms, and the load
generator must not be what is measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from math import nan
from typing import TYPE_CHECKING

from slm_core.codec import LARGEST
from slm_core.failure import Failure, ProfileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What one scrape of one engine shows, or the sum over engines. Times in seconds."""

    running: float
    waiting: float
    kv_usage: float
    """Fraction of the KV pool in use; over engines, and over the series of a page, the largest and not the sum."""
    preemptions: float
    prompt_tokens: float
    output_tokens: float
    finished: float
    itl_sum: float
    itl_count: float
    ttft_sum: float
    ttft_count: float
    queue_sum: float
    prefill_sum: float = 0.0
    """Seconds from admission to the first token inside the engine, over finished requests. 0 for one that does not tell."""
    prefix_queries: float = 0.0
    """Prompt tokens that were looked up in a prefix cache. 0 for an engine that does not tell."""
    prefix_hits: float = 0.0
    """Those that one held."""


LARGEST_OF = frozenset({"kv_usage"})
"""Fields of which several are no sum: fractions."""
OF_NOW = frozenset({"running", "waiting", "kv_usage"})
"""Fields that rise and fall. All others only grow while an engine runs."""


def began_anew(before: Counters, after: Counters) -> bool:
    """Whether the engine was started again in between, however much it has done since."""
    return any(getattr(after, f.name) < getattr(before, f.name) for f in fields(Counters) if f.name not in OF_NOW)


class CounterReader:
    """Reads pages of one engine, which calls each field of Counters by a name of its own."""

    def __init__(self, names: Mapping[str, str], optional: Mapping[str, Sequence[str]] | None = None) -> None:
        """`names`: by field of Counters, the name of the sample; `optional`: samples that may be missing, summed."""
        self.names = dict(names)
        self._optional = dict(optional or {})
        every = [*names.values(), *(name for some in self._optional.values() for name in some)]
        self._line = re.compile(rf"^({'|'.join(every)})(?:\{{.*\}})? (\S+)", re.MULTILINE)

    def read(self, page: str) -> Counters:
        """The counters of a page: sums over labels, of a fraction the largest. Raises ProfileError naming what is missing or odd.

        NB: an engine with several processes shows a fraction once for each (vLLM issue 28792), and NaN for one that
        has set none: that is no value. In a sum it would be a part that is missing, so the page is refused.
        """
        series: dict[str, list[str]] = {}
        for name, value in self._line.findall(page):
            series.setdefault(name, []).append(value)
        missing = [name for name in self.names.values() if name not in series]
        if missing:
            raise ProfileError(Failure.METRICS, f"the engine's /metrics lacks {', '.join(missing)}")
        found = {field: _one(field, name, series[name]) for field, name in self.names.items()}
        found |= {
            field: sum(_one(field, name, series.get(name, [])) for name in some)
            for field, some in self._optional.items()
        }
        return Counters(**found)


def _one(field: str, name: str, values: list[str]) -> float:
    """What several series of one name say together."""
    if field not in LARGEST_OF:
        return sum(_figure(name, value) for value in values)
    return max(_figure(name, value) for value in [v for v in values if v.lower() != "nan"] or values)


def _figure(name: str, text: str) -> float:
    try:
        figure = float(text)
    except ValueError:
        figure = nan
    if not 0 <= figure <= LARGEST:  # NB: refuses NaN as well
        raise ProfileError(Failure.METRICS, f"the engine's /metrics shows {name} as no number from 0 to {LARGEST}")
    return figure


def over_engines(counters: Iterable[Counters]) -> Counters:
    """The sum over engines; of a fraction the largest."""
    every = list(counters)
    return Counters(
        **{f.name: (max if f.name in LARGEST_OF else sum)(getattr(c, f.name) for c in every) for f in fields(Counters)}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterDelta:
    """What engines did between two scrapes: the one place where counters become rates and means."""

    gained: Counters
    """Differences, summed over the engines. Of its gauges (running, waiting, KV use) they say nothing."""
    seconds: float
    """Between the scrapes; above 0."""
    engines: int = 1
    """How many engines the sums are over."""

    @classmethod
    def between(cls, before: Counters, after: Counters, seconds: float, engines: int = 1) -> CounterDelta:
        """The difference of two sums over the same engines."""
        gained = {f.name: getattr(after, f.name) - getattr(before, f.name) for f in fields(Counters)}
        return cls(gained=Counters(**gained), seconds=seconds, engines=engines)

    @classmethod
    def of_engines(
        cls, before: Mapping[str, Counters], after: Mapping[str, Counters], seconds: float
    ) -> CounterDelta | None:
        """Over those engines that ran all the while, by name. None where there is none, or no time has passed.

        NB: counters of an engine that was restarted begin anew: it is left out.
        """
        pairs = [
            (before[name], now) for name, now in after.items() if name in before and not began_anew(before[name], now)
        ]
        if not pairs or seconds <= 0:
            return None
        old, new = over_engines(one for one, _ in pairs), over_engines(one for _, one in pairs)
        return cls.between(old, new, seconds, engines=len(pairs))

    @property
    def output_tokens_per_second(self) -> float:
        """Generated tokens."""
        return self.gained.output_tokens / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Input and output tokens."""
        return (self.gained.prompt_tokens + self.gained.output_tokens) / self.seconds

    def mean_ms(self, latency: str) -> float | None:
        """Mean of a latency, named as its counters begin: `itl` over every token, `ttft` over requests. None without any."""
        count = getattr(self.gained, f"{latency}_count")
        return 1000 * getattr(self.gained, f"{latency}_sum") / count if count > 0 else None
