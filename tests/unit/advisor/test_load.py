"""Candidates are compared at the requests in flight that will come, and the advice names the load from which packs pay."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from slm_core.candidates import Source, Verdict
from slm_core.measurements import Mark, Workload
from slm_core.slo import Slo
from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise

from tests.builders import SINGLES, document, pack, point

if TYPE_CHECKING:
    from slm_core.measurements import Point

ANY = Slo()


def test_load_is_the_documents_unless_the_user_sets_one() -> None:
    workload = replace(document().workload, concurrency=32)
    assert advise(document(workload=workload), ANY, Settings()).load.in_flight == 32
    assert advise(document(workload=workload), ANY, Settings(concurrency=64)).load.in_flight == 64


def test_measured_load_takes_the_smallest_batch_that_holds_it() -> None:
    advice = advise(document(*SINGLES, pack(128)), ANY, Settings(concurrency=64))
    assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu) == (64, 1)
    assert advice.source.predicted is Source.MEASURED
    because = {(c.point.batch_size, c.point.replicas): c.checks for c in advice.candidates}
    assert because[128, 2][-1].because == (
        "fills only with 256 requests in flight and was not measured with 64: profile it at that load"
    )
    there = because[128, 1][-3]
    assert there.because == "with 64 requests in flight it does what was measured at that load"
    assert (there.value, there.limit) == (128, 64)


def test_between_points_one_engine_is_predicted() -> None:
    advice = advise(document(), ANY, Settings(concurrency=50))
    assert advice.predicted
    assert advice.predicted.source is Source.PREDICTED
    assert advice.predicted.output_tokens_per_second == pytest.approx(1000 * 50 / 9)
    assert advice.predicted.itl_ms == pytest.approx(9)
    assert "predicted between measured points" in advice.message


def test_one_point_predicts_only_loads_below_it() -> None:
    only = document(point(1), point(64, marks=(Mark.PREEMPTED,)), replace(point(1), max_num_batched_tokens=99))
    assert advise(only, ANY, Settings(concurrency=1)).configuration.batch_size == 1
    big = point(1, replicas=1)
    scarce = document(big, replace(point(40), max_num_batched_tokens=512))
    advice = advise(scarce, ANY, Settings(concurrency=20))
    assert advice.predicted
    assert advice.predicted.throughput_tokens_per_second == pytest.approx(
        point(40).throughput_tokens_per_second * 20 / 40
    )
    assert advice.predicted.itl_ms == point(40).itl_ms.mean_ms


def test_a_pack_that_pays_at_full_batches_but_loses_at_the_load() -> None:
    thin = pack(128, gain=-0.3, in_flight=50)
    advice = advise(document(*SINGLES, pack(128), thin), ANY, Settings(concurrency=50))
    assert advice.configuration.engines_per_gpu == 1
    because = {(c.point.in_flight, c.point.replicas): c.because for c in advice.candidates}
    assert because[50, 2].startswith("-")
    assert because[None, 2] == (
        "with 50 requests in flight its batches do not fill; it was measured at that load too, and that point decides"
    )
    assert advice.pays_from_in_flight
    assert advice.pays_from_in_flight > 50


def test_a_pack_measured_at_the_load_where_it_wins() -> None:
    there = pack(128, gain=0.15, in_flight=100)
    advice = advise(document(*SINGLES, there), ANY, Settings(concurrency=101))
    assert advice.configuration.engines_per_gpu == 2
    assert advice.gain is not None
    chosen = next(c for c in advice.candidates if c.verdict is Verdict.CHOSEN)
    assert ("Load", "measured with 100 requests in flight") in [(c.name, c.because) for c in chosen.checks]


def test_a_load_within_the_tolerance_fills_the_batches() -> None:
    assert advise(document(*SINGLES, pack(128)), ANY, Settings(concurrency=244)).configuration.engines_per_gpu == 2
    assert advise(document(*SINGLES, pack(128)), ANY, Settings(concurrency=243)).configuration.engines_per_gpu == 1


def test_a_prediction_brings_its_noise() -> None:
    """Singles off the line by 30 %: a gain of 15 % over a prediction from them is noise."""
    off = (1, 0.8, 0.7, 1.3, 0.8)
    crooked = [
        point(p.batch_size, output=p.output_tokens_per_second * f, itl=p.itl_ms.mean_ms / f)
        for p, f in zip((*SINGLES, point(16)), off, strict=True)
    ]

    def with_pack(singles: list[Point]) -> int:
        alone = advise(document(*singles), ANY, Settings(concurrency=100)).predicted
        assert alone
        assert (alone.source, alone.configuration.engines_per_gpu) == (Source.PREDICTED, 1)
        there = pack(128, output=alone.output_tokens_per_second * 1.15, in_flight=100)
        return advise(document(*singles, there), ANY, Settings(concurrency=100)).configuration.engines_per_gpu

    assert with_pack(list(SINGLES)) == 2
    assert with_pack(crooked) == 1


def test_a_request_rate_becomes_requests_in_flight() -> None:
    """ITL = 4 + 0.1 B and 100 output tokens: 20 requests/s are N = 2 (4 + 0.1 N), so N = 10."""
    advice = advise(document(), ANY, Settings(requests_per_second=20))
    assert advice.load.in_flight == 10


def test_more_requests_than_one_engine_serves_fill_every_batch() -> None:
    """At most 10,000 output tokens per second: 100 requests/s."""
    assert advise(document(), ANY, Settings(requests_per_second=100.1)).load.in_flight is None


def test_a_rate_without_two_batch_sizes_is_taken_as_full_batches() -> None:
    assert advise(document(point(1)), ANY, Settings(requests_per_second=5)).load.in_flight is None


def test_tiny_request_rate_is_one_request_in_flight() -> None:
    assert advise(document(), ANY, Settings(requests_per_second=0.01)).load.in_flight == 1


def test_pack_pays_from_where_the_throughput_lines_cross() -> None:
    """Pack of two: time per token 6 + 0.04 N against 4 + 0.1 N; 5 % better from N = 39.6 on."""
    packs = [pack(n // 2, output=1000 * n / (6 + 0.04 * n)) for n in (64, 128, 256)]
    advice = advise(document(*SINGLES, *packs), ANY, Settings())
    assert advice.configuration.engines_per_gpu == 2
    assert advice.pays_from_in_flight == 40
    assert any("A pack pays from about 40 requests in flight per GPU." in s for s in advice.sentences)


def test_pack_pays_from_the_only_measured_load() -> None:
    assert advise(document(*SINGLES, pack(128)), ANY, Settings()).pays_from_in_flight == 256


def test_load_from_which_a_pack_pays_needs_single_engines_line() -> None:
    only = document(point(1), replace(point(128), max_num_batched_tokens=512), pack(128))
    advice = advise(only, ANY, Settings())
    assert (advice.configuration.engines_per_gpu, advice.pays_from_in_flight) == (2, None)


def test_load_from_which_a_pack_pays_unknown_if_no_crossing() -> None:
    """The pack's points scatter: the line through them stays below the gate, one point does not."""
    packs = (pack(64, output=9900), pack(128, output=8300), pack(256, output=8300))
    advice = advise(document(*SINGLES, *packs), ANY, Settings(min_gain=0.2))
    assert advice.configuration.engines_per_gpu == 2


