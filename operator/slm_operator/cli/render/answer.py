"""The advice as plain JSON values: the stable form that scripts read, described by docs/schemas/advice.json.

Exists so that the advisor's types may change without breaking a script. Every key is always there; what is not known
is null. Must never compute: figures and sentences are the advisor's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_core.measurements import camel
from slm_core.slo import METRICS

if TYPE_CHECKING:
    from slm_core.candidates import Candidate, Predicted
    from slm_core.measurements import Point

    from slm_operator.advisor.advice import Advice, Closest

SCHEMA = "slm-operator.io/advice/v1"


def answer(advice: Advice) -> dict[str, Any]:
    """The whole advice."""
    return {
        "schema": SCHEMA,
        "batchSize": advice.configuration.batch_size,
        "kvCacheBytes": advice.configuration.kv_cache_bytes,
        "maxNumBatchedTokens": advice.configuration.max_num_batched_tokens,
        "replicasPerGpu": advice.configuration.engines_per_gpu,
        "sharingMode": str(advice.configuration.sharing_mode),
        "feasible": advice.feasible,
        "predicted": _predicted(advice.predicted),
        "bestSingle": _predicted(advice.best_single),
        "gain": advice.gain,
        "freedBytes": advice.freed_bytes,
        "load": {"inFlight": advice.load.in_flight},
        "paysFromInFlight": advice.pays_from_in_flight,
        "closest": _closest(advice.closest),
        "source": {
            "batchSize": str(advice.source.batch_size),
            "kvCacheBytes": str(advice.source.kv_bytes),
            "replicasPerGpu": str(advice.source.replicas_per_gpu),
            "sharingMode": str(advice.source.sharing_mode),
            "predicted": str(advice.source.predicted),
        },
        "sentences": list(advice.sentences),
        "paretoFrontier": [_measured(point) for point in advice.pareto_frontier],
        "candidates": [_candidate(candidate) for candidate in advice.candidates],
    }


def _predicted(figures: Predicted | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    return {
        "throughputTokensPerSecond": figures.throughput_tokens_per_second,
        "outputTokensPerSecond": figures.output_tokens_per_second,
        **{camel(metric.field): metric.mean_ms(figures) for metric in METRICS},
        "batchSize": figures.configuration.batch_size,
        "replicasPerGpu": figures.configuration.engines_per_gpu,
        "source": str(figures.source),
    }


def _closest(closest: Closest | None) -> dict[str, Any] | None:
    if closest is None:
        return None
    return {
        "check": str(closest.check),
        "value": closest.value,
        "limit": closest.limit,
        "missedBy": closest.missed_by,
        "because": closest.because,
        "mend": closest.mend,
    }


def _measured(point: Point) -> dict[str, Any]:
    return {
        "batchSize": point.batch_size,
        "replicasPerGpu": point.replicas,
        "sharingMode": str(point.sharing_mode),
        "throughputTokensPerSecond": point.throughput_tokens_per_second,
        "itlMs": point.itl_ms.mean_ms,
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    checks = [
        {"name": str(c.name), "passed": c.passed, "value": c.value, "limit": c.limit, "because": c.because}
        for c in candidate.checks
    ]
    return {
        **_measured(candidate.point),
        "inFlight": candidate.point.in_flight,
        "verdict": str(candidate.verdict),
        "because": candidate.because,
        "checks": checks,
    }
