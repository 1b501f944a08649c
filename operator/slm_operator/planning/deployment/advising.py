"""Translates spec and profile into advice, and advice into an engine's arguments and status.

The advisor knows nothing of Kubernetes, so the words of the API are translated here, in both directions. Must never change
what the advisor decided.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from slm_core.candidates import Source
from slm_core.configuration import EngineConfiguration
from slm_core.engines.registry import engine_of
from slm_core.measurements import SharingMode, camel
from slm_core.sharing import asked_mode
from slm_core.slo import METRICS
from slm_core.tuning import tuned
from slm_core.units import MIB

from slm_operator.advisor.advice import Objective, Settings
from slm_operator.advisor.advise import advise
from slm_operator.advisor.economy import Price, cost_per_million_tokens
from slm_operator.advisor.plain import configuration_values, figures_values
from slm_operator.advisor.validate import AdviceError, Unanswerable
from slm_operator.api.conditions import rfc3339
from slm_operator.api.reasons import Reason
from slm_operator.api.status import ConfigurationStatus
from slm_operator.manifests.engine import MeasuredOn, Serving
from slm_operator.manifests.overlay import refused_fields, refused_under_mps
from slm_operator.planning.fleet.product import unservable
from slm_operator.settings import Prices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from slm_core.candidates import Candidate, Rates
    from slm_core.measurements import Ledger, MeasurementDocument
    from slm_core.slo import Slo

    from slm_operator.advisor.advice import Advice
    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.api.parts import EngineSpec, WorkloadSpec
    from slm_operator.api.slo import SloSpec
    from slm_operator.manifests.served import AdvisedFrom
    from slm_operator.watch.records import DeploymentRecord, ProfileRecord

MAX_CANDIDATES = 8
NO_PRICES = Prices()
_DIGITS = {camel(metric.field): metric.digits for metric in METRICS}
"""Of latencies; rates have one."""
MAX_SENTENCE = 1024
_STEP_BYTES = 256 * MIB
_REASONS = {
    Unanswerable.INVALID: Reason.INVALID_MEASUREMENTS,
    Unanswerable.UNTRUSTED: Reason.UNTRUSTED_MEASUREMENTS,
    Unanswerable.WITHOUT_WATTS: Reason.NO_ENERGY_MEASURED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unadvisable:
    """Why there is no advice."""

    reason: Reason
    """Condition reason."""
    because: str
    """What is wrong, and the remedy."""


def advise_deployment(
    spec: SLMDeploymentSpec, document: MeasurementDocument, against_mps: str | None = None, prices: Prices = NO_PRICES
) -> Advice | Unadvisable:
    """The advice for a deployment from a measurement document. `against_mps`: why its cluster has no MPS for whom any mode will do."""
    settings = priced(settings_of(spec, against_mps), document.gpu.product, prices)
    try:
        return advise(as_asked(spec.workload, document), slo_of(spec.slo), settings)
    except AdviceError as error:
        return Unadvisable(reason=_REASONS[error.kind], because=str(error))


def priced(settings: Settings, product: str, prices: Prices) -> Settings:
    """With the price of the GPU that was measured, which is of the product that serves."""
    found = prices.per_gpu_hour.get(product)
    price = None if found is None else Price(per_gpu_hour=found, currency=prices.currency)
    return replace(settings, price=price, priced=bool(prices.per_gpu_hour))


def advice_of(
    deployment: DeploymentRecord,
    profile: ProfileRecord | None,
    against_mps: str | None = None,
    prices: Prices = NO_PRICES,
) -> Advice | Unadvisable | None:
    """The advice for a deployment on what its profile has measured; None while there is no spec or nothing measured."""
    if deployment.spec is None or profile is None or profile.measurements is None:
        return None
    because = unservable(deployment.spec, profile.measurements)
    if because is not None:
        return Unadvisable(reason=Reason.OTHER_PRODUCT, because=because)
    return advise_deployment(deployment.spec, profile.measurements, against_mps, prices)


def as_asked(asked: WorkloadSpec, document: MeasurementDocument) -> MeasurementDocument:
    """The document without the load of whoever had it measured first: who names none decides for full batches."""
    measured = document.workload
    names_a_load = asked.concurrency_per_gpu is not None or asked.requests_per_second_per_gpu is not None
    if names_a_load or measured.concurrency is None:
        return document
    return replace(document, workload=replace(measured, concurrency=None, requests_per_second=None))


def slo_of(slo: SloSpec) -> Slo:
    """The SLO in the advisor's words, with the default factor where no ITL limit is given."""
    return slo.limits().or_default()


