"""Engines, logs and objects that mean harm, on a real API server with its pod proxy, beside a deployment that serves."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from tests import builders as build
from tests.conftest import own_namespace
from tests.control_plane.gpu_fleet import MODEL, add_gpu_nodes, is_ready, slm_deployment, slm_profile
from tests.control_plane.operator_process import OperatorProcess, operator, wait_until
from tests.control_plane.pod_network import PodNetwork, pod_network
from tests.hostile_engine import READ, REFUSED, Answer, page, says
from tests.hostile_log import LOGS, result
from tests.nesting import DEEP, deep_json, nested
from tests.testbed.cluster import apply_crds, audit_lines
from tests.testbed.control_plane import ControlPlane, control_plane

pytestmark = pytest.mark.control_plane
ROOT = Path(__file__).parents[2]
LIMIT_BYTES = (
    int(
        yaml.safe_load((ROOT / "charts/slm-operator/values.yaml").read_text())["resources"]["limits"][
            "memory"
        ].removesuffix("Mi")
    )
    << 20
)
"""The chart's memory limit of the operator."""
OPERATOR_LEVELS = 9000
LABEL = "slm-operator.io/deployment"


@pytest.fixture(scope="module")
def network() -> Iterator[PodNetwork]:
    with pod_network() as network:
        yield network


@pytest.fixture(scope="module")
def plane(network: PodNetwork) -> Iterator[ControlPlane]:
    """A control plane of its own, whose API server goes to pods through that network."""
    with control_plane(flags={"kube-apiserver": [f"--egress-selector-config-file={network.config}"]}) as plane:
        apply_crds(plane, ROOT / "crds")
        add_gpu_nodes(plane, 2, gpus=4, prefix="hostile")
        yield plane


