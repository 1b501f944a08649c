"""From scrapes to what status says: windows of enough requests, figures per GPU, and news only when the judgement changes."""

import math
from dataclasses import replace
from typing import Any

import pytest
from slm_core.candidates import Predicted
from slm_core.configuration import EngineConfiguration
from slm_core.counters import Counters, over_engines
from slm_core.engines.registry import default
from slm_core.histograms import Histogram
from slm_core.measurements import Point, SharingMode
from slm_core.slo import Limits, Statistic
from slm_operator.advisor.expectation import curve_of
from slm_operator.api.conditions import rfc3339
from slm_operator.api.status import LoadStatus
from slm_operator.planning.actions import WriteStatus
from slm_operator.planning.deployment.load import load_status
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.views import Assignment, DeploymentView
from slm_operator.settings import Settings, Watch
from slm_operator.slo.baseline import Baseline
from slm_operator.slo.judge import Expected
from slm_operator.slo.monitor import UNREADABLE_SCRAPES, MonitorState, Verdict, follow, slo_finding
from slm_operator.slo.window import Scrape

from tests import builders as build

ZERO = Counters(**dict.fromkeys(Counters.__dataclass_fields__, 0.0))
BASELINE = Baseline(
    expected=Expected(
        limits=Limits(itl_ms=10.0, ttft_ms=None, itl_statistic=Statistic.MEAN, ttft_statistic=Statistic.MEAN),
        input_tokens_mean=100,
        output_tokens_mean=50,
        pays_from_in_flight=None,
    ),
    predicted=Predicted(
        configuration=EngineConfiguration(batch_size=32, max_num_batched_tokens=2048),
        throughput_tokens_per_second=3000.0,
        output_tokens_per_second=1000.0,
        itl_ms=8.0,
    ),
    profile="opt-12345678",
    pods_per_gpu=2,
)


def after(old: Counters, requests: float, *, itl_ms: float = 8.0, prompt: float = 100, output: float = 50) -> Counters:
    """Counters of an engine when so many more requests have finished."""
    return replace(
        old,
        finished=old.finished + requests,
        prompt_tokens=old.prompt_tokens + prompt * requests,
        output_tokens=old.output_tokens + output * requests,
        itl_count=old.itl_count + (output - 1) * requests,
        itl_sum=old.itl_sum + (output - 1) * requests * itl_ms / 1000,
        ttft_count=old.ttft_count + requests,
        ttft_sum=old.ttft_sum + requests * 0.1,
    )


def watch(*minutes: dict[str, Any], baseline: Baseline = BASELINE) -> list[MonitorState]:
    """The state after each minute, in which both replicas of one GPU finished so many requests."""
    engines = {"a": ZERO, "b": ZERO}
    state = follow(MonitorState(baseline=baseline), Scrape(at_seconds=0, engines=engines))
    states = [state]
    for number, minute in enumerate(minutes, 1):
        engines = {uid: after(counters, **minute) for uid, counters in engines.items()}
        state = follow(state, Scrape(at_seconds=60.0 * number, engines=engines))
        states.append(state)
    return states


def said(state: MonitorState) -> Verdict:
    assert state.verdict is not None
    return state.verdict


FINE, SLOW, LONGER = {"requests": 100}, {"requests": 100, "itl_ms": 14.0}, {"requests": 100, "prompt": 300}
STORIES: dict[str, tuple[list[dict[str, Any]], bool | None, str, str]] = {
    "nobody asks": ([{"requests": 0}], None, "NoTraffic", "nothing can be said yet"),
    "a met SLO": ([FINE], True, "Met", "measured then: 500 tokens/s a GPU at an ITL of 8.0 ms with 1.6 requests in flight; predicted"),
    "one slow minute": ([FINE, SLOW], True, "Met", "8.0 ms"),
    "three slow minutes": ([FINE, SLOW, SLOW, SLOW], False, "SloMissed", "14.0 ms, 40% over the limit of 10.0 ms"),
    "longer prompts": ([LONGER] * 3, True, "WorkloadChanged", "set spec.workload to inputTokens 300 and outputTokens 50"),
    "slow for half an hour": ([SLOW] * 34, False, "ReprofileAdvised", "delete SLMProfile opt-12345678"),
    "well again": ([SLOW] * 3 + [FINE] * 5, True, "Met", "are those that were measured"),
}  # fmt: skip


