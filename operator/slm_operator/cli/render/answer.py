"""The advice as plain JSON values: the stable form that scripts read, described by docs/reference/schemas/advice.json.

Exists so that the advisor's types may change without breaking a script. Every key is always there; what is not known
is null. Must never compute: figures and sentences are the advisor's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_core.candidates import Predicted
from slm_core.configuration import EngineConfiguration

from slm_operator.advisor.economy import cost_per_million_tokens
from slm_operator.advisor.plain import configuration_values, figures_values

if TYPE_CHECKING:
    from slm_core.candidates import Candidate
    from slm_core.choice import Alternative
    from slm_core.measurements import Point

    from slm_operator.advisor.advice import Advice, Closest
    from slm_operator.advisor.economy import Price

SCHEMA = "slm-operator.io/advice/v1"


def answer(advice: Advice) -> dict[str, Any]:
    """The whole advice."""
    price = advice.price
    return {
        "schema": SCHEMA,
        "configuration": configuration_values(advice.configuration),
        "feasible": advice.feasible,
        "figures": _figures(advice.predicted),
        "bestSingle": _figures(advice.best_single),
        "gain": advice.gain,
        "alternatives": [_alternative(one) for one in advice.alternatives],
        "kvReason": str(advice.kv_reason),
        "price": None if price is None else {"perGpuHour": price.per_gpu_hour, "currency": price.currency},
        "savedGpuHoursFraction": advice.saved_gpu_hours_fraction,
        "costPerMillionTokens": advice.cost_per_million_tokens,
        "joulesPerToken": advice.joules_per_token,
        "freedBytes": advice.freed_bytes,
        "load": {"inFlight": advice.load.in_flight},
        "paysFromInFlight": advice.pays_from_in_flight,
        "closest": _closest(advice.closest),
        "source": {
            "batchSize": str(advice.source.batch_size),
            "kvCacheBytes": str(advice.source.kv_bytes),
            "enginesPerGpu": str(advice.source.engines_per_gpu),
            "sharingMode": str(advice.source.sharing_mode),
            "figures": str(advice.source.predicted),
        },
        "sentences": list(advice.sentences),
        "paretoFrontier": [_measured(point) for point in advice.pareto_frontier],
        "candidates": [_candidate(candidate, price) for candidate in advice.candidates],
    }


def _figures(figures: Predicted | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    return {
        "configuration": configuration_values(figures.configuration),
        **figures_values(figures),
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
        "message": closest.because,
        "remedy": closest.remedy,
    }


def _alternative(one: Alternative) -> dict[str, Any]:
    return {
        "configuration": configuration_values(EngineConfiguration.of(one.candidate.point)),
        "gain": one.gain_fraction,
        "noise": one.noise_fraction,
        "itlRatio": one.itl_ratio,
    }


def _measured(point: Point) -> dict[str, Any]:
    return {
        "configuration": configuration_values(EngineConfiguration.of(point)),
        **figures_values(Predicted.of(point)),
    }


def _candidate(candidate: Candidate, price: Price | None) -> dict[str, Any]:
    checks = [
        {"name": str(c.name), "passed": c.passed, "value": c.value, "limit": c.limit, "message": c.because}
        for c in candidate.checks
    ]
    return {
        **_measured(candidate.point),
        "inFlight": candidate.point.in_flight,
        "verdict": str(candidate.verdict),
        "reason": str(candidate.last.name),
        "message": candidate.because,
        "costPerMillionTokens": cost_per_million_tokens(candidate.figures, price),
        "joulesPerToken": candidate.figures.joules_per_token,
        "checks": checks,
    }
