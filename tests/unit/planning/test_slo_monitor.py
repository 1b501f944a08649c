"""From scrapes to what status says: windows of enough requests, figures per GPU, and news only when the judgement changes."""

from dataclasses import replace
from typing import Any

import pytest
from slm_core.candidates import Predicted
from slm_core.configuration import EngineConfiguration
from slm_core.counters import Counters
from slm_core.slo import Limits, Statistic
from slm_operator.planning.actions import WriteStatus
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.views import Assignment, DeploymentView
from slm_operator.settings import Settings, Watch
from slm_operator.slo.judge import Expected
from slm_operator.slo.monitor import UNREADABLE_SCRAPES, Baseline, MonitorState, Scrape, Verdict, follow, slo_finding

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
    "a met SLO": ([FINE], True, "Met", "measured then: 500 tokens/s a GPU at an ITL of 8.0 ms, predicted"),
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
