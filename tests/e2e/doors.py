"""What closes every door of docs/how-to/close-doors.md at once, and who tries them: clients that are named, and strangers.

    with bed(stage) as it:      a keyless deployment in an installation as it is by default, on a node that enforces policies
        attempts(it)            what each of them is answered
        close(it)               every value of the page, the key, the certificate, the right to scrape
        attempts(it)            what each of them is answered now

An attempt is made in the same way before and after: only so does a refusal say that the door was closed.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tests.control_plane.commands import slm
from tests.testbed.cluster import KubectlError
from tests.testbed.metrics_pipeline import NAMESPACE as MONITORING
from tests.testbed.metrics_pipeline import scraping
from tests.testbed.network_policy import network_policies
from tests.testbed.stage import LIGHT_IMAGE, OPERATOR_NAMESPACE, ROOT, SLICES

from .bare import restricted_namespace
from .conftest import FAST, READ_ONLY
from .light import applied, import_profile, light, wait_until_ready
from .load import POD, place_client
from .serving import TOKEN_MS, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.testbed.prometheus import Prometheus
    from tests.testbed.stage import Stage

NAMESPACE, NAME, KEY_SECRET, TLS_SECRET = "doors", "chat", "chat-key", "slm-metrics-tls"
STRANGER, CURIOUS = "stranger", "curious"
"""A pod in a namespace of its own, which listens on LISTENS; and one beside Prometheus that is none."""
LISTENS = 9999
OPT_IN = "node-restriction.kubernetes.io/slm"
METRICS_HOST = f"slm-operator-metrics.{OPERATOR_NAMESPACE}.svc"
OF_NAMESPACE = r"namespaceSelector.matchLabels.kubernetes\.io/metadata\.name"
CLOSED = (
    f"networkPolicy.engines.namespaces={{{NAMESPACE}}}",
    f"networkPolicy.engines.clients[0].{OF_NAMESPACE}={POD}",
    f"networkPolicy.engines.metricsFrom[0].{OF_NAMESPACE}={MONITORING}",
    "networkPolicy.enabled=true",
    f"networkPolicy.metricsFrom[0].{OF_NAMESPACE}={MONITORING}",
    "metrics.secure.enabled=true",
    f"metrics.secure.secretName={TLS_SECRET}",
    READ_ONLY,
    f"policy.engines.images={{{LIGHT_IMAGE}}}",
    f"policy.engines.environment={{{TOKEN_MS['name']}}}",
    "policy.slices.enabled=true",
    f"policy.slices.namespaces={{{NAMESPACE}}}",
    f"quota.namespaces={{{NAMESPACE}}}",
    "config.tenancy.maxNodesPerNamespace=1",
    "config.tenancy.maxProfilesPerNamespace=1",
    f"config.nodes.optInLabel={OPT_IN}",
    "config.watch.intervalSeconds=5",
)
JOB = f"""
  - job_name: operator
    scheme: https
    honor_labels: true
    authorization: {{credentials_file: /var/run/secrets/kubernetes.io/serviceaccount/token}}
    tls_config: {{ca_file: /etc/metrics/ca.crt, server_name: {METRICS_HOST}}}
    static_configs: [{{targets: ["{METRICS_HOST}:9090"], labels: {{job: operator}}}}]
