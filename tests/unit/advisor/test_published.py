"""The published answers ("Mind the Memory Gap", arXiv 2503.08311), from its public raw results."""

from __future__ import annotations

import pytest
from slm_core import batching
from slm_core.candidates import Verdict
from slm_core.measurements import SharingMode
from slm_core.slo import Slo
from slm_core.slo_check import resolve
from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise

from tests.builders import SWEEP, SWEEP_AND_PACKS, published

EPSILON = Settings(min_efficiency=0.1)
ANY_LATENCY = Slo()


@pytest.mark.parametrize(
    ("model", "factor", "batch"),
    [
        ("opt-1.3b", 2, 96),
        ("opt-1.3b", 3, 128),
        ("opt-1.3b", 4, 256),
        ("opt-2.7b", 2, 96),
        ("opt-2.7b", 3, 128),
        ("opt-2.7b", 4, 256),
        ("llama-2-7b", 2, 96),
        ("llama-2-7b", 3, 192),
        ("llama-2-7b", 4, 192),
    ],
)
@pytest.mark.parametrize("with_ledger", [True, False])
def test_batch_of_one_engine(model: str, factor: float, batch: int, *, with_ledger: bool) -> None:
    document = published(model, *SWEEP, ledger=with_ledger)
    advice = advise(document, Slo(itl_factor=factor), EPSILON)
    assert (
        advice.configuration.batch_size,
        advice.configuration.engines_per_gpu,
        advice.configuration.sharing_mode,
    ) == (batch, 1, SharingMode.EXCLUSIVE)
    assert advice.feasible
    assert advice.gain == 0
    published_answer = batching.choose(document.points, resolve(Slo(itl_factor=factor), document.points), 0.1)
    assert published_answer.chosen
    assert advice.configuration.batch_size == published_answer.chosen.point.batch_size


def test_preempting_point_of_llama_is_rejected_by_name() -> None:
    advice = advise(published("llama-2-7b", *SWEEP), Slo(itl_factor=4), EPSILON)
    rejected = {c.point.batch_size: c for c in advice.candidates if c.verdict is Verdict.REJECTED}
    assert rejected[256].because == "543 preemptions: its KV pool is too small for this batch"


def test_kv_bytes_end_at_92_per_cent_peak_use() -> None:
    advice = advise(published("opt-1.3b", *SWEEP), Slo(itl_factor=2), EPSILON)
    assert advice.configuration.kv_cache_bytes == pytest.approx(0.1598 * 54.48e9 / 0.92, rel=1e-3)


def test_opt_1_3b_is_packed_at_its_measured_gain() -> None:
    advice = advise(published("opt-1.3b", *SWEEP_AND_PACKS), ANY_LATENCY, EPSILON)
    assert (
        advice.configuration.batch_size,
        advice.configuration.engines_per_gpu,
        advice.configuration.sharing_mode,
    ) == (256, 2, SharingMode.MPS)
    assert advice.best_single
    assert advice.best_single.throughput_tokens_per_second == 11864.8
    assert advice.gain == pytest.approx(14669.5 / 11864.8 - 1)
    assert advice.predicted
    assert advice.predicted.itl_ms == 37.073


def test_opt_2_7b_does_not_pack_for_less_than_five_per_cent() -> None:
    advice = advise(published("opt-2.7b", *SWEEP_AND_PACKS), ANY_LATENCY, EPSILON)
    assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu) == (384, 1)
    because = {(c.point.batch_size, c.point.replicas): c.because for c in advice.candidates}
    assert because[128, 2] == "+0.7% against the best single engine, under the least gain of 5.0%"


@pytest.mark.parametrize(
    ("model", "batch", "replicas", "count"), [("opt-1.3b", 256, 4, 604), ("opt-2.7b", 256, 2, 541)]
)
def test_preempting_packs_are_rejected_by_name(model: str, batch: int, replicas: int, count: int) -> None:
    advice = advise(published(model, *SWEEP_AND_PACKS), ANY_LATENCY, EPSILON)
    candidate = next(c for c in advice.candidates if (c.point.batch_size, c.point.replicas) == (batch, replicas))
    assert candidate.verdict is Verdict.REJECTED
    assert candidate.checks[-1].name == "Preemption"
    assert candidate.because == f"{count} preemptions: its KV pool is too small for this batch"


def test_pack_under_strict_slo_is_compared_under_that_slo() -> None:
    advice = advise(published("opt-1.3b", *SWEEP_AND_PACKS), Slo(itl_factor=4), EPSILON)
    assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu) == (96, 2)
    assert advice.gain == pytest.approx(12313.9 / 10870.9 - 1)


def test_fifty_requests_in_flight_are_too_few_for_a_pack() -> None:
    """Published: -18 % for two replicas with 50 requests."""
    advice = advise(published("opt-1.3b", *SWEEP_AND_PACKS), ANY_LATENCY, Settings(concurrency=50))
    assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu) == (64, 1)
    assert advice.pays_from_in_flight is not None
    assert 50 < advice.pays_from_in_flight < 192
