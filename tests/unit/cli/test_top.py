"""`kubectl slm top`: figures from two looks at the engines' counters, and what is said where there are none."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from slm_core.configuration import EngineConfiguration
from slm_core.counters import Counters
from slm_core.engines import registry
from slm_core.measurements import SharingMode
from slm_core.slo import Limits
from slm_operator.advisor.expectation import curve_of
from slm_operator.cli.commands import top
from slm_operator.cli.main import main
from slm_operator.cli.render.live_metrics import Live, Look, Promised, Row, rows
from slm_operator.kube import engine_metrics
from unit.cli.api_server import failure
from unit.cli.cluster_objects import TEAM, deployed

from tests import builders as build
from tests.hostile_engine import page as hostile
from tests.other_engine.port import OtherEngine

if TYPE_CHECKING:
    from unit.cli.api_server import ApiServer

STARTED = Counters(
    running=2, waiting=0, kv_usage=0.25, preemptions=0, prompt_tokens=1000, output_tokens=5000, finished=10, itl_sum=100,
    itl_count=4000, ttft_sum=1, ttft_count=10, queue_sum=0,
)  # fmt: skip
LATER = replace(STARTED, prompt_tokens=1200, output_tokens=5800, itl_sum=120, itl_count=4800, kv_usage=0.5, waiting=3)


LIMITS = Limits(itl_ms=40.0)
CURVE = curve_of(
    [build.pack(64, in_flight=4, output=400, itl=10.0), build.pack(64, output=4000, itl=32.0)],
    EngineConfiguration(batch_size=64, max_num_batched_tokens=None, engines_per_gpu=2, sharing_mode=SharingMode.MPS),
    LIMITS,
)


def look(at_seconds: float, **engines: Counters) -> Look:
    return Look(at_seconds=at_seconds, deployments=[deployed()], engines={"opt": engines})


def the_row(before: Look | None, now: Look) -> Row:
    (row,) = rows(before, now, {"opt": Promised(limits=LIMITS, curve=CURVE)})
    return row


def test_figures_are_per_gpu_and_over_the_time_between_two_looks() -> None:
    row = the_row(look(10, a=STARTED, b=STARTED), look(12, a=LATER, b=LATER))
    # Two engines share one GPU: 2 x (200 + 800) tokens in 2 s; 2 x 20 s over 2 x 800 intervals.
    assert row.live == Live(engines=2, kv_usage=0.5, running=4, waiting=6, tokens_per_second=1000.0, itl_ms=25.0)
    assert (row.engines_per_gpu, row.itl_limit_ms, row.itl_statistic) == (2, 40.0, "Mean")


def test_expected_figures_are_those_of_the_load_that_is_there() -> None:
    row = the_row(look(10, a=STARTED, b=STARTED), look(12, a=LATER, b=LATER))
    assert row.expected is not None
    # Ten in flight, 6 of 124 on the way from a turn of 10 ms to one of 32 ms.
    assert row.expected.output_tokens_per_second == pytest.approx(1000 * 10 / (10 + 22 * 6 / 124))
    assert row.headroom == 118
    idle = the_row(look(10, a=STARTED), look(12))
    assert (idle.expected, idle.headroom) == (None, None)


LOOKS: list[tuple[str, Look | None, Look, Live | None]] = [
    ("once", None, look(12, a=LATER), Live(engines=1, kv_usage=0.5, running=2, waiting=3)),
    ("nobody answers", look(10, a=STARTED), look(12), None),
    ("new since", look(10, a=STARTED), look(12, b=LATER), Live(engines=1, kv_usage=0.5, running=2, waiting=3)),
    ("restarted in between", look(10, a=LATER), look(12, a=STARTED), Live(engines=1, kv_usage=0.25, running=2, waiting=0)),
    ("idle", look(10, a=STARTED), look(12, a=STARTED), Live(engines=1, kv_usage=0.25, running=2, waiting=0, tokens_per_second=0.0)),
    ("at one moment", look(12, a=STARTED), look(12, a=LATER), Live(engines=1, kv_usage=0.5, running=2, waiting=3)),
    ("one of two is new", look(10, a=STARTED), look(12, a=LATER, b=STARTED), Live(engines=2, kv_usage=0.5, running=4, waiting=3, tokens_per_second=1000.0, itl_ms=25.0)),
]  # fmt: skip


@pytest.mark.parametrize(("before", "now", "live"), [c[1:] for c in LOOKS], ids=[c[0] for c in LOOKS])
def test_live_figures_of_two_looks(before: Look | None, now: Look, live: Live | None) -> None:
    assert the_row(before, now).live == live


def test_a_deployment_that_nobody_has_looked_at_has_a_row() -> None:
    (row,) = rows(None, Look(at_seconds=0, deployments=[{"metadata": {"name": "new"}, "spec": {}}]), {})
    assert (row.name, row.ready, row.engines_per_gpu, row.live, row.slo_met) == ("new", 0, None, None, "")


def page(counters: Counters) -> str:
    values = {
        "num_requests_running": counters.running,
        "num_requests_waiting": counters.waiting,
        "kv_cache_usage_perc": counters.kv_usage,
        "num_preemptions_total": counters.preemptions,
        "prompt_tokens_total": counters.prompt_tokens,
        "generation_tokens_total": counters.output_tokens,
        "request_success_total": counters.finished,
        "inter_token_latency_seconds_sum": counters.itl_sum,
        "inter_token_latency_seconds_count": counters.itl_count,
        "time_to_first_token_seconds_sum": counters.ttft_sum,
        "time_to_first_token_seconds_count": counters.ttft_count,
        "request_queue_time_seconds_sum": counters.queue_sum,
    }
    return "".join(f'vllm:{name}{{model_name="opt"}} {value}\n' for name, value in values.items())


def pod(name: str, ready: str = "True") -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "labels": {"slm-operator.io/deployment": "opt"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "opt-1", "uid": "u", "controller": True}],
        },
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


PREDICTED = f"{deployed()['status']['advice']['figures']['tokensPerSecondPerGpu']:,.0f}"
PODS = "/api/v1/namespaces/team/pods"
METRICS = f"{PODS}/opt-a:8000/proxy/metrics"


@pytest.fixture
def engines(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    monkeypatch.setattr(top, "SECONDS", 0.01)
    clock = itertools.count(step=2.0)
    monkeypatch.setattr(top, "monotonic", lambda: next(clock))
    pages = iter([page(STARTED)])
    server.answers |= {PODS: {"items": [pod("opt-a"), pod("opt-b", "False")]}, METRICS: page(LATER)}
    answer = server.answer

    def first_then_later(method: str, path: str, body: Any) -> tuple[int, Any]:
        return (200, next(pages)) if path == METRICS and pages.__length_hint__() else answer(method, path, body)

    server.answer = first_then_later  # type: ignore[method-assign]
    return server


def test_top_reads_ready_engines_twice_through_the_proxy(
    engines: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", "--once"]) == 0
    heading, row = capsys.readouterr().out.splitlines()[:2]
    cells = dict(zip(heading.split("  "), row.split("  "), strict=False))
    assert cells["DEPLOYMENT"] == "opt"
    assert row.split()[1:] == ["2/2", "2", "1,000", "≥641", PREDICTED, "25.0", "30.0", "50%", "2", "3", "182"]
    assert f"GET {PODS}/opt-b:8000/proxy/metrics" not in engines.asked


def test_top_asks_an_engine_where_it_answers(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ENGINES", (*registry.ENGINES, OtherEngine()))
    other = deployed()
    other["spec"] = other["spec"] | {"engine": {"command": list(OtherEngine.command)}}
    server.answers |= {f"{TEAM}/slmdeployments": {"items": [other]}, PODS: {"items": [pod("opt-a")]}}
    assert main(["top", "--once"]) == 0
    asked = {path for path in server.asked if "/proxy/" in path}
    assert asked == {f"GET {PODS}/opt-a:8000/proxy/stats"}


LACKS: list[tuple[str, dict[str, Any], str]] = [
    ("the proxy", {METRICS: failure(403, 'User "u" cannot get resource "pods/proxy"')}, "opt: 0 of 2 ready engines were read: no right to get pods/proxy"),
    ("pods", {PODS: failure(403, 'pods is forbidden: User "u" cannot list resource "pods"')}, 'opt: 0 of 2 ready engines were read: pods is forbidden: User "u" cannot list'),
    ("an answer", {METRICS: failure(503, "no endpoints")}, "opt: 0 of 2 ready engines were read: no endpoints"),
    ("vLLM's names", {METRICS: "up 1\n"}, "the engine's /metrics lacks vllm:num_requests_running"),
    ("an end of its figures", {METRICS: hostile("inf")}, "opt: 0 of 2 ready engines were read: the engine's /metrics shows vllm:num_requests_running as no number"),
    ("a figure that is one", {METRICS: hostile("NaN")}, "opt: 0 of 2 ready engines were read: the engine's /metrics shows vllm:num_requests_running as no number"),
    ("a figure", {METRICS: hostile("many")}, "opt: 0 of 2 ready engines were read: the engine's /metrics shows vllm:num_requests_running as no number"),
    ("an end of its page", {METRICS: "#" * (5 << 20)}, "opt: 0 of 2 ready engines were read: the engine's page is larger than 2 MiB"),
    ("a page of its own", {METRICS: (302, "")}, "opt: 0 of 2 ready engines were read: the answer is a redirect (302)"),
    ("a profile", {f"{TEAM}/slmprofiles": failure(403, 'User "u" cannot'), METRICS: "up 1\n"}, "opt: 0 of 2"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "sentence"), [c[1:] for c in LACKS], ids=[c[0] for c in LACKS])
def test_top_says_what_is_lacking_and_shows_status(
    server: ApiServer, changed: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers |= {PODS: {"items": [pod("opt-a")]}} | changed
    assert main(["top"]) == 0
    reported = capsys.readouterr().out
    assert PREDICTED in reported
    assert sentence in reported


def test_an_engine_that_hangs_is_not_waited_for(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine_metrics, "TIMEOUT_SECONDS", 0.05)
    reported, answer = threading.Event(), server.answer

    def hang(method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == METRICS:
            reported.wait(20)
        return answer(method, path, body)

    server.answer = hang  # type: ignore[method-assign]
    server.answers[PODS] = {"items": [pod("opt-a")]}
    assert main(["top"]) == 0
    reported.set()
    assert "opt: 0 of 2 ready engines were read: no answer within 0.05 s" in capsys.readouterr().out


def test_an_empty_namespace(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers |= {f"{TEAM}/slmdeployments": {"items": []}, PODS: {"items": []}}
    assert main(["top", "--once"]) == 0
    assert capsys.readouterr().out == "no SLMDeployment in namespace team\n"