@pytest.mark.parametrize("case", STORIES)
def test_slo_condition_after(case: str) -> None:
    minutes, holds, reason, words = STORIES[case]
    verdict = said(watch(*minutes)[-1])
    assert (verdict.holds, verdict.reason) == (holds, reason)
    assert words in verdict.message


def with_curve(*points: Point, limits: Limits = BASELINE.expected.limits) -> Baseline:
    """Two engines on a GPU, measured at these loads."""
    served = replace(BASELINE.predicted.configuration, engines_per_gpu=2, sharing_mode=SharingMode.MPS)
    expected = replace(BASELINE.expected, limits=limits)
    return replace(BASELINE, expected=expected, curve=curve_of(points, served, limits), histograms=default().histograms)


PACKS = (build.pack(32, itl=6.0, output=250, in_flight=1), build.pack(32, itl=12.0, output=4000))
EXPECTED: list[tuple[str, list[Point], str]] = [
    ("between", list(PACKS), "expected with so many: 796 tokens/s at 6.1 ms; 41 more a GPU fit under the SLO"),
    ("below", list(PACKS[1:]), "expected with so many: at least 205 tokens/s, at most 12.0 ms; no more fit"),
    ("beyond", list(PACKS[:1]), "nothing is expected there, because so many were not measured; no more fit"),
]  # fmt: skip


@pytest.mark.parametrize(("points", "words"), [c[1:] for c in EXPECTED], ids=[c[0] for c in EXPECTED])
def test_expected_figures_stand_beside_measured_ones(points: list[Point], words: str) -> None:
    """With 1.64 requests in flight, by Little's law."""
    assert words in said(watch(FINE, baseline=with_curve(*points))[-1]).message


def test_of_other_lengths_nothing_is_said_to_fit() -> None:
    message = said(watch(*[LONGER] * 3, baseline=with_curve(*PACKS))[-1]).message
    assert "expected with so many, with the lengths that were measured" in message
    assert "fit under" not in message


def test_a_load_that_moves_is_said_anew_after_a_while() -> None:
    busy = {"requests": 1000}
    states = watch(FINE, busy, busy, busy, busy, busy, busy, FINE, baseline=with_curve(*PACKS))
    messages = [said(state).message for state in states[1:]]
    assert len(set(messages[:5])) == 1
    assert "16.4 requests in flight" in messages[5]
    assert messages[7] == messages[5]


def followed(minutes: int, *, baseline: Baseline = BASELINE, **requests: dict[str, Any]) -> MonitorState:
    """The state after so many minutes of replicas that each do the same in every one."""
    pods = {uid: f"chat-{uid} on node gpu-{uid}" for uid in requests}
    engines = dict.fromkeys(requests, ZERO)
    state = MonitorState(baseline=baseline)
    for minute in range(minutes + 1):
        state = follow(state, Scrape(at_seconds=60.0 * minute, engines=engines, pods=pods))
        engines = {uid: after(counters, **requests[uid]) for uid, counters in engines.items()}
    return state


def test_one_slow_replica_among_many_is_named() -> None:
    state = followed(3, a=FINE, b=FINE, c=FINE, d=FINE, e=FINE, f=SLOW)
    assert (said(state).holds, said(state).reason) == (False, "SloMissed")
    expected = "1 of 6 replicas miss the SLO by themselves: chat-f on node gpu-f (mean ITL is 14.0 ms, 40% over the limit of 10.0 ms)"
    assert said(state).message.startswith(expected)
    assert said(followed(2, a=FINE, f=SLOW)).reason == "Met"


