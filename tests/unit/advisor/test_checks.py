"""Each check alone: what it keeps, what it rejects, and the sentence that a person reads."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_core import batching
from slm_core.candidates import CheckName, Verdict
from slm_core.measurements import Latency, Mark, SharingMode
from slm_core.slo import Limits, Slo, Statistic
from slm_core.units import GIB
from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise

from tests.builders import LEDGER, SINGLES, document, pack, point

if TYPE_CHECKING:
    from slm_core.candidates import Candidate, Check
    from slm_core.measurements import Point

PACK = pack(128)
SINGLE_CHECKS = ["Preemption", "Trusted", "Precision", "Confirmed", "Memory", "SLO", "Load", "Efficiency"]
PACK_CHECKS = [
    *("Sharing", "SliceLimit", "Preemption", "Trusted", "Precision", "Confirmed", "Confirmed"),
    *("Memory", "SLO", "Load", "Gain"),
]


def judged(candidate: Point, *others: Point, slo: Slo | None = None, settings: Settings | None = None) -> Candidate:
    """What the advisor finds of one point among the ordinary single engines."""
    advice = advise(document(*SINGLES, *others, candidate), slo or Slo(), settings or Settings())
    found = next(c for c in advice.candidates if c.point == candidate)
    assert all(map(says_its_numbers, found.checks))
    return found


def says_its_numbers(check: Check) -> bool:
    """Whoever reads the JSON finds no number that the sentence keeps silent about.

    But for a count of errors, a latency that is not known (infinite), and throughput where memory is the objective.
    """
    if not math.isfinite(check.value) or check.name in {CheckName.TRUSTED, CheckName.RANK}:
        return True
    limit_is_said = is_in(check.because, check.limit)
    return (not check.limit or limit_is_said) and (
        not check.value or limit_is_said or is_in(check.because, check.value)
    )


def is_in(sentence: str, figure: float) -> bool:
    forms = ("{:.0f}", "{:g}", "{:.1f}", "{:.2f}", "{:.3f}", "{:+.1%}", "{:.1%}")
    return any(form.format(figure) in sentence for form in forms)


@pytest.mark.parametrize(
    ("candidate", "name", "because"),
    [
        (point(256, preemptions=3), "Preemption", "3 preemptions: its KV pool is too small for this batch"),
        (point(256, marks=(Mark.PREEMPTED,)), "Preemption", "0 preemptions: its KV pool is too small for this batch"),
        (point(256, errors=2), "Trusted", "not to be trusted: 2 requests failed"),
        (point(256, marks=(Mark.ERRORS,)), "Trusted", "not to be trusted: requests failed"),
        (
            point(256, marks=(Mark.LITTLES_LAW, Mark.THROTTLED, Mark.WIDE)),
            "Trusted",
            "not to be trusted: throughput, ITL and running sequences contradict each other, and the GPU lowered its clocks",
        ),
        (point(256, marks=(Mark.THROTTLED,)), "Trusted", "not to be trusted: the GPU lowered its clocks"),
        (
            point(256, kv_pool_bytes=70 * GIB),
            "Memory",
            "needs 73.48 GiB, an engine may use 64.00 GiB",
        ),
        (
            pack(128, confirmed=False),
            "Confirmed",
            "measured with other KV bytes than it would be given: confirm it first",
        ),
        (pack(128, kv_pool_bytes=28 * GIB), "Memory", "needs 33.00 GiB, an engine may use 32.00 GiB"),
        (pack(32, replicas=50), "SliceLimit", "the device plugin makes only 48 slices of a GPU"),
        (pack(128, gain=0.049), "Gain", "+4.9% against the best single engine, under the least gain of 5.0%"),
        (pack(128, gain=-0.18), "Gain", "-18.0% against the best single engine, under the least gain of 5.0%"),
        (
            pack(128, gain=0.06, throughput_ci_fraction=0.08),
            "Gain",
            "+6.0% against the best single engine, which is within the noise of 8.1%",
        ),
        (pack(128, in_flight=100), "Load", "measured with 100 requests in flight, which says nothing of 256"),
        (point(256, in_flight=10), "Load", "measured with 10 requests in flight, which says nothing of 256"),
    ],
)
def test_rejects(candidate: Point, name: str, because: str) -> None:
    found = judged(candidate)
    assert found.verdict is Verdict.REJECTED
    assert (found.checks[-1].name, found.because) == (name, because)
    assert [c.passed for c in found.checks] == [True] * (len(found.checks) - 1) + [False]
    assert [c.name for c in found.checks] == (PACK_CHECKS if candidate.replicas > 1 else SINGLE_CHECKS)[
        : len(found.checks)
    ]


@pytest.mark.parametrize(
    ("settings", "because"),
    [
        (Settings(mode=SharingMode.EXCLUSIVE), "the user allows no sharing (mode Exclusive)"),
        (Settings(mode=SharingMode.TIME_SLICING), "the user requested TimeSlicing, this is MPS"),
        (Settings(max_engines_per_gpu=1), "the user allows at most 1 per GPU"),
        (Settings(engines_per_gpu=1), "the user requested 1 per GPU"),
        (Settings(engines_per_gpu=3), "the user requested 3 per GPU"),
        (Settings(against_mps="a /dev/shm"), "MPS is ruled out by a /dev/shm"),
    ],
)
def test_the_user_forbids_a_pack(settings: Settings, because: str) -> None:
    found = judged(PACK, settings=settings)
    assert (found.verdict, found.checks[-1].name, found.because) == (Verdict.REJECTED, "Sharing", because)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(mode=SharingMode.MPS),
        Settings(max_engines_per_gpu=2),
        Settings(engines_per_gpu=2),
        Settings(plugin_max_replicas=2),
        Settings(min_gain=0.19),
    ],
)
def test_the_user_allows_a_pack(settings: Settings) -> None:
    assert judged(PACK, settings=settings).verdict is Verdict.CHOSEN


def test_all_checks_of_a_chosen_pack_with_their_numbers() -> None:
    found = judged(PACK, slo=Slo(itl_ms=30))
    assert [(c.name, c.because) for c in found.checks] == [
        ("Sharing", "the user allows it"),
        ("SliceLimit", "the device plugin makes up to 48 slices of a GPU"),
        ("Preemption", "no preemption"),
        ("Trusted", "no doubt, no failed request"),
        ("Precision", "its confidence interval says enough"),
        ("Confirmed", "no later point replaces it"),
        ("Confirmed", "measured with the KV bytes that it would be given"),
        ("Memory", "needs 15.00 GiB of the 32.00 GiB that an engine may use"),
        ("SLO", "mean ITL 28.0 ms is within 30.0 ms"),
        ("Load", "measured with full batches"),
        ("Gain", "+20.0% against the best single engine, at least 5.0%"),
        ("Rank", "the most tokens per second of all that passed: 18,286"),
    ]
    gain = found.checks[-2]
    assert (gain.value, gain.limit) == (pytest.approx(0.2), pytest.approx(0.05))


def test_all_checks_of_a_kept_single_engine() -> None:
    found = judged(SINGLES[2], PACK)
    assert found.verdict is Verdict.KEPT
    assert [(c.name, c.because) for c in found.checks] == [
        ("Preemption", "no preemption"),
        ("Trusted", "no doubt, no failed request"),
        ("Precision", "its confidence interval says enough"),
        ("Confirmed", "no later point replaces it"),
        ("Memory", "needs 14.78 GiB of the 64.00 GiB that an engine may use"),
        ("SLO", "no latency limit was asked"),
        ("Load", "measured with full batches"),
        ("Efficiency", "batching efficiency 0.394 is above 0.1"),
        ("Rank", "passed every check, and the choice makes 18,286 tokens/s"),
    ]
    assert (found.last.value, found.last.limit) == (0, pytest.approx(PACK.throughput_tokens_per_second))


def test_a_confirmation_replaces_the_point_it_confirms() -> None:
    first, again = point(256, kv_peak_fraction=0.5), point(256, confirmed=True, preemptions=9)
    assert [c.point for c in advise(document(*SINGLES, first, again), Slo(), Settings()).candidates[-2:]] == [
        again,
        first,
    ]
    found = judged(first, again)
    assert found.because == "measured again with its final KV bytes, and that point decides"
    assert [c.name for c in found.checks] == ["Preemption", "Trusted", "Precision", "Confirmed"]


def test_later_of_two_measurements_of_a_batch_decides() -> None:
    lucky, again = point(256, output=8_100), point(256, output=8_000)
    found = judged(again, lucky, slo=Slo(itl_ms=100))
    assert found.passed
    advice = advise(document(*SINGLES, lucky, again), Slo(itl_ms=100), Settings())
    (first,) = (c for c in advice.candidates if c.point == lucky)
    assert first.because == "measured again since, and that point decides"
    assert advice.best_single is not None
    best = batching.choose(document(*SINGLES, lucky, again).points, Limits(itl_ms=100), 0.1).chosen
    assert best is not None
    assert advice.best_single.throughput_tokens_per_second == best.point.throughput_tokens_per_second


def test_an_unconfirmed_measurement_replaces_no_confirmed_one() -> None:
    kept, later = point(256, confirmed=True), point(256, kv_peak_fraction=0.99)
    advice = advise(document(*SINGLES, kept, later), Slo(), Settings())
    assert next(c for c in advice.candidates if c.point == kept).passed
    assert not next(c for c in advice.candidates if c.point == later).passed
    best = batching.choose(document(*SINGLES, kept, later).points, Limits(), 0.1).chosen
    assert best is not None
    assert best.point == kept, "search and advisor choose alike"


def test_imported_packs_count_as_measured() -> None:
    imported = replace(pack(128), confirmed=False)
    advice = advise(document(*SINGLES, imported, cost=None), Slo(), Settings())
    assert advice.configuration.engines_per_gpu == 2
    chosen = next(c for c in advice.candidates if c.verdict is Verdict.CHOSEN)
    assert "imported: counts as measured, in the KV pool of that run" in [c.because for c in chosen.checks]
    assert all(map(says_its_numbers, chosen.checks))
    assert advice.sentences[-1] == "The measurements were imported: they were not confirmed with these KV bytes."


def test_without_a_ledger_memory_is_not_judged() -> None:
    advice = advise(document(*SINGLES, pack(128), ledger=None), Slo(), Settings())
    checks = next(c.checks for c in advice.candidates if c.verdict is Verdict.CHOSEN)
    assert "not judged: the document has no memory ledger" in [c.because for c in checks]
    assert all(map(says_its_numbers, checks))
    assert advice.freed_bytes is None


class TestEfficiency:
    """T(B) / (B T(1)) > epsilon, as published; measured packs replace it."""

    def test_efficiency_rejects_batches_past_the_knee(self) -> None:
        found = judged(point(512), settings=Settings(min_efficiency=0.1))
        assert found.because == "batching efficiency 0.074 is not above 0.1: so large a batch buys too little"

    def test_efficiency_of_exactly_epsilon_is_rejected(self) -> None:
        single = point(1, output=100.0)
        half = point(2, output=100.0)
        advice = advise(document(single, half), Slo(), Settings(min_efficiency=0.5))
        assert advice.configuration.batch_size == 1

    def test_efficiency_limit_is_waived_where_packs_were_measured(self) -> None:
        """Else a pack could beat a single engine that only the limit had made slow."""
        found = judged(point(512), pack(64), settings=Settings(min_efficiency=0.1))
        assert found.verdict is Verdict.CHOSEN
        assert found.checks[-2].because == (
            "batching efficiency 0.074 is under 0.1, which does not count where packs were measured"
        )

    def test_efficiency_limit_holds_where_packs_are_forbidden(self) -> None:
        found = judged(point(512), pack(64), settings=Settings(min_efficiency=0.1, mode=SharingMode.EXCLUSIVE))
        assert found.verdict is Verdict.REJECTED


class TestSlo:
    def test_slo_is_judged_at_the_mean_itl(self) -> None:
        assert judged(SINGLES[3], slo=Slo(itl_ms=16.8)).verdict is Verdict.CHOSEN
        assert judged(SINGLES[3], slo=Slo(itl_ms=16.7)).because == "mean ITL 16.8 ms exceeds 16.7 ms"

    def test_slo_is_judged_at_a_percentile_with_enough_samples(self) -> None:
        tail = Latency(mean_ms=16.8, p99_ms=40, samples=459)
        found = judged(point(128, itl_ms=tail), slo=Slo(itl_ms=39, itl_statistic=Statistic.P99))
        assert found.because == "p99 ITL 40.0 ms exceeds 39.0 ms"

    def test_slo_at_a_percentile_without_samples_is_missed(self) -> None:
        tail = Latency(mean_ms=16.8, p99_ms=20, samples=458)
        found = judged(point(128, itl_ms=tail), slo=Slo(itl_ms=39, itl_statistic=Statistic.P99))
        assert found.because == "p99 ITL not known: 458 samples do not support it (459 needed)"

    @pytest.mark.parametrize(
        ("slo", "because"),
        [
            (Slo(itl_ms=29, ttft_ms=300), "mean TTFT 900.0 ms exceeds 300.0 ms"),
            (Slo(itl_ms=5, ttft_ms=800), "mean ITL 29.6 ms exceeds 5.0 ms"),
        ],
    )
    def test_the_worst_of_two_misses_is_reported(self, slo: Slo, because: str) -> None:
        late = point(256, ttft_ms=Latency(mean_ms=900))
        assert judged(late, slo=slo).because == because

    def test_slo_of_ttft_alone_is_judged(self) -> None:
        prompt = point(256, ttft_ms=Latency(mean_ms=200))
        found = judged(prompt, slo=Slo(ttft_ms=300))
        assert found.verdict is Verdict.CHOSEN
        assert ("SLO", True, "TTFT is within 300.0 ms", 200, 300) in [
            (c.name, c.passed, c.because, c.value, c.limit) for c in found.checks
        ]
        assert judged(SINGLES[3], slo=Slo(ttft_ms=300)).because.startswith("mean TTFT not known")


class TestNoise:
    """A gain must be larger than what two runs may differ by."""

    @pytest.mark.parametrize(
        ("ci", "gain", "passes"),
        [
            (0.01, 0.02, True),  # hypot(0.01, 0.01) = 0.0141
            (0.01, 0.014, False),
            (None, 0.042, True),  # a single run: 4.1 %
            (None, 0.040, False),
        ],
    )
    def test_pack_must_exceed_noise_where_min_gain_is_zero(
        self, ci: float | None, gain: float, *, passes: bool
    ) -> None:
        found = judged(pack(128, gain=gain, throughput_ci_fraction=ci), settings=Settings(min_gain=0))
        assert (found.verdict is Verdict.CHOSEN) is passes

    def test_pack_of_no_gain_is_noise_where_no_gain_is_asked(self) -> None:
        found = judged(pack(128, gain=0), settings=Settings(min_gain=0))
        assert found.because == "+0.0% against the best single engine, which is within the noise of 1.4%"

    def test_fit_residual_is_no_noise_between_measured_points(self) -> None:
        """B = 32 and 64 lie far from the line, and nobody predicts from it: both fill their batches with 128 requests."""
        singles = (point(1), point(32, itl=12), point(64, itl=9), SINGLES[3])
        advice = advise(document(*singles, pack(64, gain=0.1)), Slo(), Settings(concurrency=128))
        assert (advice.configuration.batch_size, advice.configuration.engines_per_gpu) == (64, 2)

    def test_interval_of_one_run_counts_where_other_has_none(self) -> None:
        singles = [replace(p, throughput_ci_fraction=None) for p in SINGLES]
        advice = advise(document(*singles, pack(128, gain=0.15, throughput_ci_fraction=0.2)), Slo(), Settings())
        assert advice.configuration.engines_per_gpu == 1


def test_the_slice_counts_whole_mib_as_the_device_plugin_does() -> None:
    device = 2 * 15 * GIB + 1
    fits = pack(128)
    ledger = replace(LEDGER, device_bytes=device, kv_pool_bytes=10 * GIB)
    gpu = replace(document().gpu, memory_bytes=device)
    assert (
        advise(document(*SINGLES, fits, ledger=ledger, gpu=gpu), Slo(), Settings()).configuration.engines_per_gpu == 2
    )
    tight = replace(ledger, device_bytes=2 * 15 * GIB - 1)
    assert advise(document(*SINGLES, fits, ledger=tight, gpu=gpu), Slo(), Settings()).configuration.engines_per_gpu == 1


def test_point_without_kv_cache_use_fails_memory() -> None:
    found = judged(point(256, kv_peak_fraction=0.0))
    assert (found.verdict, found.last.name) == (Verdict.REJECTED, "Memory")


@pytest.mark.parametrize(
    ("wide", "width"),
    [
        ({"marks": (Mark.WIDE,), "throughput_ci_fraction": 0.237}, "23.7% to either side, more than 20.0%"),
        ({"throughput_ci_fraction": 0.21}, "21.0% to either side, more than 20.0%"),
        ({"marks": (Mark.WIDE,), "throughput_ci_fraction": None}, "wider than 20.0%"),
    ],
    ids=["marked", "not marked", "marked without a figure"],
)
@pytest.mark.parametrize("of", [point(256), PACK], ids=["one engine", "a pack"])
def test_point_of_wide_interval_fails_precision(of: Point, wide: dict[str, Any], width: str) -> None:
    found = judged(replace(of, **wide))
    assert (found.verdict, found.last.name) == (Verdict.REJECTED, CheckName.PRECISION)
    assert found.because == (
        f"its confidence interval is {width}, which says nearly nothing: "
        "measure again for longer, or on a machine that does nothing else"
    )


def test_time_slicing_is_a_mode_like_another() -> None:
    sliced = pack(128, sharing_mode=SharingMode.TIME_SLICING)
    assert judged(sliced, settings=Settings(mode=SharingMode.TIME_SLICING)).verdict is Verdict.CHOSEN


def test_efficiency_is_not_judged_without_trusted_b_1() -> None:
    doubtful = replace(point(1), marks=(Mark.LITTLES_LAW,))
    advice = advise(document(doubtful, point(32)), Slo(), Settings())
    assert not advice.feasible
    assert "T(1) is not known" in advice.message
    assert all(says_its_numbers(check) for c in advice.candidates for check in c.checks)
