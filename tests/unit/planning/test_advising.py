"""`status.advice`: what is served, what it was decided from and since when, and the candidates that people ask about."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from slm_core.measurements import Mark, MeasurementDocument, SharingMode
from slm_operator.advisor.advice import Advice
from slm_operator.api.reasons import Reason
from slm_operator.planning.deployment.advising import DecidedFrom, Unadvisable, advice_status, advise_deployment

from tests.builders import deployment_spec, document, pack, point

BATCHES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 256, 512)
BASIS = DecidedFrom(profile="measured", generation=3, digest="d1", former={})
NOON, LATER = (datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (12, 13))


def measured() -> MeasurementDocument:
    return document(*map(point, BATCHES))


def advised(**spec: Any) -> Advice:
    found = advise_deployment(deployment_spec(spec), measured())
    assert isinstance(found, Advice)
    return found


def test_untrusted_points_give_no_advice_for_doubt() -> None:
    points = [replace(p, marks=() if p.batch_size == 1 else (Mark.THROTTLED,)) for p in measured().points]
    spec = deployment_spec({"slo": {"itl": {"maxMs": 40}}})
    found = advise_deployment(spec, document(*points))
    assert isinstance(found, Unadvisable)
    assert found.reason is Reason.UNTRUSTED_MEASUREMENTS
    assert "above B=1 is in doubt: the GPU lowered its clocks" in found.because


def test_candidate_ahead_by_chance_has_reason_noise() -> None:
    alike = document(*(point(b) for b in (1, 32, 64, 128)), point(160, output=7700.0))
    spec = deployment_spec({"slo": {"itl": {"maxMs": 40}}})
    found = advise_deployment(spec, alike)
    assert isinstance(found, Advice)
    said = advice_status(found, BASIS, NOON)
    reasons = {c["configuration"]["batchSize"]: c["reason"] for c in said["candidates"]}
    assert (said["configuration"]["batchSize"], reasons[128], reasons[160]) == (128, "Noise", "Noise")
    assert any("B=160 might make up to" in sentence for sentence in said["sentences"])


def test_status_lists_chosen_and_fastest_of_many_candidates() -> None:
    said = advice_status(advised(slo={"itl": {"maxFactor": 2}}), BASIS, NOON)
    chosen, *others = said["candidates"]
    assert chosen["verdict"] == "Chosen"
    assert chosen["configuration"]["batchSize"] == said["configuration"]["batchSize"]
    assert (len(others), said["candidateCount"]) == (7, len(BATCHES))
    faster = others[0]
    assert faster["configuration"]["batchSize"] == max(BATCHES)
    assert (faster["verdict"], faster["reason"]) == ("Rejected", "SLO")
    assert "exceeds" in faster["message"]


@pytest.mark.parametrize(
    ("now", "time"),
    [
        (BASIS, "2026-01-01T12:00:00Z"),
        (DecidedFrom(profile="measured", generation=4, digest="d1", former={}), "2026-01-01T12:00:00Z"),
        (DecidedFrom(profile="measured", generation=3, digest="d2", former={}), "2026-01-01T13:00:00Z"),
        (DecidedFrom(profile="another", generation=3, digest="d1", former={}), "2026-01-01T13:00:00Z"),
    ],
    ids=["the same", "for a later spec", "other arguments", "from another profile"],
)
def test_the_time_of_an_advice_is_that_of_its_decision(now: DecidedFrom, time: str) -> None:
    former = advice_status(advised(), BASIS, NOON)
    basis = DecidedFrom(profile=now.profile, generation=now.generation, digest=now.digest, former=former)
    said = advice_status(advised(), basis, LATER)
    assert said["decidedTime"] == time
    assert (said["profileRef"], said["generation"], said["digest"]) == (
        {"name": now.profile}, now.generation, now.digest,
    )  # fmt: skip


def test_status_names_the_load_unless_batches_are_full() -> None:
    thin = advice_status(advised(workload={"concurrencyPerGpu": 7}), BASIS, NOON)
    assert thin["inFlightPerGpu"] == 7
    assert "inFlightPerGpu" not in advice_status(advised(), BASIS, NOON)


def test_latencies_keep_the_digits_of_their_metric() -> None:
    advice = advised()
    assert advice.predicted is not None
    exact = replace(advice, predicted=replace(advice.predicted, itl_ms=3.64496, ttft_ms=41.26))
    figures = advice_status(exact, BASIS, NOON)["figures"]
    assert (figures["itlMs"], figures["ttftMs"]) == (3.645, 41.3)


OWN_SHM = {"containers": [{"name": "engine", "volumeMounts": [{"name": "x", "mountPath": "/dev/shm"}]}]}


@pytest.mark.parametrize(
    "breaks", [{"securityContext": {"runAsUser": 7}}, OWN_SHM], ids=["another user", "its own /dev/shm"]
)
def test_engine_that_mps_does_not_take_is_served_without_it(breaks: dict[str, Any]) -> None:
    with_packs = document(
        *map(point, BATCHES), pack(128, gain=0.4), pack(128, sharing_mode=SharingMode.TIME_SLICING, gain=0.3)
    )
    usual, against = (
        advise_deployment(spec, with_packs)
        for spec in (deployment_spec({"podTemplate": {"spec": template}}) for template in ({}, breaks))
    )
    assert isinstance(usual, Advice)
    assert isinstance(against, Advice)
    assert usual.configuration.sharing_mode is SharingMode.MPS
    assert against.configuration.sharing_mode is SharingMode.TIME_SLICING
    (ruled_out,) = (one for one in against.candidates if one.point and one.point.sharing_mode is SharingMode.MPS)
    assert ruled_out.because.startswith("MPS is ruled out by spec.podTemplate: the engine would")
