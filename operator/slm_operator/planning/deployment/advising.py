"""From spec and profile to advice, and from advice to what an engine is started with and what status says.

The advisor knows nothing of Kubernetes; this is where the words of the API become its words and back. Must never change
what the advisor decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_core.candidates import Source, Verdict
from slm_core.engines.registry import engine_of
from slm_core.measurements import camel
from slm_core.sharing import asked_mode
from slm_core.slo import METRICS, Slo
from slm_core.tuning import tuned

from slm_operator.advisor.advice import Objective, Settings
from slm_operator.advisor.advise import advise
from slm_operator.advisor.validate import AdviceError
from slm_operator.api.reasons import Reason
from slm_operator.manifests.engine import Serving

if TYPE_CHECKING:
    from slm_core.candidates import Candidate, Predicted
    from slm_core.measurements import Ledger, MeasurementDocument

    from slm_operator.advisor.advice import Advice
    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.api.parts import EngineSpec
    from slm_operator.api.slo import SloSpec
    from slm_operator.watch.records import DeploymentRecord, ProfileRecord

MAX_CANDIDATES = 48
MAX_SENTENCE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Unadvisable:
    """Why there is no advice."""

    reason: Reason
    """Condition reason."""
    because: str
    """What is wrong, and the mend."""


def advise_deployment(spec: SLMDeploymentSpec, document: MeasurementDocument) -> Advice | Unadvisable:
    """The advice for a deployment from a measurement document."""
    try:
        return advise(document, slo_of(spec.slo), settings_of(spec))
    except AdviceError as error:
        return Unadvisable(reason=Reason.INVALID_MEASUREMENTS, because=str(error))


def advice_of(deployment: DeploymentRecord, profile: ProfileRecord | None) -> Advice | Unadvisable | None:
    """The advice for a deployment on what its profile has measured; None while there is no spec or nothing measured."""
    if deployment.spec is None or profile is None or profile.measurements is None:
        return None
    return advise_deployment(deployment.spec, profile.measurements)


def slo_of(slo: SloSpec) -> Slo:
    """The SLO in the advisor's words, with the default factor where no ITL limit is given."""
    return Slo.read(slo).or_default()


def settings_of(spec: SLMDeploymentSpec) -> Settings:
    """The user's settings in the advisor's words."""
    return Settings(
        **tuned(spec.advisor),
        objective=Objective(spec.advisor.objective),
        mode=asked_mode(spec.sharing.mode),
        replicas_per_gpu=spec.sharing.replicas_per_gpu,
        max_replicas_per_gpu=spec.sharing.max_replicas_per_gpu,
        concurrency=spec.workload.concurrency,
        requests_per_second=spec.workload.requests_per_second,
    )


def serving_of(engine: EngineSpec, advice: Advice, ledger: Ledger | None) -> Serving:
    """What replicas are started with."""
    advised = advice.configuration
    return Serving(
        batch_size=advised.batch_size,
        kv_bytes=advised.kv_cache_bytes,
        max_num_batched_tokens=advised.max_num_batched_tokens,
        replicas_per_gpu=advised.engines_per_gpu,
        sharing_mode=advised.sharing_mode,
        gpu_memory_utilization=engine_of(engine.command).fraction_while_serving(advised.engines_per_gpu, ledger),
        weights_bytes=ledger.weights_bytes if ledger is not None else None,
    )


def slice_bytes_of(advice: Advice, ledger: Ledger | None) -> int | None:
    """GPU memory that one replica needs: its ledger with the advised KV pool."""
    pool = advice.configuration.kv_cache_bytes
    return None if ledger is None or pool is None else ledger.fixed_bytes + pool


def advice_status(advice: Advice) -> dict[str, Any]:
    """`status.advice`, in camelCase, as api.deployment.AdviceStatus describes it."""
    user = Source.USER_CHOICE in (advice.source.replicas_per_gpu, advice.source.sharing_mode)
    optional = {
        "kvCacheBytes": advice.configuration.kv_cache_bytes,
        "predicted": _prediction(advice.predicted),
        "bestSingle": _prediction(advice.best_single),
        "gain": _rounded(advice.gain, 4),
        "freedBytes": advice.freed_bytes,
    }
    return {
        "source": "UserChoice" if user else str(advice.source.predicted),
        "batchSize": advice.configuration.batch_size,
        "maxNumBatchedTokens": advice.configuration.max_num_batched_tokens,
        "replicasPerGpu": advice.configuration.engines_per_gpu,
        "sharingMode": str(advice.configuration.sharing_mode),
        "feasible": advice.feasible,
        "because": [sentence[:MAX_SENTENCE] for sentence in advice.sentences[:16]],
        "candidates": [_candidate(candidate) for candidate in _shown(advice.candidates)],
    } | {name: value for name, value in optional.items() if value is not None}


def _shown(candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """At most MAX_CANDIDATES, the chosen one always among them."""
    chosen = tuple(c for c in candidates if c.verdict is Verdict.CHOSEN)
    rest = tuple(c for c in candidates if c.verdict is not Verdict.CHOSEN)
    return chosen + rest[: MAX_CANDIDATES - len(chosen)]


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "batchSize": candidate.point.batch_size,
        "replicasPerGpu": candidate.point.replicas,
        "sharingMode": str(candidate.point.sharing_mode),
        "verdict": str(candidate.verdict),
        "because": candidate.because[:MAX_SENTENCE],
    }


def _prediction(predicted: Predicted | None) -> dict[str, float] | None:
    if predicted is None:
        return None
    figures = {
        "throughputTokensPerSecond": _rounded(predicted.throughput_tokens_per_second, 1),
        **{camel(m.field): _rounded(m.mean_ms(predicted), m.digits) for m in METRICS},
    }
    return {name: value for name, value in figures.items() if value is not None}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