"""
"""What the chart's ServiceMonitor asks of a Prometheus, by its own configuration."""
ASK = """
import json, ssl, sys, urllib.error, urllib.request
asked = json.load(sys.stdin)
body = json.dumps(asked["body"]).encode() if asked["body"] else None
headers = {"Content-Type": "application/json"} | ({"Authorization": "Bearer " + asked["token"]} if asked["token"] else {})
for scheme in asked["schemes"]:
    try:
        request = urllib.request.Request(scheme + "://" + asked["at"], body, headers)
        with urllib.request.urlopen(request, timeout=20, context=ssl._create_unverified_context()) as answer:
            print(answer.status)
    except urllib.error.HTTPError as error:
        print(error.code)
    except OSError as error:
        if isinstance(getattr(error, "reason", error), ssl.SSLError):
            continue  # it speaks no TLS
        print("unreachable")
    break
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """The cluster, who scrapes it, and the secret."""

    stage: Stage
    prometheus: Prometheus
    folder: Path
    """With the authority and the certificate of the operator's metrics."""
    key: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.stage.cluster.kubectl(*arguments, stdin=stdin)

    def slm(self, *arguments: str) -> str:
        done = slm(self.stage.cluster.kubeconfig, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pods(self, namespace: str = NAMESPACE, selector: str = "app.kubernetes.io/name=slm-engine") -> list[Any]:
        said = self.kubectl("get", "pods", "--namespace", namespace, "--selector", selector, "--output", "json")
        return [one for one in json.loads(said)["items"] if "deletionTimestamp" not in one["metadata"]]

    def operator(self) -> dict[str, Any]:
        (found,) = self.pods(OPERATOR_NAMESPACE, "app.kubernetes.io/name=slm-operator")
        return dict(found)

    def ask(self, whose: tuple[str, str], at: str, *, token: str = "", body: Any = None, schemes: str = "http") -> str:
        """What a pod (namespace, name) is answered: a status, or that nobody is reached. What is secret goes by stdin."""
        asked = json.dumps({"at": at, "token": token, "body": body, "schemes": schemes.split()})
        namespace, name = whose
        inside = ("exec", "--stdin", "--namespace", namespace, name, "--", "python3", "-c", ASK)
        return self.kubectl(*inside, stdin=asked).strip()

    def complete(self, whose: tuple[str, str], token: str, name: str = NAME) -> str:
        """What a client is answered who asks an engine through the Service."""
        body = {"model": name, "prompt": "x", "max_tokens": 2}
        return self.ask(whose, f"{name}.{NAMESPACE}/v1/completions", token=token, body=body)

    def scrape(self, whose: tuple[str, str], account: str = "") -> str:
        """What somebody is answered who wants the operator's figures, with the token of an account of `monitoring`."""
        token = self.kubectl("create", "token", account, "--namespace", MONITORING).strip() if account else ""
        return self.ask(whose, f"{METRICS_HOST}:9090/metrics", token=token, schemes="https http")


NAMED, OUTSIDE, INSIDE = (POD, POD), (STRANGER, STRANGER), (MONITORING, CURIOUS)


@contextlib.contextmanager
def bed(stage: Stage, folder: Path) -> Iterator[Bed]:
    """Two engines on advice from a published profile, for whom nothing is closed, where policies are enforced."""
    restricted_namespace(stage, NAMESPACE)
    certify(folder)
    stage.opt_in()
    import_profile(stage, NAMESPACE)
    place_client(stage)
    kubectl = stage.cluster.kubectl
    kubectl("create", "namespace", STRANGER)
    authority = {"ca.crt": (folder / "ca.crt").read_text()}
    with network_policies(stage), scraping(stage, JOB, authority) as prometheus:
        for namespace, name in (OUTSIDE, INSIDE):
            kubectl("wait", "--for=create", "serviceaccount/default", "--namespace", namespace, "--timeout=120s")
            stage.apply(_listener(namespace, name))
            kubectl("wait", f"pod/{name}", "--namespace", namespace, "--for=condition=Ready", "--timeout=240s")
        asked = {"engine": {"env": [TOKEN_MS]}, "profiling": {"profileRef": {"name": "imported"}}}
        shared = {"partitioning": "NodeSlices"}
        with applied(stage, NAMESPACE, light(NAME, **asked, slo={"itl": {"maxMs": 12}}, sharing=shared)):
            wait_until_ready(stage, NAMESPACE, NAME, timeout_s=400)
            yield Bed(stage=stage, prometheus=prometheus, folder=folder, key=f"key-{secrets.token_hex(16)}")


def _listener(namespace: str, name: str) -> dict[str, Any]:
    container = {"name": name, "image": LIGHT_IMAGE, "command": ["python3", "-m", "http.server", str(LISTENS)]}
    container["readinessProbe"] = {"tcpSocket": {"port": LISTENS}, "periodSeconds": 1}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def close(bed: Bed) -> None:
    """Every door of the page; back when the engines have taken it."""
    kubectl, stage = bed.kubectl, bed.stage
    put_key(bed, bed.key)
    put_certificate(bed)
    stage.apply(binding())
    kubectl("label", "node", stage.cluster.node, f"{OPT_IN}=true")
    stage.install_operator(*FAST, *CLOSED)
    change = {"spec": {"engine": {"apiKeySecretRef": {"name": KEY_SECRET}}}}
    kubectl("patch", f"slmd/{NAME}", "--namespace", NAMESPACE, "--type=merge", "--patch", json.dumps(change))
    bed.slm("upgrade", NAME, "--namespace", NAMESPACE)
    until(lambda: len(bed.pods()) == 2 and all(map(_is_closed, bed.pods())), timeout_s=300)
    wait_until_ready(stage, NAMESPACE, NAME)
    until(lambda: bed.complete(OUTSIDE, bed.key) == "unreachable", timeout_s=60)


def _is_closed(pod: dict[str, Any]) -> bool:
    """Has an engine's pod taken the defaults, the key and the label?"""
    (engine,) = pod["spec"]["containers"]
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))
    read_only = engine["securityContext"].get("readOnlyRootFilesystem") is True
    keyed = any("secretKeyRef" in one.get("valueFrom", {}) for one in engine["env"])
    return ready and read_only and keyed and OPT_IN in json.dumps(pod["spec"])