def settings_of(spec: SLMDeploymentSpec, against_mps: str | None = None) -> Settings:
    """The user's settings in the advisor's words."""
    overlay = spec.pod_template or {}
    refused = refused_under_mps(overlay) if not refused_fields(overlay) else None
    return Settings(
        **tuned(spec.advisor),
        objective=Objective(spec.advisor.objective),
        mode=asked_mode(spec.sharing.mode),
        against_mps=refused or against_mps,
        engines_per_gpu=spec.sharing.engines_per_gpu,
        max_engines_per_gpu=spec.sharing.max_engines_per_gpu,
        concurrency=spec.workload.concurrency_per_gpu,
        requests_per_second=spec.workload.requests_per_second_per_gpu,
    )


def serving_of(
    engine: EngineSpec, advice: Advice, document: MeasurementDocument, *, in_one_pod: bool = False
) -> Serving:
    """What replicas are started with, or the engines of a pack in one pod."""
    advised, ledger = advice.configuration, document.ledger
    return Serving(
        batch_size=advised.batch_size,
        kv_bytes=advised.kv_cache_bytes,
        max_num_batched_tokens=advised.max_num_batched_tokens,
        engines_per_gpu=advised.engines_per_gpu,
        sharing_mode=advised.sharing_mode,
        gpu_memory_utilization=engine_of(engine.command).fraction_while_serving(advised.engines_per_gpu, ledger),
        weights_bytes=ledger.weights_bytes if ledger is not None else None,
        left_out=left_out(engine, document),
        pack_on=_measured_on(document) if in_one_pod else None,
    )


