"""The kind half of the test bed: what a test may expect of `kind_cluster`, and that nothing of it stays behind."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kind.isolated_engine import state_of_the_machine
from tests.testbed.cluster import Cluster, KubectlError, audit_lines, enforce_restricted, log_tails
from tests.testbed.component import wait_until
from tests.testbed.docker_engine import running_engine, users
from tests.testbed.gotools import binary, cache_dir
from tests.testbed.kind import KindCluster, attach

pytestmark = [pytest.mark.kind, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
NAMESPACE = "testbed-probe"
IMAGE = "slm-testbed/probe:test"
DOCKERFILE = """\
FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -qqy --no-install-recommends busybox
RUN mkdir /www && echo "built here" > /www/index.html && rm -rf /usr/share/perl5
"""
PODS = f"""\
apiVersion: v1
kind: Pod
metadata: {{name: server, labels: {{app: server}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: server
      image: {IMAGE}
      imagePullPolicy: Never
      command: [busybox, httpd, -f, -p, "8080", -h, /www]
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  selector: {{app: server}}
  ports: [{{port: 80, targetPort: 8080}}]
---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: testbed-probe-models}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadOnlyMany]
  storageClassName: ""
  claimRef: {{namespace: {NAMESPACE}, name: models}}
  hostPath: {{path: /opt/slm/models, type: Directory}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: models}}
spec:
  accessModes: [ReadOnlyMany]
  storageClassName: ""
  volumeName: testbed-probe-models
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: client
      image: {IMAGE}
      imagePullPolicy: Never
      command: [sleep, infinity]
      volumeMounts: [{{name: models, mountPath: /models, readOnly: true}}]
  volumes: [{{name: models, persistentVolumeClaim: {{claimName: models, readOnly: true}}}}]
