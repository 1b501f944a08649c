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
from tests.testbed.cluster import Cluster, KubectlError, log_tails
from tests.testbed.docker_engine import running_engine, users
from tests.testbed.gotools import binary, cache_dir
from tests.testbed.kind import KindCluster, kind_cluster

pytestmark = [pytest.mark.kind, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
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
metadata: {{name: models}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadOnlyMany]
  storageClassName: ""
  claimRef: {{namespace: default, name: models}}
  hostPath: {{path: /opt/slm/models, type: Directory}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: models}}
spec:
  accessModes: [ReadOnlyMany]
  storageClassName: ""
  volumeName: models
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
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["started"] == "running\n"
    for what in ("processes", "mounts", "interfaces", "rules", "control groups", "engine folders", "kernel settings"):
        assert told["during"][what] != told["before"][what], f"{what}: nothing to clean up, so nothing was shown"
    if ended_by == "SIGKILL":
        assert told["after"] != told["before"]  # nobody could clean up, until the next user came
    else:
        assert told["after"] == told["before"]
    assert told["containers of the next"] == ""
    assert told["after the next"] == told["before"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KindCluster]:
    before = state_of_the_machine()
    with kind_cluster() as lent:
        context = tmp_path_factory.mktemp("image")
        (context / "Dockerfile").write_text(DOCKERFILE)
        lent.load_image(lent.build(context / "Dockerfile", context, IMAGE))
        yield lent
    # Here and not in a test of its own: the cluster is gone only now.
    after = state_of_the_machine()
    if users():  # somebody else's engine and clusters may have come and gone meanwhile
        assert lent.name not in str(after)
    else:
        assert after == before


@pytest.fixture(scope="module")
def pods(cluster: KindCluster) -> KindCluster:
    cluster.kubectl("apply", "-f", "-", stdin=PODS)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/server", "pod/client", "--timeout=90s")
    return cluster


def test_it_is_a_cluster_like_the_other_kind(cluster: KindCluster) -> None:
    assert isinstance(cluster, Cluster)


def test_the_node_is_ready_and_takes_pods(cluster: KindCluster) -> None:
    (node,) = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    assert node["metadata"]["name"] == cluster.node
    assert {"type": "Ready", "status": "True"}.items() <= node["status"]["conditions"][-1].items()
    assert node["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.35.")
    assert "taints" not in node["spec"]


def test_an_image_built_here_runs_and_a_service_answers_by_name(pods: KindCluster) -> None:
    pods.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=90s")
    found = pods.kubectl("exec", "client", "--", "busybox", "nslookup", "web.default.svc.cluster.local")
    assert pods.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}") in found
    assert pods.kubectl("exec", "client", "--", "busybox", "wget", "-qO-", "http://web/") == "built here\n"


def test_a_pod_reaches_itself_through_its_service(pods: KindCluster) -> None:
    assert pods.kubectl("exec", "server", "--", "busybox", "wget", "-qO-", "http://web/") == "built here\n"


def test_this_machine_reaches_a_node_port(pods: KindCluster) -> None:
    port = pods.kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
    with urllib.request.urlopen(f"http://{pods.node_ip}:{port}/", timeout=10) as answer:
        assert answer.read() == b"built here\n"


def test_a_persistent_volume_shows_the_models_of_this_machine(pods: KindCluster) -> None:
    probe = cache_dir() / "models" / f"probe-{uuid.uuid4().hex}"
    probe.write_text("weights\n")
    try:
        assert pods.kubectl("exec", "client", "--", "cat", f"/models/{probe.name}") == "weights\n"
    finally:
        probe.unlink()
    with pytest.raises(KubectlError, match="Read-only"):
        pods.kubectl("exec", "client", "--", "touch", "/models/written")


def test_pod_security_refuses_what_a_namespace_forbids(cluster: KindCluster) -> None:
    cluster.kubectl("create", "namespace", "strict")
    cluster.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        cluster.kubectl("-n", "strict", "run", "root", f"--image={IMAGE}", "--privileged")


def test_the_kubelet_serves_pod_resources_and_device_plugins(cluster: KindCluster) -> None:
    for socket in ("pod-resources/kubelet.sock", "device-plugins/kubelet.sock"):
        cluster.exec("test", "-S", f"/var/lib/kubelet/{socket}")


def test_the_audit_log_tells_who_asked_for_what(cluster: KindCluster) -> None:
    name = f"asked-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "configmap", name)
    entries = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    (entry,) = [entry for entry in entries if entry.get("objectRef", {}).get("name") == name and entry["verb"] != "get"]
    assert (entry["verb"], entry["user"]["username"]) == ("create", "kubernetes-admin")


def test_a_failed_image_pull_is_reported_quickly(cluster: KindCluster) -> None:
    cluster.kubectl("run", "unpullable", "--image=registry.invalid/nothing:1", "--restart=Never")
    waiting = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImagePull"
    cluster.kubectl("wait", f"--for={waiting}", "pod/unpullable", "--timeout=60s")


def test_logs_hold_the_journal_and_every_container(pods: KindCluster) -> None:
    assert log_tails(pods).keys() == {"node", "kubelet", "containerd"}
    assert any("kube-apiserver" in path.name for path in (pods.logs / "pods").iterdir())
