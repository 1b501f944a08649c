"""What a step will cost, from what steps of its kind have cost.

Exists so that a pack is not thought as dear as R times the first start of a profile, which no later start is like: it
finds nothing compiled and reads the weights from a cold disk. vLLM keys what it has compiled by `max_num_seqs` and
`max_num_batched_tokens` (its SchedulerConfig.compute_hash), so the first engine with another B or step budget compiles
anew, and those beside it find that done. The model's download is in none of these figures. Must never be used for more
than to keep within a budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core.search.steps import Measure, Started

if TYPE_CHECKING:
    from slm_core.configuration import EngineConfiguration
    from slm_core.search.steps import Findings, Request, StartEngines


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """Seconds of all starts so far, by kind, in the order in which they happened."""

    cold: tuple[float, ...]
    """Of engines that compiled: the first of their B and step budget."""
    warm: tuple[float, ...]
    """Of engines that found it compiled."""
    rest: tuple[float, ...]
    """Of each start, all but its engines: the end of those before, the daemon of MPS, reading the memory."""
    compiled: frozenset[tuple[int, int | None]]
    """B and step budgets that have been compiled in this session."""

    @classmethod
    def of(cls, findings: Findings) -> Starts:
        """All that succeeded."""
        cold: list[float] = []
        warm: list[float] = []
        rest: list[float] = []
        compiled: set[tuple[int, int | None]] = set()
        for at, started in enumerate(findings.outcomes):
            if at == findings.earlier:
                compiled.clear()  # NB: what another pod compiled may have gone with it
            if not isinstance(started, Started):
                continue
            seconds, key = started.report.seconds, _compiled_for(started.step.configuration)
            (warm if key in compiled else cold).extend(seconds[:1])
            warm.extend(seconds[1:])
            rest.append(max(0.0, started.gpu_seconds - started.download_seconds - sum(seconds)))
            compiled.add(key)
        return cls(cold=tuple(cold), warm=tuple(warm), rest=tuple(rest), compiled=frozenset(compiled))

    def expect(self, configuration: EngineConfiguration) -> float:
        """Seconds until R engines of this configuration run: one that may have to compile, and R - 1 that have not."""
        cold, rest = (max(kind[1:] or kind, default=0.0) for kind in (self.cold, self.rest))
        warm = max(self.warm, default=cold)
        first = warm if _compiled_for(configuration) in self.compiled else cold
        return first + (configuration.engines_per_gpu - 1) * warm + rest


def expected_seconds(findings: Findings, step: StartEngines | Measure) -> float:
    """Going by the dearest of its kind so far; a start is of no use without a measurement.

    The very first start counts only until there is another of its kind: it had to do what no later one has to.
    """
    measuring = max((m.gpu_seconds for m in findings.measured), default=0.0)
    return measuring if isinstance(step, Measure) else Starts.of(findings).expect(step.configuration) + measuring


def left_seconds(request: Request, findings: Findings) -> float:
    """GPU-seconds of the budget that nothing has used."""
    return request.max_gpu_seconds + findings.download_seconds - findings.gpu_seconds


def _compiled_for(configuration: EngineConfiguration) -> tuple[int, int | None]:
    return configuration.batch_size, configuration.max_num_batched_tokens