def _measured_on(document: MeasurementDocument) -> MeasuredOn:
    """NB: rounded, because drivers of one GPU differ by a few MiB, and no pack is to be started anew for that."""
    gpu = document.gpu
    return MeasuredOn(gpu_product=gpu.product, gpu_memory_bytes=gpu.memory_bytes // _STEP_BYTES * _STEP_BYTES)


def left_out(spec: EngineSpec, document: MeasurementDocument) -> tuple[str, ...]:
    """Flags that the engine which is to serve does not know."""
    return engine_of(spec.command).unknown_flags(*_known_of(spec, document))


def without_flags(spec: EngineSpec, document: MeasurementDocument) -> str:
    """What replicas do because their engine is too old for a flag, as sentences; empty where it knows all."""
    engine, (version, _) = engine_of(spec.command), _known_of(spec, document)
    return "".join(
        f" The engine ({version}) does not know {flag}: {engine.optional_flags[flag]}. Use a newer spec.engine.image."
        for flag in left_out(spec, document)
    )


def _known_of(spec: EngineSpec, document: MeasurementDocument) -> tuple[str, tuple[str, ...]]:
    """Version of the engine that is to serve, and words that it is known to take.

    NB: what was measured elsewhere and imported tells nothing of the image that serves.
    """
    if document.engine.image == spec.image:
        return document.engine.version, document.engine.args
    return engine_of(spec.command).version_of_image(spec.image or ""), ()


def slice_bytes_of(advice: Advice, ledger: Ledger | None) -> int | None:
    """GPU memory that one replica needs: its ledger with the advised KV pool."""
    pool = advice.configuration.kv_cache_bytes
    return None if ledger is None or pool is None else ledger.fixed_bytes + pool


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedFrom:
    """What an advice rests on, and since when it stands."""

    profile: str | None
    """Name of the SLMProfile. None: the advice is that profile's own."""
    generation: int
    """Of the spec."""
    digest: str | None
    """Of what an engine is started with; its pods carry it too. None: nobody starts any."""
    former: Mapping[str, Any]
    """`status.advice` as it was: the same advice keeps its time."""


def advice_status(advice: Advice, basis: DecidedFrom, now: datetime) -> dict[str, Any]:
    """`status.advice`, in camelCase, as api.deployment.AdviceStatus describes it."""
    profile = {"name": basis.profile} if basis.profile is not None else None
    configuration = _known(configuration_values(advice.configuration))
    is_same = (basis.former.get("digest"), basis.former.get("profileRef")) == (basis.digest, profile)
    is_same = is_same and (basis.digest is not None or basis.former.get("configuration") == configuration)
    return _known(
        {
            "configuration": configuration,
            "figures": figures_status(advice.predicted),
            "bestSingle": figures_status(advice.best_single),
            "gain": _rounded(advice.gain, 2),
            "savedGpuHoursFraction": _rounded(advice.saved_gpu_hours_fraction, 3),
            "costPerMillionTokens": _rounded(advice.cost_per_million_tokens, 4),
            "currency": advice.price.currency if advice.price is not None else None,
            "joulesPerToken": _rounded(advice.joules_per_token, 4),
            "freedBytes": advice.freed_bytes,
            "feasible": advice.feasible,
            "source": source_of(advice),
            "profileRef": profile,
            "generation": basis.generation,
            "digest": basis.digest,
            "inFlightPerGpu": advice.load.in_flight,
            "decidedTime": (is_same and basis.former.get("decidedTime")) or rfc3339(now),
            "sentences": [sentence[:MAX_SENTENCE] for sentence in advice.sentences[:16]],
            "candidates": [_candidate(candidate, advice.price) for candidate in best_candidates(advice.candidates)],
            "candidateCount": len(advice.candidates),
        }
    )


def configuration_of(advice: Mapping[str, Any]) -> EngineConfiguration | None:
    """What `status.advice` says is served; None where it says nothing that can be read."""
    try:
        said = ConfigurationStatus.model_validate(advice.get("configuration"))
    except ValidationError:
        return None
    return EngineConfiguration(
        batch_size=said.batch_size,
        kv_cache_bytes=said.kv_cache_bytes,
        max_num_batched_tokens=said.max_num_batched_tokens,
        engines_per_gpu=said.engines_per_gpu,
        sharing_mode=SharingMode(said.sharing_mode),
    )


def source_of(advice: Advice) -> AdvisedFrom:
    """Where the configuration comes from, in a word."""
    if Source.USER_CHOICE in (advice.source.engines_per_gpu, advice.source.sharing_mode):
        return "UserChoice"
    return "Measured" if advice.source.predicted is Source.MEASURED else "Predicted"


def best_candidates(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The chosen one, then the fastest, which say why it is not one of them. Eight at most."""
    ordered = sorted(candidates, key=lambda c: (not c.chosen, -c.point.throughput_tokens_per_second))
    return ordered[:MAX_CANDIDATES]


def _candidate(candidate: Candidate, price: Price | None) -> dict[str, Any]:
    return _known(
        {
            "configuration": _known(configuration_values(EngineConfiguration.of(candidate.point))),
            "verdict": str(candidate.verdict),
            "reason": str(candidate.last.name),
            "message": candidate.because[:MAX_SENTENCE],
            "costPerMillionTokens": _rounded(cost_per_million_tokens(candidate.figures, price), 4),
            "joulesPerToken": _rounded(candidate.figures.joules_per_token, 4),
        }
    )


def figures_status(figures: Rates | None) -> dict[str, Any] | None:
    """Figures of one GPU, rounded, as `api.slo.Figures` describes them."""
    if figures is None:
        return None
    return _known({name: _rounded(value, _DIGITS.get(name, 1)) for name, value in figures_values(figures).items()})


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
