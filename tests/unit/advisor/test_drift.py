"""When advice is out of date, and how long it must look so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from slm_core.measurements import Latency
from slm_core.slo import Limits, Slo, Statistic
from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise
from slm_operator.slo.judge import Drift, Expected, Finding, Judgement, Patience, Sign, Window, expect, judge

from tests.builders import SINGLES, document, pack

EXPECTED = Expected(
    limits=Limits(itl_ms=20, ttft_ms=500), input_tokens_mean=100, output_tokens_mean=200, pays_from_in_flight=40
)
PATIENCE = Patience()


def window(at: float, **changes: Any) -> Window:
    values: dict[str, Any] = {
        "ends_at_seconds": at,
        "requests": 50,
        "itl_ms": Latency(mean_ms=15),
        "ttft_ms": Latency(mean_ms=200),
        "input_tokens_mean": 100,
        "output_tokens_mean": 200,
        "in_flight_mean": 100,
    }
    return Window(**(values | changes))


def lasting(count: int = 3, start: float = 60, **changes: Any) -> list[Window]:
    return [window(start + 60 * i, **changes) for i in range(count)]


SLOW = {"itl_ms": Latency(mean_ms=25)}


@pytest.mark.parametrize(
    ("changes", "drift", "because"),
    [
        ({}, Drift.FINE, "latency, lengths and load are those that were measured"),
        (
            {"itl_ms": Latency(mean_ms=21.2)},
            Drift.SLO_MISSED,
            "mean ITL is 21.2 ms, 6% over the limit of 20.0 ms",
        ),
        (SLOW, Drift.SLO_MISSED, "mean ITL is 25.0 ms, 25% over the limit of 20.0 ms"),
        (
            {"ttft_ms": Latency(mean_ms=750)},
            Drift.SLO_MISSED,
            "mean TTFT is 750.0 ms, 50% over the limit of 500.0 ms",
        ),
        (
            {"input_tokens_mean": 126},
            Drift.WORKLOAD_CHANGED,
            "prompts have 126 tokens on average, 100 were measured",
        ),
        (
            {"output_tokens_mean": 140},
            Drift.WORKLOAD_CHANGED,
            "outputs have 140 tokens on average, 200 were measured",
        ),
        (
            {"preemptions": 4},
            Drift.WORKLOAD_CHANGED,
            "4 preemptions: the KV cache is too small for these lengths",
        ),
        (
            {"in_flight_mean": 12},
            Drift.LOAD_TOO_THIN,
            "12 requests in flight per GPU, the pack pays from about 40: one engine would do better",
        ),
    ],
)
def test_lasting_drift_is_found_and_named(changes: dict[str, Any], drift: Drift, because: str) -> None:
    judgement = judge(EXPECTED, lasting(**changes), None, PATIENCE)
    assert (judgement.drift, judgement.because) == (drift, because)
    assert judgement.slo_met == (drift is not Drift.SLO_MISSED)


@pytest.mark.parametrize(
    "changes",
    [
        {"itl_ms": Latency(mean_ms=21)},
        {"input_tokens_mean": 125},
        {"output_tokens_mean": 150},
        {"in_flight_mean": 40},
        {"ttft_ms": None},
        {"requests": 19} | SLOW,
    ],
)
def test_drift_within_tolerance_is_fine(changes: dict[str, Any]) -> None:
    assert judge(EXPECTED, lasting(**changes), None, PATIENCE) == Judgement(drift=Drift.FINE)


def test_without_limits_no_latency_is_too_long() -> None:
    free = replace(EXPECTED, limits=Limits())
    assert judge(free, lasting(**SLOW), None, PATIENCE).drift is Drift.FINE


def test_single_engine_has_no_load_that_is_too_thin() -> None:
    single = replace(EXPECTED, pays_from_in_flight=None)
    assert judge(single, lasting(in_flight_mean=0.1), None, PATIENCE).drift is Drift.FINE


def test_percentile_is_judged_where_the_window_supports_it() -> None:
    tail = replace(EXPECTED, limits=Limits(itl_ms=20, itl_statistic=Statistic.P99))
    supported = Latency(mean_ms=15, p99_ms=30, samples=459)
    found = judge(tail, lasting(itl_ms=supported), None, PATIENCE)
    assert found.because == "p99 ITL is 30.0 ms, 50% over the limit of 20.0 ms"
    unsupported = Latency(mean_ms=15, p99_ms=30, samples=458)
    assert judge(tail, lasting(itl_ms=unsupported), None, PATIENCE).drift is Drift.FINE


class TestHysteresis:
    MISSED = Judgement(
        drift=Drift.SLO_MISSED, findings=(Finding(sign=Sign.SLO_MISSED, since_seconds=60, because="it was slow"),)
    )

    def test_two_bad_windows_are_a_burst_and_no_finding(self) -> None:
        assert judge(EXPECTED, lasting(2, **SLOW), None, PATIENCE).drift is Drift.FINE
        assert judge(EXPECTED, [window(0), *lasting(2, **SLOW)], None, PATIENCE).drift is Drift.FINE

    def test_three_bad_windows_open_a_finding_since_the_first(self) -> None:
        found = judge(EXPECTED, [window(0), *lasting(3, **SLOW)], None, PATIENCE).findings
        assert [(f.sign, f.since_seconds) for f in found] == [(Sign.SLO_MISSED, 60)]

    def test_windows_without_figures_neither_open_nor_close(self) -> None:
        slow = lasting(3, **SLOW)
        idle = window(100, requests=0)
        assert judge(EXPECTED, [slow[0], idle, slow[1], idle, slow[2]], None, PATIENCE).drift is Drift.SLO_MISSED
        quiet = [window(at, requests=1) for at in range(0, 600, 60)]
        assert judge(EXPECTED, quiet, self.MISSED, PATIENCE).drift is Drift.SLO_MISSED

    def test_four_good_windows_do_not_close_a_finding(self) -> None:
        found = judge(EXPECTED, lasting(4), self.MISSED, PATIENCE)
        assert found.findings == self.MISSED.findings

    def test_five_good_windows_close_a_finding(self) -> None:
        assert judge(EXPECTED, lasting(5), self.MISSED, PATIENCE) == Judgement(drift=Drift.FINE)

    def test_one_bad_window_of_five_keeps_finding_open(self) -> None:
        mixed = [*lasting(2), window(180, **SLOW), *lasting(2, start=240)]
        found = judge(EXPECTED, mixed, self.MISSED, PATIENCE).findings
        assert [(f.since_seconds, f.because) for f in found] == [
            (60, "mean ITL is 25.0 ms, 25% over the limit of 20.0 ms")
        ]

    def test_no_window_at_all_changes_nothing(self) -> None:
        assert judge(EXPECTED, [], self.MISSED, PATIENCE).findings == self.MISSED.findings
        assert judge(EXPECTED, [], None, PATIENCE).drift is Drift.FINE


class TestReprofile:
    @pytest.mark.parametrize("changes", [SLOW, {"preemptions": 1}, {"output_tokens_mean": 400}])
    def test_finding_that_stays_open_calls_for_a_new_profile(self, changes: dict[str, Any]) -> None:
        first = judge(EXPECTED, lasting(**changes), None, PATIENCE)
        early = judge(EXPECTED, lasting(5, start=1619, **changes), first, PATIENCE)
        assert early.drift is not Drift.REPROFILE_ADVISED
        late = judge(EXPECTED, lasting(5, start=1620, **changes), first, PATIENCE)
        assert late.drift is Drift.REPROFILE_ADVISED

    def test_a_new_profile_does_not_bring_traffic(self) -> None:
        first = judge(EXPECTED, lasting(in_flight_mean=3), None, PATIENCE)
        assert judge(EXPECTED, lasting(5, start=9000, in_flight_mean=3), first, PATIENCE).drift is Drift.LOAD_TOO_THIN


def test_percentile_without_samples_is_judged_by_the_mean() -> None:
    expected = replace(EXPECTED, limits=Limits(itl_ms=20, itl_statistic=Statistic.P99))
    found = judge(expected, lasting(**SLOW), None, PATIENCE)
    assert found.because.startswith("mean ITL is 25.0 ms, 25% over the limit of 20.0 ms")


def test_the_worst_names_the_judgement_and_all_are_reported() -> None:
    found = judge(EXPECTED, lasting(in_flight_mean=3, output_tokens_mean=400, **SLOW), None, PATIENCE)
    assert found.drift is Drift.SLO_MISSED
    assert [f.sign for f in found.findings] == [Sign.SLO_MISSED, Sign.WORKLOAD_CHANGED, Sign.LOAD_TOO_THIN]
    assert found.because.count(";") == 2


def test_expectations_come_from_the_advice() -> None:
    measured = document(*SINGLES, pack(128))
    slo = Slo(itl_ms=40)
    of_pack = expect(measured, slo, advise(measured, slo, Settings()))
    assert (of_pack.limits.itl_ms, of_pack.input_tokens_mean, of_pack.output_tokens_mean) == (40, 100, 100)
    assert of_pack.pays_from_in_flight == 256
    thin = document(*SINGLES, pack(128), pack(128, gain=-0.3, in_flight=50))
    advice = advise(thin, slo, Settings(concurrency=50))
    assert advice.pays_from_in_flight
    assert expect(thin, slo, advice).pays_from_in_flight is None


def test_patience_by_default() -> None:
    assert judge(EXPECTED, lasting(2, **SLOW), None, Patience()).drift is Drift.FINE
    assert judge(EXPECTED, lasting(3, **SLOW), None, Patience()).drift is Drift.SLO_MISSED
    assert judge(EXPECTED, lasting(requests=19, **SLOW), None, Patience()).drift is Drift.FINE
    assert judge(EXPECTED, lasting(requests=20, **SLOW), None, Patience()).drift is Drift.SLO_MISSED
    judged = judge(EXPECTED, lasting(**SLOW), None, Patience())
    assert judge(EXPECTED, lasting(**SLOW) + lasting(4, start=600), judged, Patience()).drift is Drift.SLO_MISSED
    assert judge(EXPECTED, lasting(**SLOW) + lasting(5, start=600), judged, Patience()).drift is Drift.FINE