"""


@pytest.mark.parametrize("ended_by", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_private_engine_leaves_nothing_however_its_user_ends(ended_by: str) -> None:
    if running_engine() is not None:
        pytest.skip("this machine has a Docker engine, so none is started")
    # NB: not tmp_path, whose name is too long for containerd's sockets.
    with tempfile.TemporaryDirectory(prefix="slm-") as cache:
        done = subprocess.run(
            [
                "unshare",
                "--net",
                "--mount",
                sys.executable,
                "-m",
                "tests.kind.isolated_engine",
                ended_by,
                binary("etcd"),
            ],
            cwd=ROOT,
            env=os.environ | {"SLM_CACHE": cache},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    assert reported["started"] == "running\n"
    for what in ("processes", "mounts", "interfaces", "rules", "control groups", "engine folders", "kernel settings"):
        assert reported["during"][what] != reported["before"][what], (
            f"{what}: nothing to clean up, so nothing was shown"
        )
    if ended_by == "SIGKILL":
        assert reported["after"] != reported["before"]  # nobody could clean up, until the next user came
    else:
        assert reported["after"] == reported["before"]
    assert reported["containers of the next"] == ""
    assert reported["after the next"] == reported["before"]


def test_cluster_up_leaves_a_cluster_running_and_cluster_down_removes_it() -> None:
    if attach() is not None:
        pytest.skip("somebody plays with the cluster that `make cluster-up` left")
    before = state_of_the_machine()
    try:
        printed = run_testbed("up")
        kept = attach()
        assert kept is not None
        assert printed == f"export KUBECONFIG={kept.kubeconfig}\n"
        assert "Ready" in kept.kubectl("get", "nodes")
        assert run_testbed("up") == printed  # the same one
    finally:
        run_testbed("down")
    assert attach() is None
    after = state_of_the_machine()
    # Somebody else's engine and clusters may have come and gone meanwhile.
    assert kept.name not in after["clusters"] if users() else after == before


def run_testbed(what: str) -> str:
    command = [sys.executable, "-m", "tests.testbed", what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Probe:
    """Two pods and what they need, in a namespace of their own on the shared cluster."""

    def __init__(self, cluster: KindCluster) -> None:
        self.cluster = cluster

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl(f"--namespace={NAMESPACE}", *arguments, stdin=stdin)

    def run(self, pod: str, *command: str) -> str:
        return self.kubectl("exec", pod, "--", *command)


@pytest.fixture(scope="module")
def probe(kind_cluster: KindCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    context = tmp_path_factory.mktemp("image")
    (context / "Dockerfile").write_text(DOCKERFILE)
    kind_cluster.load_image(kind_cluster.build(context / "Dockerfile", context, IMAGE))
    probe = Probe(kind_cluster)
    kind_cluster.kubectl("create", "namespace", NAMESPACE)
    kind_cluster.kubectl("-n", NAMESPACE, "wait", "--for=create", "serviceaccount/default", "--timeout=240s")
    probe.kubectl("apply", "-f", "-", stdin=PODS)
    probe.kubectl("wait", "--for=condition=Ready", "pod/server", "pod/client", "--timeout=240s")
    # NB: kube-proxy hears of a pod that is ready a moment after everybody else.
    probe.run("client", "sh", "-c", "until busybox wget -q -O /dev/null http://web/; do sleep 0.2; done")
    yield probe
    kind_cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    kind_cluster.kubectl("delete", "persistentvolume", "testbed-probe-models", "--wait=false")


def test_it_is_a_cluster_like_the_other_kind(kind_cluster: KindCluster) -> None:
    assert isinstance(kind_cluster, Cluster)


def test_the_node_is_ready(kind_cluster: KindCluster) -> None:
    (node,) = json.loads(kind_cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    assert node["metadata"]["name"] == kind_cluster.node
    assert {"type": "Ready", "status": "True"}.items() <= node["status"]["conditions"][-1].items()
    assert node["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.35.")


def test_an_image_built_here_runs_and_a_service_answers_by_name(probe: Probe) -> None:
    probe.cluster.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=240s")
    found = probe.run("client", "busybox", "nslookup", f"web.{NAMESPACE}.svc.cluster.local")
    assert probe.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}") in found
    assert probe.run("client", "busybox", "wget", "-qO-", "http://web/") == "built here\n"


def test_a_pod_reaches_itself_through_its_service(probe: Probe) -> None:
    assert probe.run("server", "busybox", "wget", "-qO-", "http://web/") == "built here\n"


def test_what_is_for_no_service_is_refused_inside_the_cluster(probe: Probe) -> None:
    asked = "busybox wget -qO- http://10.96.255.254/ 2>&1 || true"
    assert "onnection refused" in probe.run("client", "sh", "-c", asked)


def test_this_machine_reaches_a_node_port(probe: Probe) -> None:
    port = probe.kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
    with urllib.request.urlopen(f"http://{probe.cluster.node_ip}:{port}/", timeout=10) as answer:
        assert answer.read() == b"built here\n"


def test_a_persistent_volume_shows_the_models_of_this_machine(probe: Probe) -> None:
    weights = cache_dir() / "models" / f"probe-{uuid.uuid4().hex}"
    weights.write_text("weights\n")
    try:
        assert probe.run("client", "cat", f"/models/{weights.name}") == "weights\n"
    finally:
        weights.unlink()
    with pytest.raises(KubectlError, match="Read-only"):
        probe.run("client", "touch", "/models/written")


def test_pod_security_refuses_what_a_namespace_forbids(kind_cluster: KindCluster, kind_namespace: str) -> None:
    enforce_restricted(kind_cluster, kind_namespace)
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        kind_cluster.kubectl("-n", kind_namespace, "run", "root", f"--image={IMAGE}", "--privileged")


def test_the_kubelet_serves_pod_resources_and_device_plugins(kind_cluster: KindCluster) -> None:
    for socket in ("pod-resources/kubelet.sock", "device-plugins/kubelet.sock"):
        kind_cluster.exec("test", "-S", f"/var/lib/kubelet/{socket}")


def test_the_audit_log_tells_who_asked_for_what(kind_cluster: KindCluster, kind_namespace: str) -> None:
    name = f"asked-{uuid.uuid4().hex[:8]}"
    kind_cluster.kubectl("-n", kind_namespace, "create", "configmap", name)

    def asked() -> list[tuple[str, str]]:
        entries = map(json.loads, audit_lines(kind_cluster.audit_log))
        named = (entry for entry in entries if entry.get("objectRef", {}).get("name") == name)
        return [(entry["verb"], entry["user"].get("username")) for entry in named if entry["verb"] != "get"]

    wait_until(lambda: bool(asked()), "the request in the audit log")
    assert asked() == [("create", "kubernetes-admin")]


def test_a_failed_image_pull_is_reported_quickly(kind_cluster: KindCluster, kind_namespace: str) -> None:
    kind_cluster.kubectl(
        "-n", kind_namespace, "run", "unpullable", "--image=registry.invalid/nothing:1", "--restart=Never"
    )
    waiting = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImagePull"
    kind_cluster.kubectl("-n", kind_namespace, "wait", f"--for={waiting}", "pod/unpullable", "--timeout=240s")


def test_logs_hold_the_journal_and_every_container(kind_cluster: KindCluster) -> None:
    assert log_tails(kind_cluster).keys() == {"node", "kubelet", "containerd"}
    assert any("kube-apiserver" in path.name for path in (kind_cluster.logs / "pods").iterdir())