def test_untrusted_packs_bend_no_line() -> None:
    packs = [pack(n // 2, output=1000 * n / (6 + 0.04 * n)) for n in (64, 128, 256)]
    spoiled = pack(32, output=100.0, preemptions=4)
    assert advise(document(*SINGLES, *packs, spoiled), ANY, Settings()).pays_from_in_flight == 40


def test_load_from_which_a_pack_pays_is_absent_if_it_lost() -> None:
    assert advise(document(*SINGLES, pack(128, gain=0.01)), ANY, Settings()).pays_from_in_flight is None


@pytest.mark.parametrize(
    ("in_flight", "because"),
    [
        (19, "measured with full batches"),
        (18, "with 18 requests in flight its figures are predicted from the points around"),
    ],
)
def test_a_load_of_95_per_cent_of_the_batches_fills_them(in_flight: int, because: str) -> None:
    advice = advise(document(point(1), point(20)), ANY, Settings(concurrency=in_flight))
    assert because in [c.because for c in advice.candidates[-1].checks]


def test_request_rate_overrides_the_workloads_concurrency() -> None:
    workload = Workload(source="fixed", input_tokens_mean=100, output_tokens_mean=100, concurrency=7)
    assert advise(document(workload=workload), ANY, Settings(requests_per_second=20)).load.in_flight == 10


@pytest.mark.parametrize("in_flight", [244, 256, 300])
def test_a_load_that_fills_the_batches_is_full(in_flight: int) -> None:
    assert (
        advise(document(*SINGLES, pack(128, in_flight=in_flight)), ANY, Settings()).configuration.engines_per_gpu == 2
    )
