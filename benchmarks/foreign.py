"""An engine that is not ours, before and after advice, beside an exhaustive sweep of it; and its counters beside what was expected.

    what `make record foreign` has kept -> steps (an engine with one batch) -> windows (so many clients) -> figures, expectations

Counters become figures as the SLO monitor reads them, what is expected of them and what chance may explain are the product's own.
Pure. Must never hold a tolerance but those that the product and the issue name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slm_core import noise
from slm_core.codec import parse_document
from slm_core.configuration import EngineConfiguration
from slm_core.counters import Counters
from slm_core.slo import Limits, Slo
from slm_core.slo_check import resolve
from slm_operator.advisor.expectation import Expectation, curve_of
from slm_operator.slo.window import Asked, Figures, Scrape, between

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slm_core.measurements import MeasurementDocument

REACHES = 0.98
"""Of the best of a sweep."""
EXPECTED_WITHIN = 0.1
ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class Window:
    """What one engine did with so many clients in a closed loop."""

    clients: int
    figures: Figures
    ci_fraction: float | None
    """Half width of the 95 % confidence interval of its tokens per second, as the profiler takes it."""

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Window:
        """From its counters at both ends. Raises ValueError where nothing has finished in between, or a request failed."""
        before, after = (
            Scrape(at_seconds=at, engines={ENGINE: Counters(**kept[end])})
            for at, end in ((0.0, "before"), (kept["seconds"], "after"))
        )
        found = between(before, after, Asked(limits=Limits(), pods_per_gpu=1, histograms={}))
        if found is None or kept["errors"]:
            raise ValueError(f"{kept['clients']} clients: {kept['errors']} errors, and nothing else to see: {kept}")
        return cls(kept["clients"], found[1], kept["ciFraction"])


@dataclass(frozen=True, slots=True)
class Step:
    """One engine with one batch."""

    batch_size: int
    windows: tuple[Window, ...]

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Step:
        """From what the run has kept of it."""
        return cls(kept["batchSize"], tuple(map(Window.read, kept["windows"])))

    @property
    def full(self) -> Window:
        """With as many clients as its batch holds."""
        return next(one for one in self.windows if one.clients == self.batch_size)


@dataclass(frozen=True, slots=True)
class Compared:
    """What was seen at one load, beside what was expected there."""

    batch_size: int
    seen: Window
    expected: Expectation

    @property
    def throughput_fraction(self) -> float:
        """Expected tokens per second over those seen, less 1."""
        return self.expected.throughput_tokens_per_second / self.seen.figures.throughput_tokens_per_second - 1

    @property
    def itl_fraction(self) -> float:
        """The same of mean ITL."""
        return self.expected.itl_ms / self.seen.figures.itl_ms - 1

    @property
    def worst_fraction(self) -> float:
        """The larger of the two, without its sign."""
        return max(abs(self.throughput_fraction), abs(self.itl_fraction))


@dataclass(frozen=True)
class Story:
    """All that a run has kept."""

    kept: Mapping[str, Any]

    @cached_property
    def document(self) -> MeasurementDocument:
        """What the operator has measured."""
        return parse_document(self.kept["document"])

    @cached_property
    def limits(self) -> Limits:
        """The SLO, in milliseconds."""
        return resolve(Slo(itl_factor=self.kept["itlFactor"]), self.document.points)

    @cached_property
    def bad(self) -> Step:
        """As it was started."""
        return Step.read(self.kept["bad"])

    @cached_property
    def patched(self) -> Step:
        """With the advised patch."""
        return Step.read(self.kept["patched"])

    @cached_property
    def sweep(self) -> tuple[Step, ...]:
        """Every batch of the grid, by rising batch."""
        return tuple(map(Step.read, self.kept["sweep"]))

    def keeps(self, step: Step) -> bool:
        """Whether its full batches keep the SLO, as seen."""
        limit_ms = self.limits.itl_ms
        return limit_ms is None or step.full.figures.itl_ms <= limit_ms

    @cached_property
    def best(self) -> Step:
        """The fastest of the sweep that keeps the SLO."""
        return max(filter(self.keeps, self.sweep), key=lambda one: one.full.figures.throughput_tokens_per_second)

    @property
    def reached(self) -> float:
        """Tokens per second of the patched engine over those of the sweep's best."""
        return ratio(self.patched.full, self.best.full)

    @property
    def chance_fraction(self) -> float:
        """What those two may differ by chance, as the advisor says it."""
        return noise.of_comparison(self.patched.full.ci_fraction, self.best.full.ci_fraction)

    @cached_property
    def compared(self) -> tuple[Compared, ...]:
        """Every window of the engines that several loads were put on, beside what was expected of them."""
        several = [step for step in (self.patched, *self.sweep) if len(step.windows) > 1]
        return tuple(one for step in several for one in self._compared(step))

    def _compared(self, step: Step) -> Sequence[Compared]:
        served = EngineConfiguration(batch_size=step.batch_size, max_num_batched_tokens=None)
        curve = curve_of(self.document.points, served, self.limits)
        if curve is None:
            raise ValueError(f"nothing sound was measured: {self.document.points}")
        found = [(window, curve.at(window.figures.in_flight)) for window in step.windows]
        return [Compared(step.batch_size, window, there) for window, there in found if there is not None]


def ratio(one: Window, other: Window) -> float:
    """Of their tokens per second."""
    return one.figures.throughput_tokens_per_second / other.figures.throughput_tokens_per_second


def steps(story: Story) -> list[str]:
    """A table of every engine with its full batch."""
    rows = ["| engine | `--max-num-seqs` | tokens/s | mean ITL (ms) | SLO |", "|---|---|---|---|---|"]
    named = [("as it was started", story.bad), ("with the advised patch", story.patched)]
    named += [("of the sweep" + (", its best" if step is story.best else ""), step) for step in story.sweep]
    for name, step in named:
        figures = step.full.figures
        spread = "" if step.full.ci_fraction is None else f" ± {step.full.ci_fraction:.1%}"
        rate = f"{figures.throughput_tokens_per_second:,.0f}{spread}"
        rows.append(
            f"| {name} | {step.batch_size} | {rate} | {figures.itl_ms:.1f} | {'kept' if story.keeps(step) else 'broken'} |"
        )
    return rows


def expectations(story: Story) -> list[str]:
    """A table of every load beside what was expected there."""
    rows = [
        "| batch | clients | in flight | tokens/s | expected | mean ITL (ms) | expected | off by |",
        "|" + "---|" * 8,
    ]
    for one in story.compared:
        seen, there = one.seen.figures, one.expected
        rows.append(
            f"| {one.batch_size} | {one.seen.clients} | {seen.in_flight:.1f} | {seen.throughput_tokens_per_second:,.0f} "
            f"| {there.throughput_tokens_per_second:,.0f} | {seen.itl_ms:.1f} | {there.itl_ms:.1f} | {one.worst_fraction:.1%} |"
        )
    return rows
