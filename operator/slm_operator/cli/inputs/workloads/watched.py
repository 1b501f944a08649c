"""What an engine that somebody else runs does now, by its own /metrics over a while.

    two readings of its page --> figures of one GPU, beside what was measured under that load

A check of the measurements, and no measurement: whose load it is nobody chose. Reads one engine, the page that its user names
(`kubectl port-forward` makes an address for any). Must never say a difference where the lengths are others.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from slm_core.configuration import EngineConfiguration
from slm_core.slo_check import resolve

from slm_operator.advisor.expectation import curve_of
from slm_operator.cli.errors import Refused
from slm_operator.kube.engine_metrics import NoMetrics, engine_counters
from slm_operator.slo.judge import Patience
from slm_operator.slo.window import Asked, Scrape, between, restarted

if TYPE_CHECKING:
    from slm_core.counters import Counters
    from slm_core.engines.base import Batching, Engine
    from slm_core.measurements import MeasurementDocument
    from slm_core.slo import Slo

    from slm_operator.advisor.advice import Settings
    from slm_operator.advisor.expectation import Expectation
    from slm_operator.slo.judge import Window
    from slm_operator.slo.window import Figures

ENGINE = "engine"
"""Name of the one that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """What one GPU with such engines does."""

    seconds: float
    window: Window
    figures: Figures
    expected: Expectation | None
    """What was measured under that load. None: nothing, or the lengths are others."""
    has_other_lengths: bool

    @property
    def throughput_fraction(self) -> float | None:
        """Tokens per second over the expected ones, less 1. None: nothing is expected."""
        there = self.expected
        if there is None:
            return None
        return self.figures.throughput_tokens_per_second / there.throughput_tokens_per_second - 1


def readings(url: str, engine: Engine, seconds: float) -> tuple[Scrape, Scrape]:
    """Two, so many seconds apart. Raises Refused where the page cannot be read."""
    try:
        return asyncio.run(_readings(url, engine, seconds))
    except NoMetrics as error:
        raise Refused(f"{url}: {error.because}: give the address of one engine's metrics page") from None


async def _readings(url: str, engine: Engine, seconds: float) -> tuple[Scrape, Scrape]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        first = _scrape(await engine_counters(session, url, engine))
        await asyncio.sleep(seconds)
        return first, _scrape(await engine_counters(session, url, engine))


def _scrape(counters: Counters) -> Scrape:
    return Scrape(at_seconds=time.monotonic(), engines={ENGINE: counters})


def served_of(document: MeasurementDocument, settings: Settings, batching: Batching) -> EngineConfiguration | None:
    """What a GPU runs, as far as points are of it. None: the batch, or how engines share the GPU, is not known."""
    engines = settings.engines_per_gpu or 1
    modes = {p.sharing_mode for p in document.points if p.replicas == engines}
    mode = settings.mode if settings.mode in modes else next(iter(modes), None) if len(modes) == 1 else None
    if batching.batch_size is None or mode is None:
        return None
    return EngineConfiguration(
        batch_size=batching.batch_size,
        max_num_batched_tokens=batching.max_num_batched_tokens,
        engines_per_gpu=engines,
        sharing_mode=mode,
    )


def doing(
    seen: tuple[Scrape, Scrape],
    document: MeasurementDocument,
    slo: Slo,
    engines: int,
    served: EngineConfiguration | None,
) -> Doing:
    """What such `engines` on a GPU did between the two readings of one. Raises Refused where they say nothing."""
    before, after = seen
    seconds, limits = after.at_seconds - before.at_seconds, resolve(slo, document.points)
    if restarted(before, after, ENGINE):
        raise Refused(f"the engine's counters began anew within {seconds:.0f} s: it was restarted; ask again")
    found = between(before, after, Asked(limits=limits, pods_per_gpu=engines, histograms={}))
    if found is None:
        raise Refused(
            f"no request has finished within {seconds:.0f} s, so nothing can be said of what the engine does: ask under load, "
            "or for longer (--metrics-seconds)"
        )
    window, figures = found
    asked, tolerance = document.workload, Patience().length_tolerance
    lengths = (
        (window.input_tokens_mean, asked.input_tokens_mean),
        (window.output_tokens_mean, asked.output_tokens_mean),
    )
    others = any(abs(now - measured) > tolerance * measured for now, measured in lengths)
    curve = curve_of(document.points, served, limits) if served is not None and not others else None
    return Doing(
        seconds=seconds,
        window=window,
        figures=figures,
        expected=curve.at(figures.in_flight) if curve is not None else None,
        has_other_lengths=others,
    )
