"""The words that the search and whatever runs engines speak to each other.

Exists so that the same search drives real engines, a misbehaving one in a test, and a simulated one in virtual time.
Everything is a frozen value: steps go in, outcomes come out, and the findings are all there is to remember.
Must never know how an engine is started nor how a load is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from slm_core import tuning
from slm_core.engines.registry import default
from slm_core.failure import Failure
from slm_core.sharing import PACKED, allows_packs

if TYPE_CHECKING:
    from slm_core.configuration import EngineConfiguration
    from slm_core.engines.base import Engine
    from slm_core.measurements import Ledger, Point, SharingMode
    from slm_core.slo import Slo


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(tuning.Tuning):
    """What is to be found out, and what it may cost."""

    slo: Slo
    max_gpu_seconds: float
    """Budget: the search ends early, with the best so far, when the next step would not fit into it.

    The model's download is waited for outside it, or a slow network would decide what is measured.
    """
    max_batch_size: int = tuning.MAX_BATCH_SIZE.default
    """Largest B to try; the sweep's engine is started with it."""
    max_num_batched_tokens: int = tuning.MAX_NUM_BATCHED_TOKENS.default
    """Token budget per step of the baseline engine; chunked prefill is on. At least `max_batch_size`."""
    modes: tuple[SharingMode, ...] = (PACKED[0].mode,)
    """Ways of sharing that packs may use, best first; a later one is tried only where an earlier one fails to run."""
    max_engines: int = tuning.MAX_ENGINES_PER_GPU.default
    """Largest R. 1: no packs."""
    engines: int | None = None
    """The user's own R: the only pack that is measured, whatever is predicted for it. At least 2."""
    concurrency: int | None = None
    """Requests in flight to decide for. None: full batches, unless a rate is given."""
    requests_per_second: float | None = None
    """The same as a rate, which the sweep turns into requests in flight (`chosen.load_of`)."""
    max_model_len: int | None = None
    """Longest sequence in tokens, as far as it is known before an engine runs; what an engine says itself wins."""
    engine: Engine = field(default_factory=default)
    """Which engine is measured."""


def packs_asked(mode: SharingMode | None, engines: int | None, most: int) -> tuple[int, int | None]:
    """`max_engines` and `engines` of a request: the largest R, and the user's own; 1 and None where no pack may be measured.

    `mode`: the way of sharing that was asked for; None: any.
    """
    if not allows_packs(mode) or engines == 1:
        return 1, None
    return max(most, engines or 1), engines