def put_key(bed: Bed, key: str) -> None:
    metadata = {"name": KEY_SECRET, "namespace": NAMESPACE}
    bed.stage.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"api-key": key}})


def binding() -> dict[str, Any]:
    """The page's ClusterRoleBinding, for the account of this Prometheus."""
    page = (ROOT / "docs/how-to/close-doors.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (found,) = (one for block in blocks if (one := yaml.safe_load(block)).get("kind") == "ClusterRoleBinding")
    (subject,) = found["subjects"]
    assert subject == {"kind": "ServiceAccount", "namespace": MONITORING, "name": "prometheus"}
    return dict(found) | {"subjects": [subject | {"name": "metrics"}]}


def certify(folder: Path) -> None:
    """An authority, where there is none, and a new certificate of its for the operator's metrics."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    if not (folder / "ca.crt").exists():
        openssl("req", "-x509", *new, "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt")
    (folder / "names").write_text(f"subjectAltName=DNS:{METRICS_HOST}\n")
    openssl("req", *new, "-subj", "/CN=metrics", "-keyout", "tls.key", "-out", "tls.csr")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "tls.csr", *signed, "-out", "tls.crt")


def put_certificate(bed: Bed) -> None:
    """The certificate in a Secret, as cert-manager makes it."""
    data = {name: (bed.folder / name).read_text() for name in ("tls.crt", "tls.key", "ca.crt")}
    metadata = {"name": TLS_SECRET, "namespace": OPERATOR_NAMESPACE}
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata}
    bed.stage.apply(secret | {"stringData": data})


def _writes(bed: Bed) -> str:
    """An engine's own user, in a folder of its image in which it may write."""
    try:
        where = ("exec", "--namespace", NAMESPACE, bed.pods()[0]["metadata"]["name"], "--container", "engine")
        bed.kubectl(*where, "--", "touch", "/var/tmp/written")
    except KubectlError as error:
        return "refused" if "Read-only file system" in str(error) else str(error)
    return "taken"


def _admitted(bed: Bed, namespace: str, manifest: dict[str, Any], words: str) -> str:
    dry = ("create", "--dry-run=server", "--namespace", namespace, "--filename", "-")
    try:
        bed.kubectl(*dry, stdin=json.dumps(manifest))
    except KubectlError as error:
        return "refused" if words in str(error) else str(error)
    return "taken"


def _slice_elsewhere() -> dict[str, Any]:
    pod = _listener(STRANGER, "slice")
    pod["spec"]["containers"][0]["resources"] = {"limits": {SLICES: "1"}}
    return pod


ATTEMPTS: dict[str, tuple[Callable[[Bed], str], str, str]] = {
    "a client asks an engine, without a key": (lambda it: it.complete(NAMED, ""), "200", "401"),
    "with a wrong key": (lambda it: it.complete(NAMED, "wrong"), "200", "401"),
    "with the key": (lambda it: it.complete(NAMED, it.key), "200", "200"),
    "with the key, from a namespace that is not named": (lambda it: it.complete(OUTSIDE, it.key), "200", "unreachable"),
    "a stranger reads the operator's figures": (lambda it: it.scrape(OUTSIDE), "200", "unreachable"),
    "somebody beside Prometheus reads them, without a token": (lambda it: it.scrape(INSIDE), "200", "401"),
    "with a token that may not": (lambda it: it.scrape(INSIDE, "default"), "200", "403"),
    "with that of Prometheus": (lambda it: it.scrape(INSIDE, "metrics"), "200", "200"),
    "the operator reads an engine's figures": (
        lambda it: it.ask(
            (OPERATOR_NAMESPACE, it.operator()["metadata"]["name"]),
            f"{it.pods()[0]['status']['podIP']}:8000/metrics",
        ),
        "200",
        "200",
    ),
    "the operator calls somebody else": (
        lambda it: it.ask(
            (OPERATOR_NAMESPACE, it.operator()["metadata"]["name"]),
            f"{it.stage.get('pod', STRANGER, STRANGER)['status']['podIP']}:{LISTENS}/",
        ),
        "200",
        "unreachable",
    ),
    "an engine writes into its image": (_writes, "taken", "refused"),
    "somebody deploys another image": (
        lambda it: _admitted(
            it, NAMESPACE, light("other", engine={"image": "other:1"}), "engine.image must be left out"
        ),
        "taken",
        "refused",
    ),
    "a pod elsewhere asks for a slice": (
        lambda it: _admitted(it, STRANGER, _slice_elsewhere(), "this namespace may not share GPUs"),
        "taken",
        "refused",
    ),
}
"""What is tried: how, what it is answered by default, and behind closed doors."""


def attempts(bed: Bed) -> dict[str, str]:
    """What each of them is answered now."""
    return {name: attempt(bed) for name, (attempt, _, _) in ATTEMPTS.items()}
