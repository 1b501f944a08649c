"""From one `kubectl apply` to an answer, on real parts: kubelet, scheduler, vLLM, chart. Asserts on the API only."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from slm_core.codec import parse_document
from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.planning.deployment.advising import Unadvisable, advise_deployment, slo_of

from tests.best_single import fastest_single
from tests.testbed.cluster import KubectlError

from .conftest import FAST, READ_ONLY, node_at_rest
from .first import ASK, NAME, REFUSED, apply_and_wait, deployment, in_pod, metrics, pods, profile
from .serving import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.vllm, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def served(stage: Stage, first_namespace: str) -> Iterator[str]:
    """The example, applied and ready: the namespace that it is in. The node's marks of before are in its annotations."""
    namespace = first_namespace
    before = node_at_rest(stage)
    stage.opt_in()
    stage.install_operator(*FAST, READ_ONLY)
    # Where its profile is there already, nothing takes time: the choice of `Auto` would be by whom the operator hears of first.
    apply_and_wait(stage, keyed=True, partitioning="NodeSlices")
    yield namespace
    stage.cluster.kubectl("delete", "slmd", NAME, "--namespace", namespace, "--ignore-not-found")
    stage.wait_for_allocatable("nvidia.com/gpu", 1)
    stage.cluster.kubectl("label", "node", stage.cluster.node, "slm-operator.io/managed-")
    assert node_at_rest(stage) == before


def test_the_profile_was_measured_by_the_real_engine(stage: Stage, served: str) -> None:
    found = profile(stage)
    document = parse_document(found["status"]["measurements"])
    assert found["status"]["phase"] == "Complete"
    assert document.complete, document.incomplete_because
    assert document.engine.name == "vllm"
    assert document.engine.version.startswith("0.")
    assert {1, 32} <= {point.batch_size for point in document.points if point.replicas == 1}
    assert any(point.replicas == 2 for point in document.points), "the pack that the user asked for was not measured"
    assert document.ledger is not None
    assert document.ledger.weights_bytes > 0
    assert document.ledger.kv_bytes_per_token == 2 * 4 * 256 * 2  # key and value, layers, hidden size, bfloat16


def test_the_windows_saw_what_was_asked_for(stage: Stage, served: str) -> None:
    document = parse_document(profile(stage)["status"]["measurements"])
    for point in document.points:
        assert point.input_tokens_mean == pytest.approx(32, rel=0.02)
        assert point.output_tokens_mean == pytest.approx(48, rel=0.25)
    singles = {point.batch_size: point for point in document.points if point.replicas == 1}
    one, reference = singles[1], singles[32]
    assert one.throughput_tokens_per_second < reference.throughput_tokens_per_second
    assert reference.preemptions == reference.errors == 0
    assert 0 < reference.kv_peak_fraction < 1


def test_the_advice_is_bca_over_those_points(stage: Stage, served: str) -> None:
    found = deployment(stage)
    spec = SLMDeploymentSpec.model_validate(found["spec"])
    document = parse_document(profile(stage)["status"]["measurements"])
    advice = found["status"]["advice"]
    decided = advise_deployment(spec, document)
    assert not isinstance(decided, Unadvisable)
    assert advice["configuration"]["enginesPerGpu"] == 2
    assert advice["source"] == "UserChoice"
    reported = (advice.get("bestSingle") or {}).get("tokensPerSecondPerGpu")
    # On a busy machine no batch may keep the SLO: then none is best.
    best = fastest_single(document, slo_of(spec.slo), spec.advisor.min_efficiency, decided)
    assert reported == (best and pytest.approx(best, rel=1e-3))


def test_both_replicas_are_in_slots_of_one_gpu(stage: Stage, served: str) -> None:
    gpus: dict[str, set[str]] = defaultdict(set)
    for allocation in stage.allocations():
        if allocation["namespace"] == served and allocation["resource"] == "nvidia.com/gpu.shared":
            for device in allocation["device_ids"]:
                gpus[device.partition("::")[0]].add(allocation["pod"])
    assert [len(of_one) for of_one in gpus.values()] == [2]
    assert stage.get("node", stage.cluster.node)["status"]["allocatable"]["nvidia.com/gpu.shared"] == "2"


