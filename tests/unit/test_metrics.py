"""The operator's own figures, as Prometheus reads them: what was predicted, what is measured, and where slices are."""

from prometheus_client import generate_latest
from slm_operator.advisor.expectation import Expectation, Reach
from slm_operator.api import names
from slm_operator.metrics import Metrics
from slm_operator.reconcile.indexes import ProfileKeys, caches_for_planning
from slm_operator.reconcile.queue import KeyedQueue
from slm_operator.slo.window import Figures
from slm_operator.watch.records import Cause, Key

from tests import builders as build


def scraped(figures: dict[Key, Figures]) -> set[str]:
    caches = caches_for_planning(ProfileKeys(build.SETTINGS.defaults), build.SETTINGS)
    advice = {"figures": {"tokensPerSecondPerGpu": 5000.0, "itlMs": 8.0}, "freedBytes": 1024}
    advice |= {"joulesPerToken": 0.03, "costPerMillionTokens": 0.14, "currency": "EUR"}
    caches.deployments.put(build.deployment(status={"advice": advice}))
    caches.deployments.put(build.deployment("unmeasured"))
    caches.nodes.put(build.node(slice_class=build.MPS_4, labels={names.CLASS_LABEL: "mps-4"}))
    caches.nodes.put(build.node("gpu-2"))
    for pod in (
        build.replica("a"),
        build.replica("b"),
        build.replica("ended", phase="Failed"),
        build.replica("waits", None),
        build.replica("serves", None, of="unmeasured", ready=True, batch_size=96),
        build.replica("crashes", None, of="unmeasured", waiting=Cause("CrashLoopBackOff")),
    ):
        caches.pods.put(pod)
    metrics = Metrics()
    metrics.expose_gauges(caches, KeyedQueue(lambda: 0.0, lambda: 0.5), figures)
    return set(generate_latest(metrics.registry).decode().splitlines())


CHAT = Key("team", "chat")
EXPECTED = Expectation(
    in_flight=12.0,
    throughput_tokens_per_second=4950.0,
    output_tokens_per_second=2000.0,
    itl_ms=8.5,
    ttft_ms=120.0,
    reach=Reach.MEASURED,
)
MEASURED = {
    CHAT: Figures(
        throughput_tokens_per_second=4900.0,
        output_tokens_per_second=2000.0,
        itl_ms=9.0,
        in_flight=12.0,
        expected=EXPECTED,
        headroom=20,
    )
}


def test_promised_figures_stand_beside_measured_ones() -> None:
    labels = '{name="chat",namespace="team"}'
    assert {
        f"slm_operator_predicted_throughput_tokens_per_second{labels} 5000.0",
        f"slm_operator_measured_throughput_tokens_per_second{labels} 4900.0",
        f"slm_operator_predicted_itl_seconds{labels} 0.008",
        f"slm_operator_measured_itl_seconds{labels} 0.009",
        f"slm_operator_freed_memory_bytes{labels} 1024.0",
    } <= scraped(MEASURED)


def test_expected_figures_stand_beside_measured_ones() -> None:
    labels = '{name="chat",namespace="team"}'
    assert {
        f"slm_operator_expected_throughput_tokens_per_second{labels} 4950.0",
        f"slm_operator_expected_itl_seconds{labels} 0.0085",
        f"slm_operator_expected_ttft_seconds{labels} 0.12",
        f"slm_operator_in_flight_requests{labels} 12.0",
        f"slm_operator_headroom_requests{labels} 20.0",
    } <= scraped(MEASURED)
    assert not [line for line in scraped(MEASURED) if line.startswith("slm_operator_measured_ttft_seconds{")]


def test_cost_and_energy_of_the_advice_are_figures_too() -> None:
    assert {
        'slm_operator_predicted_joules_per_token{name="chat",namespace="team"} 0.03',
        'slm_operator_predicted_cost_per_million_tokens{currency="EUR",name="chat",namespace="team"} 0.14',
    } <= scraped({})


def test_a_deployment_without_figures_has_no_line() -> None:
    assert not [line for line in scraped(MEASURED) if "unmeasured" in line and not line.startswith("slm_operator_repl")]
    assert not [line for line in scraped({}) if line.startswith("slm_operator_measured_itl_seconds{")]


def test_engines_are_counted_that_are_ready_or_on_their_way() -> None:
    assert {
        'slm_operator_replicas{name="chat",namespace="team",state="ready"} 0.0',
        'slm_operator_replicas{name="chat",namespace="team",state="starting"} 3.0',
        'slm_operator_replicas{name="unmeasured",namespace="team",state="ready"} 1.0',
        'slm_operator_replicas{name="unmeasured",namespace="team",state="starting"} 0.0',
        'slm_operator_replica_batch_size{name="unmeasured",namespace="team",pod="serves"} 96.0',
    } <= scraped({})


def test_slices_are_counted_by_class_and_state() -> None:
    assert {
        'slm_operator_slices{class="mps-4",state="used"} 2.0',
        'slm_operator_slices{class="mps-4",state="free"} 2.0',
    } <= scraped({})
