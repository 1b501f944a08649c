"""An engine that is not ours, before and after advice, beside an exhaustive sweep of it.

    what `make record foreign` has kept -> steps (an engine with one batch) -> which of them is best under the SLO

What chance may explain is the product's own. Pure. Must never hold a tolerance but those that the product and the issue name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slm_core import noise
from slm_core.codec import parse_document
from slm_core.slo import Limits, Slo
from slm_core.slo_check import resolve

from benchmarks.foreign.windows import Step, Window

if TYPE_CHECKING:
    from collections.abc import Mapping

REACHES = 0.98
"""Of the best of a sweep."""


@dataclass(frozen=True)
class Story:
    """All that a run has kept."""

    kept: Mapping[str, Any]

    @cached_property
    def limits(self) -> Limits:
        """The SLO, in milliseconds."""
        return resolve(Slo(itl_factor=self.kept["itlFactor"]), parse_document(self.kept["document"]).points)

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
        return limit_ms is None or step.full.itl_ms <= limit_ms

    @cached_property
    def best(self) -> Step:
        """The fastest of the sweep that keeps the SLO."""
        return max(filter(self.keeps, self.sweep), key=lambda one: one.full.throughput_tokens_per_second)

    @property
    def reached(self) -> float:
        """Tokens per second of the patched engine over those of the sweep's best."""
        return ratio(self.patched.full, self.best.full)

    @property
    def chance_fraction(self) -> float:
        """What those two may differ by chance, as the advisor says it."""
        return noise.of_comparison(self.patched.full.ci_fraction, self.best.full.ci_fraction)


def ratio(one: Window, other: Window) -> float:
    """Of their tokens per second."""
    return one.throughput_tokens_per_second / other.throughput_tokens_per_second


def steps(story: Story) -> list[str]:
    """A table of every engine with its full batch."""
    rows = ["| engine | `--max-num-seqs` | tokens/s | mean ITL (ms) | SLO |", "|---|---|---|---|---|"]
    named = [("as it was started", story.bad), ("with the advised patch", story.patched)]
    named += [("of the sweep" + (", its best" if step is story.best else ""), step) for step in story.sweep]
    for name, step in named:
        rates = [one.throughput_tokens_per_second for one in step.windows]
        rate = f"{step.full.throughput_tokens_per_second:,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"
        kept = "kept" if story.keeps(step) else "broken"
        rows.append(f"| {name} | {step.batch_size} | {rate} | {step.full.itl_ms:.1f} | {kept} |")
    return rows