@pytest.fixture
def namespace(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own; nothing of ours stays in it for the next test's operator."""
    for name in own_namespace(plane, request):
        yield name
        plane.kubectl("delete", "slmd,slmp,pods", "--all", "--namespace", name, "--wait=false")


def slm(plane: ControlPlane, namespace: str, *arguments: str) -> str:
    """What a command says that is typed by the cluster's administrator."""
    command = [str(Path(sys.executable).with_name("kubectl-slm")), *arguments, "--namespace", namespace]
    environment = os.environ | {"KUBECONFIG": str(plane.kubeconfig), "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=240)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def apply(plane: ControlPlane, namespace: str, *objects: dict[str, Any]) -> None:
    text = "\n---\n".join(map(json.dumps, objects))
    plane.kubectl("apply", "--server-side", "--namespace", namespace, "-f", "-", stdin=text)


def get(plane: ControlPlane, namespace: str, *what: str) -> Any:
    return json.loads(plane.kubectl("get", *what, "--namespace", namespace, "-o", "json"))


def pod(name: str, label: str, **metadata: Any) -> dict[str, Any]:
    spec = {"nodeName": "hostile-0", "containers": [{"name": "engine", "image": "none"}]}
    head = {"name": name, "labels": {LABEL: label}} | metadata
    return {"apiVersion": "v1", "kind": "Pod", "metadata": head, "spec": spec}


def replica_set(of: str) -> dict[str, Any]:
    """What a Deployment makes for its replicas."""
    template = {"metadata": {"labels": {LABEL: of, "made-by": of}}, "spec": pod("", of)["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": {"made-by": of}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": of}, "spec": spec}


def peak_bytes(running: OperatorProcess) -> int:
    """Most memory that the process has held so far."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def ready(plane: ControlPlane, namespace: str, name: str) -> None:
    wait_until(lambda: is_ready(get(plane, namespace, f"slmd/{name}")))


def asked_by_us(plane: ControlPlane) -> list[dict[str, Any]]:
    """What operators and commands have asked, from the audit log."""
    reported = map(json.loads, audit_lines(plane.audit_log))
    return [one for one in reported if one.get("userAgent") == "slm-operator"]


def engines(plane: ControlPlane, network: PodNetwork, namespace: str, answers: dict[str, Answer]) -> None:
    """A deployment with one ready replica for each of these answers, and beside it a pod that only bears its label."""
    apply(plane, namespace, *(slm_deployment(name, "none") for name in answers), *map(replica_set, answers))
    apply(plane, namespace, *(pod(f"forged-{name}", name) for name in answers))
    wait_until(lambda: len(get(plane, namespace, "pods")["items"]) == 2 * len(answers))
    plane.kubectl("wait", "--for=condition=Ready", "pods", "--all", "--namespace", namespace, "--timeout=240s")
    for one in get(plane, namespace, "pods")["items"]:
        of = one["metadata"]["labels"][LABEL]
        forged = one["metadata"]["name"] == f"forged-{of}"
        network.assign(f"{one['status']['podIP']}:8000", says("no engine") if forged else answers[of])


def test_top_sends_no_token_to_a_redirect_target(plane: ControlPlane, network: PodNetwork, namespace: str) -> None:
    thief = network.assign("thief", says("thanks"))
    away = {"away": says("", 302, Location=f"{thief}/steal"), "home": says("", 307, Location="/api/v1/secrets")}
    engines(plane, network, namespace, away)
    said = slm(plane, namespace, "top", "--once")
    asked = {address for address, _ in network.asked}
    assert "thief" not in asked
    assert len(asked) == len(away)
    for name, status in (("away", 302), ("home", 307)):
        assert f"{name}: 0 of 0 ready engines were read: the answer is a redirect ({status})" in said
    assert [one["requestURI"] for one in asked_by_us(plane) if "secrets" in one["requestURI"]] == []


def test_top_bears_every_hostile_engine(plane: ControlPlane, network: PodNetwork, namespace: str) -> None:
    harms = {f"h{number}": harm for number, harm in enumerate(REFUSED | READ)}
    engines(plane, network, namespace, {name: (REFUSED | READ)[harm] for name, harm in harms.items()})
    seen = {line.split()[0].rstrip(":"): line for line in slm(plane, namespace, "top", "--once").splitlines() if line}
    unread = {harms[name] for name, line in seen.items() if name in harms and "engines were read" in line}
    assert unread == set(REFUSED)


def post_deep(plane: ControlPlane, path: str, body: dict[str, Any]) -> None:
    """NB: as text, because no encoder of Python writes it; by lists in a spec, and by the fields that one may own."""
    own = nested(OPERATOR_LEVELS, "object").replace('"a\\\\\\\\"', '"f:a"').replace("1", "{}", 1)
    text = deep_json(body, OPERATOR_LEVELS).replace('"OWN"', own)
    headers = {"Authorization": f"Bearer {plane.tokens['admin']}", "Content-Type": "application/json"}
    with urllib3.PoolManager(ca_certs=str(plane.ca_file)) as http:
        answer = http.request("POST", plane.server + path, body=text.encode(), headers=headers)
    assert answer.status == 201, answer.data[:500]


def make_deep(plane: ControlPlane, namespace: str, name: str) -> None:
    """One of each kind that the operator watches and a tenant may write, nested deeply."""
    fields = [{"manager": "me", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z"}]
    fields[0] |= {"fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:x": "OWN"}}}  # type: ignore[dict-item]
    for path, raw in {
        f"/api/v1/namespaces/{namespace}/pods": pod(name, name, managedFields=fields),
        f"/apis/slm-operator.io/v1alpha1/namespaces/{namespace}/slmdeployments": deep_spec("SLMDeployment", name),
        f"/apis/slm-operator.io/v1alpha1/namespaces/{namespace}/slmprofiles": deep_spec("SLMProfile", name),
        f"/api/v1/namespaces/{namespace}/services": {
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": f"of-{name}", "labels": {LABEL: name}, "managedFields": fields},
            "spec": {"ports": [{"port": 80}]},
        },
    }.items():  # fmt: skip
        post_deep(plane, path, raw)


def deep_spec(kind: str, name: str) -> dict[str, Any]:
    return build.manifest(kind, name, {"model": MODEL, "podTemplate": {"spec": {"x": DEEP}}})


def test_deeply_nested_objects_are_reported_and_others_served(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    apply(plane, namespace, slm_profile("measured"), slm_deployment("listed-good", "measured"))
    make_deep(plane, namespace, "listed")
    (tmp_path / "settings.yaml").write_text("watch: {intervalSeconds: 0}\n")
    with operator(plane, f"--config={tmp_path}/settings.yaml") as running:
        ready(plane, namespace, "listed-good")
        make_deep(plane, namespace, "watched")
        apply(plane, namespace, slm_deployment("watched-good", "measured"))
        ready(plane, namespace, "watched-good")
        for name in ("listed", "watched"):
            wait_until(lambda name=name: "InvalidSpec" in conditions(plane, namespace, f"slmd/{name}"))
            assert "podTemplate: nested deeper than 64 levels" in conditions(plane, namespace, f"slmd/{name}")
            wait_until(lambda name=name: "InvalidProfile" in conditions(plane, namespace, f"slmp/{name}"))
        assert [line for line in running.lines if line["message"] in {"object not read", "pass failed"}] == []
        assert running.terminate() == 0
    for command in (["watch", "--once"], ["top", "--once"]):
        assert "listed" in slm(plane, namespace, *command)


def conditions(plane: ControlPlane, namespace: str, what: str) -> str:
    """NB: of a deep object as JSON, kubectl's indentation alone is hundreds of megabytes."""
    return plane.kubectl("get", what, "--namespace", namespace, "-o", "jsonpath={.status.conditions}")


def refused_writes(plane: ControlPlane) -> list[str]:
    """Writes of an operator that the API server has refused, other than for a conflict."""
    return [
        f"{one['verb']} {one['requestURI']}: {one['responseStatus'].get('message')}"
        for one in asked_by_us(plane)
        if one["verb"] in {"create", "patch", "update"} and one["responseStatus"]["code"] in {400, 413, 422, 500}
    ]


HOSTILE_LOGS = {
    "a long failure": "Died",
    "a long class": "ProfileFailed",
    "signs outside of Unicode's first plane": "Died",
    "half a character": "Died",
    "a document with figures as fractions": "Measured",
}


def test_no_hostile_log_makes_a_status_that_is_refused(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("watch: {intervalSeconds: 0}\n")
    apply(plane, namespace, slm_profile("measured"), slm_deployment("good", "measured"))
    with operator(plane, f"--config={tmp_path}/settings.yaml") as running:
        ready(plane, namespace, "good")
        for number, (log, reason) in enumerate(HOSTILE_LOGS.items()):
            plane.write_pod_log(LOGS[log])
            apply(plane, namespace, build.manifest("SLMProfile", f"p{number}", {"model": MODEL}))
            wait_until(lambda number=number, reason=reason: reason in conditions(plane, namespace, f"slmp/p{number}"))
        assert running.terminate() == 0
    plane.write_pod_log("")
    assert refused_writes(plane) == []


def job_of_a_stranger(name: str) -> dict[str, Any]:
    """One that never ends, with our label; who makes it needs no right on our kinds, and no GPU."""
    container = {"name": "engine", "image": "none"}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    head = {"name": name, "labels": {"slm-operator.io/profile": "measured"}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": head, "spec": {"suspend": True, "template": template}}


def test_strangers_jobs_take_no_place_among_the_profiles(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("watch: {intervalSeconds: 0}\n")
    apply(plane, namespace, *map(job_of_a_stranger, ("a", "b", "mine")))
    plane.write_pod_log(result())
    with operator(plane, f"--config={tmp_path}/settings.yaml") as running:
        apply(plane, namespace, build.manifest("SLMProfile", "measured", {"model": MODEL}))
        wait_until(lambda: "Measured" in conditions(plane, namespace, "slmp/measured"))
        apply(plane, namespace, build.manifest("SLMProfile", "mine", {"model": MODEL}))
        wait_until(lambda: "Refused" in conditions(plane, namespace, "slmp/mine"))
        plane.kubectl("delete", "job/mine", "--namespace", namespace)
        wait_until(lambda: "Measured" in conditions(plane, namespace, "slmp/mine"))
        assert running.terminate() == 0
    left = {one["metadata"]["name"] for one in get(plane, namespace, "jobs")["items"]}
    assert left >= {"a", "b"}
    plane.write_pod_log("")


@contextlib.contextmanager
def as_addresses(plane: ControlPlane, namespace: str, addresses: list[str]) -> Iterator[None]:
    """The deployment's pods at these addresses, as far as the operator sees."""
    names = [one["metadata"]["name"] for one in get(plane, namespace, "pods", f"--selector={LABEL}=chat")["items"]]
    for name, address in zip(names, addresses, strict=True):
        patch = json.dumps({"status": {"podIP": address, "podIPs": [{"ip": address}]}})
        plane.kubectl(
            "patch", f"pod/{name}", "--namespace", namespace, "--subresource=status", "--type=merge", "-p", patch
        )
    yield


def test_the_watch_bears_hostile_engines_within_its_memory(
    plane: ControlPlane, network: PodNetwork, namespace: str, tmp_path: Path
) -> None:
    addresses = [f"127.0.77.{number}" for number in range(1, 5)]
    left = iter(list((REFUSED | READ).values()))
    asked: list[str] = []

    async def next_harm(request: Any) -> Any:
        asked.append(request.path)
        return await next(left, says(page()))(request)

    for address in addresses:
        network.assign(f"{address}:8000", next_harm, host=address, port=8000)
    chat = slm_deployment("chat", "measured", replicas=len(addresses))
    apply(plane, namespace, slm_profile("measured"), chat)
    (tmp_path / "settings.yaml").write_text("watch: {intervalSeconds: 1}\n")
    with operator(plane, f"--config={tmp_path}/settings.yaml") as running:
        ready(plane, namespace, "chat")
        with as_addresses(plane, namespace, addresses):
            wait_until(lambda: len(asked) > len(REFUSED | READ))
        assert peak_bytes(running) < LIMIT_BYTES
        assert is_ready(get(plane, namespace, "slmd/chat"))
        assert [line for line in running.lines if line["message"] == "SLO monitor failed"] == []
        assert running.terminate() == 0


BIG_BYTES = 1_300_000
OF_EACH_KIND = {"slmdeployments": 20, "slmdeployments?legal": 52, "slmprofiles": 24, "pods": 4}
"""A hundred in all. NB: of pods this big the API server itself takes gigabytes, and seconds each."""
A_QUARTER = {path: number // 4 for path, number in OF_EACH_KIND.items()} | {"pods": 2}
"""Held at once, half of these alone would be more than the limit: three lists of 28 MiB among Python's own objects."""


def big_objects(namespace: str) -> dict[str, str]:
    """By the path of its collection, an object as big as may be, named NAME."""
    lists = [[]] * (BIG_BYTES // 3)
    point = {
        "batchSize": 8, "throughputTokensPerSecond": 1.5, "outputTokensPerSecond": 2.5, "itlMs": {"meanMs": 1.5, "p50Ms": 2.5},
        "kvPeakFraction": 0.5, "meanRunning": 8, "windowSeconds": 9.5, "requests": 100, "inputTokensMean": 10.5,
        "outputTokensMean": 11.5, "ttftMs": {"meanMs": 1.5, "p50Ms": 2.5, "p90Ms": 3.5},
    }  # fmt: skip
    measured = {
        "schema": "slm-operator.io/measurements/v1", "model": {"uri": "/m"}, "engine": {"version": "1"},
        "gpu": {"product": "x", "memoryBytes": 1}, "points": [point] * 500,
        "workload": {"source": "fixed", "inputTokensMean": 1, "outputTokensMean": 2},
    }  # fmt: skip
    container = {"name": "engine", "image": "none", "env": [{"name": "A"}] * (BIG_BYTES // 16)}
    big_pod = pod("NAME", "big") | {"spec": {"containers": [container]}}
    legal = slm_deployment("legal-NAME", "measured", replicas=0)
    legal["spec"]["podTemplate"] = {
        "metadata": {"annotations": {f"example.com/a{number}": "v" for number in range(1900)}}
    }
    groups = "/apis/slm-operator.io/v1alpha1"
    return {
        f"{groups}/namespaces/{namespace}/slmdeployments": json.dumps(
            build.manifest("SLMDeployment", "NAME", {"model": MODEL, "podTemplate": {"spec": {"x": lists}}})
        ),
        f"{groups}/namespaces/{namespace}/slmdeployments?legal": json.dumps(legal),
        f"{groups}/namespaces/{namespace}/slmprofiles": json.dumps(
            build.manifest("SLMProfile", "NAME", {"model": MODEL, "measurements": measured})
        ),
        f"/api/v1/namespaces/{namespace}/pods": json.dumps(big_pod),
    }


def post_half(plane: ControlPlane, texts: dict[str, str], numbers: dict[str, int], when: str) -> None:
    headers = {"Authorization": f"Bearer {plane.tokens['admin']}", "Content-Type": "application/json"}
    with urllib3.PoolManager(ca_certs=str(plane.ca_file)) as http:
        for path, text in texts.items():
            for number in range(numbers[path.rpartition("/")[2]] // 2):
                body = text.replace("NAME", f"{when}-{number}").encode()
                answer = http.request("POST", plane.server + path.partition("?")[0], body=body, headers=headers)
                assert answer.status == 201, answer.data[:500]


@pytest.mark.parametrize(
    "numbers", [A_QUARTER, pytest.param(OF_EACH_KIND, marks=pytest.mark.record)], ids=("26", "100")
)
def test_many_of_the_biggest_objects_fit_into_memory(
    numbers: dict[str, int], plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Half of them are found at the start, half are seen in the watch."""
    (tmp_path / "settings.yaml").write_text("watch: {intervalSeconds: 0}\n")
    texts = big_objects(namespace)
    post_half(plane, texts, numbers, "listed")
    apply(plane, namespace, slm_profile("measured"), slm_deployment("good", "measured"))
    with operator(plane, f"--config={tmp_path}/settings.yaml") as running:
        ready(plane, namespace, "good")
        listed = peak_bytes(running)
        post_half(plane, texts, numbers, "watched")
        wait_until(lambda: "spec.podTemplate: spec may have" in conditions(plane, namespace, "slmd/watched-0"))
        apply(plane, namespace, slm_deployment("later", "measured"))
        ready(plane, namespace, "later")
        print(f"peak memory: {listed >> 20} MiB after the lists, {peak_bytes(running) >> 20} MiB after the watches")
        assert peak_bytes(running) < LIMIT_BYTES
        assert [line for line in running.lines if line["message"] in {"object not read", "pass failed"}] == []
        assert running.terminate() == 0
