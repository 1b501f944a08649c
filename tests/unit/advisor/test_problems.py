"""Questions without an answer: each names the field and the remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError
from slm_core import tuning
from slm_core.measurements import Latency, Mark, MeasurementDocument, Point, SharingMode, camel
from slm_core.slo import Slo
from slm_core.units import GIB
from slm_operator.advisor.advice import Settings
from slm_operator.advisor.advise import advise
from slm_operator.advisor.validate import AdviceError, check_document, check_question, check_settings, check_slo
from slm_operator.api.deployment import AdvisorSpec
from slm_operator.api.profile import SearchSpec

from tests.builders import LEDGER, SINGLES, SWEEP_AND_PACKS, document, pack, point, published

GOOD = point(64)


@pytest.mark.parametrize("model", ["opt-1.3b", "opt-2.7b"])
def test_the_published_data_have_no_problem(model: str) -> None:
    assert check_question(published(model, *SWEEP_AND_PACKS), Slo(itl_factor=2), Settings()) == ()


@pytest.mark.parametrize(
    ("bad", "field", "because"),
    [
        (replace(GOOD, batch_size=0), "batchSize", "it is 0"),
        (replace(GOOD, replicas=0), "replicas", "it is 0"),
        (replace(GOOD, throughput_tokens_per_second=0), "throughputTokensPerSecond", "it is 0"),
        (replace(GOOD, output_tokens_per_second=0), "outputTokensPerSecond", "it is 0"),
        (replace(GOOD, itl_ms=Latency(mean_ms=0)), "itlMs.meanMs", "it is 0"),
        (replace(GOOD, mean_running=0), "meanRunning", "it is 0"),
        (replace(GOOD, sharing_mode=SharingMode.MPS), "sharingMode", "MPS with 1 engine"),
        (replace(pack(64), sharing_mode=SharingMode.EXCLUSIVE), "sharingMode", "Exclusive with 2 engines"),
        (
            replace(GOOD, throughput_tokens_per_second=100),
            "outputTokensPerSecond",
            "6153.85 is more than throughput, 100, which counts input too",
        ),
        (replace(GOOD, kv_peak_fraction=90), "kvPeakFraction", "90 is more than the whole pool"),
        (replace(GOOD, mean_running=65.4), "meanRunning", "65.4 sequences ran where 1 x 64 is the most"),
        (replace(GOOD, itl_ms=Latency(mean_ms=0.0104)), "itlMs.meanMs", "Little's law is off by a factor of 1,000"),
        (replace(GOOD, itl_ms=Latency(mean_ms=10400)), "itlMs.meanMs", "Little's law is off by a factor of 1,000"),
        (
            replace(GOOD, output_tokens_per_second=7000),
            "outputTokensPerSecond",
            "Little's law fails: 7000 tokens/s at 10.4 ms need 72.8 running sequences, 64 were seen",
        ),
        (
            replace(GOOD, output_tokens_per_second=2000),
            "outputTokensPerSecond",
            "Little's law fails: 2000 tokens/s at 10.4 ms need 20.8 running sequences, 64 were seen",
        ),
        (replace(GOOD, itl_ms=Latency(mean_ms=10.4, p90_ms=20, p99_ms=19)), "itlMs", "its percentiles fall"),
        (replace(GOOD, itl_ms=Latency(mean_ms=10.4, p50_ms=20, p99_ms=19)), "itlMs", "its percentiles fall"),
        (replace(GOOD, itl_ms=Latency(mean_ms=10.4, p50_ms=20, p90_ms=19)), "itlMs", "its percentiles fall"),
        (
            replace(GOOD, itl_ms=Latency(mean_ms=10.4, p99_ms=0.02)),
            "itlMs",
            "its mean and its percentiles are not of one unit",
        ),
        (
            replace(GOOD, ttft_ms=Latency(mean_ms=1, p50_ms=301)),
            "ttftMs",
            "its mean and its percentiles are not of one unit",
        ),
        (
            replace(GOOD, ttft_ms=Latency(mean_ms=301, p50_ms=1)),
            "ttftMs",
            "its mean and its percentiles are not of one unit",
        ),
        (
            replace(GOOD, ttft_ms=Latency(mean_ms=0.3, p50_ms=300)),
            "ttftMs",
            "its mean and its percentiles are not of one unit",
        ),
    ],
)
def test_a_point_that_contradicts_itself(bad: Point, field: str, because: str) -> None:
    problems = check_document(document(*SINGLES, bad))
    assert [(p.field, p.because) for p in problems if p.field == f"points[4].{field}"] == [
        (f"points[4].{field}", because)
    ]
    assert all(p.remedy for p in problems)


@pytest.mark.parametrize(
    "fine",
    [
        replace(GOOD, itl_ms=Latency(mean_ms=10.4, p50_ms=20, p90_ms=20, p99_ms=20)),
        replace(GOOD, itl_ms=Latency(mean_ms=10.4, p90_ms=20)),
        replace(GOOD, itl_ms=Latency(mean_ms=10.4, p50_ms=20)),
        replace(GOOD, mean_running=65.2),
        replace(GOOD, ttft_ms=Latency(mean_ms=1, p50_ms=299)),
        replace(GOOD, ttft_ms=Latency(mean_ms=299, p50_ms=1)),
        point(1, itl=2500.0),
        point(1, itl=0.9),
        replace(point(1), mean_running=0.95),
        replace(GOOD, kv_peak_fraction=1.0),
        replace(GOOD, output_tokens_per_second=6700),
        replace(GOOD, output_tokens_per_second=5000),
        replace(GOOD, output_tokens_per_second=7000, marks=(Mark.LITTLES_LAW,)),
        replace(GOOD, output_tokens_per_second=7000, preemptions=4),
        replace(GOOD, output_tokens_per_second=7000, errors=4),
    ],
)
def test_a_point_that_is_only_unusual(fine: Point) -> None:
    assert check_document(document(*SINGLES, fine)) == ()


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        (
            document(point(32), point(64)),
            "points: no single engine was measured at B=1, so no efficiency can be judged: measure B=1 too",
        ),
        (
            document(point(1, marks=(Mark.THROTTLED,))),
            (
                "points: every single-engine point is in doubt: the GPU lowered its clocks: "
                "see to the GPU's cooling and power, and measure again"
            ),
        ),
        (
            document(ledger=replace(LEDGER, device_bytes=0)),
            "ledger.deviceBytes: it is 0: give the GPU's memory in bytes",
        ),
        (
            document(ledger=replace(LEDGER, kv_pool_bytes=62 * GIB)),
            (
                "ledger.kvPoolBytes: weights, activations, graphs, context and KV pool are 71,940,702,208 bytes "
                "on a device of 68,719,476,736: check the units: every line is in bytes"
            ),
        ),
        (
            document(gpu=replace(document().gpu, memory_bytes=64 * 1024)),
            "gpu.memoryBytes: 65,536 bytes, where the ledger says 68,719,476,736: check the units: both are in bytes",
        ),
        (
            document(gpu=replace(document().gpu, memory_bytes=128 * GIB)),
            (
                "gpu.memoryBytes: 137,438,953,472 bytes, where the ledger says 68,719,476,736: "
                "check the units: both are in bytes"
            ),
        ),
    ],
)
def test_a_document_that_contradicts_itself(bad: MeasurementDocument, line: str) -> None:
    with pytest.raises(AdviceError) as raised:
        advise(bad, Slo(), Settings())
    assert str(raised.value) == line


def test_packs_alone_lack_the_single_engine() -> None:
    assert [p.field for p in check_document(document(pack(64)))] == ["points"]


def test_a_ledger_just_over_the_device_is_rounding() -> None:
    assert check_document(document(ledger=replace(LEDGER, kv_pool_bytes=60 * GIB))) == ()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (Settings(min_efficiency=0), "minEfficiency: 0 is out of range: give a fraction inside (0, 1), such as 0.1"),
        (Settings(min_efficiency=1), "minEfficiency: 1 is out of range: give a fraction inside (0, 1), such as 0.1"),
        (
            Settings(min_efficiency=float("nan")),
            "minEfficiency: nan is out of range: give a fraction inside (0, 1), such as 0.1",
        ),
        (Settings(min_gain=-0.01), "minGain: -0.01 is out of range: give a fraction inside [0, 1), such as 0.05"),
        (Settings(min_gain=1), "minGain: 1 is out of range: give a fraction inside [0, 1), such as 0.05"),
        (Settings(max_engines_per_gpu=0), "maxEnginesPerGpu: 0 is out of range: give at least 1"),
        (Settings(engines_per_gpu=0), "enginesPerGpu: 0 is out of range: give at least 1"),
        (Settings(concurrency=0), "concurrency: 0 is out of range: give at least 1 request in flight"),
        (Settings(requests_per_second=0), "requestsPerSecond: 0 is out of range: give above 0"),
        (Settings(gpu_memory_bytes=0), "gpuMemoryBytes: 0 is out of range: give the GPU's memory in bytes"),
        (
            Settings(engines_per_gpu=2, mode=SharingMode.EXCLUSIVE),
            "enginesPerGpu: 2 engines cannot share a GPU with mode Exclusive: give mode MPS or TimeSlicing, or 1",
        ),
        (
            Settings(engines_per_gpu=17, plugin_max_replicas=16),
            "enginesPerGpu: the device plugin makes at most 16 slices of this GPU: give fewer",
        ),
        (
            Settings(concurrency=5, requests_per_second=5),
            "requestsPerSecond: concurrency is given too: give one of them",
        ),
    ],
)
def test_settings_out_of_range(settings: Settings, line: str) -> None:
    assert [str(p) for p in check_settings(settings)] == [line]


@pytest.mark.parametrize("value", [-0.01, 0, 0.001, 0.999, 1, 10])
@pytest.mark.parametrize("part", [AdvisorSpec, SearchSpec])
@pytest.mark.parametrize("name", tuning.KNOBS)
def test_a_knob_has_one_bound_in_the_api_and_in_the_advisor(
    name: str, value: float, part: type[AdvisorSpec | SearchSpec]
) -> None:
    try:
        admitted = bool(part.model_validate({camel(name): value}))
    except ValidationError:
        admitted = False
    assert admitted is (check_settings(Settings(**{name: value})) == ())


@pytest.mark.parametrize(
    "settings",
    [
        Settings(min_efficiency=0.001, min_gain=0),
        Settings(min_efficiency=0.999, min_gain=0.999),
        Settings(engines_per_gpu=1, mode=SharingMode.EXCLUSIVE),
        Settings(engines_per_gpu=48),
        Settings(concurrency=1, max_engines_per_gpu=1, gpu_memory_bytes=1),
        Settings(requests_per_second=0.001),
    ],
)
def test_settings_at_the_ends_of_their_ranges(settings: Settings) -> None:
    assert check_settings(settings) == ()


@pytest.mark.parametrize(
    ("slo", "line"),
    [
        (Slo(itl_ms=0), "slo.itl.maxMs: 0 is not above 0: give a limit above 0, or leave it out"),
        (Slo(itl_factor=-1), "slo.itl.maxFactor: -1 is not above 0: give a limit above 0, or leave it out"),
        (Slo(ttft_ms=0), "slo.ttft.maxMs: 0 is not above 0: give a limit above 0, or leave it out"),
    ],
)
def test_slo_limits_that_are_no_numbers_are_refused(slo: Slo, line: str) -> None:
    assert [str(p) for p in check_slo(document(), slo)] == [line]


def test_itl_factor_without_its_reference_batch_is_refused() -> None:
    problems = check_slo(document(point(1)), Slo(itl_factor=2))
    assert [p.field for p in problems] == ["slo.itl.maxFactor"]
    assert "B=32" in problems[0].because


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(AdviceError) as raised:
        advise(document(replace(point(1), mean_running=0)), Slo(itl_ms=0), Settings(min_gain=2))
    assert [p.field for p in raised.value.problems] == ["minGain", "points[0].meanRunning", "slo.itl.maxMs"]
