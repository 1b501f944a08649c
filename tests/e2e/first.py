"""The example with the real engine, as the first files' tests have it: a profile by vLLM on CPU, and what is served of it.

Two tests apply the same manifest to one namespace: on a bare node, where it is served as a pack in a pod, and then on an
opted-in one, where it is served in slices and asks for a key. Whichever comes first measures; the other finds the profile, as
users do.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import yaml

from tests.testbed.stage import ROOT

if TYPE_CHECKING:
    from tests.testbed.stage import Stage

NAME = "opt-tiny"
NAMESPACE = "first-answer"
MANIFEST = ROOT / "tests/e2e/opt-tiny.yaml"
KEY_SECRET = "opt-tiny-key"
ASK = """
import json, os, urllib.request
body = json.dumps({"model": "opt-tiny", "prompt": "Once", "max_tokens": 4, "temperature": 0}).encode()
for _ in range(24):
    headers = {"Content-Type": "application/json", "Authorization": "Bearer " + os.environ.get("VLLM_API_KEY", "none")}
    request = urllib.request.Request("URL/completions", body, headers)
    answer = json.load(urllib.request.urlopen(request, timeout=60))
    assert answer["usage"]["completion_tokens"] > 0, answer
print(answer["choices"][0]["text"])
"""
REFUSED = """
import json, urllib.error, urllib.request
body = json.dumps({"model": "opt-tiny", "prompt": "Once", "max_tokens": 4}).encode()
for key in ("", "wrong"):
    headers = {"Content-Type": "application/json"} | ({"Authorization": "Bearer " + key} if key else {})
    try:
        print(urllib.request.urlopen(urllib.request.Request("URL/completions", body, headers), timeout=60).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
"""What is answered to who sends no key, and a wrong one."""
METRICS = (
    "import urllib.request; print(urllib.request.urlopen('http://localhost:PORT/metrics', timeout=30).read().decode())"
)


def apply_and_wait(stage: Stage, *, keyed: bool = False, **sharing: str) -> None:
    """One apply of the manifest, with this of spec.sharing beside its own, and Ready: half an hour at most. `keyed`: clients need a key."""
    manifest = yaml.safe_load(MANIFEST.read_text())
    manifest["spec"]["sharing"] |= sharing
    if keyed:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": KEY_SECRET, "namespace": NAMESPACE}}
        stage.apply(secret | {"stringData": {"api-key": secrets.token_hex(16)}})
        manifest["spec"]["engine"] |= {"apiKeySecretRef": {"name": KEY_SECRET}}
    stage.cluster.kubectl("apply", "--namespace", NAMESPACE, "--filename", "-", stdin=yaml.safe_dump(manifest))
    ready = ("--for=condition=Ready", "--timeout=1800s")
    stage.cluster.kubectl("wait", f"slmd/{NAME}", *ready, "--namespace", NAMESPACE, timeout_s=1860)


def deployment(stage: Stage) -> dict[str, Any]:
    return stage.get("slmd", NAME, NAMESPACE)


def profile(stage: Stage) -> dict[str, Any]:
    name = deployment(stage)["status"]["profile"]["name"]
    return stage.get("slmp", name, NAMESPACE)


def pods(stage: Stage) -> list[dict[str, Any]]:
    selector = deployment(stage)["status"]["selector"]
    listed = stage.cluster.kubectl("get", "pods", "--namespace", NAMESPACE, "--selector", selector, "--output", "json")
    return list(json.loads(listed)["items"])


def in_pod(stage: Stage, pod: dict[str, Any], script: str) -> str:
    """What a script says that the engines' container runs."""
    name = pod["metadata"]["name"]
    return stage.cluster.kubectl(
        "exec", "--namespace", NAMESPACE, name, "--container", "engine", "--", "python3", "-c", script
    )


def metrics(stage: Stage, pod: dict[str, Any], port: int = 8000) -> dict[str, str]:
    """Metric line of vLLM's without its value, to the value."""
    lines = in_pod(stage, pod, METRICS.replace("PORT", str(port))).splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line.startswith("vllm:"))