def test_a_quiet_replica_is_judged_once_it_has_answered_enough() -> None:
    quiet = {"requests": 8, "itl_ms": 14.0}
    assert said(followed(8, a=FINE, b=quiet)).reason == "Met"
    assert said(followed(9, a=FINE, b=quiet)).reason == "SloMissed"


def test_replicas_that_all_miss_are_no_news_of_each() -> None:
    message = said(followed(3, a=SLOW, b=SLOW)).message
    assert message.startswith("mean ITL is 14.0 ms")


def test_a_replica_that_went_is_forgotten() -> None:
    state = followed(3, a=FINE, b=FINE, f=SLOW)
    engines = {uid: after(state.last.engines[uid], 100) for uid in "ab"} if state.last else {}
    state = follow(state, Scrape(at_seconds=240.0, engines=engines))
    assert said(state).reason == "Met"


TAIL = replace(BASELINE.expected.limits, itl_ms=30.0, itl_statistic=Statistic.P99)
BOUNDS = (0.01, 0.025, 0.05, math.inf)


def tail_story(*counts: tuple[float, ...], limits: Limits = TAIL, minutes: int = 3) -> Verdict:
    """After minutes in each of which two replicas counted so many gaps up to 10, 25 and 50 ms and above; none: no histogram."""
    engines, shown = dict.fromkeys("ab", ZERO), [0.0] * len(BOUNDS)
    state = MonitorState(baseline=with_curve(*PACKS, limits=limits))
    for minute in range(minutes + 1):
        histogram = {"itl": Histogram(BOUNDS, tuple(shown))}
        histograms = dict.fromkeys("ab", histogram) if counts else {}
        state = follow(state, Scrape(at_seconds=60.0 * minute, engines=engines, histograms=histograms))
        engines = {uid: after(counters, 100) for uid, counters in engines.items()}
        gained = counts[minute % len(counts)] if counts else shown
        shown = [old + sum(gained[: at + 1]) for at, old in enumerate(shown)]
    return said(state)