def step_tokens(device_bytes: int | None, max_batch_size: int, given: int | None = None) -> int:
    """`max_num_batched_tokens` of a request on a device: an engine refuses less than its batch. None: the device is a CPU."""
    return max(given or tuning.max_num_batched_tokens(device_bytes), max_batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEngines:
    """Stop what runs; start R engines on the GPU, one after the other, under the limits that the cluster would impose.

    Those limits: MPS with R > 1 gives each engine device / R of memory and 100 / R of the threads; time slicing none.
    """

    configuration: EngineConfiguration
    """Without KV bytes: each engine takes all the memory that it finds (the sweep's engine only)."""
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Take one steady-state point of the engines that run, in a closed loop."""

    batch_size: int
    """Sequences each engine is to run at once: the loop's width per engine; may be below what it was started with."""
    in_flight: int | None
    """Requests kept in flight over all engines, split as the Service would; None: B times R, full batches."""
    max_requests: int | None
    """End the window after so many finished requests, however wide the interval; None: the window's own rule."""
    min_samples: int
    """Streamed requests that what the SLO limits needs; 0: means are enough."""
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The search is over."""

    complete: bool
    """False: it ended early, and what was found until then is all there is."""
    because: str


Step = StartEngines | Measure | Done


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """What engines that have just started say of themselves, and how long each of them took."""

    ledger: Ledger
    """Memory of one of them."""
    max_model_len: int | None
    """Longest sequence in tokens, of which the KV pool must hold one. None: the engine does not say."""
    version: str
    """`unknown` where the engine does not say."""
    seconds: tuple[float, ...]
    """Of each engine's start, in order; without the model's download."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The engines of `step` run."""

    step: StartEngines
    report: EngineReport
    gpu_seconds: float = 0.0
    """What the step cost, the download included."""
    download_seconds: float = 0.0
    """Part of it for which the model was being downloaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """`step` gave `point`, on the engines of `on`."""

    step: Measure
    on: EngineConfiguration
    point: Point
    asked: bool = True
    """This question asks for it. False: a former session's did; what it shows is known, and no bound of tries counts it."""
    gpu_seconds: float = 0.0
    download_seconds: float = 0.0


PASSING = frozenset({Failure.NEVER_HEALTHY, Failure.HANGS})
"""Causes for which a start may succeed unchanged: what was downloaded and compiled until then is there the next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """`step` failed; no engine runs any more."""

    step: StartEngines | Measure
    on: EngineConfiguration
    """The engines that failed."""
    reason: str
    failure: Failure | None = None
    """Its class. None: not known."""
    batch_size_limit: int | None = None
    """A smaller B at which they would have started, where the engine named one."""
    gpu_seconds: float = 0.0
    download_seconds: float = 0.0

    @property
    def is_start(self) -> bool:
        """They did not start; else they did, and died or hung while they were measured."""
        return isinstance(self.step, StartEngines)

    @property
    def batch_size(self) -> int:
        """B that was being measured, or started with."""
        return self.step.batch_size if isinstance(self.step, Measure) else self.on.batch_size


Outcome = Started | Measured | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that has happened, in order."""

    outcomes: tuple[Outcome, ...] = ()
    earlier: int = 0
    """So many of its outcomes are of former sessions: their points are known, their engines run no more."""

    def add(self, outcome: Outcome) -> Findings:
        """These findings and one more."""
        return replace(self, outcomes=(*self.outcomes, outcome))

    @property
    def session(self) -> tuple[Outcome, ...]:
        """What has happened in this session."""
        return self.outcomes[self.earlier :]

    @property
    def has_started(self) -> bool:
        """Engines have run in this session."""
        return any(isinstance(o, Started) for o in self.session)

    @property
    def starts(self) -> tuple[Started, ...]:
        """Every start that succeeded."""
        return tuple(o for o in self.outcomes if isinstance(o, Started))

    @property
    def measured(self) -> tuple[Measured, ...]:
        """Every measurement that succeeded."""
        return tuple(o for o in self.outcomes if isinstance(o, Measured))

    @property
    def failures(self) -> tuple[Failed, ...]:
        """Every step that failed."""
        return tuple(o for o in self.outcomes if isinstance(o, Failed))

    @property
    def lasting_failures(self) -> tuple[Failed, ...]:
        """Those that say something of their configuration: all but the first start that failed for a passing cause."""
        return tuple(
            f for f in self.failures if f.failure not in PASSING or not f.is_start or self._failed_starts(f.on) > 1
        )

    def refuse(self, configuration: EngineConfiguration) -> bool:
        """Whether just these engines have failed to start, and would again: nothing may ask for them once more."""
        return any(f.is_start and f.on == configuration for f in self.lasting_failures)

    def _failed_starts(self, of: EngineConfiguration) -> int:
        return sum(f.is_start and f.on == of for f in self.failures)

    @property
    def points(self) -> tuple[Point, ...]:
        """Every point, marked or not."""
        return tuple(m.point for m in self.measured)

    @property
    def running(self) -> EngineConfiguration | None:
        """The engines that run now."""
        for outcome in reversed(self.session):
            if isinstance(outcome, Failed):
                return None
            if isinstance(outcome, Started):
                return outcome.step.configuration
        return None

    @property
    def ledger(self) -> Ledger | None:
        """Memory of the sweep's engine."""
        return next((s.report.ledger for s in self.starts if s.step.configuration.kv_cache_bytes is None), None)

    @property
    def max_model_len(self) -> int | None:
        """Longest sequence in tokens, as the engines themselves say: whatever file, flag or scaling it comes from."""
        return next((s.report.max_model_len for s in reversed(self.starts) if s.report.max_model_len), None)

    @property
    def version(self) -> str:
        """Of the engine, from itself."""
        return self.starts[-1].report.version if self.starts else "unknown"

    @property
    def engine_starts(self) -> int:
        """Engines started in this session, of packs each one."""
        return sum(o.step.configuration.engines_per_gpu for o in self.session if isinstance(o, Started))

    @property
    def startup_seconds(self) -> float:
        """Wall time of this session's successful starts."""
        return sum(o.gpu_seconds for o in self.session if isinstance(o, Started))

    @property
    def gpu_seconds(self) -> float:
        """Cost of this session."""
        return sum(o.gpu_seconds for o in self.session)

    @property
    def download_seconds(self) -> float:
        """Part of it that no budget counts."""
        return sum(o.download_seconds for o in self.session)