def test_the_engines_run_what_was_advised(stage: Stage, served: str) -> None:
    advice = deployment(stage)["status"]["advice"]
    for pod in pods(stage):
        args = pod["spec"]["containers"][0]["args"]
        assert args[args.index("--max-num-seqs") + 1] == str(advice["configuration"]["batchSize"])
        assert args[args.index("--kv-cache-memory-bytes") + 1] == str(advice["configuration"]["kvCacheBytes"])
        (cache,) = (line for line in metrics(stage, pod) if line.startswith("vllm:cache_config_info"))
        assert f'kv_cache_memory_bytes="{advice["configuration"]["kvCacheBytes"]}"' in cache
        log = stage.cluster.kubectl("logs", "--namespace", served, pod["metadata"]["name"], "--container", "engine")
        assert f"'max_num_seqs': {advice['configuration']['batchSize']}" in log


def test_both_replicas_answer_through_the_service(stage: Stage, served: str) -> None:
    url = deployment(stage)["status"]["url"]
    replicas = pods(stage)
    assert in_pod(stage, replicas[0], ASK.replace("URL", url)).strip() is not None
    for pod in replicas:
        answered = [
            value for line, value in metrics(stage, pod).items() if line.startswith("vllm:request_success_total")
        ]
        assert sum(float(value) for value in answered) > 0, f"{pod['metadata']['name']} was never asked"


def test_who_sends_no_key_is_refused_by_the_real_engine(stage: Stage, served: str) -> None:
    url = deployment(stage)["status"]["url"]
    assert in_pod(stage, pods(stage)[0], REFUSED.replace("URL", url)).split() == ["401", "401"]


def test_the_real_engine_writes_into_no_image(stage: Stage, served: str) -> None:
    for pod in pods(stage):
        (engine,) = pod["spec"]["containers"]
        assert engine["securityContext"]["readOnlyRootFilesystem"] is True
        tried = (
            "import errno\ntry: open('/var/tmp/x', 'w')\nexcept OSError as error: print(errno.errorcode[error.errno])"
        )
        assert in_pod(stage, pod, tried).strip() == "EROFS"


def test_status_tells_the_story(stage: Stage, served: str) -> None:
    status = deployment(stage)["status"]
    said = {condition["type"]: condition for condition in status["conditions"]}
    assert {
        name: said[name]["status"] for name in ("Ready", "Profiled", "Advised", "Allocated", "Available")
    } == dict.fromkeys(("Ready", "Profiled", "Advised", "Allocated", "Available"), "True")
    assert not {"Reconciling", "Stalled"} & set(said)
    assert status["observedGeneration"] == deployment(stage)["metadata"]["generation"]
    assert status["advice"]["sentences"]
    # On a busy machine no batch may keep the SLO; then the advice says that, and so does its event.
    wanted = {"ProfileRequested", said["Advised"]["reason"], "Ready"}
    until(lambda: wanted <= event_reasons(stage, served), timeout_s=60)


def event_reasons(stage: Stage, namespace: str) -> set[str]:
    """What is reported of deployments there. NB: events are posted beside the status, and may come after it."""
    listed = stage.cluster.kubectl("get", "events", "--namespace", namespace, "--output", "json")
    events = json.loads(listed)["items"]
    return {event["reason"] for event in events if event["involvedObject"]["kind"] == "SLMDeployment"}


def test_the_operator_logged_no_traceback(stage: Stage, served: str) -> None:
    assert served
    log = stage.cluster.kubectl("logs", "--namespace", "slm-system", "deploy/slm-operator")
    assert "Traceback" not in log


def test_deletion_leaves_only_the_profile(stage: Stage, served: str) -> None:
    measured = profile(stage)
    stage.cluster.kubectl("delete", "slmd", NAME, "--namespace", served)
    stage.wait_for_allocatable("nvidia.com/gpu", 1)
    for kind in ("jobs", "deployments", "services", "pdb", "pods"):
        listed_before = items(stage, served, kind)
        try:
            stage.cluster.kubectl("wait", "--for=delete", kind, "--all", "--namespace", served, "--timeout=280s")
        except KubectlError as error:
            if "no matching resources" not in str(error):
                raise AssertionError(
                    f"{kind} left: {yaml.safe_dump([o['metadata'] for o in listed_before])}"
                ) from error
    (left,) = items(stage, served, "slmp")
    assert left["metadata"]["uid"] == measured["metadata"]["uid"]
    assert "ownerReferences" not in left["metadata"]
    assert left["status"]["measurements"] == measured["status"]["measurements"]


def items(stage: Stage, namespace: str, kind: str) -> list[dict[str, Any]]:
    listed = stage.cluster.kubectl("get", kind, "--namespace", namespace, "--output", "json")
    found: list[dict[str, Any]] = json.loads(listed)["items"]
    return found