NOT_TOLD = "p99 ITL cannot be read off the engines' histogram, and its mean is judged: "
TAILS: list[tuple[str, Verdict, bool, str]] = [
    ("kept", tail_story((900, 95, 4, 1)), True, "latency, lengths and load are those that were measured; measured then"),
    ("missed", tail_story((900, 50, 40, 10)), True, NOT_TOLD + "its bounds there are 25 and 50 ms, and the limit lies between"),
    ("missed by far", tail_story((900, 50, 30, 20)), False, "p99 ITL is over 50 ms, and so over the limit of 30.0 ms"),
    ("of few", tail_story((100, 0, 0, 10)), True, NOT_TOLD + "220 samples do not support it (459 needed)"),
    ("not shown", tail_story(), True, NOT_TOLD + "no replica shows vllm:inter_token_latency_seconds"),
    ("begun anew", tail_story((900, 100, 0, 0), (-900, -100, 0, 0), minutes=8), True, "began anew in every replica, or nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("verdict", "holds", "words"), [c[1:] for c in TAILS], ids=[c[0] for c in TAILS])
def test_percentile_of_a_histogram_that_is(verdict: Verdict, holds: bool, words: str) -> None:  # noqa: FBT001
    assert (verdict.holds, verdict.holds or verdict.reason) == (holds, holds or "SloMissed")
    assert words in verdict.message


def test_figures_are_per_gpu() -> None:
    """Two engines on one GPU, 100 requests of 150 tokens each in a minute."""
    figures = watch(FINE)[-1].figures
    assert figures is not None
    assert figures.throughput_tokens_per_second == pytest.approx(2 * 100 * 150 / 60)
    assert figures.itl_ms == pytest.approx(8.0)
    assert figures.ttft_ms == pytest.approx(100.0)


def test_a_window_waits_until_enough_requests_have_finished() -> None:
    states = watch(*[{"requests": 4}] * 3)
    assert [state.judgement is None for state in states] == [True, True, True, False]
    assert states[-1].windows[0].requests == 24


def test_slo_message_changes_only_with_the_judgement() -> None:
    states = watch(*[{"requests": 100, "itl_ms": 12.0 + n / 10} for n in range(12)])
    assert len({said(state) for state in states if said(state).reason == "SloMissed"}) == 1


def test_an_engine_that_was_restarted_is_left_out_of_that_window() -> None:
    (*_, state) = watch(FINE)
    restarted = {"a": after(ZERO, 1), "b": after(after(ZERO, 100), 100)}
    state = follow(state, Scrape(at_seconds=120, engines=restarted))
    assert state.windows[-1].requests == 100
    assert state.windows[-1].restarted == 1


def test_the_only_engine_is_judged_again_once_it_was_restarted() -> None:
    """Its pod is the same, and its counters are far below those of before for as long as it had run."""
    (*_, state) = watch(*[FINE] * 20, baseline=replace(BASELINE, pods_per_gpu=1))
    counters = ZERO
    for minute in range(21, 26):
        state = follow(state, Scrape(at_seconds=60.0 * minute, engines={"a": counters}))
        counters = after(counters, **SLOW)
    assert said(state).reason == "SloMissed"


def in_a_pack(*minutes: dict[str, Counters]) -> MonitorState:
    """The state after scrapes, a minute apart, of one pod that runs these engines."""
    state = MonitorState(baseline=replace(BASELINE, pods_per_gpu=1))
    for minute, engines in enumerate(minutes):
        sums = {"a": over_engines(engines.values())}
        state = follow(state, Scrape(at_seconds=60.0 * minute, engines=sums, packs={"a": engines}))
    return state


def test_an_engine_restarted_in_a_pack_is_seen_behind_the_sum() -> None:
    """What it has lost the others have gained, so the sum only grows; the next window is whole."""
    old, new = after(ZERO, 100), after(after(ZERO, 100), 150)
    begun = in_a_pack({"0": old, "1": old}, {"0": new, "1": after(ZERO, 10)})
    assert begun.windows == ()
    whole = in_a_pack(
        {"0": old, "1": old}, {"0": new, "1": after(ZERO, 10)}, {"0": after(new, 50), "1": after(after(ZERO, 10), 50)}
    )
    assert [window.requests for window in whole.windows] == [100]


def test_an_engine_that_comes_back_to_its_pack_did_not_do_all() -> None:
    """Its page did not answer once: its whole life is not what the next minute has brought."""
    one, other = after(ZERO, 100), after(ZERO, 5000)
    state = in_a_pack({"0": one}, {"0": after(one, 50), "1": other}, {"0": after(one, 90), "1": after(other, 40)})
    assert [window.requests for window in state.windows] == [80]


def test_replicas_that_were_all_replaced_begin_anew() -> None:
    (*_, state) = watch(FINE)
    state = follow(state, Scrape(at_seconds=120, engines={"c": ZERO}))
    assert said(state).reason == "Met"
    assert len(state.windows) == 1


def test_unreadable_metrics_are_unknown_and_no_met_slo() -> None:
    (*_, state) = watch(FINE)
    for number in range(UNREADABLE_SCRAPES):
        assert said(state).reason == "Met"
        state = follow(state, Scrape(at_seconds=120.0 + number, engines={}))
    assert said(state).holds is None
    assert "NetworkPolicy" in said(state).message


FORMER = {"status": "False", "reason": "SloMissed", "message": "late"}
MET = Verdict(holds=True, reason="Met", message="fine")
QUIET = Verdict(holds=None, reason="NoTraffic", message="nothing yet")
FINDINGS = {
    "never looked": (None, None, None),
    "an operator that just started": (None, FORMER, (False, "SloMissed")),
    "looked, and nobody asked yet": (QUIET, FORMER, (False, "SloMissed")),
    "the first look": (QUIET, None, (None, "NoTraffic")),
    "a judgement": (MET, FORMER, (True, "Met")),
}


@pytest.mark.parametrize("case", FINDINGS)
def test_slo_finding_of(case: str) -> None:
    verdict, former, expected = FINDINGS[case]
    finding = slo_finding(verdict, former)
    assert (finding and (finding.holds, finding.reason)) == expected


def view(verdict: Verdict | None) -> DeploymentView:
    record = build.deployment(spec={"sharing": {"enginesPerGpu": 2, "mode": "MPS"}})
    return build.deployment_view(
        record,
        build.profile(record, build.imported()),
        assignment=Assignment(slice_class=build.MPS_2, nodes=("gpu-1",), slots=2),
        workload=build.workload("chat", replicas=2, ready=2),
        slo_verdict=verdict,
    )


def conditions(verdict: Verdict | None, settings: Settings = build.SETTINGS) -> dict[str, str]:
    plan = plan_deployment(view(verdict), settings, build.NOW)
    (write,) = (action for action in plan.actions if isinstance(action, WriteStatus))
    return {condition["type"]: condition["status"] for condition in write.status["conditions"]}


def test_a_missed_slo_is_said_and_has_no_part_in_ready() -> None:
    reported = conditions(Verdict(holds=False, reason="SloMissed", message="late"))
    assert (reported["Ready"], reported["SLOMet"]) == ("True", "False")


def test_slo_monitor_that_is_off_says_nothing() -> None:
    assert "SLOMet" not in conditions(MET, Settings(watch=Watch(interval_seconds=0)))


SEEN = watch(FINE, baseline=with_curve(*PACKS))[-1].verdict
LOAD = {
    "inFlightPerGpu": 1.6,
    "measured": {"tokensPerSecondPerGpu": 500.0, "outputTokensPerSecondPerGpu": 166.7, "itlMs": 8.0, "ttftMs": 100.0},
    "expected": {"tokensPerSecondPerGpu": 795.7, "outputTokensPerSecondPerGpu": 397.9, "itlMs": 6.061},
    "expectedAs": "Measured",
    "headroomPerGpu": 41,
}
BEFORE, NOW = "2025-12-31T00:00:00Z", rfc3339(build.NOW)
LOADS: list[tuple[str, Verdict | None, dict[str, Any] | None, dict[str, Any] | None]] = [
    ("never looked", None, None, None),
    ("an operator that just started", None, LOAD | {"observedTime": BEFORE}, LOAD | {"observedTime": BEFORE}),
    ("looked, and nobody asked yet", QUIET, LOAD | {"observedTime": BEFORE}, LOAD | {"observedTime": BEFORE}),
    ("the first window", SEEN, None, LOAD | {"observedTime": NOW}),
    ("the same again", SEEN, LOAD | {"observedTime": BEFORE}, LOAD | {"observedTime": BEFORE}),
    ("another load", SEEN, LOAD | {"headroomPerGpu": 7, "observedTime": BEFORE}, LOAD | {"observedTime": NOW}),
    ("what cannot be read", Verdict(holds=None, reason="MetricsUnreadable", message=""), LOAD, None),
]  # fmt: skip


@pytest.mark.parametrize(("verdict", "former", "said_now"), [c[1:] for c in LOADS], ids=[c[0] for c in LOADS])
def test_load_in_status_after(
    verdict: Verdict | None, former: dict[str, Any] | None, said_now: dict[str, Any] | None
) -> None:
    assert load_status(verdict, former, build.NOW) == said_now


def test_load_in_status_is_as_the_api_has_it() -> None:
    (write,) = (a for a in plan_deployment(view(SEEN), build.SETTINGS, build.NOW).actions if isinstance(a, WriteStatus))
    assert write.status["load"] == LOAD | {"observedTime": NOW}
    assert LoadStatus.model_validate(write.status["load"]).headroom_per_gpu == 41
